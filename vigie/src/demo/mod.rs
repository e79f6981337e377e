//! Months of payments replayed through the real services.
//!
//! Rows go into PostgreSQL hour by hour, scored by the champion in force; the replay clock is set to each
//! hour; the services do their slots as of it; the next hour begins when nothing is under way. The services
//! do not know that they are in a demo.

pub mod narrate;
mod report;
pub mod sample;
mod settings;
mod settle;
mod source;
mod story;
pub mod table;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use chassis::Sources;
use chrono::{DateTime, Duration, DurationRound as _, Utc};
use local_stack::{Stack, StackOptions};
use schemas::events::ModelPromoted;
use scoring::Model;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio_util::sync::CancellationToken;

pub use report::{DriftSummary, ModelSummary, Report};
pub use settings::DemoModel;
pub use source::{Days, Source, simulated};
pub use story::Story;

use crate::host::{self, Processes};
use crate::simulator::DayBatch;
use settle::Settle;

/// What to replay and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which payments.
    pub source: Source,
    /// Days to replay at most; all of them when none.
    pub days: Option<u32>,
    /// Seed of trainings.
    pub seed: u64,
    /// Folder for data, mails, models and logs.
    pub folder: PathBuf,
    /// Each service as a process of its own.
    pub processes: bool,
    /// Further settings, TOML, which win over the demo's own.
    pub overrides: Option<String>,
}

/// What may be done to a running demo between two hours.
pub trait Disturbance {
    /// Called after payments of the hour were written and before the clock is set to its end.
    ///
    /// # Errors
    /// Whatever goes wrong ends the demo.
    fn before_hour(
        &mut self,
        hour: DateTime<Utc>,
        services: &mut Services,
    ) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Called right after the clock was set, while the services work.
    ///
    /// # Errors
    /// Whatever goes wrong ends the demo.
    fn during_hour(
        &mut self,
        hour: DateTime<Utc>,
        services: &mut Services,
    ) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// Nothing goes wrong.
#[derive(Debug, Default)]
pub struct Undisturbed;

impl Disturbance for Undisturbed {
    async fn before_hour(&mut self, _: DateTime<Utc>, _: &mut Services) -> anyhow::Result<()> {
        Ok(())
    }
    async fn during_hour(&mut self, _: DateTime<Utc>, _: &mut Services) -> anyhow::Result<()> {
        Ok(())
    }
}

/// The services of a demo.
#[derive(Debug)]
pub enum Services {
    /// All in this process.
    Together {
        /// Stops them.
        stop: CancellationToken,
        /// Ends when they do.
        task: tokio::task::JoinHandle<anyhow::Result<()>>,
    },
    /// Each as a process of its own.
    Processes(Processes),
}

impl Services {
    fn check(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Together { task, .. } => {
                anyhow::ensure!(!task.is_finished(), "the services have ended; see the log");
            }
            Self::Processes(processes) => processes.check()?,
        }
        Ok(())
    }

    async fn stop(self) -> anyhow::Result<()> {
        match self {
            Self::Together { stop, task } => {
                stop.cancel();
                task.await.context("the services panicked")?
            }
            Self::Processes(mut processes) => processes.stop().await,
        }
    }
}

/// Replays and reports.
///
/// # Errors
/// Servers that cannot be started, a file that cannot be read, or a service that fails.
pub async fn run<D: Disturbance>(
    options: Options,
    story: &mut Story,
    disturbance: &mut D,
    stay: Option<CancellationToken>,
) -> anyhow::Result<Report> {
    let folder = prepare_folder(&options.folder)?;
    let stack_options = StackOptions::kept_in(folder.join("servers")).with_progress(story.progress());
    let stack = Stack::start(stack_options)
        .await
        .context("start the private servers")?;
    let result = replay(&options, &folder, &stack, story, disturbance, stay).await;
    let stopped = stack.stop().await.context("stop the private servers");
    let report = result?;
    stopped?;
    Ok(report)
}

fn prepare_folder(folder: &Path) -> anyhow::Result<PathBuf> {
    const MARK: &str = ".vigie-demo";
    if folder.exists() {
        let ours = folder.join(MARK).exists() || std::fs::read_dir(folder)?.next().is_none();
        anyhow::ensure!(
            ours,
            "{} exists and is no folder of an earlier demo; choose another with --folder",
            folder.display()
        );
        std::fs::remove_dir_all(folder).with_context(|| format!("empty {}", folder.display()))?;
    }
    std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    std::fs::write(
        folder.join(MARK),
        "This folder belongs to `vigie demo`, which empties it.\n",
    )?;
    folder
        .canonicalize()
        .with_context(|| format!("find {}", folder.display()))
}

async fn replay<D: Disturbance>(
    options: &Options,
    folder: &Path,
    stack: &Stack,
    story: &mut Story,
    disturbance: &mut D,
    stay: Option<CancellationToken>,
) -> anyhow::Result<Report> {
    let database_url = stack.database_url();
    let pool = PgPoolOptions::new()
        .max_connections(4)
        .connect(&database_url)
        .await
        .context("connect to PostgreSQL")?;
    let mut payments = Days::open(options)?;
    let model = payments.model().clone();
    table::create(&pool, payments.features()).await?;
    chassis::clock::create_replay_clock(&pool).await?;

    let config = folder.join("vigie.toml");
    let text = settings::render(&model, options, folder, &database_url, &stack.nats_url());
    std::fs::write(&config, text)?;
    let mut sources = Sources {
        file: Some(config.clone()),
        ..Sources::default()
    };
    if let Some(overrides) = &options.overrides {
        sources
            .overrides
            .push(("the demo's overrides".to_owned(), overrides.clone()));
    }
    host::check_settings(&sources)?;
    let mut services = start_services(options, &sources, &config, folder)?;
    wait_for_schemas(&pool, &mut services).await?;
    story.listen(&stack.nats_url()).await?;

    let mut replay = Replay {
        pool: pool.clone(),
        settle: Settle::new(pool.clone()),
        champion: None,
        first_training: model.first_training,
    };
    while let Some(day) = payments.next_day()? {
        replay.day(&day, story, disturbance, &mut services).await?;
    }
    story.catch_up().await;
    let report = report::collect(&pool, folder, &database_url, &stack.nats_url()).await?;
    if let Some(stay) = stay {
        story.stay(&report);
        stay.cancelled().await;
    }
    services.stop().await?;
    pool.close().await;
    Ok(report)
}

fn start_services(
    options: &Options,
    sources: &Sources,
    config: &Path,
    folder: &Path,
) -> anyhow::Result<Services> {
    if options.processes {
        if let Some(overrides) = &options.overrides {
            // Processes read one file; sections of the overrides are written to be merged by the reader of TOML.
            let merged = settings::merge(&std::fs::read_to_string(config)?, overrides)?;
            std::fs::write(config, merged)?;
        }
        return Ok(Services::Processes(Processes::start(
            &Processes::own_folder()?,
            config,
            &folder.join("logs"),
        )?));
    }
    let stop = CancellationToken::new();
    let task = tokio::spawn(host::run_all(sources.clone(), stop.clone()));
    Ok(Services::Together { stop, task })
}

/// Services create their schemas when they start; queries over all of them need all of them.
async fn wait_for_schemas(pool: &PgPool, services: &mut Services) -> anyhow::Result<()> {
    let started = std::time::Instant::now();
    loop {
        let (missing,): (i64,) = sqlx::query_as(
            "select 7 - count(*) from unnest(array['drift_monitor.inbox', 'retrain_decider.model_state', \
             'trainer_bridge.inbox', 'validator.inbox', 'notifier.inbox', 'public.model_versions', \
             'public.drift_metrics']) as name where to_regclass(name) is not null",
        )
        .fetch_one(pool)
        .await?;
        if missing == 0 {
            return Ok(());
        }
        services.check()?;
        anyhow::ensure!(
            started.elapsed().as_secs() < 120,
            "the services did not come up within 120 s"
        );
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

struct Replay {
    pool: PgPool,
    settle: Settle,
    champion: Option<(String, Model)>,
    first_training: DateTime<Utc>,
}

impl Replay {
    async fn day<D: Disturbance>(
        &mut self,
        day: &DayBatch,
        story: &mut Story,
        disturbance: &mut D,
        services: &mut Services,
    ) -> anyhow::Result<()> {
        let (Some(first), Some(last)) = (day.times.first(), day.times.last()) else {
            return Ok(());
        };
        let midnight = first.duration_trunc(Duration::days(1))?;
        story.day(midnight);
        if last.duration_trunc(Duration::days(1))? + Duration::days(1)
            <= self.first_training.duration_trunc(Duration::days(1))?
        {
            // History before the first training: nobody was watching yet.
            return table::append(&self.pool, day, 0..day.times.len(), None).await;
        }
        let mut begin = 0;
        for hour in 1..=24 {
            let end_of_hour = midnight + Duration::hours(hour);
            let end = begin + day.times[begin..].partition_point(|at| *at < end_of_hour);
            self.refresh_champion().await?;
            let champion = self.champion.as_ref().map(|(_, model)| model);
            table::append(&self.pool, day, begin..end, champion).await?;
            begin = end;
            if end_of_hour < self.first_training {
                continue;
            }
            disturbance.before_hour(end_of_hour, services).await?;
            chassis::clock::set_replay_clock(&self.pool, end_of_hour).await?;
            disturbance.during_hour(end_of_hour, services).await?;
            self.settle
                .wait(end_of_hour, daily_slot(end_of_hour), || services.check())
                .await?;
            story.keep_up();
        }
        Ok(())
    }

    /// Loads the champion in force, as a serving system that follows `model.promoted` would.
    async fn refresh_champion(&mut self) -> anyhow::Result<()> {
        let Some(promoted) = report::latest_promotion(&self.pool).await? else {
            return Ok(());
        };
        if self
            .champion
            .as_ref()
            .is_some_and(|(version, _)| version == promoted.version.as_str())
        {
            return Ok(());
        }
        self.champion = Some((promoted.version.to_string(), champion(&promoted)?));
        Ok(())
    }
}

/// The model that was promoted, from its file.
fn champion(promoted: &ModelPromoted) -> anyhow::Result<Model> {
    let path = promoted
        .artifact
        .uri
        .strip_prefix("file://")
        .context("models that are trained here lie in files")?;
    let bytes = std::fs::read(path).with_context(|| format!("read model {path}"))?;
    Ok(scoring::load(&bytes, &promoted.artifact.sha256)?)
}

/// The daily decision that is due at this instant (02:00), if one is.
fn daily_slot(hour: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let schedule: chassis::slots::Schedule = settings::DAILY.parse().ok()?;
    schedule.last_until(hour).filter(|slot| *slot == hour)
}
