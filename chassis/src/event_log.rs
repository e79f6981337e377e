//! What was said, received, parked and decided, for good.
//!
//! [`append`] runs in the transaction of the effect: both happen, or neither. Rows are appended without a place in the
//! chain, so writers never wait for each other; [`crate::seal`] gives them one afterwards, [`crate::audit`] reads.

use percent_encoding::percent_decode_str;
use schemas::Attributes;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::db::Tx;

/// What a row records; stable words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// An event was appended to the outbox.
    Said,
    /// A reader has its receipt: the event took effect there.
    Received,
    /// A reader gave up on a message.
    Parked,
    /// A person had a parked message offered again.
    Redriven,
    /// A person put a parked message aside.
    Discarded,
}

impl What {
    /// The word in the table.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Said => "said",
            Self::Received => "received",
            Self::Parked => "parked",
            Self::Redriven => "redriven",
            Self::Discarded => "discarded",
        }
    }
}

/// Which event a row is about, and in which loop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct About {
    pub event_id: Uuid,
    pub event_type: String,
    pub model: String,
    pub correlation_id: Uuid,
    pub causation_id: Option<Uuid>,
}

impl About {
    pub(crate) fn event(attributes: &Attributes) -> Self {
        Self {
            event_id: attributes.id.uuid(),
            event_type: attributes.kind.ce_type().to_owned(),
            model: attributes.model.to_string(),
            correlation_id: attributes.correlation_id.uuid(),
            causation_id: attributes.causation_id.map(schemas::EventId::uuid),
        }
    }

    /// A message that was parked, by the headers that are kept. They are believed only when they name the event: those of
    /// a message that could not be decoded may claim to belong to any loop.
    pub(crate) fn letter(event_id: Uuid, headers: &Value) -> Self {
        let text = |name: &str| {
            let fields = headers.as_object()?;
            let found = fields
                .iter()
                .find(|(header, _)| header.eq_ignore_ascii_case(name));
            found.and_then(|(_, value)| value.as_str())
        };
        let id = |name: &str| text(name).and_then(|id| id.parse::<Uuid>().ok());
        let believed = id("ce-id") == Some(event_id);
        // Headers are percent-encoded, and PostgreSQL's text cannot hold NUL.
        let word = |name: &str| {
            let value = text(name).filter(|_| believed).unwrap_or("unknown");
            percent_decode_str(value).decode_utf8_lossy().replace('\0', "")
        };
        Self {
            event_id,
            event_type: word("ce-type"),
            model: word("ce-subject"),
            correlation_id: id("ce-correlationid").filter(|_| believed).unwrap_or(event_id),
            causation_id: id("ce-causationid").filter(|_| believed),
        }
    }
}

/// Appends a row to the service's own log.
pub(crate) async fn append(
    tx: &mut Tx,
    what: What,
    about: &About,
    entry: &Value,
    body: Option<&[u8]>,
) -> sqlx::Result<()> {
    append_to(tx, "event_log", what, about, entry, body).await
}

/// Appends a row to the log of another schema, for what a person decides; `table` is quoted where that is needed.
pub(crate) async fn append_to(
    tx: &mut Tx,
    table: &str,
    what: What,
    about: &About,
    entry: &Value,
    body: Option<&[u8]>,
) -> sqlx::Result<()> {
    sqlx::query(AssertSqlSafe(format!(
        "insert into {table} (what, event_id, event_type, model, correlation_id, causation_id, entry, body) \
         values ($1, $2, $3, $4, $5, $6, $7, $8)"
    )))
    .bind(what.as_str())
    .bind(about.event_id)
    .bind(&about.event_type)
    .bind(&about.model)
    .bind(about.correlation_id)
    .bind(about.causation_id)
    .bind(entry.to_string())
    .bind(body)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The entry of a receipt, with the digest of what was received: it can be compared with what was said.
pub(crate) fn receipt(consumer: &str, attributes: &Attributes, body: &[u8]) -> Value {
    let headers: Map<String, Value> = attributes
        .to_headers()
        .into_iter()
        .map(|(name, value)| (name.to_owned(), Value::String(value)))
        .collect();
    json!({ "consumer": consumer, "headers": headers, "body_sha256": sha256_hex(body) })
}

/// Digest of a body, in hexadecimal digits.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The columns of [`Row`], the body as its digest: neither sealing nor verifying moves bodies over the wire.
pub(crate) const ROW: &str = "seq, timestamptz_send(at) as at, what, event_id, event_type, model, correlation_id, causation_id, \
                              entry, sha256(body) as body_sha256";

/// A row as the chain covers it.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Row {
    pub seq: i64,
    /// In PostgreSQL's own eight bytes, whatever they say.
    pub at: Vec<u8>,
    pub what: String,
    pub event_id: Uuid,
    pub event_type: String,
    pub model: String,
    pub correlation_id: Uuid,
    pub causation_id: Option<Uuid>,
    pub entry: String,
    pub body_sha256: Option<Vec<u8>>,
}

impl Row {
    /// Bytes that are equal for equal rows at equal places, and for no others: each field is either a 0, or a 1, its
    /// length in eight bytes, and itself.
    pub(crate) fn canonical(&self, link: i64) -> Vec<u8> {
        let (link, seq) = (link.to_be_bytes(), self.seq.to_be_bytes());
        let fields: [Option<&[u8]>; 11] = [
            Some(&link),
            Some(&seq),
            Some(&self.at),
            Some(self.what.as_bytes()),
            Some(self.event_id.as_bytes()),
            Some(self.event_type.as_bytes()),
            Some(self.model.as_bytes()),
            Some(self.correlation_id.as_bytes()),
            self.causation_id.as_ref().map(|id| &id.as_bytes()[..]),
            Some(self.entry.as_bytes()),
            self.body_sha256.as_deref(),
        ];
        let mut bytes = b"vigie event log 1\n".to_vec();
        for field in fields {
            match field {
                None => bytes.push(0),
                Some(field) => {
                    bytes.push(1);
                    bytes.extend_from_slice(&(field.len() as u64).to_be_bytes());
                    bytes.extend_from_slice(field);
                }
            }
        }
        bytes
    }

    /// The row's hash after the link whose hash is `previous`.
    pub(crate) fn hash(&self, link: i64, previous: &[u8]) -> Vec<u8> {
        let mut hash = Sha256::new();
        hash.update(previous);
        hash.update(self.canonical(link));
        hash.finalize().to_vec()
    }
}

/// What the first link of a schema's chain follows.
pub(crate) fn beginning(schema: &str) -> Vec<u8> {
    Sha256::digest(format!("vigie event log of {schema}")).to_vec()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Short texts of few letters, so that equal parts, and parts that only moved, are common.
    fn text() -> impl Strategy<Value = String> {
        "[ab\u{0}\u{1}]{0,3}"
    }

    fn id() -> impl Strategy<Value = Uuid> {
        (0_u128..3).prop_map(Uuid::from_u128)
    }

    prop_compose! {
        fn row()(
            seq in 0_i64..3,
            at in proptest::collection::vec(0_u8..2, 8),
            texts in (text(), text(), text(), text()),
            ids in (id(), id(), proptest::option::of(id())),
            body_sha256 in proptest::option::of(proptest::collection::vec(0_u8..2, 0..3)),
        ) -> Row {
            let (what, event_type, model, entry) = texts;
            let (event_id, correlation_id, causation_id) = ids;
            Row { seq, at, what, event_id, event_type, model, correlation_id, causation_id, entry, body_sha256 }
        }
    }

    proptest! {
        #[test]
        fn different_rows_or_places_have_different_bytes(a in row(), b in row(), here in 1_i64..3, there in 1_i64..3) {
            let equal = a == b && here == there;
            prop_assert_eq!(a.canonical(here) == b.canonical(there), equal);
            prop_assert_eq!(a.hash(here, b"p") == b.hash(there, b"p"), equal);
        }

        #[test]
        fn a_letter_that_moves_from_one_field_to_the_next_changes_the_bytes(row in row()) {
            let mut moved = row.clone();
            match moved.event_type.pop() {
                Some(letter) => moved.model.insert(0, letter),
                None => moved.model.push('a'),
            }
            prop_assert_ne!(row.canonical(1), moved.canonical(1));
            let none = Row { body_sha256: None, ..row.clone() };
            let empty = Row { body_sha256: Some(Vec::new()), ..row };
            prop_assert_ne!(none.canonical(1), empty.canonical(1), "nothing is not an empty body");
        }
    }

    #[test]
    fn what_a_message_claims_is_believed_only_of_an_event_that_could_be_read() {
        let (event, other, correlation) = (Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(3));
        let headers = json!({
            "Ce-Id": event.to_string(), "ce-type": "vigie.drift.checked.v1", "ce-subject": "m%20%C3%A4%00",
            "ce-correlationid": correlation.to_string(),
        });
        let read = About::letter(event, &headers);
        assert_eq!(
            (read.model.as_str(), read.correlation_id),
            ("m ä", correlation),
            "{read:?}"
        );
        let claimed = About::letter(other, &headers);
        assert_eq!(
            (
                claimed.model.as_str(),
                claimed.event_type.as_str(),
                claimed.correlation_id
            ),
            ("unknown", "unknown", other)
        );
    }
}
