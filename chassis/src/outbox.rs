//! Events are written beside the state change that they announce, in one transaction.
//!
//! Nothing publishes from request or handler code: [`append`] inserts a row, the relay publishes it.
//! Ids are derived from the cause, so a handler that runs again says the same thing under the same name.

use chrono::{DateTime, Utc};
use schemas::{
    Attributes, Event, EventBody, EventId, EventKind, ModelName, Received, SOURCE_PREFIX, TraceContext,
};
use serde_json::{Map, Value, json};

use crate::db::Tx;
use crate::event_log::What;

/// Channel on which the relay is woken: a hint, never a promise.
pub fn wake_channel(schema: &str) -> String {
    format!("outbox_{schema}")
}

/// What an event follows from.
#[derive(Debug, Clone, PartialEq)]
pub enum Cause {
    /// Another event: same loop, derived id.
    Event {
        /// The direct cause.
        id: EventId,
        /// The event that began the loop.
        correlation_id: EventId,
    },
    /// A key that names the occasion, such as a job and its slot: begins a loop, id derived from the key.
    Key(String),
    /// A person or nothing at all: begins a loop, fresh id.
    Spontaneous,
}

impl Cause {
    /// The received event as a cause.
    pub fn event(received: &Received) -> Self {
        Self::Event {
            id: received.attributes.id,
            correlation_id: received.attributes.correlation_id,
        }
    }

    /// The id of an event of this kind that follows; `discriminator` tells several of one kind apart.
    pub fn event_id(&self, kind: EventKind, discriminator: &str) -> EventId {
        let name = format!("{}/{discriminator}", kind.ce_type());
        match self {
            Self::Event { id, .. } => EventId::derived(id.uuid(), &name),
            Self::Key(key) => EventId::of_key(&format!("{key}/{name}")),
            Self::Spontaneous => EventId::fresh(),
        }
    }
}

/// An event about to be written.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The model it is about.
    pub model: ModelName,
    /// What it follows from.
    pub cause: Cause,
    /// Tells several events of one kind and cause apart; usually empty.
    pub discriminator: String,
    /// What it says.
    pub event: Event,
    /// Trace to continue instead of the current span's, e.g. one kept in a row.
    pub trace: Option<TraceContext>,
}

impl Draft {
    /// An event that follows from `cause`.
    pub fn new(model: &ModelName, cause: Cause, body: impl EventBody) -> Self {
        Self {
            model: model.clone(),
            cause,
            discriminator: String::new(),
            event: body.into(),
            trace: None,
        }
    }
}

/// What [`append`] wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// The event's id.
    pub id: EventId,
    /// The loop's id.
    pub correlation_id: EventId,
}

/// Appends an event to the outbox of `service` within the transaction.
///
/// Writing the same event twice is harmless: the second is ignored.
///
/// # Errors
/// Database errors; a body larger than 256 KiB breaks the constraint `outbox_data_fits`.
pub async fn append(tx: &mut Tx, service: &str, draft: Draft) -> sqlx::Result<Appended> {
    let kind = draft.event.kind();
    let id = draft.cause.event_id(kind, &draft.discriminator);
    let (correlation_id, causation_id) = match &draft.cause {
        Cause::Event {
            id: cause,
            correlation_id,
        } => (*correlation_id, Some(*cause)),
        Cause::Key(_) | Cause::Spontaneous => (id, None),
    };
    let attributes = Attributes {
        id,
        source: format!("{SOURCE_PREFIX}{service}"),
        kind,
        time: wall_clock(),
        model: draft.model,
        correlation_id,
        causation_id,
        trace: draft.trace.unwrap_or_else(crate::telemetry::current_trace),
    };
    let data = draft
        .event
        .to_json()
        .map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
    let headers = header_map(&attributes);
    let entry = json!({ "subject": kind.subject(), "headers": headers });
    // Row, record and the call to the relay in one statement; a row that was there is neither recorded nor written again.
    sqlx::query(
        "with said as (insert into outbox (event_id, subject, event_type, model, correlation_id, causation_id, headers, data) \
         values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict (event_id) do nothing returning event_id), \
         logged as (insert into event_log (what, event_id, event_type, model, correlation_id, causation_id, entry, body) \
         select $9, $1, $3, $4, $5, $6, $10, $8 from said) select pg_notify('outbox_' || current_schema(), '')",
    )
    .bind(id.uuid())
    .bind(kind.subject())
    .bind(kind.ce_type())
    .bind(attributes.model.as_str())
    .bind(correlation_id.uuid())
    .bind(causation_id.map(EventId::uuid))
    .bind(Value::Object(headers))
    .bind(&data)
    .bind(What::Said.as_str())
    .bind(entry.to_string())
    .execute(&mut **tx)
    .await?;
    tracing::info!(
        event.id = %id,
        event.kind = %kind,
        correlation.id = %correlation_id,
        model.name = %attributes.model,
        "recorded {kind} for model `{}`",
        attributes.model
    );
    Ok(Appended { id, correlation_id })
}

fn header_map(attributes: &Attributes) -> Map<String, Value> {
    attributes
        .to_headers()
        .into_iter()
        .map(|(name, value)| (name.to_owned(), Value::String(value)))
        .collect()
}

/// Appends a message that is no event, such as one that was parked; whoever calls this records it. A row that was there stays.
pub(crate) async fn append_message(
    tx: &mut Tx,
    attributes: &Attributes,
    subject: &str,
    event_type: &str,
    headers: Map<String, Value>,
    data: &[u8],
) -> sqlx::Result<()> {
    sqlx::query(
        "insert into outbox (event_id, subject, event_type, model, correlation_id, causation_id, headers, data) \
         values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict (event_id) do nothing",
    )
    .bind(attributes.id.uuid())
    .bind(subject)
    .bind(event_type)
    .bind(attributes.model.as_str())
    .bind(attributes.correlation_id.uuid())
    .bind(attributes.causation_id.map(EventId::uuid))
    .bind(Value::Object(headers))
    .bind(data)
    .execute(&mut **tx)
    .await?;
    sqlx::query("select pg_notify('outbox_' || current_schema(), '')")
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// When it was said: the only use of the wall clock in an event; no decision reads it.
fn wall_clock() -> DateTime<Utc> {
    Utc::now()
}
