//! Each guard is left out once, and a named invariant must fail: a trial that cannot fail proves nothing. With the guard in
//! place the same story must hold.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chassis::trial::Guard;
use schemas::flow::STREAM;
use sqlx::AssertSqlSafe;
use vigie::host::SERVICES;

use super::auditor::{Findings, audit};
use super::fleet::Replica;
use super::nemesis::{messages, without_message_id};
use super::producer::{Ledger, commit, monitors_pool};
use super::settings::Patience;
use super::settle::settle;
use super::world::{World, WorldOptions};

/// A guard, and the invariant that fails without it.
pub const CONTROLS: [(Guard, &str); 5] = [
    (Guard::Inbox, "I2"),
    (Guard::Sweep, "I2"),
    (Guard::Epoch, "I2"),
    (Guard::State, "I6"),
    (Guard::Token, "I3"),
];

/// Events of a story.
const EVENTS: u64 = 12;
/// How long a story may take to end with its guard, and how long is waited without.
const ENDS_WITHIN: Duration = Duration::from_secs(90);
const WAITED_WITHOUT: Duration = Duration::from_secs(20);

/// The word of a guard.
pub fn word(guard: Guard) -> &'static str {
    let found = Guard::ALL.iter().find(|(_, known)| *known == guard);
    found.map_or("", |(word, _)| *word)
}

/// Plays the story of a guard, with it or without it.
///
/// # Errors
/// When the trial itself cannot go on.
pub async fn run(guard: Guard, left_out: bool, world: &WorldOptions) -> anyhow::Result<Findings> {
    let mut environment = world.environment.clone();
    if left_out {
        environment.push(("VIGIE_TRIAL_WITHOUT".to_owned(), word(guard).to_owned()));
    }
    let records = tempfile::tempdir()?;
    let record = records.path().join("record");
    let mut lives = BTreeMap::new();
    let place = match guard {
        Guard::State => Some("VIGIE_TRIAL_FREEZE_AT"),
        Guard::Token => Some("VIGIE_TRIAL_CRASH_AT"),
        Guard::Inbox | Guard::Sweep | Guard::Epoch => None,
    };
    let trainer = Replica {
        service: "trainer-bridge",
        number: 0,
    };
    if let Some(variable) = place {
        let life = vec![
            (variable, "job.submitted".to_owned()),
            ("VIGIE_TRIAL_RECORD", record.display().to_string()),
        ];
        lives.insert(trainer, vec![life]);
    }
    let options = WorldOptions {
        replicas: if guard == Guard::State { 2 } else { 1 },
        models: 2,
        environment,
        lives,
        patience: Patience {
            // What the epoch rule is for must not be healed by the sweep meanwhile.
            receipt_overdue: if guard == Guard::Epoch { "1h" } else { "6s" },
            ..Patience::default()
        },
        witness: guard == Guard::Inbox,
        ..world.clone()
    };
    let world = World::start(options).await?;
    let pool = monitors_pool(&world.stack.database_url()).await?;
    let ledger = Ledger::default();
    let bound = if left_out { WAITED_WITHOUT } else { ENDS_WITHIN };
    match guard {
        Guard::Inbox => copies(&world, &pool, &ledger).await?,
        Guard::Sweep => purge(&world, &pool, &ledger).await?,
        Guard::Epoch => rollback(&world, &pool, &ledger).await?,
        Guard::State => stale(&world, &pool, &ledger, &record).await?,
        Guard::Token => produce(&world, &pool, &ledger, EVENTS).await?,
    }
    let settled = settle(&world.pool, bound).await;
    let findings = audit(&world, &ledger, &settled).await?;
    pool.close().await;
    world.stop(!left_out && !findings.violations.is_empty()).await?;
    Ok(findings)
}

async fn produce(world: &World, pool: &sqlx::PgPool, ledger: &Ledger, count: u64) -> anyhow::Result<()> {
    for number in 0..count {
        ledger.note(commit(pool, &world.models, number).await?);
    }
    Ok(())
}

/// Waits until the monitor has published everything.
async fn published(world: &World) -> anyhow::Result<()> {
    let waiting = "select count(*) from drift_monitor.outbox where published_at is null";
    until(world, waiting, 0).await
}

async fn until(world: &World, query: &'static str, expected: i64) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let (count,): (i64,) = sqlx::query_as(AssertSqlSafe(query.to_owned()))
            .fetch_one(&world.pool)
            .await?;
        if count == expected {
            return Ok(());
        }
        anyhow::ensure!(
            begun.elapsed() < ENDS_WITHIN,
            "waited in vain for {expected} of `{query}`"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Nobody reads for a while.
async fn hold_readers(world: &World) -> anyhow::Result<Vec<Replica>> {
    let mut held = Vec::new();
    for replica in world.fleet.replicas() {
        if replica.service != SERVICES[0] {
            world.fleet.hold(replica).await?;
            held.push(replica);
        }
    }
    Ok(held)
}

fn release(world: &World, held: Vec<Replica>) {
    for replica in held {
        world.fleet.release(replica, Vec::new());
    }
}

/// Every event arrives twice more, under no message id.
async fn copies(world: &World, pool: &sqlx::PgPool, ledger: &Ledger) -> anyhow::Result<()> {
    produce(world, pool, ledger, EVENTS).await?;
    published(world).await?;
    let jetstream = async_nats::jetstream::new(async_nats::connect(world.stack.nats_url()).await?);
    let messages = messages(&world.stack.nats_url()).await?;
    for message in messages
        .iter()
        .filter(|message| message.subject.as_str() == "drift.detected")
    {
        for _ in 0..2 {
            let headers = message
                .headers
                .as_ref()
                .map(without_message_id)
                .unwrap_or_default();
            jetstream
                .publish_with_headers(message.subject.clone(), headers, message.payload.clone())
                .await?
                .await?;
        }
    }
    // Each of the three has been looked at by the witness.
    let handled = "select count(*) from witness.inbox where deliveries >= 3";
    let effects = "select count(*) / 3 from witness.effect";
    let begun = Instant::now();
    while begun.elapsed() < WAITED_WITHOUT {
        for query in [handled, effects] {
            let (count,): (i64,) = sqlx::query_as(query).fetch_one(&world.pool).await?;
            if count >= i64::try_from(EVENTS)? {
                return Ok(());
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// The broker was told everything, and forgot it while it stayed up.
async fn purge(world: &World, pool: &sqlx::PgPool, ledger: &Ledger) -> anyhow::Result<()> {
    let held = hold_readers(world).await?;
    produce(world, pool, ledger, EVENTS).await?;
    published(world).await?;
    let jetstream = async_nats::jetstream::new(async_nats::connect(world.stack.nats_url()).await?);
    jetstream.get_stream(STREAM).await?.purge().await?;
    release(world, held);
    Ok(())
}

/// The broker was told everything, and lost it with its power.
async fn rollback(world: &World, pool: &sqlx::PgPool, ledger: &Ledger) -> anyhow::Result<()> {
    let held = hold_readers(world).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let nats = world.stack.nats();
    let kept = tokio::task::block_in_place(|| nats.keep_disk_of_running())?;
    produce(world, pool, ledger, EVENTS).await?;
    published(world).await?;
    tokio::task::block_in_place(|| {
        nats.kill()?;
        nats.roll_back_disk(&kept)?;
        nats.restart()
    })?;
    release(world, held);
    Ok(())
}

/// A trainer stands still right after a run was asked for; another takes over and ends the job; the first one wakes up.
async fn stale(
    world: &World,
    pool: &sqlx::PgPool,
    ledger: &Ledger,
    record: &std::path::Path,
) -> anyhow::Result<()> {
    let other = Replica {
        service: "trainer-bridge",
        number: 1,
    };
    let sleeper = Replica { number: 0, ..other };
    world.fleet.hold(other).await?;
    produce(world, pool, ledger, 1).await?;
    let begun = Instant::now();
    while !record.exists() {
        anyhow::ensure!(begun.elapsed() < ENDS_WITHIN, "the trainer never asked for a run");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    world.fleet.release(other, Vec::new());
    let under_way = "select count(*) from trainer_bridge.training_job where state <> 'reported'";
    until(world, under_way, 0).await?;
    world.watch.look(&world.pool).await?;
    world.fleet.thaw(sleeper);
    // Long enough for it to write what it had in mind.
    tokio::time::sleep(Duration::from_secs(3)).await;
    Ok(())
}
