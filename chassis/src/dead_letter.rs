//! Messages that no retry can help are parked: kept whole, with class and reason, for people to look at.

use std::collections::BTreeMap;

use async_nats::{HeaderMap, HeaderValue};
use schemas::{Attributes, EventId, EventKind, ModelName, TraceContext};
use serde_json::{Map, Value, json};

use crate::db::Tx;
use crate::event_log::{self, About, What};
use crate::inbox::{self, Marked};

/// Why a message was parked; stable words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Not a readable CloudEvent.
    Undecodable,
    /// A known type with a broken body.
    SchemaInvalid,
    /// A type or major that this release does not know.
    UnsupportedMajor,
    /// Larger than allowed.
    TooLarge,
    /// The sender may not say this.
    UnauthorizedSource,
    /// The handler says that no retry can help.
    HandlerPermanent,
    /// Offered too often without success.
    DeliveriesExhausted,
    /// The model is not in the settings.
    UnknownModel,
}

impl Class {
    /// The word used in subjects, tables and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Undecodable => "undecodable",
            Self::SchemaInvalid => "schema_invalid",
            Self::UnsupportedMajor => "unsupported_major",
            Self::TooLarge => "too_large",
            Self::UnauthorizedSource => "unauthorized_source",
            Self::HandlerPermanent => "handler_permanent",
            Self::DeliveriesExhausted => "deliveries_exhausted",
            Self::UnknownModel => "unknown_model",
        }
    }

    /// The class of a refusal to decode.
    pub const fn of_refusal(refusal: &schemas::Refusal) -> Self {
        match refusal {
            schemas::Refusal::Undecodable(_) => Self::Undecodable,
            schemas::Refusal::SchemaInvalid { .. } => Self::SchemaInvalid,
            schemas::Refusal::UnsupportedMajor(_) => Self::UnsupportedMajor,
            schemas::Refusal::TooLarge { .. } => Self::TooLarge,
        }
    }
}

/// What is known about a message that is parked.
#[derive(Debug)]
pub struct Parked<'a> {
    /// The reader that gives up on it.
    pub consumer: &'a str,
    /// Event id, when it could be read.
    pub event_id: Option<EventId>,
    /// Model, when it could be read.
    pub model: Option<&'a ModelName>,
    /// Why, as a class.
    pub class: Class,
    /// Why, in words.
    pub reason: &'a str,
    /// How often it was delivered.
    pub deliveries: i64,
}

/// A message as it came.
#[derive(Debug, Clone, Copy)]
pub struct Original<'a> {
    /// NATS subject.
    pub subject: &'a str,
    /// Its headers.
    pub headers: Option<&'a HeaderMap>,
    /// Its body.
    pub data: &'a [u8],
}

/// Largest part of a body that is kept, in bytes; a body of this size may be cut.
pub(crate) const KEPT_BYTES_MAX: usize = 262_144;
/// Largest part of the headers that is kept, in bytes of names and values; the broker takes 64 KiB, and some are added.
const KEPT_HEADER_BYTES_MAX: usize = 32_768;
/// Header of a letter whose headers are not all kept.
pub(crate) const INCOMPLETE: &str = "vigie-dead-headers";
/// Longest reason that is kept, in characters.
const REASON_MAX: usize = 1_000;

/// Writes the dead letter, the receipt, the row of the event log and the `dead.<consumer>.<class>` message in one transaction;
/// `None`, and nothing is written, when the event took effect meanwhile.
///
/// # Errors
/// Database errors; then the message is offered again later.
pub async fn park(
    tx: &mut Tx,
    service: &str,
    message: &Original<'_>,
    parked: &Parked<'_>,
) -> sqlx::Result<Option<EventId>> {
    let headers = header_object(message);
    // Without a readable id the bytes themselves are the identity: the same bytes are parked once.
    let event_id = parked.event_id.unwrap_or_else(|| derived_id(message));
    let marked = inbox::mark_dead(tx, parked.consumer, event_id).await?;
    if marked == Marked::Never {
        return Ok(None);
    }
    let data = &message.data[..message.data.len().min(KEPT_BYTES_MAX)];
    let letter_id = EventId::derived(event_id.uuid(), &format!("dead/{}", parked.consumer));
    let deliveries = i32::try_from(parked.deliveries).unwrap_or(i32::MAX);
    if marked == Marked::Before {
        // It comes again and nobody has decided that it may: that is one more delivery, and nothing else is new.
        let again = sqlx::query(
            "update dead_letter set last_at = clock_timestamp(), deliveries = $3 where consumer = $1 and event_id = $2",
        )
        .bind(parked.consumer)
        .bind(event_id.uuid())
        .bind(deliveries)
        .execute(&mut **tx)
        .await?;
        if again.rows_affected() > 0 {
            return Ok(Some(event_id));
        }
    }
    sqlx::query(
        "insert into dead_letter (dead_letter_id, event_id, consumer, subject, headers, data, reason_class, reason, deliveries) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
         on conflict (consumer, event_id) do update set \
         last_at = clock_timestamp(), deliveries = excluded.deliveries, state = 'parked', \
         subject = excluded.subject, headers = excluded.headers, data = excluded.data, \
         reason_class = excluded.reason_class, reason = excluded.reason, \
         decided_by = null, decided_at = null, decision = null",
    )
    .bind(letter_id.uuid())
    .bind(event_id.uuid())
    .bind(parked.consumer)
    .bind(message.subject)
    .bind(&headers)
    .bind(data)
    .bind(parked.class.as_str())
    .bind(storable(parked.reason))
    .bind(deliveries)
    .execute(&mut **tx)
    .await?;
    // Parked again without a word of anybody, it is nothing new.
    if marked == Marked::Now {
        let entry = json!({
            "consumer": parked.consumer,
            "class": parked.class.as_str(),
            "reason": storable(parked.reason),
            "deliveries": deliveries,
            "subject": message.subject,
            "dead_letter_id": letter_id,
            "headers": headers,
            "body_sha256": event_log::sha256_hex(message.data),
        });
        let about = About::letter(event_id.uuid(), &headers);
        event_log::append(tx, What::Parked, &about, &entry, None).await?;
    }
    announce(tx, service, message, parked, event_id, letter_id, &headers, data).await?;
    Ok(Some(event_id))
}

#[expect(
    clippy::too_many_arguments,
    reason = "one call, and each is already computed by the caller"
)]
async fn announce(
    tx: &mut Tx,
    service: &str,
    message: &Original<'_>,
    parked: &Parked<'_>,
    event_id: EventId,
    letter_id: EventId,
    original: &Value,
    data: &[u8],
) -> sqlx::Result<()> {
    let unknown = || ModelName::new("unknown").unwrap_or_else(|_| unreachable!("a constant name"));
    let attributes = Attributes {
        id: letter_id,
        source: format!("{}{service}", schemas::SOURCE_PREFIX),
        // Only for the columns of the row: the message keeps the headers it came with.
        kind: EventKind::AlertFailed,
        time: chrono::Utc::now(),
        model: parked.model.cloned().unwrap_or_else(unknown),
        correlation_id: event_id,
        causation_id: None,
        trace: TraceContext::default(),
    };
    let mut headers = Map::new();
    if let Value::Object(fields) = original {
        headers.extend(fields.clone());
    }
    headers.insert(
        "vigie-dead-consumer".to_owned(),
        Value::String(parked.consumer.to_owned()),
    );
    headers.insert(
        "vigie-dead-class".to_owned(),
        Value::String(parked.class.as_str().to_owned()),
    );
    headers.insert(
        "vigie-dead-subject".to_owned(),
        Value::String(message.subject.to_string()),
    );
    headers.insert(
        "vigie-dead-reason".to_owned(),
        Value::String(one_line(parked.reason)),
    );
    let subject = format!("dead.{}.{}", parked.consumer, parked.class.as_str());
    crate::outbox::append_message(tx, &attributes, &subject, "vigie.dead", headers, data).await?;
    Ok(())
}

/// PostgreSQL's text cannot hold NUL, and a reason may quote a hostile message.
fn storable(text: &str) -> String {
    crate::text::storable(text).chars().take(REASON_MAX).collect()
}

fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' })
        .take(400)
        .collect()
}

fn header_object(message: &Original<'_>) -> Value {
    let mut fields = Map::new();
    let mut bytes = 0;
    let mut headers: Vec<_> = own_headers(message).into_iter().collect();
    // Those that say what the message is come first, in case not all can be kept.
    headers.sort_by_key(|(name, _)| !name.to_ascii_lowercase().starts_with("ce-"));
    for (name, values) in headers {
        let Some(value) = values.first() else { continue };
        bytes += name.len() + value.as_str().len();
        // A letter whose headers alone fill a message could never be announced.
        if bytes > KEPT_HEADER_BYTES_MAX {
            fields.insert(INCOMPLETE.to_owned(), Value::String("incomplete".to_owned()));
            break;
        }
        // PostgreSQL's jsonb cannot hold NUL.
        fields.insert(
            name.replace('\0', ""),
            Value::String(value.as_str().replace('\0', "")),
        );
    }
    Value::Object(fields)
}

/// An id made from subject, headers and body. A `ce-id` of a message that cannot be decoded is not believed: it could
/// name a good event, which would then pass for parked.
fn derived_id(message: &Original<'_>) -> EventId {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update(bytes.len().to_be_bytes());
        hash.update(bytes);
    };
    part(message.subject.as_bytes());
    for (name, values) in own_headers(message) {
        // The relay adds it to what is offered again: the same message has it the second time only.
        if name.eq_ignore_ascii_case(schemas::RECORDED_TIME) {
            continue;
        }
        part(name.as_bytes());
        for value in values {
            part(value.as_str().as_bytes());
        }
    }
    part(message.data);
    EventId::of_key(&format!("undecodable/{}", hex::encode(hash.finalize())))
}

/// Headers by name, without those that the broker interprets or adds.
fn own_headers<'a>(message: &Original<'a>) -> BTreeMap<String, &'a Vec<HeaderValue>> {
    let all = message.headers.into_iter().flat_map(HeaderMap::iter);
    all.map(|(name, values)| (name.to_string(), values))
        .filter(|(name, _)| !name.to_ascii_lowercase().starts_with("nats-"))
        .collect()
}
