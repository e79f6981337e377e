//! An event's effects happen once, however often it is delivered.

use schemas::{EventId, Received};

use crate::db::Tx;
use crate::event_log;
use crate::trial::{self, Guard};

/// Records the event for this consumer, and that it was received; `false` when it was recorded before.
///
/// Runs in the transaction of the event's effects: all of it happens, or nothing.
///
/// # Errors
/// Database errors.
pub async fn receive(tx: &mut Tx, consumer: &str, received: &Received, body: &[u8]) -> sqlx::Result<bool> {
    let first = first_time(tx, consumer, received.attributes.id).await?;
    if first {
        event_log::received(tx, consumer, &received.attributes, body).await?;
    }
    Ok(first)
}

/// Writes the receipt alone; `false` when there was one.
///
/// # Errors
/// Database errors.
pub async fn first_time(tx: &mut Tx, consumer: &str, event: EventId) -> sqlx::Result<bool> {
    let inserted = sqlx::query(
        "insert into inbox (consumer, event_id, state) values ($1, $2, 'done') on conflict do nothing",
    )
    .bind(consumer)
    .bind(event.uuid())
    .execute(&mut **tx)
    .await?;
    Ok(inserted.rows_affected() == 1 || trial::without(Guard::Inbox))
}

/// Whether the event has its receipt already.
///
/// # Errors
/// Database errors.
pub async fn is_known(tx: &mut Tx, consumer: &str, event: EventId) -> sqlx::Result<bool> {
    let (known,): (bool,) =
        sqlx::query_as("select exists (select from inbox where consumer = $1 and event_id = $2)")
            .bind(consumer)
            .bind(event.uuid())
            .fetch_one(&mut **tx)
            .await?;
    Ok(known)
}

/// Counts a duplicate delivery, for people who look.
///
/// # Errors
/// Database errors.
pub async fn count_duplicate(tx: &mut Tx, consumer: &str, event: EventId) -> sqlx::Result<()> {
    sqlx::query("update inbox set deliveries = deliveries + 1 where consumer = $1 and event_id = $2")
        .bind(consumer)
        .bind(event.uuid())
        .execute(&mut **tx)
        .await?;
    Ok(())
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
