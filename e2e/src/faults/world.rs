//! Servers, lines, peers and services of one trial, in a folder of its own.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use local_stack::peers::databricks::{Databricks, RunPlan};
use local_stack::peers::slack::Slack;
use local_stack::peers::smtp::{Security, Smtp};
use local_stack::peers::tracking::Tracking;
use local_stack::proxy::{Line, Proxy};
use local_stack::{Stack, StackOptions};
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, PgPool};
use vigie::host::{Processes, SERVICES};

use super::canaries::{self, Canaries, with_password};
use super::fleet::{Fleet, Lives, Replica, settings_of};
use super::notebook::Notebook;
use super::settings::{Addresses, MailServer, Patience, file};
use super::watch::Watch;
use super::witness::WITNESS;
use super::wrong_clock::WrongClock;

/// How long the services may take to have their tables and consumers.
const UP_WITHIN: Duration = Duration::from_secs(90);

/// What a trial takes place in.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches")]
pub struct WorldOptions {
    /// Models, count.
    pub models: usize,
    /// Replicas of each service.
    pub replicas: usize,
    /// Settings of patience.
    pub patience: Patience,
    /// Variables of every service's environment.
    pub environment: Vec<(String, String)>,
    /// Variables of the first lives of some replicas.
    pub lives: BTreeMap<Replica, Lives>,
    /// Where the services' programs are; none: beside this program.
    pub binaries: Option<PathBuf>,
    /// Whether the witness runs too.
    pub witness: bool,
    /// Whether people are told: without, the notifier decides and sends nothing.
    pub told: bool,
    /// Where the servers keep their data; none: a temporary folder.
    pub stack_folder: Option<PathBuf>,
    /// Whether PostgreSQL and NATS write everything to disk before they say so.
    pub durable: bool,
    /// Whether there are no lines: nothing can be broken on the way, and nothing costs time there.
    pub direct: bool,
    /// Whether the wall clock of every second replica is wrong and jumps.
    pub wrong_clocks: bool,
}

impl Default for WorldOptions {
    fn default() -> Self {
        Self {
            models: 8,
            replicas: 2,
            patience: Patience::default(),
            environment: Vec::new(),
            lives: BTreeMap::new(),
            binaries: None,
            witness: false,
            told: true,
            stack_folder: None,
            durable: false,
            direct: false,
            wrong_clocks: false,
        }
    }
}

/// The lines of a world, by the name of what they lead to: one for each replica of a service, one for all to a peer.
#[derive(Debug)]
pub struct Lines {
    lines: BTreeMap<String, Vec<Proxy>>,
    direct: bool,
}

impl Lines {
    /// Names, in order.
    pub fn names(&self) -> Vec<&str> {
        self.lines.keys().map(String::as_str).collect()
    }

    /// The lines of that name, by replica; none in a direct world.
    pub fn to(&self, name: &str) -> &[Proxy] {
        self.lines.get(name).map_or(&[], Vec::as_slice)
    }

    /// Makes all of them good.
    pub fn heal(&self) {
        for proxy in self.lines.values().flatten() {
            proxy.set(Line::Pass);
        }
    }

    /// One more line of that name.
    async fn lead(&mut self, name: &str, url: &str) -> anyhow::Result<String> {
        if self.direct {
            return Ok(url.to_owned());
        }
        let proxy = Proxy::to_url(url).await?;
        let led = proxy.instead_of(url)?;
        self.lines.entry(name.to_owned()).or_default().push(proxy);
        Ok(led)
    }
}

/// Name of the lines of a service to NATS.
pub fn to_nats(service: &str) -> String {
    format!("{service} to nats")
}

/// Name of the lines of a service to PostgreSQL.
pub fn to_postgres(service: &str) -> String {
    format!("{service} to postgres")
}

/// Everything of one trial.
#[derive(Debug)]
pub struct World {
    /// The services; first, so that they are killed before what they stand on.
    pub fleet: Fleet,
    /// Plays what runs on Databricks.
    pub notebook: Notebook,
    /// Watches what has ended.
    pub watch: Watch,
    /// Lines to servers and peers.
    pub lines: Lines,
    /// Peers with ledgers.
    pub databricks: Arc<Databricks>,
    /// See [`Tracking`].
    pub tracking: Arc<Tracking>,
    /// See [`Slack`].
    pub slack: Slack,
    /// See [`Smtp`].
    pub smtp: Smtp,
    /// Names of the models.
    pub models: Vec<String>,
    /// Whether the witness runs.
    pub witnessed: bool,
    /// The database past all lines, as its owner.
    pub pool: PgPool,
    /// Logs, settings, artefacts.
    pub folder: tempfile::TempDir,
    /// The servers.
    pub stack: Stack,
}

impl World {
    /// Starts everything and waits until the services have their tables and consumers.
    ///
    /// # Errors
    /// When something does not start; quotes the end of a log.
    pub async fn start(options: WorldOptions) -> anyhow::Result<Self> {
        chassis::install_crypto();
        let stack_options = if options.durable {
            StackOptions::default()
        } else {
            StackOptions::for_tests()
        };
        let stack = Stack::start(StackOptions {
            folder: options.stack_folder,
            ..stack_options
        })
        .await?;
        let pool = PgPoolOptions::new()
            .max_connections(6)
            .acquire_timeout(Duration::from_mins(2))
            .connect(&stack.database_url())
            .await
            .context("connect to PostgreSQL")?;
        create_table(&pool).await?;
        let (databricks, tracking) = (
            Arc::new(Databricks::start().await?),
            Arc::new(Tracking::start().await?),
        );
        databricks.otherwise(RunPlan::succeeds(""));
        let (slack, smtp) = (Slack::start().await?, Smtp::start().await?);
        let folder = tempfile::Builder::new().prefix("vigie-faults-").tempdir()?;
        let artifacts = folder.path().join("artifacts");
        std::fs::create_dir(&artifacts)?;
        let models: Vec<String> = (0..options.models)
            .map(|number| format!("fraud-{number:02}"))
            .collect();
        let mut lines = Lines {
            lines: BTreeMap::new(),
            direct: options.direct,
        };
        let smtp_url = format!("smtp://127.0.0.1:{}", smtp.port(Security::StartTls));
        let smtp_led = lines.lead("smtp", &smtp_url).await?;
        let mut addresses = Addresses {
            nats: String::new(),
            database: String::new(),
            databricks: lines.lead("databricks", &databricks.url()).await?,
            databricks_token: databricks.token(),
            mlflow: lines.lead("mlflow", &tracking.url()).await?,
            slack: lines.lead("slack", &slack.webhook_url()).await?,
            mail: MailServer {
                port: smtp_led.rsplit(':').next().unwrap_or_default().parse()?,
                user: smtp.user(),
                password: smtp.password(),
                authority: smtp.authority_file(),
            },
        };
        let mut services = SERVICES.to_vec();
        if options.witness {
            services.push(WITNESS);
        }
        for service in &services {
            for number in 0..options.replicas {
                let nats = lines.lead(&to_nats(service), &stack.nats_url()).await?;
                addresses.nats = with_password(&nats, canaries::NATS);
                let database = lines.lead(&to_postgres(service), &stack.database_url()).await?;
                addresses.database = with_password(&database, canaries::DATABASE);
                let text = file(&addresses, &artifacts, &models, &options.patience, options.told);
                std::fs::write(settings_of(folder.path(), Replica { service, number }), text)?;
            }
        }
        let binaries = options.binaries.map_or_else(Processes::own_folder, Ok)?;
        let notebook = Notebook::start(Arc::clone(&databricks), Arc::clone(&tracking));
        let fleet = Fleet::start(
            &binaries,
            folder.path(),
            &services,
            options.replicas,
            options.environment,
            options.lives,
            options
                .wrong_clocks
                .then(|| WrongClock::build(folder.path()))
                .transpose()?,
        )?;
        let world = Self {
            fleet,
            notebook,
            watch: Watch::start(pool.clone()),
            lines,
            databricks,
            tracking,
            slack,
            smtp,
            models,
            witnessed: options.witness,
            pool,
            folder,
            stack,
        };
        world.until_up(&services).await?;
        Ok(world)
    }

    /// Every secret of the settings.
    pub fn canaries(&self) -> Canaries {
        let webhook = self.slack.webhook_url();
        Canaries::new([
            self.databricks.token(),
            self.smtp.password().to_owned(),
            webhook.rsplit('/').next().unwrap_or_default().to_owned(),
        ])
    }

    /// Waits until every service has its tables and its consumer.
    ///
    /// # Errors
    /// When that takes too long; quotes the logs.
    pub async fn until_up(&self, services: &[&str]) -> anyhow::Result<()> {
        let begun = std::time::Instant::now();
        let nats = async_nats::connect(self.stack.nats_url()).await?;
        let jetstream = async_nats::jetstream::new(nats);
        for service in services {
            let inbox = format!("select 1 from {}.inbox limit 1", schema_of(service));
            loop {
                let table = sqlx::query(AssertSqlSafe(inbox.clone()))
                    .fetch_optional(&self.pool)
                    .await;
                let consumer = match jetstream.get_stream(schemas::flow::STREAM).await {
                    Ok(stream) => stream.consumer_info(service).await.is_ok(),
                    Err(_) => false,
                };
                if table.is_ok() && consumer {
                    break;
                }
                if begun.elapsed() > UP_WITHIN {
                    anyhow::bail!(
                        "{service} is not up after {} s\n{}",
                        UP_WITHIN.as_secs(),
                        self.tails()
                    );
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Ok(())
    }

    /// The last lines of every log.
    pub fn tails(&self) -> String {
        let mut text = String::new();
        for replica in self.fleet.replicas() {
            let path = super::fleet::log_of(self.folder.path(), replica);
            let log = std::fs::read_to_string(&path).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(6).collect();
            let last: Vec<&str> = last.into_iter().rev().collect();
            // Writing to a text cannot fail.
            let _infallible = writeln!(
                text,
                "--- {} {}\n{}",
                replica.service,
                replica.number,
                last.join("\n")
            );
        }
        text
    }

    /// Everything that was broken is good again: servers run, lines pass, nobody stands still, no fault waits for a call; says how
    /// many did.
    ///
    /// # Errors
    /// When a server does not come back.
    pub async fn heal(&self) -> anyhow::Result<usize> {
        self.lines.heal();
        self.fleet.thaw_all();
        let unmet = self.databricks.heal() + self.tracking.heal() + self.slack.heal();
        self.smtp.otherwise(&local_stack::peers::smtp::Answer::Accept)?;
        if self.smtp.pid().is_none() {
            self.smtp.restart().await?;
        }
        tokio::task::block_in_place(|| {
            if self.stack.nats().pid().is_none() {
                self.stack.nats().restart()?;
            }
            if self.stack.postgres().pid().is_none() {
                self.stack.postgres().restart()?;
            }
            anyhow::Ok(())
        })?;
        super::nemesis::heal_database(&self.pool)
            .await
            .context("let PostgreSQL take writes and logins again")?;
        Ok(unmet)
    }

    /// Stops everything. With `keep` the folder with logs and settings stays, and is named.
    ///
    /// # Errors
    /// When a server cannot be stopped.
    pub async fn stop(self, keep: bool) -> anyhow::Result<()> {
        let Self {
            fleet,
            notebook,
            watch,
            lines,
            pool,
            folder,
            stack,
            ..
        } = self;
        fleet.stop().await;
        drop((notebook, watch, lines));
        pool.close().await;
        stack.stop().await?;
        if keep {
            eprintln!("faults: logs are kept in {}", folder.keep().display());
        }
        Ok(())
    }
}

/// The PostgreSQL schema of a service.
pub fn schema_of(service: &str) -> String {
    service.replace('-', "_")
}

/// 40 days of 200 payments a day, of which some are fraud; the same rows every time.
async fn create_table(pool: &PgPool) -> anyhow::Result<()> {
    for statement in [
        "create schema bank",
        "create table bank.payment (id bigint primary key, tx_time timestamptz not null, is_fraud boolean, \
         labelled_at timestamptz, tx_amount float8, pace float8)",
        "insert into bank.payment select n, timestamptz '2026-03-01' + n * interval '432 seconds', n % 25 = 0, \
         timestamptz '2026-03-01' + n * interval '432 seconds' + interval '20 hours', \
         100.0 * (n % 97) / 97, (n % 53) / 53.0 from generate_series(0, 7999) n",
        "create index on bank.payment (tx_time)",
    ] {
        sqlx::query(statement)
            .execute(pool)
            .await
            .context("make the payments")?;
    }
    Ok(())
}
