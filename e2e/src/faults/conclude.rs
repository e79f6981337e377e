//! How a trial ends: nothing is broken any more, everything comes to rest, and the auditor reads what was written down.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use uuid::Uuid;

use super::auditor::audit;
use super::nemesis::Fault;
use super::operator::redrive_exhausted;
use super::producer::{Ledger, Producer};
use super::report::Report;
use super::settle::settle;
use super::world::World;

/// How long everything may take to be published, confirmed and ended after the last fault: the bound after a lost disk.
pub const SETTLED_WITHIN: Duration = Duration::from_mins(6);

/// What a trial did.
#[derive(Debug)]
pub struct Story {
    /// Which trial.
    pub trial: String,
    /// Its seed, if it has one.
    pub seed: Option<u64>,
    /// When it began.
    pub begun: Instant,
    /// How long faults went on.
    pub faulty: Duration,
    /// The faults, in order.
    pub faults: Vec<Fault>,
    /// Answers that a peer was to fail with and nobody asked for, count.
    pub unmet: usize,
    /// What was planned and did not happen.
    pub missed: Vec<String>,
    /// Whether readers died so often in a row that a message may have met its last delivery: then a person redrives it.
    pub redrives: bool,
}

/// Waits until everything has come to rest, audits it, and stops the world; what is left of it is kept when something does
/// not hold.
///
/// # Errors
/// When the trial itself cannot go on; what the system does wrong stands in the report.
pub async fn conclude(
    world: World,
    pool: PgPool,
    producer: Producer,
    story: Story,
) -> anyhow::Result<Report> {
    let ledger = producer.stop().await?;
    let mut settled = settle(&world.pool, SETTLED_WITHIN).await;
    if story.redrives && redrive_exhausted(&world.pool).await? > 0 {
        settled = settle(&world.pool, SETTLED_WITHIN).await;
    }
    let findings = audit(&world, &ledger, &settled).await?;
    let report = Report {
        recoveries: recoveries(&world.pool, &ledger, &story.faults).await?,
        trial: story.trial,
        seed: story.seed,
        faulty: story.faulty,
        whole: story.begun.elapsed(),
        settled: settled.took.ok(),
        deaths: world.fleet.deaths(),
        ends: world
            .fleet
            .ends()
            .into_iter()
            .map(|((who, code), times)| (format!("{} {}", who.service, who.number), code, times))
            .collect(),
        faults: story.faults,
        findings,
        unmet: story.unmet,
        missed: story.missed,
    };
    pool.close().await;
    let keep = !report.holds();
    world.stop(keep).await?;
    Ok(report)
}

/// For each fault, the time from its end until an event committed after it took effect at the decider.
async fn recoveries(pool: &PgPool, ledger: &Ledger, faults: &[Fault]) -> anyhow::Result<Vec<Duration>> {
    let commits = ledger.commits();
    let seen: Vec<(Uuid, DateTime<Utc>)> = sqlx::query_as(
        "select event_id, first_seen from retrain_decider.inbox where state = 'done' order by first_seen",
    )
    .fetch_all(pool)
    .await?;
    let seen: HashMap<Uuid, DateTime<Utc>> = seen.into_iter().collect();
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
