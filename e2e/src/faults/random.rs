//! Faults at random from a seed, one after the other, while events flow; then everything is healed and audited.

use std::time::{Duration, Instant};

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;

use super::conclude::{Story, conclude};
use super::nemesis::{Fault, Nemesis};
use super::producer::{Producer, monitors_pool};
use super::report::Report;
use super::world::{World, WorldOptions};

/// Trials of this length have time for runs that never end: they are ended at their deadline.
const PATIENT_FROM: Duration = Duration::from_mins(10);

/// What to do.
#[derive(Debug, Clone)]
pub struct RandomOptions {
    /// Seed of the faults.
    pub seed: u64,
    /// How long faults go on.
    pub time: Duration,
    /// Goes on until so many have hit something, however long that takes.
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
    let world = World::start(WorldOptions {
        witness: true,
        ..options.world.clone()
    })
    .await?;
    let pool = monitors_pool(&world.stack.database_url()).await?;
    let producer = Producer::start(pool.clone(), world.models.clone(), options.pace);
    let mut nemesis = Nemesis::new(options.seed, options.time >= PATIENT_FROM);
    let mut pauses = ChaCha12Rng::seed_from_u64(options.seed ^ 0x7061_7573);
    let mut faults: Vec<Fault> = Vec::new();
    let faulty = Instant::now();
    let mut told = Instant::now();
    let mut missed = Vec::new();
    let mut hits = 0;
    while faulty.elapsed() < options.time || hits < options.faults_min {
        let kind = nemesis.draw();
        let fault = match nemesis.strike(kind, &world).await {
            Ok(fault) => fault,
            // What has happened so far is audited all the same.
            Err(error) => {
                missed.push(format!("fault {} {kind:?}: {error:#}", faults.len() + 1));
                break;
            }
        };
        hits += usize::from(fault.hit());
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
    // The last one is one that no later fault can cure by ending a process.
    faults.push(nemesis.lose_answers(&world).await);
    let faulty = faulty.elapsed();
    let unmet = world.heal().await?;
    // A last event that meets nothing broken, so that the last fault has a recovery time too.
    tokio::time::sleep(options.pace + Duration::from_secs(1)).await;
    let story = Story {
        trial: "random".to_owned(),
        seed: Some(options.seed),
        begun,
        faulty,
        faults,
        unmet,
        missed,
        redrives: false,
    };
    conclude(world, pool, producer, story).await
}
