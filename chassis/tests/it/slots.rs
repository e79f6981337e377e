//! Periodic work without a leader: each slot once, whoever is there.

use std::time::Duration;

use chassis::clock::{Clock, set_replay_clock};
use chassis::slots::{CatchUp, Job, Schedule, run};
use chassis::{Context, Tx};
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgPool;

use crate::relay::append;
use crate::support::{Bench, Running, count, eventually};

fn at(hour: i64) -> DateTime<Utc> {
    "2026-01-01T00:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::hours(hour)
}

fn hourly(catch_up: CatchUp) -> Job {
    Job {
        name: "check/fraud-cards".to_owned(),
        schedule: Schedule::hourly(),
        catch_up,
        reading_max: Duration::ZERO,
    }
}

/// Writes an effect per slot.
async fn note(mut tx: Tx, slot: DateTime<Utc>) -> anyhow::Result<Tx> {
    sqlx::query("insert into effect (event_id, note) values (gen_random_uuid(), $1)")
        .bind(slot.to_rfc3339())
        .execute(&mut *tx)
        .await?;
    Ok(tx)
}

fn job(context: &Context, job: Job) -> Running {
    Running::spawn(context, run(context.clone(), job, note))
}

async fn noted(pool: &PgPool) -> Vec<DateTime<Utc>> {
    let rows: Vec<(String,)> = sqlx::query_as("select note from effect order by note")
        .fetch_all(pool)
        .await
        .unwrap();
    rows.into_iter().map(|(note,)| note.parse().unwrap()).collect()
}

async fn until_noted(pool: &PgPool, slots: usize) -> Vec<DateTime<Utc>> {
    eventually(&format!("{slots} slots are done"), async || {
        Some(noted(pool).await).filter(|noted| noted.len() >= slots)
    })
    .await
}

async fn replay() -> Bench {
    let mut bench = Bench::new().await;
    bench.clock = Clock::Replay;
    bench
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_do_each_slot_once_between_them() {
    let bench = replay().await;
    let replicas = [
        bench.replica().await,
        bench.replica().await,
        bench.replica().await,
    ];
    let pool = &replicas[0].pool;
    set_replay_clock(pool, at(0)).await.unwrap();
    let jobs: Vec<Running> = replicas
        .iter()
        .map(|replica| job(replica, hourly(CatchUp::All)))
        .collect();
    until_noted(pool, 1).await;
    for hour in 1..=48 {
        set_replay_clock(pool, at(hour)).await.unwrap();
    }
    let slots = until_noted(pool, 49).await;
    for job in jobs {
        job.stop().await;
    }
    assert_eq!(slots, (0..=48).map(at).collect::<Vec<_>>());
    assert_eq!(noted(pool).await.len(), 49, "none was done twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_broker_takes_nothing_periodic_work_rests_once_enough_waits() {
    let bench = replay().await;
    let mut full = bench.replica().await;
    full.nats.outbox_rows_max = 3;
    let pool = &full.pool;
    let resting = job(&full, hourly(CatchUp::All));
    let other = Job {
        name: "check/fraud-transfers".to_owned(),
        ..hourly(CatchUp::All)
    };
    let roomy = bench.replica().await;
    let working = job(&roomy, other);
    set_replay_clock(pool, at(0)).await.unwrap();
    until_noted(pool, 2).await;
    for row in 0..3 {
        append(&full, &format!("row {row}")).await;
    }
    // Beside it, one that has room works on.
    for hour in 1..5 {
        set_replay_clock(pool, at(hour)).await.unwrap();
        until_noted(pool, 2 + usize::try_from(hour).unwrap()).await;
    }
    // Time enough for the other to have looked, too: in a replay it does every second.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let slots = "select count(*) from slot where job = 'check/fraud-cards'";
    assert_eq!(count(pool, slots).await, 1);
    // The broker takes them again: what was left is done.
    let relay = Running::relay(&full);
    eventually("all slots", async || {
        (count(pool, slots).await == 5).then_some(())
    })
    .await;
    for task in [resting, working, relay] {
        task.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_downtime_slots_are_caught_up_as_the_setting_says() {
    for (catch_up, expected) in [
        (CatchUp::All, vec![0, 1, 2, 3, 4, 5]),
        (CatchUp::Latest, vec![0, 5]),
        (CatchUp::None, vec![0, 6]),
    ] {
        let bench = replay().await;
        let toy = bench.replica().await;
        set_replay_clock(&toy.pool, at(0)).await.unwrap();
        let running = job(&toy, hourly(catch_up));
        until_noted(&toy.pool, 1).await;
        running.kill().await;
        // Five hours and a half pass without anybody.
        set_replay_clock(&toy.pool, at(5) + TimeDelta::minutes(30))
            .await
            .unwrap();
        let again = bench.replica().await;
        let running = job(&again, hourly(catch_up));
        if catch_up == CatchUp::None {
            // What was missed stays missed; the next slot comes in its time.
            set_replay_clock(&toy.pool, at(6)).await.unwrap();
        }
        let slots = until_noted(&toy.pool, expected.len()).await;
        running.stop().await;
        assert_eq!(
            slots,
            expected.into_iter().map(at).collect::<Vec<_>>(),
            "{catch_up:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_whose_work_fails_is_rolled_back_and_tried_again() {
    let bench = replay().await;
    let toy = bench.replica().await;
    set_replay_clock(&toy.pool, at(0)).await.unwrap();
    let tries = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counted = std::sync::Arc::clone(&tries);
    let work = move |tx: Tx, slot: DateTime<Utc>| {
        let counted = std::sync::Arc::clone(&counted);
        async move {
            let tx = note(tx, slot).await?;
            if counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < 2 {
                anyhow::bail!("the source is away");
            }
            Ok(tx)
        }
    };
    let running = Running::spawn(&toy, run(toy.clone(), hourly(CatchUp::All), work));
    until_noted(&toy.pool, 1).await;
    running.stop().await;
    assert_eq!(tries.load(std::sync::atomic::Ordering::SeqCst), 3);
    assert_eq!(
        noted(&toy.pool).await,
        [at(0)],
        "what failed attempts wrote is undone"
    );
    assert_eq!(count(&toy.pool, "select count(*) from slot").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_killed_in_the_middle_of_a_slot_leaves_it_to_the_others() {
    let bench = replay().await;
    let (doomed, heir) = (bench.replica().await, bench.replica().await);
    set_replay_clock(&doomed.pool, at(0)).await.unwrap();
    let hang = |claimed: Tx, _slot: DateTime<Utc>| async move {
        // Holds the claimed slot's transaction.
        let _held = claimed;
        std::future::pending::<anyhow::Result<Tx>>().await
    };
    let stuck = Running::spawn(&doomed, run(doomed.clone(), hourly(CatchUp::All), hang));
    eventually("the slot is claimed", async || {
        (count(
            &heir.pool,
            "select count(*) from pg_stat_activity where state = 'idle in transaction'",
        )
        .await
            > 0)
        .then_some(())
    })
    .await;
    let running = job(&heir, hourly(CatchUp::All));
    stuck.kill().await;
    assert_eq!(until_noted(&heir.pool, 1).await, [at(0)]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn before_a_replay_begins_there_is_no_instant_and_it_never_goes_back() {
    let bench = replay().await;
    let toy = bench.replica().await;
    assert_eq!(Clock::Replay.now(&toy.pool).await.unwrap(), None);
    let running = job(&toy, hourly(CatchUp::All));
    set_replay_clock(&toy.pool, at(5)).await.unwrap();
    assert_eq!(until_noted(&toy.pool, 1).await, [at(5)]);
    set_replay_clock(&toy.pool, at(3)).await.unwrap();
    assert_eq!(Clock::Replay.now(&toy.pool).await.unwrap(), Some(at(5)));
    set_replay_clock(&toy.pool, at(6)).await.unwrap();
    assert_eq!(until_noted(&toy.pool, 2).await, [at(5), at(6)]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_clock_is_the_databases() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    let (before,): (DateTime<Utc>,) = sqlx::query_as("select clock_timestamp()")
        .fetch_one(&toy.pool)
        .await
        .unwrap();
    let now = Clock::Database.now(&toy.pool).await.unwrap().unwrap();
    let (after,): (DateTime<Utc>,) = sqlx::query_as("select clock_timestamp()")
        .fetch_one(&toy.pool)
        .await
        .unwrap();
    assert!(before <= now && now <= after);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_jobs_do_not_eat_up_the_connections_of_the_service() {
    let bench = replay().await;
    let toy = bench.replica().await;
    let jobs: Vec<Running> = (0..20)
        .map(|number| {
            let named = Job {
                name: format!("check/model-{number}"),
                ..hourly(CatchUp::All)
            };
            job(&toy, named)
        })
        .collect();
    for hour in 0..3 {
        set_replay_clock(&toy.pool, at(hour)).await.unwrap();
        let done = usize::try_from((hour + 1) * 20).unwrap();
        until_noted(&toy.pool, done).await;
    }
    // All of them share one stop.
    for job in jobs {
        job.stop().await;
    }
}
