//! Start, run, drain.
//!
//! A service is a [`Definition`] (its names, defaults, migrations, subscriptions) and a [`Service`] (how its
//! settings become tasks). [`run`] is its whole `main`; [`launch`] runs it inside another process.

use std::future::Future;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use sqlx::PgPool;
use sqlx::migrate::Migrator;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::bus::{Bus, NatsSettings};
use crate::clock::{self, Clock};
use crate::db::{self, DatabaseSettings};
use crate::metrics::Metrics;
use crate::settings::{Alias, COMMON_ALIASES, COMMON_DEFAULTS, Problems, Reader, Settings, Sources, render};
use crate::telemetry::{self, TelemetrySettings};
use crate::{health, relay, seal, sweep};

/// Most slots a replica works on at once.
const SLOTS_AT_ONCE_MAX: u32 = 4;
/// Exit code for settings that are wrong (EX_USAGE of sysexits).
pub const EXIT_SETTINGS: u8 = 64;

/// What a service is called and what it brings along.
#[derive(Debug)]
pub struct Definition {
    /// Name in events, logs and consumers, e.g. `drift-monitor`.
    pub name: &'static str,
    /// Its PostgreSQL schema, e.g. `drift_monitor`; also its key in `[http]`.
    pub schema: &'static str,
    /// One sentence for `--help`.
    pub about: &'static str,
    /// Its own `default.toml`, and those of the crates it reads settings of.
    pub defaults: &'static [&'static str],
    /// Second names of its settings, and of those of the crates it reads settings of.
    pub aliases: &'static [&'static [Alias]],
    /// Its own migrations.
    pub migrator: &'static Migrator,
}

/// A service: settings become tasks.
pub trait Service: Sized + Send + Sync + 'static {
    /// Names, defaults, migrations.
    const DEFINITION: Definition;
    /// Checked settings of its own.
    type Config: Send + Sync + 'static;

    /// Reads its settings; mistakes are collected by the reader.
    fn configure(reader: &Reader<'_>) -> Self::Config;

    /// Checks what must hold before work begins, and spawns the long-lived tasks.
    fn start(
        config: Self::Config,
        context: Context,
        tasks: &mut Tasks,
    ) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// What the tasks of a service share.
#[derive(Debug, Clone)]
pub struct Context {
    /// The service's name, also its consumer's.
    pub service: &'static str,
    /// The service's schema.
    pub schema: &'static str,
    /// Connections whose search path begins with the schema.
    pub pool: PgPool,
    /// NATS.
    pub bus: Bus,
    /// Longest wait for PostgreSQL's answer to a statement on few rows.
    pub answer_timeout: Duration,
    /// How streams and consumers are to be.
    pub nats: NatsSettings,
    /// The instant of slots.
    pub clock: Clock,
    /// Counters.
    pub metrics: Metrics,
    /// Slots worked on at once: each holds a transaction for as long as it takes.
    pub slot_permits: Arc<Semaphore>,
    /// Cancelled when the service is to stop.
    pub stop: CancellationToken,
}

impl Context {
    /// Half of the pool at most, so that the relay, the handlers and the health page always get a connection; and no more
    /// than there are connections to read sources with.
    pub fn slot_permits(pool: &PgPool) -> Arc<Semaphore> {
        let half = pool.options().get_max_connections() / 2;
        Arc::new(Semaphore::new(half.clamp(1, SLOTS_AT_ONCE_MAX) as usize))
    }
}

/// Long-lived tasks, each with a name; the first to end ends all.
#[derive(Debug)]
pub struct Tasks {
    set: JoinSet<(&'static str, anyhow::Result<()>)>,
    stop: CancellationToken,
}

impl Tasks {
    fn new(stop: CancellationToken) -> Self {
        Self {
            set: JoinSet::new(),
            stop,
        }
    }

    /// Starts a task that runs until `stop` is cancelled.
    pub fn spawn(
        &mut self,
        name: &'static str,
        task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        self.set.spawn(async move { (name, task.await) });
    }

    /// Waits until told to stop or the first task fails; then gives the others `drain` to finish.
    async fn run(mut self, drain: Duration) -> anyhow::Result<()> {
        let mut first_failure = None;
        tokio::select! {
            () = self.stop.cancelled() => {}
            ended = self.set.join_next() => first_failure = ended.map(describe),
        }
        self.stop.cancel();
        let draining = async {
            while let Some(ended) = self.set.join_next().await {
                let ended = describe(ended);
                if ended.is_err() && !matches!(first_failure, Some(Err(_))) {
                    first_failure = Some(ended);
                }
            }
        };
        if tokio::time::timeout(drain, draining).await.is_err() {
            self.set.abort_all();
            if !matches!(first_failure, Some(Err(_))) {
                first_failure = Some(Err(anyhow::anyhow!(
                    "some work was still in flight after {} s (setting `shutdown.drain_timeout`); it will be redone",
                    drain.as_secs()
                )));
            }
        }
        first_failure.unwrap_or(Ok(()))
    }
}

fn describe(ended: Result<(&'static str, anyhow::Result<()>), tokio::task::JoinError>) -> anyhow::Result<()> {
    match ended {
        Ok((name, result)) => result.with_context(|| format!("task `{name}`")),
        Err(error) => Err(anyhow::anyhow!("a task panicked: {error}")),
    }
}

/// Settings that every service has.
#[derive(Debug, Clone)]
struct Common {
    database: DatabaseSettings,
    nats: NatsSettings,
    telemetry: TelemetrySettings,
    clock: Clock,
    address: Option<SocketAddr>,
    drain: Duration,
}

impl Common {
    fn read(reader: &Reader<'_>, schema: &str) -> Self {
        let http = reader.section("http");
        let address = http.is_set(schema).then(|| {
            http.parsed(
                schema,
                "an address such as `127.0.0.1:9101`",
                str::parse::<SocketAddr>,
            )
        });
        Self {
            database: DatabaseSettings::read(reader),
            nats: NatsSettings::read(reader),
            telemetry: TelemetrySettings::read(reader),
            clock: Clock::read(reader),
            address: address.flatten(),
            drain: reader
                .section("shutdown")
                .duration("drain_timeout", Duration::from_secs(1)..=Duration::from_secs(300)),
        }
    }
}

fn load<S: Service>(sources: &Sources) -> Result<Settings, Problems> {
    let definition = &S::DEFINITION;
    let aliases: Vec<Alias> = [&[COMMON_ALIASES], definition.aliases].concat().concat();
    let defaults: Vec<&str> = std::iter::once(COMMON_DEFAULTS)
        .chain(definition.defaults.iter().copied())
        .collect();
    Settings::load(&defaults, &aliases, sources)
}

fn configure<S: Service>(settings: &Settings) -> Result<(Common, S::Config), Problems> {
    let reader = Reader::new(settings);
    let common = Common::read(&reader, S::DEFINITION.schema);
    let config = S::configure(&reader);
    reader.finish()?;
    Ok((common, config))
}

fn warn_of_exposed(settings: &Settings) {
    if let Some((file, keys)) = settings.exposed_secrets() {
        tracing::warn!(
            "everybody on this machine can read `{file}`, which holds {}: `chmod 600` it, or put secrets into files of their own and \
             name them by variables that end in `_FILE`",
            keys.join(", ")
        );
    }
}

/// Checks a service's settings without starting anything.
///
/// # Errors
/// Every mistake at once.
pub fn check<S: Service>(sources: &Sources) -> Result<(), Problems> {
    configure::<S>(&load::<S>(sources)?).map(|_| ())
}

/// Runs the service inside this process until `stop` is cancelled. Telemetry is the caller's.
///
/// # Errors
/// Wrong settings, servers that cannot be reached at the start, or the first task that failed.
pub async fn launch<S: Service>(sources: &Sources, stop: CancellationToken) -> anyhow::Result<()> {
    launch_then::<S>(sources, stop, || ()).await
}

/// Like [`launch`]; calls `up` once, when everything is started.
///
/// # Errors
/// As [`launch`]; before `up` was called when the start failed.
pub async fn launch_then<S: Service>(
    sources: &Sources,
    stop: CancellationToken,
    up: impl FnOnce() + Send,
) -> anyhow::Result<()> {
    let settings = load::<S>(sources)?;
    warn_of_exposed(&settings);
    let (common, config) = configure::<S>(&settings)?;
    Box::pin(start::<S>(common, config, stop, up)).await
}

async fn start<S: Service>(
    common: Common,
    config: S::Config,
    stop: CancellationToken,
    up: impl FnOnce() + Send,
) -> anyhow::Result<()> {
    let definition = S::DEFINITION;
    let pool = db::connect(&common.database, definition.name, definition.schema).await?;
    db::prepare(&pool, &common.database, definition.schema, definition.migrator).await?;
    if common.clock == Clock::Replay {
        clock::create_replay_clock(&pool).await?;
    }
    let bus = Bus::connect(&common.nats, definition.name).await?;
    crate::provision::await_streams(&bus, &common.nats, &stop).await?;
    let context = Context {
        service: definition.name,
        schema: definition.schema,
        pool: pool.clone(),
        bus,
        answer_timeout: common.database.answer_timeout,
        nats: common.nats,
        clock: common.clock,
        metrics: Metrics::new(definition.name),
        slot_permits: Context::slot_permits(&pool),
        stop: stop.clone(),
    };
    let mut tasks = Tasks::new(stop);
    S::start(config, context.clone(), &mut tasks).await?;
    tasks.spawn("relay", relay::run(context.clone()));
    tasks.spawn("sweep", sweep::run(context.clone()));
    tasks.spawn("seal", seal::run(context.clone()));
    if let Some(address) = common.address {
        tasks.spawn("health", health::serve(context.clone(), address));
    }
    tracing::info!("{} is up", definition.name);
    up();
    let result = tasks.run(common.drain).await;
    context.bus.close().await;
    pool.close().await;
    tracing::info!("{} has stopped", definition.name);
    result
}

/// What a service's command line asks for.
struct Arguments {
    file: Option<PathBuf>,
    action: Action,
}

enum Action {
    Run,
    PrintConfig,
    CheckConfig,
    Help,
    Version,
}

fn arguments(raw: impl IntoIterator<Item = String>) -> Result<Arguments, String> {
    let mut arguments = Arguments {
        file: None,
        action: Action::Run,
    };
    let mut raw = raw.into_iter();
    while let Some(argument) = raw.next() {
        match argument.as_str() {
            "--config" => arguments.file = Some(raw.next().ok_or("`--config` needs a file")?.into()),
            "--print-config" => arguments.action = Action::PrintConfig,
            "--check-config" => arguments.action = Action::CheckConfig,
            "--help" | "-h" => arguments.action = Action::Help,
            "--version" | "-V" => arguments.action = Action::Version,
            other => return Err(format!("`{other}` is not an option; see --help")),
        }
    }
    Ok(arguments)
}

fn help(definition: &Definition) -> String {
    format!(
        "{name}: {about}\n\n\
         Usage: {name} [--config FILE] [--print-config | --check-config]\n\n\
         Options:\n  \
         --config FILE    settings file; else VIGIE_CONFIG, else ./vigie.toml if it exists\n  \
         --print-config   show the settings in force and where each comes from, secrets masked\n  \
         --check-config   check the settings and exit: 0 fine, {EXIT_SETTINGS} wrong\n  \
         --version        show the version\n\n\
         Settings: compiled-in defaults, then the file, then .env, then the environment\n\
         (VIGIE__SECTION__KEY, or the names in brackets below). The defaults are:\n\n{common}\n{own}",
        name = definition.name,
        about = definition.about,
        common = COMMON_DEFAULTS,
        own = definition.defaults.join("\n"),
    )
}

/// Writes to standard output; a reader that has seen enough is no mistake.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush())
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        eprintln!("cannot write to standard output: {error}");
    }
}

/// Says what is wrong with the settings; the exit code is 64.
pub fn refuse_to_start(problems: &Problems) -> ExitCode {
    eprint!("{problems}");
    ExitCode::from(EXIT_SETTINGS)
}

/// The whole `main` of a service.
pub async fn run<S: Service>() -> ExitCode {
    crate::install_crypto();
    let definition = S::DEFINITION;
    let arguments = match arguments(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::from(EXIT_SETTINGS);
        }
    };
    match arguments.action {
        Action::Help => {
            say(&format!("{}\n", help(&definition)));
            return ExitCode::SUCCESS;
        }
        Action::Version => {
            say(&format!("{} {}\n", definition.name, env!("CARGO_PKG_VERSION")));
            return ExitCode::SUCCESS;
        }
        Action::Run | Action::PrintConfig | Action::CheckConfig => {}
    }
    let settings = match Sources::of_process(arguments.file).and_then(|sources| load::<S>(&sources)) {
        Ok(settings) => settings,
        Err(problems) => return refuse_to_start(&problems),
    };
    if matches!(arguments.action, Action::PrintConfig) {
        say(&render(&settings));
    }
    let (common, config) = match configure::<S>(&settings) {
        Ok(configured) => configured,
        Err(problems) => return refuse_to_start(&problems),
    };
    if !matches!(arguments.action, Action::Run) {
        return ExitCode::SUCCESS;
    }
    let telemetry = match telemetry::init(&common.telemetry, definition.name) {
        Ok(telemetry) => telemetry,
        Err(error) => {
            eprintln!("cannot start: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    warn_of_exposed(&settings);
    let stop = CancellationToken::new();
    tokio::spawn(cancel_on_signal(stop.clone()));
    let result = Box::pin(start::<S>(common, config, stop, || ())).await;
    if let Err(error) = &result {
        tracing::error!("{} stops: {error:#}", definition.name);
    }
    telemetry.flush().await;
    if result.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Cancels on SIGTERM or Ctrl-C, and ends the process on the second one. Correctness never depends on it: `kill -9` is the
/// specified path.
#[expect(
    clippy::exit,
    reason = "whoever tells it twice does not want to wait for anything"
)]
pub async fn cancel_on_signal(stop: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let (terminate, interrupt) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    match (terminate, interrupt) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            let mut told = async || {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            };
            told().await;
            tracing::info!("stopping: finishing what is in flight; told once more, it ends at once");
            stop.cancel();
            told().await;
            tracing::warn!("told to stop once more: what is in flight will be redone");
            std::process::exit(1);
        }
        (Err(error), _) | (_, Err(error)) => tracing::error!("signals cannot be caught: {error}"),
    }
}
