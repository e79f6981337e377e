//! Anti-entropy: what was published long ago and has no receipt of a reader that must see it is offered again.
//!
//! The relay's ack proves that the broker had an event, a receipt in the reader's inbox proves that it took effect. The
//! sweep compares the two and needs no trust in the broker in between. What still waits at the broker is left alone, so
//! that a backlog does not grow by being looked at.

use std::time::Duration;

use anyhow::Context as _;
use schemas::flow::STREAM;
use schemas::{EventId, EventKind, ModelName};
use serde_json::Value;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::bus::STREAM_ADVISORY;
use crate::db::Tx;
use crate::dead_letter::{self, Class, Original, Parked};
use crate::patience::{ROUND_MAX, within};
use crate::rules::{self, OFFERS_MAX, Position};
use crate::service::Context;
use crate::trial::{self, Guard};

/// Rows looked at per kind and round.
const ROWS_MAX: i64 = 1_000;
/// Confirmed events stay in the outbox this long.
const KEEP: Duration = Duration::from_secs(7 * 86_400);

/// How patient a sweep is; tests are less so.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Age at which a receipt should be there.
    pub overdue: Duration,
}

impl Default for Patience {
    /// As the setting's default.
    fn default() -> Self {
        Self {
            overdue: Duration::from_secs(300),
        }
    }
}

/// What a round did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Events whose every required reader has a receipt now, count.
    pub confirmed: u64,
    /// Events that are offered again, count.
    pub reoffered: u64,
    /// Events that were offered often enough, count.
    pub given_up: u64,
}

/// Sweeps until told to stop.
///
/// # Errors
/// Never for a broker or a database that is away: it waits and goes on.
pub async fn run(context: Context) -> anyhow::Result<()> {
    let patience = Patience {
        overdue: context.nats.receipt_overdue,
    };
    while !context.stop.is_cancelled() {
        context.metrics.beat("sweep");
        if context.bus.is_connected() && !trial::without(Guard::Sweep) {
            let sweeping = within(ROUND_MAX, round(&context, patience));
            if let Err(error) = context.metrics.beating("sweep", sweeping).await {
                tracing::warn!("the sweep waits: {error:#}");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(context.nats.sweep_every) => {}
            () = context.stop.cancelled() => {}
        }
    }
    Ok(())
}

/// One look at everything that this service has published.
///
/// # Errors
/// When the broker or the database cannot be asked; what was done until then stays done.
pub async fn round(context: &Context, patience: Patience) -> anyhow::Result<Swept> {
    let mut tx = context.pool.begin().await?;
    // Saves work among replicas; were two to sweep at once, each row would still be offered once per look.
    let (alone,): (bool,) =
        sqlx::query_as("select pg_try_advisory_xact_lock(hashtext('vigie sweep ' || current_schema()))")
            .fetch_one(&mut *tx)
            .await?;
    if !alone {
        return Ok(Swept::default());
    }
    let mut swept = Swept::default();
    for kind in EventKind::ALL {
        if !kind.publishers().contains(&context.service) {
            continue;
        }
        let readers = installed(&mut tx, kind.readers()).await?;
        if readers.len() == kind.readers().len() {
            swept.confirmed += confirm(&mut tx, *kind, &readers).await?;
        }
        for reader in readers {
            let overdue = overdue(&mut tx, *kind, reader, patience).await?;
            if overdue.is_empty() {
                continue;
            }
            let position = position_of(context, reader).await?;
            let lost: Vec<Unconfirmed> = overdue
                .into_iter()
                .filter(|row| !position.holds(row.stream_seq))
                .collect();
            offer_again(context, &mut tx, reader, &lost, &mut swept).await?;
        }
    }
    forget(&mut tx, context.nats.stream_age_max).await?;
    measure(context, &mut tx).await?;
    trial::boundary("sweep.found");
    tx.commit().await.context("keep what the sweep found")?;
    trial::boundary("sweep.kept");
    // A tripwire that cannot be looked at is no reason to keep nothing of the rest.
    if let Err(error) = look_at_tripwire(context).await {
        tracing::debug!("{error:#}");
    }
    context.metrics.reoffered.inc_by(swept.reoffered);
    if swept.reoffered > 0 {
        tracing::warn!("{} events without a receipt are offered again", swept.reoffered);
    }
    Ok(swept)
}

/// Readers whose tables exist; a service that was never started has no inbox, and its consumer will begin at the first event.
async fn installed(tx: &mut Tx, readers: &'static [&'static str]) -> sqlx::Result<Vec<&'static str>> {
    let mut found = Vec::new();
    for reader in readers {
        let (exists,): (bool,) = sqlx::query_as("select to_regclass($1) is not null")
            .bind(format!("{}.inbox", schema_of(reader)))
            .fetch_one(&mut **tx)
            .await?;
        if exists {
            found.push(*reader);
        }
    }
    Ok(found)
}

/// Names of services are constants of `schemas::flow`, never settings.
fn schema_of(reader: &str) -> String {
    reader.replace('-', "_")
}

fn receipt_of(reader: &str) -> String {
    format!(
        "exists (select from {}.inbox i where i.consumer = '{reader}' and i.event_id = outbox.event_id)",
        schema_of(reader)
    )
}

async fn confirm(tx: &mut Tx, kind: EventKind, readers: &[&str]) -> sqlx::Result<u64> {
    let receipts: String = readers
        .iter()
        .map(|reader| format!(" and {}", receipt_of(reader)))
        .collect();
    let query = format!(
        "update outbox set confirmed_at = clock_timestamp() where event_id in (select event_id from outbox \
         where event_type = $1 and published_at is not null and confirmed_at is null{receipts} limit $2)"
    );
    let confirmed = sqlx::query(AssertSqlSafe(query))
        .bind(kind.ce_type())
        .bind(ROWS_MAX)
        .execute(&mut **tx)
        .await?;
    Ok(confirmed.rows_affected())
}

#[derive(Debug, sqlx::FromRow)]
struct Unconfirmed {
    event_id: Uuid,
    model: String,
    subject: String,
    headers: Value,
    data: Vec<u8>,
    offer: i32,
    stream_seq: Option<i64>,
}

async fn overdue(
    tx: &mut Tx,
    kind: EventKind,
    reader: &str,
    patience: Patience,
) -> sqlx::Result<Vec<Unconfirmed>> {
    let query = format!(
        "select event_id, model, subject, headers, data, offer, stream_seq from outbox \
         where event_type = $1 and confirmed_at is null and failed_reason is null \
         and published_at < clock_timestamp() - make_interval(secs => $2) and not {} \
         order by published_at limit $3",
        receipt_of(reader)
    );
    sqlx::query_as(AssertSqlSafe(query))
        .bind(kind.ce_type())
        .bind(patience.overdue.as_secs_f64())
        .bind(ROWS_MAX)
        .fetch_all(&mut **tx)
        .await
}

async fn position_of(context: &Context, reader: &str) -> anyhow::Result<Position> {
    let stream = context.bus.jetstream().get_stream(STREAM).await;
    let stream = stream.with_context(|| format!("look at stream {STREAM}"))?;
    let state = &stream.cached_info().state;
    let consumer = stream.consumer_info(reader).await.ok();
    Ok(Position {
        first: state.first_sequence,
        last: state.last_sequence,
        acknowledged: consumer.as_ref().map_or(0, |info| info.ack_floor.stream_sequence),
        waiting: consumer.map(|info| info.num_pending + info.num_ack_pending as u64),
    })
}

async fn offer_again(
    context: &Context,
    tx: &mut Tx,
    reader: &str,
    lost: &[Unconfirmed],
    swept: &mut Swept,
) -> anyhow::Result<()> {
    let (again, enough): (Vec<&Unconfirmed>, Vec<&Unconfirmed>) =
        lost.iter().partition(|row| rules::is_offered_again(row.offer));
    let ids: Vec<Uuid> = again.iter().map(|row| row.event_id).collect();
    let offered = sqlx::query(
        "update outbox set offer = offer + 1, published_at = null, next_at = clock_timestamp() \
         where event_id = any($1) and published_at is not null",
    )
    .bind(&ids)
    .execute(&mut **tx)
    .await?;
    swept.reoffered += offered.rows_affected();
    for row in enough {
        give_up(context, tx, reader, row).await?;
        swept.given_up += 1;
    }
    Ok(())
}

/// No offer helps: a person must look.
async fn give_up(context: &Context, tx: &mut Tx, reader: &str, row: &Unconfirmed) -> anyhow::Result<()> {
    let reason = format!("{reader} has no receipt after {OFFERS_MAX} further offers");
    tracing::error!(event.id = %row.event_id, "event {} is given up: {reason}", row.event_id);
    sqlx::query("update outbox set failed_reason = $2 where event_id = $1")
        .bind(row.event_id)
        .bind(&reason)
        .execute(&mut **tx)
        .await?;
    let mut headers = async_nats::HeaderMap::new();
    for (name, value) in row.headers.as_object().into_iter().flatten() {
        if let Some(text) = value.as_str() {
            headers.insert(name.as_str(), text);
        }
    }
    let original = Original {
        subject: &row.subject,
        headers: Some(&headers),
        data: &row.data,
    };
    let model = ModelName::new(&row.model).ok();
    let parked = Parked {
        consumer: reader,
        event_id: Some(EventId::from(row.event_id)),
        model: model.as_ref(),
        class: Class::DeliveriesExhausted,
        reason: &reason,
        deliveries: i64::from(row.offer) + 1,
    };
    dead_letter::park(tx, context.service, &original, &parked).await?;
    context.metrics.parked(parked.class.as_str());
    Ok(())
}

/// Drops what nobody can need: events that took effect everywhere, and receipts of events that no stream holds any more.
async fn forget(tx: &mut Tx, stream_age_max: Duration) -> sqlx::Result<()> {
    sqlx::query(
        "delete from outbox where event_id in (select event_id from outbox \
         where coalesce(confirmed_at, case when subject like 'dead.%' or redriven > 0 then published_at end) \
         < clock_timestamp() - make_interval(secs => $1) and published_at is not null limit $2)",
    )
    .bind(KEEP.as_secs_f64())
    .bind(ROWS_MAX)
    .execute(&mut **tx)
    .await?;
    // A replay of the stream must still meet its receipts.
    sqlx::query(
        "delete from inbox where (consumer, event_id) in (select consumer, event_id from inbox \
         where state = 'done' and first_seen < clock_timestamp() - make_interval(secs => $1) limit $2)",
    )
    .bind((stream_age_max + KEEP * 2).as_secs_f64())
    .bind(ROWS_MAX)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// No consumer of ours ever gives up on a message by the broker's count, and none terminates one: an advisory that says so is a bug,
/// ours or of whoever changed a consumer.
async fn look_at_tripwire(context: &Context) -> anyhow::Result<()> {
    let stream = context.bus.jetstream().get_stream(STREAM_ADVISORY).await;
    let stream = stream.with_context(|| format!("look at stream {STREAM_ADVISORY}"))?;
    let found = stream.cached_info().state.messages.cast_signed();
    if found > context.metrics.advisories.set(found) {
        tracing::error!(
            "stream {STREAM_ADVISORY} holds {found} messages and must be empty: somewhere a message was given up without being parked"
        );
    }
    Ok(())
}

async fn measure(context: &Context, tx: &mut Tx) -> sqlx::Result<()> {
    let (unconfirmed,): (i64,) =
        sqlx::query_as("select count(*) from outbox where published_at is not null and confirmed_at is null")
            .fetch_one(&mut **tx)
            .await?;
    context.metrics.outbox_unconfirmed.set(unconfirmed);
    Ok(())
}
