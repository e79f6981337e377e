//! Publishes what the outbox holds. Any number of replicas, no leader.
//!
//! Rows are claimed with `for update skip locked`, published with `Nats-Msg-Id`, and marked after the
//! publish ack. A crash anywhere unlocks the rows; they are offered again, and the broker's window or the
//! reader's inbox absorbs the duplicate. Rows are found by a flag, never by position.

use std::time::Duration;

use anyhow::Context as _;
use async_nats::HeaderMap;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::Value;
use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::time::Instant;
use uuid::Uuid;

use crate::backoff::publish_delay;
use crate::bus::{Bus, STREAM, STREAM_DEAD};
use crate::epoch;
use crate::metrics::Metrics;
use crate::patience::{ROUND_MAX, within};
use crate::rules;
use crate::service::Context;
use crate::trial::{self, Guard};

const BATCH: i64 = 64;
const POLL: Duration = Duration::from_millis(500);
/// How long the relay waits for more after a call: nobody notices, and a busy service says many things within it.
const GATHER: Duration = Duration::from_millis(10);
const ACK_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause between two full batches of what every reader has had: 640 events a second and replica.
const OLD_PAUSE: Duration = Duration::from_millis(100);
/// How long a listener is used before another takes its place.
const LISTENED_FOR: Duration = Duration::from_secs(600);

#[derive(Debug, sqlx::FromRow)]
struct Row {
    event_id: Uuid,
    subject: String,
    headers: Value,
    data: Vec<u8>,
    attempt: i32,
    offer: i32,
    redriven: i32,
    created_at: DateTime<Utc>,
    /// Every reader has had it: it is published again for others.
    confirmed: bool,
}

enum Outcome {
    Published { stream_seq: u64, fresh: bool },
    Again { reason: String },
    Never { reason: String },
}

/// Publishes until told to stop; ends only then.
///
/// # Errors
/// Never for a broker or database that is away: it waits and goes on.
pub async fn run(context: Context) -> anyhow::Result<()> {
    let Context {
        pool,
        bus,
        metrics,
        stop,
        ..
    } = &context;
    let mut listener = None;
    let connects = bus.connects();
    // The connection that the broker was compared on, and when; none yet.
    let mut compared: Option<(u64, Instant)> = None;
    loop {
        metrics.beat("relay");
        if !bus.is_connected() {
            // Rows keep their turn; the client connects again by itself.
            tokio::select! {
                () = tokio::time::sleep(POLL) => continue,
                () = stop.cancelled() => return Ok(()),
            }
        }
        let connection = *connects.borrow();
        let batch = async {
            let due =
                compared.is_none_or(|(on, at)| rules::is_comparison_due(on == connection, at.elapsed()));
            if due && !trial::without(Guard::Epoch) {
                let comparing = within(ROUND_MAX, epoch::check(pool, bus, metrics));
                metrics.beating("relay", comparing).await?;
                compared = Some((connection, Instant::now()));
            }
            within(
                context.answer_timeout + ACK_TIMEOUT,
                publish_batch(pool, bus, metrics),
            )
            .await
        };
        match batch.await {
            Ok(batch) => {
                // A stream that begins anew while the connection stays up forgets as a broker that was restarted does.
                compared = compared.filter(|_| !batch.behind);
                if batch.rows == BATCH as usize && batch.old {
                    // Readers meet each of these as a duplicate; what is new must not wait behind thousands of them.
                    tokio::time::sleep(OLD_PAUSE).await;
                    continue;
                }
                if batch.rows == BATCH as usize || batch.behind {
                    continue;
                }
                if stop.is_cancelled() {
                    return Ok(());
                }
                wait(&context, &mut listener).await;
            }
            Err(error) => {
                tracing::warn!("outbox relay waits: {error:#}");
                // What the broker said of this batch is forgotten, so it is asked again.
                compared = None;
                if stop.is_cancelled() {
                    return Ok(());
                }
                listener = None;
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_secs(1)) => {}
                    () = stop.cancelled() => return Ok(()),
                }
            }
        }
    }
}

/// Waits for a wake-up, or half a second: notifications are hints that may be lost.
async fn wait(context: &Context, listener: &mut Option<(PgListener, Instant)>) {
    // One whose calls are lost would hear nothing and not notice.
    if listener
        .as_ref()
        .is_none_or(|(_, since)| since.elapsed() > LISTENED_FOR)
    {
        *listener = None;
        match crate::db::listen(&context.pool, &crate::outbox::wake_channel(context.schema)).await {
            Ok(fresh) => *listener = Some((fresh, Instant::now())),
            Err(error) => tracing::debug!("outbox relay polls: {error}"),
        }
    }
    let woken = async {
        match listener {
            Some((active, _)) => active.recv().await.map(|_| ()),
            None => std::future::pending().await,
        }
    };
    let lost = tokio::select! {
        woken = woken => woken.is_err(),
        () = tokio::time::sleep(POLL) => false,
        () = context.stop.cancelled() => false,
    };
    if lost {
        *listener = None;
        return;
    }
    // Events that are said one after the other go out in one batch, and their calls need one answer.
    tokio::time::sleep(GATHER).await;
    if let Some((active, _)) = listener {
        while active.next_buffered().is_some() {}
    }
}

/// A batch that was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Batch {
    /// Rows that were looked at, count.
    pub rows: usize,
    /// Nobody of ours waits for any of them: what a broker forgot is published again for others.
    pub old: bool,
    /// The stream gave a new event a number that is not behind all numbers it gave before: it begins anew.
    pub behind: bool,
}

/// Publishes one batch.
///
/// # Errors
/// Database errors; everything the broker says is written to the rows instead.
pub async fn publish_batch(pool: &PgPool, bus: &Bus, metrics: &Metrics) -> anyhow::Result<Batch> {
    let mut tx = pool.begin().await.context("begin")?;
    // The comparison of brokers waits for batches that are under way, and sees what they were told.
    sqlx::query("select from broker_epoch for share")
        .execute(&mut *tx)
        .await?;
    let rows: Vec<Row> = sqlx::query_as(
        "select event_id, subject, headers, data, attempt, offer, redriven, created_at, confirmed_at is not null as confirmed from outbox \
         where published_at is null and failed_reason is null and next_at <= clock_timestamp() \
         order by (confirmed_at is not null), next_at, seq limit $1 for update skip locked",
    )
    .bind(BATCH)
    .fetch_all(&mut *tx)
    .await
    .context("claim outbox rows")?;
    if rows.is_empty() {
        tx.commit().await?;
        return Ok(Batch::default());
    }
    let (highest,): (i64,) = sqlx::query_as(
        "select coalesce(max(stream_seq), 0) from outbox where published_at is not null and subject not like 'dead.%'",
    )
    .fetch_one(&mut *tx)
    .await?;
    trial::boundary("relay.claimed");
    let (mut behind, mut waiting) = (false, 0_u32);
    let (mut published, mut numbers, mut stored_now) = (Vec::new(), Vec::new(), Vec::new());
    // One deadline for the whole batch: timeouts one after the other would outlive the transaction's patience.
    let deadline = Instant::now() + ACK_TIMEOUT;
    let mut pending = Vec::with_capacity(rows.len());
    for row in &rows {
        pending.push(start_publish(bus, row, deadline).await);
    }
    for (row, publish) in rows.iter().zip(pending) {
        match finish_publish(publish, deadline).await {
            Outcome::Published { stream_seq, fresh } => {
                let event = !row.subject.starts_with("dead.");
                behind |= event && rules::begins_anew(fresh, stream_seq.cast_signed(), highest);
                metrics.published.inc();
                published.push(row.event_id);
                numbers.push(stream_seq.cast_signed());
                stored_now.push(fresh);
            }
            Outcome::Again { reason } => {
                waiting += 1;
                if waiting == 1 {
                    tracing::warn!(event.id = %row.event_id, attempt = row.attempt, "event {} is not published yet: {reason}", row.event_id);
                }
                let delay = publish_delay(row.attempt.unsigned_abs());
                sqlx::query(
                    "update outbox set attempt = attempt + 1, \
                     next_at = clock_timestamp() + make_interval(secs => $2) where event_id = $1",
                )
                .bind(row.event_id)
                .bind(delay.as_secs_f64())
                .execute(&mut *tx)
                .await?;
            }
            Outcome::Never { reason } => {
                tracing::error!(event.id = %row.event_id, "event {} can never be published: {reason}", row.event_id);
                sqlx::query("update outbox set failed_reason = $2 where event_id = $1")
                    .bind(row.event_id)
                    .bind(&reason)
                    .execute(&mut *tx)
                    .await?;
            }
        }
    }
    // One line tells the reason, whatever waits: a broker that is away keeps many.
    if waiting > 1 {
        tracing::warn!("{} more of this batch are not published yet either", waiting - 1);
    }
    sqlx::query(
        "update outbox set published_at = clock_timestamp(), stream_seq = said.number, attempt = 0, \
         stored_at = case when said.fresh or stream_seq is distinct from said.number or stored_at is null \
         then clock_timestamp() else stored_at end \
         from unnest($1::uuid[], $2::bigint[], $3::bool[]) as said (event_id, number, fresh) \
         where outbox.event_id = said.event_id",
    )
    .bind(&published)
    .bind(&numbers)
    .bind(&stored_now)
    .execute(&mut *tx)
    .await?;
    trial::boundary("relay.published");
    tx.commit().await.context("mark published rows")?;
    trial::boundary("relay.marked");
    Ok(Batch {
        rows: rows.len(),
        old: rows.iter().all(|row| row.confirmed),
        behind,
    })
}

type Started = Result<async_nats::jetstream::context::PublishAckFuture, Outcome>;

async fn start_publish(bus: &Bus, row: &Row, deadline: Instant) -> Started {
    let headers = match headers_of(row) {
        Ok(headers) => headers,
        Err(reason) => return Err(Outcome::Never { reason }),
    };
    let jetstream = bus.jetstream();
    let publish = jetstream.publish_with_headers(row.subject.clone(), headers, row.data.clone().into());
    match tokio::time::timeout_at(deadline, publish).await {
        Ok(started) => started.map_err(|error| outcome_of(&error)),
        Err(_) => Err(no_ack()),
    }
}

async fn finish_publish(started: Started, deadline: Instant) -> Outcome {
    let ack = match started {
        Ok(ack) => ack,
        Err(outcome) => return outcome,
    };
    match tokio::time::timeout_at(deadline, ack).await {
        Ok(Ok(ack)) if ack.stream == STREAM || ack.stream == STREAM_DEAD => Outcome::Published {
            stream_seq: ack.sequence,
            fresh: !ack.duplicate,
        },
        Ok(Ok(ack)) => Outcome::Never {
            reason: format!("stored in stream `{}`, not in {STREAM}", ack.stream),
        },
        Ok(Err(error)) => outcome_of(&error),
        Err(_) => no_ack(),
    }
}

fn no_ack() -> Outcome {
    Outcome::Again {
        reason: format!("no publish ack within {} s", ACK_TIMEOUT.as_secs()),
    }
}

fn outcome_of(error: &PublishError) -> Outcome {
    let reason = error.to_string();
    let code = std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<async_nats::jetstream::Error>())
        .map(async_nats::jetstream::Error::error_code);
    let too_large = error.kind() == PublishErrorKind::MaxPayloadExceeded
        || code == Some(ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM)
        || code == Some(ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM);
    // Everything else may heal: a stream that is missing is provisioned again, a full one is drained.
    if too_large {
        Outcome::Never { reason }
    } else {
        Outcome::Again { reason }
    }
}

fn headers_of(row: &Row) -> Result<HeaderMap, String> {
    let Value::Object(fields) = &row.headers else {
        return Err("headers are no JSON object".to_owned());
    };
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        let text = value
            .as_str()
            .ok_or_else(|| format!("header `{name}` is no text"))?;
        let name: async_nats::HeaderName = name
            .parse()
            .map_err(|_| format!("header name `{name}` is not allowed"))?;
        let value: async_nats::HeaderValue = text
            .parse()
            .map_err(|_| format!("value of header `{name}` is not allowed"))?;
        headers.insert(name, value);
    }
    // What is parked, and what is offered again by a person, brings its own, as it came.
    if headers.get(schemas::RECORDED_TIME).is_none() {
        let recorded = row.created_at.to_rfc3339_opts(SecondsFormat::Millis, true);
        headers.insert(schemas::RECORDED_TIME, recorded.as_str());
    }
    // The broker de-duplicates by this id alone; a deliberate re-offer needs a new one and the same ce-id.
    let message_id = rules::message_id(row.event_id, row.redriven, row.offer);
    headers.insert(async_nats::header::NATS_MESSAGE_ID, message_id.as_str());
    let stream = if row.subject.starts_with("dead.") {
        STREAM_DEAD
    } else {
        STREAM
    };
    headers.insert(async_nats::header::NATS_EXPECTED_STREAM, stream);
    Ok(headers)
}
