//! An event's effects happen once, however often it is delivered.

use schemas::{EventId, Received};
use sqlx::PgConnection;

use crate::db::Tx;
use crate::event_log::{self, About, What};
use crate::trial::{self, Guard};

/// Records the event for this consumer, and that it was received; `false` when it was recorded before: then the delivery is
/// counted, for people who look.
///
/// Runs in the transaction of the event's effects, or as one of its own where there are none: all of it happens, or nothing.
///
/// # Errors
/// Database errors.
pub async fn receive(
    connection: &mut PgConnection,
    consumer: &str,
    received: &Received,
    body: &[u8],
) -> sqlx::Result<bool> {
    let about = About::event(&received.attributes);
    let (first,): (bool,) = sqlx::query_as(
        "with receipt as (insert into inbox (consumer, event_id, state) values ($1, $2, 'done') \
         on conflict (consumer, event_id) do update set deliveries = inbox.deliveries + 1 returning deliveries = 1 as first), \
         logged as (insert into event_log (what, event_id, event_type, model, correlation_id, causation_id, entry) \
         select $3, $2, $4, $5, $6, $7, $8 from receipt where first) select first from receipt",
    )
    .bind(consumer)
    .bind(about.event_id)
    .bind(What::Received.as_str())
    .bind(&about.event_type)
    .bind(&about.model)
    .bind(about.correlation_id)
    .bind(about.causation_id)
    .bind(event_log::receipt(consumer, &received.attributes, body).to_string())
    .fetch_one(connection)
    .await?;
    Ok(first || trial::without(Guard::Inbox))
}

/// Counts a delivery of an event that has its receipt; `false` when it has none. One small transaction of its own.
///
/// # Errors
/// Database errors.
pub(crate) async fn is_duplicate(
    connection: &mut PgConnection,
    consumer: &str,
    event: EventId,
) -> sqlx::Result<bool> {
    let counted =
        sqlx::query("update inbox set deliveries = deliveries + 1 where consumer = $1 and event_id = $2")
            .bind(consumer)
            .bind(event.uuid())
            .execute(connection)
            .await?;
    Ok(counted.rows_affected() == 1 && !trial::without(Guard::Inbox))
}

/// What an event that is to be parked was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marked {
    /// Without a receipt: it is parked now.
    Now,
    /// Parked before.
    Before,
    /// Done meanwhile: there is nothing to park.
    Never,
}

/// Marks the event as parked for this consumer, and says what it was before. Waits for whoever handles it right now.
///
/// # Errors
/// Database errors.
pub async fn mark_dead(tx: &mut Tx, consumer: &str, event: EventId) -> sqlx::Result<Marked> {
    let inserted = sqlx::query(
        "insert into inbox (consumer, event_id, state) values ($1, $2, 'dead') \
         on conflict (consumer, event_id) do nothing",
    )
    .bind(consumer)
    .bind(event.uuid())
    .execute(&mut **tx)
    .await?;
    if inserted.rows_affected() == 1 {
        return Ok(Marked::Now);
    }
    let (dead,): (bool,) =
        sqlx::query_as("select state = 'dead' from inbox where consumer = $1 and event_id = $2")
            .bind(consumer)
            .bind(event.uuid())
            .fetch_one(&mut **tx)
            .await?;
    Ok(if dead { Marked::Before } else { Marked::Never })
}
