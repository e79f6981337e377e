//! The only file with SQL: the table `alert` and its transitions.

use std::time::Duration;

use chassis::Tx;
use chrono::{DateTime, Utc};
use schemas::{AlertId, Received, TraceContext};
use sqlx::PgPool;
use sqlx::types::Json;
use uuid::Uuid;

use crate::alert::Alert;
use crate::recipient::Recipient;

/// Adds the alert for each recipient who was not told of this event or occasion yet; says for how many. An occasion that
/// could not be told before is told now: a mail server that was down for an hour must not silence what goes on for days.
///
/// # Errors
/// Database errors.
pub async fn enqueue(
    tx: &mut Tx,
    alert: &Alert,
    recipients: &[Recipient],
    received: &Received,
) -> sqlx::Result<u64> {
    let mut added = 0;
    for recipient in recipients {
        let channel = recipient.channel().as_str();
        let stored = recipient.stored();
        sqlx::query(
            "delete from alert where occasion = $1 and channel = $2 and recipient = $3 and state = 'failed'",
        )
        .bind(&alert.occasion)
        .bind(channel)
        .bind(&stored)
        .execute(&mut **tx)
        .await?;
        let inserted = sqlx::query(
            "insert into alert (alert_id, event_id, event_type, model, correlation_id, occasion, channel, recipient, \
             severity, subject, content, trace_parent, trace_state, thread_id) \
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, \
             (select alert_id from alert where correlation_id = $5 and channel = $7 and recipient = $8 \
              order by created_at, alert_id limit 1)) \
             on conflict do nothing",
        )
        .bind(recipient.alert_id(alert.about.event_id).uuid())
        .bind(alert.about.event_id.uuid())
        .bind(&alert.about.event_type)
        .bind(alert.model.as_str())
        .bind(alert.about.correlation_id.uuid())
        .bind(&alert.occasion)
        .bind(channel)
        .bind(&stored)
        .bind(alert.severity.word())
        .bind(alert.subject())
        .bind(Json(alert))
        .bind(&received.attributes.trace.parent)
        .bind(&received.attributes.trace.state)
        .execute(&mut **tx)
        .await?;
        added += inserted.rows_affected();
    }
    Ok(added)
}

/// An alert that this process may send until its lease ends.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// The alert's id.
    pub alert_id: AlertId,
    /// Guards the transition that ends this attempt.
    pub version: i64,
    /// This attempt, from 1.
    pub attempt: u32,
    /// What to tell; none when the row was written by a release that this one cannot read.
    pub alert: Option<Alert>,
    /// Whom; none when the row names a channel that this release does not know.
    pub recipient: Option<Recipient>,
    /// The first alert of the same loop to the same recipient.
    pub thread: Option<AlertId>,
    /// When it was written.
    pub written_at: DateTime<Utc>,
    /// The trace of the event.
    pub trace: TraceContext,
}

#[derive(sqlx::FromRow)]
struct ClaimedRow {
    alert_id: Uuid,
    version: i64,
    attempts: i32,
    content: serde_json::Value,
    channel: String,
    recipient: String,
    thread_id: Option<Uuid>,
    created_at: DateTime<Utc>,
    trace_parent: Option<String>,
    trace_state: Option<String>,
}

/// Takes the alert that has been due longest, if there is one, for at most `lease`.
///
/// # Errors
/// Database errors.
pub async fn claim(pool: &PgPool, channel: &str, lease: Duration) -> sqlx::Result<Option<Claimed>> {
    let row: Option<ClaimedRow> = sqlx::query_as(
        "update alert set state = 'sending', version = version + 1, attempts = attempts + 1, \
         lease_until = clock_timestamp() + make_interval(secs => $2) \
         where alert_id = (select alert_id from alert where channel = $1 and ( \
           (state = 'pending' and next_attempt_at <= clock_timestamp()) or \
           (state = 'sending' and lease_until <= clock_timestamp())) \
           order by next_attempt_at, created_at limit 1 for update skip locked) \
         returning alert_id, version, attempts, content, channel, recipient, thread_id, created_at, trace_parent, trace_state",
    )
    .bind(channel)
    .bind(lease.as_secs_f64())
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| Claimed {
        alert_id: row.alert_id.into(),
        version: row.version,
        attempt: row.attempts.cast_unsigned(),
        recipient: Recipient::from_stored(&row.channel, &row.recipient),
        alert: serde_json::from_value(row.content).ok(),
        thread: row.thread_id.map(AlertId::from),
        written_at: row.created_at,
        trace: TraceContext {
            parent: row.trace_parent,
            state: row.trace_state,
        },
    }))
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The other side took it.
    Sent,
    /// It is tried again.
    Again {
        /// After this long.
        after: Duration,
        /// Why.
        error: String,
    },
    /// It is not tried again.
    Failed {
        /// Why.
        reason: String,
    },
}

/// Ends an attempt; `false` when the row is no longer ours, so that nothing may be announced.
///
/// # Errors
/// Database errors.
pub async fn settle(tx: &mut Tx, claimed: &Claimed, outcome: &Outcome) -> sqlx::Result<bool> {
    let (state, wait, error) = match outcome {
        Outcome::Sent => ("sent", 0.0, None),
        Outcome::Again { after, error } => ("pending", after.as_secs_f64(), Some(error)),
        Outcome::Failed { reason } => ("failed", 0.0, Some(reason)),
    };
    let changed = sqlx::query(
        "update alert set state = $3, version = version + 1, lease_until = null, last_error = coalesce($5, last_error), \
         next_attempt_at = clock_timestamp() + make_interval(secs => $4), \
         finished_at = case when $3 = 'pending' then null else clock_timestamp() end \
         where alert_id = $1 and version = $2 and state = 'sending'",
    )
    .bind(claimed.alert_id.uuid())
    .bind(claimed.version)
    .bind(state)
    .bind(wait)
    .bind(error)
    .execute(&mut **tx)
    .await?;
    Ok(changed.rows_affected() == 1)
}

/// Alerts that are neither sent nor failed, by channel: how many, and the age of the oldest in seconds.
///
/// # Errors
/// Database errors.
pub async fn waiting(pool: &PgPool) -> sqlx::Result<Vec<(String, i64, f64)>> {
    sqlx::query_as(
        "select channel, count(*), extract(epoch from clock_timestamp() - min(created_at))::float8 \
         from alert where state in ('pending', 'sending') group by channel",
    )
    .fetch_all(pool)
    .await
}
