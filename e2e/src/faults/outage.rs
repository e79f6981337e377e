//! NATS is away for minutes, with or without its disk; events go on being committed. How soon does it flow again?

use std::time::{Duration, Instant};

use sqlx::PgPool;

use super::conclude::{SETTLED_WITHIN, Story, conclude};
use super::producer::{Producer, commit, monitors_pool};
use super::report::Report;
use super::world::{World, WorldOptions};

/// What to do.
#[derive(Debug, Clone)]
pub struct OutageOptions {
    /// How long NATS is away.
    pub away: Duration,
    /// Whether its disk is lost meanwhile.
    pub wiped: bool,
    /// Pause between two events.
    pub pace: Duration,
    /// How long after the broker's return the first effect may come.
    pub within: Duration,
    /// The world.
    pub world: WorldOptions,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Outage {
    /// The report.
    pub report: Report,
    /// From the broker's return until an event of the backlog took effect.
    pub flow_resumed: Option<Duration>,
    /// From the broker's return until an event committed after it took effect.
    pub new_event: Option<Duration>,
}

/// Runs the trial.
///
/// # Errors
/// When the trial itself cannot go on.
pub async fn run(options: OutageOptions) -> anyhow::Result<Outage> {
    let begun = Instant::now();
    let world = World::start(options.world.clone()).await?;
    let pool = monitors_pool(&world.stack.database_url()).await?;
    let producer = Producer::start(pool.clone(), world.models.clone(), options.pace);
    tokio::time::sleep(Duration::from_secs(5)).await;
    tokio::task::block_in_place(|| world.stack.nats().kill())?;
    let gone = Instant::now();
    while gone.elapsed() < options.away {
        tokio::time::sleep(
            options
                .away
                .saturating_sub(gone.elapsed())
                .min(Duration::from_secs(30)),
        )
        .await;
        eprintln!("faults: NATS has been away for {} s", gone.elapsed().as_secs());
    }
    let before = receipts(&world.pool).await?;
    tokio::task::block_in_place(|| {
        if options.wiped {
            world.stack.nats().lose_disk()?;
        }
        world.stack.nats().restart()
    })?;
    let back = Instant::now();
    // Far from the producer's numbers, and one of the same models.
    let number = 500_000;
    let fresh = commit(&pool, &world.models, number).await?;
    producer.ledger.note(fresh);
    let (mut flow_resumed, mut new_event) = (None, None);
    while back.elapsed() < SETTLED_WITHIN && new_event.is_none() {
        if flow_resumed.is_none() && receipts(&world.pool).await? > before {
            flow_resumed = Some(back.elapsed());
        }
        let seen = sqlx::query("select 1 from retrain_decider.inbox where event_id = $1")
            .bind(fresh.uuid())
            .fetch_optional(&world.pool)
            .await?;
        if seen.is_some() {
            new_event = Some(back.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let story = Story {
        trial: format!(
            "outage of {} s{}",
            options.away.as_secs(),
            if options.wiped { ", disk lost" } else { "" }
        ),
        seed: None,
        begun,
        faulty: options.away,
        faults: Vec::new(),
        unmet: 0,
        missed: Vec::new(),
        redrives: false,
    };
    let mut report = conclude(world, pool, producer, story).await?;
    if flow_resumed.is_none_or(|after| after > options.within) {
        report.missed.push(format!(
            "the first effect did not come within {} s of the broker's return",
            options.within.as_secs()
        ));
    }
    if new_event.is_none() {
        report.missed.push("the new event never took effect".to_owned());
    }
    if report.deaths > 0 || !report.ends.is_empty() {
        report.missed.push(format!(
            "all processes were to live on; {} died, {} ended",
            report.deaths,
            report.ends.len()
        ));
    }
    Ok(Outage {
        report,
        flow_resumed,
        new_event,
    })
}

async fn receipts(pool: &PgPool) -> anyhow::Result<i64> {
    let (count,): (i64,) = sqlx::query_as("select count(*) from retrain_decider.inbox")
        .fetch_one(pool)
        .await?;
    Ok(count)
}
