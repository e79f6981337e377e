//! Faults at random from a seed, one after the other, while events flow; then everything is healed and audited.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;
use uuid::Uuid;

use super::auditor::audit;
use super::nemesis::{Fault, Nemesis};
use super::producer::{Ledger, Producer, monitors_pool};
use super::report::Report;
use super::settle::settle;
use super::world::{World, WorldOptions};

/// How long everything may take to be published, confirmed and ended after the last fault: the bound after a lost disk.
pub const SETTLED_WITHIN: Duration = Duration::from_mins(6);

/// What to do.
#[derive(Debug, Clone)]
pub struct RandomOptions {
    /// Seed of the faults.
    pub seed: u64,
    /// How long faults go on.
    pub time: Duration,
    /// Goes on until there were so many, however long that takes.
    pub faults_min: usize,
    /// Longest pause between two faults.
    pub pause: Duration,
    /// Pause between two events.
    pub pace: Duration,
    /// Whether to tell each fault on standard error.
    pub tell: bool,
    /// The world.
    pub world: WorldOptions,
}

/// Runs the trial.
///
/// # Errors
/// When the trial itself cannot go on; what the system does wrong stands in the report.
pub async fn run(options: RandomOptions) -> anyhow::Result<Report> {
    let begun = Instant::now();
    let world = World::start(options.world.clone()).await?;
    let pool = monitors_pool(&world.stack.database_url()).await?;
    let producer = Producer::start(pool.clone(), world.models.clone(), options.pace);
    let mut nemesis = Nemesis::new(options.seed);
    let mut pauses = ChaCha12Rng::seed_from_u64(options.seed ^ 0x7061_7573);
    let mut faults: Vec<Fault> = Vec::new();
    let faulty = Instant::now();
    let mut told = Instant::now();
    while faulty.elapsed() < options.time || faults.len() < options.faults_min {
        let kind = nemesis.draw();
        let fault = nemesis.strike(kind, &world).await?;
        if options.tell {
            eprintln!(
                "faults: {:>7.1} s {:?}: {}",
                faulty.elapsed().as_secs_f64(),
                fault.kind,
                fault.detail
            );
        } else if told.elapsed() > Duration::from_secs(60) {
            told = Instant::now();
            let left = options.time.saturating_sub(faulty.elapsed()).as_secs();
            eprintln!("faults: {} so far, {left} s left", faults.len() + 1);
        }
        faults.push(fault);
        let pause = options.pause.mul_f64(pauses.random_range(0.0..=1.0));
        tokio::time::sleep(pause).await;
    }
    let faulty = faulty.elapsed();
    world.heal().await?;
    // A last event that meets nothing broken, so that the last fault has a recovery time too.
    tokio::time::sleep(options.pace + Duration::from_secs(1)).await;
    let ledger = producer.stop().await?;
    let settled = settle(&world.pool, SETTLED_WITHIN).await;
    let findings = audit(&world, &ledger, &settled).await?;
    let recoveries = recoveries(&world, &ledger, &faults).await?;
    let report = Report {
        trial: "random".to_owned(),
        seed: Some(options.seed),
        faulty,
        whole: begun.elapsed(),
        settled: settled.took.ok(),
        deaths: world.fleet.deaths(),
        recoveries,
        faults,
        findings,
        missed: Vec::new(),
    };
    pool.close().await;
    let keep = !report.holds();
    world.stop(keep).await?;
    Ok(report)
}

/// For each fault, the time from its end until an event committed after it took effect at the decider.
async fn recoveries(world: &World, ledger: &Ledger, faults: &[Fault]) -> anyhow::Result<Vec<Duration>> {
    let commits = ledger.commits();
    let seen: Vec<(Uuid, DateTime<Utc>)> = sqlx::query_as(
        "select event_id, first_seen from retrain_decider.inbox where state = 'done' order by first_seen",
    )
    .fetch_all(&world.pool)
    .await?;
    let seen: std::collections::HashMap<Uuid, DateTime<Utc>> = seen.into_iter().collect();
    let mut effects: Vec<(DateTime<Utc>, DateTime<Utc>)> = commits
        .iter()
        .filter_map(|commit| Some((commit.at, *seen.get(&commit.id.uuid())?)))
        .collect();
    effects.sort();
    let mut recoveries = Vec::new();
    for fault in faults {
        let after = effects.partition_point(|(committed, _)| *committed < fault.ended);
        // A later event may arrive first.
        let first = effects[after..].iter().take(200).map(|(_, effect)| *effect).min();
        if let Some(effect) = first {
            recoveries.push((effect - fault.ended).to_std().unwrap_or_default());
        }
    }
    recoveries.sort();
    Ok(recoveries)
}
