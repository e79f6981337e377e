//! A death at every boundary between two steps of an effect: each life of a service has one, and the next life the next.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use local_stack::peers::databricks::{Outcome, RunPlan};
use schemas::EventKind;
use vigie::host::SERVICES;

use super::conclude::{Story, conclude};
use super::fleet::{Lives, Replica};
use super::nemesis::HOSTILE;
use super::producer::{Producer, monitors_pool};
use super::report::Report;
use super::world::{World, WorldOptions};

/// Where every service passes by, in the order of their code.
pub const COMMON: [&str; 14] = [
    "consume.handled",
    "consume.committed",
    "consume.acked",
    "park.written",
    "park.committed",
    "relay.claimed",
    "relay.published",
    "relay.marked",
    "epoch.compared",
    "epoch.kept",
    "sweep.found",
    "sweep.kept",
    "seal.linked",
    "seal.sealed",
];
/// Where the monitor passes by.
pub const SLOTS: [&str; 2] = ["slot.worked", "slot.done"];
/// Where the trainer passes by until a candidate is announced, or a failure.
pub const TRAINING: [&str; 12] = [
    "job.claimed",
    "job.submitted",
    "job.moving",
    "job.moved",
    "mlflow.run_created",
    "mlflow.artifact_put",
    "mlflow.run_finished",
    "mlflow.version_created",
    "register.enrolled",
    "register.written",
    "register.announced",
    "failure.written",
];
/// Where a failed training is announced.
pub const FAILURE: [&str; 1] = ["failure.announced"];
/// Where the promoter passes by.
pub const PROMOTION: [&str; 7] = [
    "promote.claimed",
    "promote.hashed",
    "mlflow.tagged",
    "mlflow.alias_set",
    "promote.told",
    "promote.written",
    "promote.announced",
];
/// Where the notifier passes by.
pub const ALERTS: [&str; 4] = ["alert.claimed", "alert.sent", "alert.recording", "alert.recorded"];
/// Where only a promotion that is refused passes by.
pub const REFUSAL: [&str; 2] = ["refusal.written", "refusal.announced"];

/// What to do.
#[derive(Debug, Clone)]
pub struct CrashOptions {
    /// Deaths at the first, second, … boundary of a life, up to this one.
    pub deepest: u32,
    /// Whether to die at every pair of places of the promotion, one after the other.
    pub pairs: bool,
    /// How long to wait until every planned life has ended.
    pub patience: Duration,
    /// The programs.
    pub world: WorldOptions,
}

/// The lives of a service: where each of them ends.
fn planned(service: &str, options: &CrashOptions) -> Vec<String> {
    let mut places: Vec<String> = (1..=options.deepest).map(|number| number.to_string()).collect();
    let mut names: Vec<&str> = COMMON.to_vec();
    match service {
        "drift-monitor" => names.extend(SLOTS),
        "trainer-bridge" => {
            names.extend(TRAINING);
            names.extend(FAILURE);
            names.extend(PROMOTION);
            names.extend(REFUSAL);
        }
        "notifier" => names.extend(ALERTS),
        _ => {}
    }
    places.extend(names.into_iter().map(str::to_owned));
    if options.pairs && service == "trainer-bridge" {
        for first in PROMOTION {
            for second in PROMOTION {
                places.extend([first.to_owned(), second.to_owned()]);
            }
        }
    }
    places
}

/// Runs the trial.
///
/// # Errors
/// When the trial itself cannot go on; what the system does wrong stands in the report.
pub async fn run(options: CrashOptions) -> anyhow::Result<Report> {
    let begun = Instant::now();
    // The folder of the records is there before the world's.
    let records = tempfile::tempdir()?;
    let mut lives: BTreeMap<Replica, Lives> = BTreeMap::new();
    let mut planned_deaths = BTreeMap::new();
    for service in SERVICES {
        let places = planned(service, &options);
        let record = records.path().join(service).display().to_string();
        let life = |place: &String| {
            vec![
                ("VIGIE_TRIAL_CRASH_AT", place.clone()),
                ("VIGIE_TRIAL_RECORD", record.clone()),
            ]
        };
        lives.insert(Replica { service, number: 0 }, places.iter().map(life).collect());
        planned_deaths.insert(service, places);
    }
    let world_options = WorldOptions {
        replicas: 1,
        models: 4,
        witness: true,
        lives,
        ..options.world.clone()
    };
    let world = World::start(world_options).await?;
    let pool = monitors_pool(&world.stack.database_url()).await?;
    let producer = Producer::start(pool.clone(), world.models.clone(), Duration::from_millis(150));
    let faulty = Instant::now();
    let (mut round, mut failing, mut losing) = (0_u32, 0, 0);
    let mut told = Instant::now();
    let missed = loop {
        let left = left(records.path(), &planned_deaths);
        if left.is_empty() {
            break Vec::new();
        }
        if faulty.elapsed() > options.patience {
            break left;
        }
        if told.elapsed() > Duration::from_secs(30) {
            told = Instant::now();
            eprintln!("faults: {} deaths, {} to come", world.fleet.deaths(), left.len());
        }
        // Something to park for everybody, and a training that fails now and then: one of four, however slow they are.
        let submitted = world.databricks.runs().len();
        if submitted >= failing {
            failing = submitted + 4;
            let outcome = Outcome::new(
                "FAILED",
                "RUN_EXECUTION_ERROR",
                "CLIENT_ERROR",
                "the notebook raised an error",
            );
            world.databricks.plan([RunPlan::fails(outcome)]);
        }
        // And a registry that has lost a version now and then, which cannot be promoted.
        let pointed = world.tracking.alias_sets().len();
        if pointed >= losing {
            losing = pointed + 4;
            world.tracking.forget_at_tags(1);
        }
        if round.is_multiple_of(8) {
            // A broker that is away takes nothing; the next round comes.
            let _best_effort = bad_messages(&world).await;
        }
        round += 1;
        tokio::time::sleep(Duration::from_millis(250)).await;
    };
    let faulty = faulty.elapsed();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let story = Story {
        trial: "crash points".to_owned(),
        seed: None,
        begun,
        faulty,
        faults: Vec::new(),
        unmet: 0,
        missed,
        redrives: true,
    };
    conclude(world, pool, producer, story).await
}

/// A message that cannot be read, on a subject of every reader.
async fn bad_messages(world: &World) -> anyhow::Result<()> {
    let jetstream = async_nats::jetstream::new(async_nats::connect(world.stack.nats_url()).await?);
    let subjects: BTreeSet<&str> = SERVICES
        .iter()
        .filter_map(|service| EventKind::read_by(service).first().map(|kind| kind.subject()))
        .collect();
    for subject in subjects {
        let mut headers = HeaderMap::new();
        headers.insert(HOSTILE, "1");
        let body = format!("no event {:?}", Instant::now());
        jetstream
            .publish_with_headers(subject, headers, body.into())
            .await?
            .await?;
    }
    Ok(())
}

/// Planned deaths that have not been recorded.
fn left(records: &Path, planned: &BTreeMap<&'static str, Vec<String>>) -> Vec<String> {
    let mut left = Vec::new();
    for (service, places) in planned {
        let record = std::fs::read_to_string(records.join(service)).unwrap_or_default();
        let died = record.lines().filter(|line| line.starts_with("died ")).count();
        // Lives end in the order of their plan.
        left.extend(
            places
                .iter()
                .skip(died)
                .map(|place| format!("{service} at {place}")),
        );
    }
    left
}

/// Every place that the sources name.
///
/// # Errors
/// When a source cannot be read.
pub fn places_in_sources(workspace: &Path) -> anyhow::Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for package in [
        "chassis",
        "drift-monitor",
        "retrain-decider",
        "trainer-bridge",
        "validator",
        "notifier",
    ] {
        let mut folders = vec![workspace.join(package).join("src")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let text = std::fs::read_to_string(&path)?;
                    for (at, call) in text.match_indices("trial::boundary(\"") {
                        let rest = &text[at + call.len()..];
                        found.extend(rest.split('"').next().map(str::to_owned));
                    }
                }
            }
        }
    }
    Ok(found)
}
