//! The auditor itself: in a quiet world in which everything holds, one thing is spoilt for each invariant, and each must be named.

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use async_nats::HeaderMap;
use schemas::EventId;
use sqlx::AssertSqlSafe;

use super::auditor::{Findings, audit};
use super::fleet::{Replica, log_of};
use super::producer::{Ledger, commit, monitors_pool};
use super::settle::{Settled, UnderWay, settle};
use super::world::{World, WorldOptions};

/// The invariants of which one thing each is spoilt.
pub const INVARIANTS: [&str; 12] = [
    "I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I9", "I10", "I11", "I12",
];

/// Events of the quiet part.
const EVENTS: u64 = 8;
/// How long that may take.
const QUIET_WITHIN: Duration = Duration::from_mins(3);

/// Statements past every service, each of which spoils an invariant.
const SPOILT: [&str; 8] = [
    // I2: an effect took place twice.
    "insert into witness.effect (event_id) select event_id from witness.effect limit 1",
    // I3: an external run belongs to no attempt.
    "update trainer_bridge.training_job set attempt = 0 where attempt > 0",
    // I5 and I6: told more often than it was attempted; and what has ended changes.
    "update notifier.alert set attempts = 0 where state = 'sent'",
    // I7: a cause that nobody said.
    "update drift_monitor.outbox set causation_id = gen_random_uuid() \
     where event_id = (select event_id from drift_monitor.outbox where subject = 'drift.detected' limit 1)",
    // I8: a link of the chain is gone.
    "alter table drift_monitor.event_log disable trigger user",
    "delete from drift_monitor.event_log where seq = (select seq from drift_monitor.event_log order by seq limit 1 offset 2)",
    "alter table drift_monitor.event_log enable trigger user",
    // I12: slots between two that were done were left out.
    "insert into drift_monitor.slot (job, slot) select job, min(slot) - interval '10 minutes' from drift_monitor.slot group by job",
];

/// What the auditor says of the quiet world, and of the spoilt one.
///
/// # Errors
/// When the trial itself cannot go on.
pub async fn run(world: &WorldOptions) -> anyhow::Result<(Findings, Findings)> {
    let world = World::start(WorldOptions {
        replicas: 1,
        models: 2,
        witness: true,
        ..world.clone()
    })
    .await?;
    let pool = monitors_pool(&world.stack.database_url()).await?;
    let ledger = Ledger::default();
    for number in 0..EVENTS {
        ledger.note(commit(&pool, &world.models, number).await?);
    }
    until_slots(&world).await?;
    let settled = settle(&world.pool, QUIET_WITHIN).await;
    let quiet = audit(&world, &ledger, &settled).await?;
    spoil(&world, &ledger).await?;
    let overdue = Settled {
        took: Err(UnderWay(vec![("events".to_owned(), 1)])),
        ..settled
    };
    let spoilt = audit(&world, &ledger, &overdue).await?;
    pool.close().await;
    world.stop(!quiet.violations.is_empty()).await?;
    Ok((quiet, spoilt))
}

/// The monitor has done a slot.
async fn until_slots(world: &World) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let (slots,): (i64,) = sqlx::query_as("select count(*) from drift_monitor.slot")
            .fetch_one(&world.pool)
            .await?;
        if slots > 0 {
            return Ok(());
        }
        ensure!(begun.elapsed() < QUIET_WITHIN, "the monitor has done no slot");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn spoil(world: &World, ledger: &Ledger) -> anyhow::Result<()> {
    // Nobody is to mend anything.
    for replica in world.fleet.replicas() {
        world.fleet.hold(replica).await?;
    }
    // I1: somebody was promised what is not there.
    ledger.note(EventId::fresh());
    for statement in SPOILT {
        let changed = sqlx::query(AssertSqlSafe(statement))
            .execute(&world.pool)
            .await
            .with_context(|| format!("spoil: {statement}"))?;
        ensure!(
            statement.starts_with("alter") || changed.rows_affected() > 0,
            "nothing to spoil: {statement}"
        );
    }
    // I4: somebody points the alias elsewhere.
    world
        .tracking
        .set_alias_by_hand(&world.models[0], "champion", 4_711);
    // I9: a message that no service wrote.
    let jetstream = async_nats::jetstream::new(async_nats::connect(world.stack.nats_url()).await?);
    let mut headers = HeaderMap::new();
    headers.insert("ce-id", EventId::fresh().to_string());
    jetstream
        .publish_with_headers("drift.detected", headers, "{}".into())
        .await?
        .await?;
    // I11: a secret in a log.
    let replica = Replica {
        service: "notifier",
        number: 0,
    };
    let mut log = std::fs::File::options()
        .append(true)
        .open(log_of(world.folder.path(), replica))?;
    writeln!(log, "the password is {}", world.smtp.password())?;
    Ok(())
}
