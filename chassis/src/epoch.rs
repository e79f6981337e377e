//! The broker-epoch rule: what a broker that came back may have forgotten is offered again.
//!
//! PostgreSQL is the system of record and the broker is transport: a publish ack says that the broker had the event, not
//! that it keeps it. After each (re)connect the relay compares the broker with what it was told before. A server that was
//! restarted may have lost what was not yet on its disk; a stream that is shorter than it was certainly has. Both are
//! offered again under the same message id: what was not lost is a duplicate to the broker or to the reader's inbox.
//! What was not yet on its disk is counted back from when it was last seen alive: it does not matter how late its successor
//! is noticed.

use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream::context::GetStreamErrorKind;
use chrono::{DateTime, Utc};
use sqlx::PgPool;

use crate::bus::{Bus, STREAM, STREAM_DEAD, check_version};
use crate::db::Tx;
use crate::metrics::Metrics;
use crate::patience::within;
use crate::rules::LOST_SPAN;
use crate::trial;

/// Longest wait for the database's clock.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// What the comparison found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Epoch {
    /// The server is another one, or was restarted.
    pub changed: bool,
    /// Acknowledged events that the streams no longer hold, count.
    pub lost: u64,
    /// Events that are offered again, count.
    pub reoffered: u64,
}

/// Compares the broker with what it acknowledged, and offers again what it may have lost. A stream that was made again counts as
/// another broker: numbers prove nothing then.
///
/// # Errors
/// When the broker or the database cannot be asked, or a stream is missing: then nothing is changed, and the relay asks
/// again before it publishes anything.
pub async fn check(pool: &PgPool, bus: &Bus, metrics: &Metrics) -> anyhow::Result<Epoch> {
    // What another replica publishes after this look lies behind the ends that are read now, and is not lost.
    let asked = sqlx::query_as("select clock_timestamp()").fetch_one(pool);
    let (looked_at,): (DateTime<Utc>,) = within(ANSWER_MAX, asked).await?;
    let (events, dead) = (End::of(bus, STREAM).await?, End::of(bus, STREAM_DEAD).await?);
    let server = bus.client().server_info();
    // Whoever came back may be another release.
    check_version(&server.version)?;
    // Any server of a cluster is as good as the others: what was acknowledged is with most of them, and one that restarts
    // has lost nothing of it.
    let server = match server.cluster {
        Some(cluster) if events.replicas > 1 => format!("cluster {cluster}"),
        _ => server.server_id,
    };
    let broker = format!("{server}/{}/{}", events.made, dead.made);
    let ends = [(STREAM, events.last), (STREAM_DEAD, dead.last)];
    let mut tx = pool.begin().await?;
    let (known, alive_at) = known(&mut tx, &broker, looked_at).await?;
    let mut epoch = Epoch {
        changed: known != broker,
        ..Epoch::default()
    };
    if epoch.changed {
        // Counted from when it was stored: what an earlier return has brought back and the broker had kept is not at risk again.
        let again = sqlx::query(
            "update outbox set published_at = null, next_at = clock_timestamp(), \
             stream_seq = case when $3 then null else stream_seq end \
             where published_at is not null and coalesce(stored_at, published_at) > $1 - make_interval(secs => $2)",
        )
        .bind(alive_at)
        .bind(LOST_SPAN.as_secs_f64())
        .bind(streams_of(&known) != streams_of(&broker))
        .execute(&mut *tx)
        .await?;
        epoch.reoffered += again.rows_affected();
    }
    for (stream, last) in ends {
        let lost = sqlx::query(
            "update outbox set published_at = null, stream_seq = null, next_at = clock_timestamp() \
             where stream_seq > $1 and (subject like 'dead.%') = $2 and (published_at is null or published_at < $3)",
        )
        .bind(last.cast_signed())
        .bind(stream == STREAM_DEAD)
        .bind(looked_at)
        .execute(&mut *tx)
        .await?
        .rows_affected();
        if lost > 0 {
            tracing::error!(
                "the broker lost acknowledged data: stream {stream} ends at {last}, {lost} events of this service were \
                 stored behind that; they are offered again"
            );
        }
        epoch.lost += lost;
    }
    epoch.reoffered += epoch.lost;
    sqlx::query("update broker_epoch set server_id = $1, max_stream_seq = $2, compared_at = $3")
        .bind(&broker)
        .bind(events.last.cast_signed())
        .bind(looked_at)
        .execute(&mut *tx)
        .await?;
    trial::boundary("epoch.compared");
    tx.commit().await.context("keep the broker's epoch")?;
    trial::boundary("epoch.kept");
    if epoch.changed {
        metrics.epoch_changes.inc();
        tracing::info!(
            "the broker was restarted or is another one; {} events are offered again",
            epoch.reoffered
        );
    }
    metrics.lost.inc_by(epoch.lost);
    Ok(epoch)
}

/// The broker of the last comparison, and an instant at which it was alive; at the first comparison ever, the one of now.
async fn known(tx: &mut Tx, broker: &str, looked_at: DateTime<Utc>) -> sqlx::Result<(String, DateTime<Utc>)> {
    sqlx::query(
        "insert into broker_epoch (id, server_id, compared_at) values (1, $1, $2) on conflict do nothing",
    )
    .bind(broker)
    .bind(looked_at)
    .execute(&mut **tx)
    .await?;
    sqlx::query_as("select server_id, compared_at from broker_epoch for update")
        .fetch_one(&mut **tx)
        .await
}

/// Which streams they were; numbers of others say nothing of these.
fn streams_of(broker: &str) -> &str {
    broker.split_once('/').map_or("", |(_, streams)| streams)
}

/// Where a stream ends, and which one it is.
struct End {
    last: u64,
    made: String,
    /// Servers that keep it.
    replicas: usize,
}

impl End {
    async fn of(bus: &Bus, stream: &str) -> anyhow::Result<Self> {
        match bus.jetstream().get_stream(stream).await {
            Ok(found) => Ok(Self {
                last: found.cached_info().state.last_sequence,
                made: found.cached_info().created.to_rfc3339(),
                replicas: found.cached_info().config.num_replicas,
            }),
            Err(error) if matches!(error.kind(), GetStreamErrorKind::JetStream(error) if error.code() == 404) =>
            {
                anyhow::bail!("stream {stream} is missing; it is made again by whoever reads from it")
            }
            Err(error) => Err(error).with_context(|| format!("look at stream {stream}")),
        }
    }
}
