//! Messages that the client library cannot read.
//!
//! It hangs up when a header is no text or has no name, dies of a carriage return inside of a value, and takes a message
//! whose headers carry a status for a word of the broker. Such a message never reaches a handler, and the broker offers it
//! again for ever. When a fetch ends without a message, and after each connect, the consumer therefore looks at what it holds
//! unanswered through the broker's JSON interface, which carries headers as bytes; what cannot be read is parked and answered
//! for.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Context as _;
use async_nats::HeaderMap;
use async_nats::jetstream::consumer::{Consumer, pull};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::bus::STREAM;
use crate::dead_letter::{self, Class, Original, Parked};
use crate::service::Context;

/// Messages looked at from either end of what is unanswered: the newest did it just now, the oldest block the rest.
const LOOKED_AT: u64 = 128;
/// Header under which a parked message keeps its unreadable headers.
const RAW_HEADERS: &str = "vigie-raw-headers";

#[derive(Debug, Deserialize)]
struct Answer {
    message: Option<Stored>,
}

#[derive(Debug, Deserialize)]
struct Stored {
    subject: String,
    #[serde(default)]
    hdrs: String,
    #[serde(default)]
    data: String,
}

/// Sequences that turned out readable: what is stored does not change. Shared by the workers, of whom one looks at a time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Readable(Arc<Mutex<BTreeSet<u64>>>);

impl Readable {
    /// Forgets all, because the stream may be another one.
    pub(crate) async fn forget(&self) {
        self.0.lock().await.clear();
    }
}

/// Parks what the consumer was given and could not read; returns how many messages that were.
///
/// # Errors
/// When broker or database are away; then it is looked at again later.
pub(crate) async fn park(
    context: &Context,
    consumer: &Consumer<pull::Config>,
    known: &Readable,
) -> anyhow::Result<usize> {
    let info = consumer.get_info().await.context("look up the consumer")?;
    let Ok(mut known) = known.0.try_lock() else {
        return Ok(0);
    };
    if info.num_ack_pending == 0 {
        known.clear();
        return Ok(0);
    }
    let (oldest, newest) = (info.ack_floor.stream_sequence + 1, info.delivered.stream_sequence);
    let early = oldest..=newest.min(oldest + LOOKED_AT);
    let late = newest.saturating_sub(LOOKED_AT).max(oldest)..=newest;
    let mut parked = 0;
    // What was acked meanwhile need not be remembered.
    *known = known.split_off(&oldest);
    for sequence in early.chain(late).collect::<BTreeSet<u64>>() {
        if known.contains(&sequence) {
            continue;
        }
        let Some(stored) = stored(context, sequence).await? else {
            continue;
        };
        known.insert(sequence);
        if !info.config.filter_subjects.contains(&stored.subject)
            && info.config.filter_subject != stored.subject
        {
            continue;
        }
        let headers = STANDARD.decode(&stored.hdrs).context("headers are no base64")?;
        let Err(fault) = readable(&headers) else { continue };
        known.remove(&sequence);
        let data = STANDARD.decode(&stored.data).context("body is no base64")?;
        park_one(context, &stored.subject, &headers, &data, fault).await?;
        answer_for(context, sequence).await?;
        parked += 1;
    }
    Ok(parked)
}

async fn stored(context: &Context, sequence: u64) -> anyhow::Result<Option<Stored>> {
    let question = serde_json::json!({ "seq": sequence }).to_string();
    let subject = format!("$JS.API.STREAM.MSG.GET.{STREAM}");
    let reply = context
        .bus
        .client()
        .request(subject, question.into())
        .await
        .context("read a stored message")?;
    // A sequence that is gone answers with an error and without a message.
    let answer: Answer = serde_json::from_slice(&reply.payload).context("read a stored message")?;
    Ok(answer.message)
}

async fn park_one(
    context: &Context,
    subject: &str,
    headers: &[u8],
    data: &[u8],
    fault: &'static str,
) -> anyhow::Result<()> {
    let mut kept = HeaderMap::new();
    kept.insert(RAW_HEADERS, headers.escape_ascii().to_string());
    let reason = format!("message cannot be decoded: {fault}");
    let parked = Parked {
        consumer: context.service,
        event_id: None,
        model: None,
        class: Class::Undecodable,
        reason: &reason,
        deliveries: 1,
    };
    let original = Original {
        subject,
        headers: Some(&kept),
        data,
    };
    let mut tx = context.pool.begin().await?;
    dead_letter::park(&mut tx, context.service, &original, &parked).await?;
    tx.commit().await?;
    context.metrics.parked(parked.class.as_str());
    tracing::error!(
        class = parked.class.as_str(),
        "parked a message on {subject}: {reason}"
    );
    Ok(())
}

/// Acks a message that was never received: the broker knows it by its place in the stream.
async fn answer_for(context: &Context, sequence: u64) -> anyhow::Result<()> {
    let subject = format!("$JS.ACK.{STREAM}.{}.1.{sequence}.1.0.0", context.service);
    context
        .bus
        .client()
        .request(subject, "+ACK".into())
        .await
        .context("answer for an unreadable message")?;
    Ok(())
}

/// Whether the client library reads these headers as a message of somebody; why not, if it does not.
///
/// # Errors
/// The reason, in words.
pub fn readable(headers: &[u8]) -> Result<(), &'static str> {
    if headers.is_empty() {
        return Ok(());
    }
    let text = std::str::from_utf8(headers).map_err(|_| "a header is no UTF-8 text")?;
    let mut lines = text.lines().peekable();
    match lines.next().and_then(|version| version.strip_prefix("NATS/1.0")) {
        None => return Err("the headers do not begin with a version"),
        Some(status) if !status.trim().is_empty() => {
            return Err("the headers carry a status, as only the broker's may");
        }
        Some(_) => {}
    }
    while let Some(line) = lines.next() {
        if line.is_empty() {
            continue;
        }
        let (name, first) = line.split_once(':').ok_or("a header has no name")?;
        name.parse::<async_nats::HeaderName>()
            .map_err(|_| "the name of a header is not allowed")?;
        // As the client puts a folded value together.
        let mut value = first.trim_start().to_owned();
        while let Some(folded) = lines.next_if(|line| line.starts_with(char::is_whitespace)) {
            value.push_str(folded);
        }
        if value.trim_end().contains('\r') {
            return Err("the value of a header holds a carriage return");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::readable;

    #[test]
    fn what_the_client_reads_is_readable_and_nothing_else() {
        for good in [
            "",
            "NATS/1.0\r\n\r\n",
            "NATS/1.0\r\na: b\r\nc:d\r\n\r\n",
            "NATS/1.0\r\na: b\r\n folded\r\n\r\n",
            "NATS/1.0\r\na: \u{e4}\r\n\r\n",
            "NATS/1.0\r\na: \rb\r\r\n\r\n",
        ] {
            assert_eq!(readable(good.as_bytes()), Ok(()), "{good:?}");
        }
        for bad in [
            &b"NATS/1.0\r\na: \xff\r\n\r\n"[..],
            b"NATS/1.0\r\nnothing\r\n\r\n",
            b"NATS/1.0\r\na b: c\r\n\r\n",
            b"NATS/1.0 404 No Messages\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"NATS/1.0\r\na: b\rc\r\n\r\n",
            b"NATS/1.0\r\na: b\r\n \rc\r\n\r\n",
            b"NATS/1.0\r\na:\r\n \rc\r\n\r\n",
        ] {
            assert!(readable(bad).is_err(), "{:?}", bad.escape_ascii().to_string());
        }
    }
}
