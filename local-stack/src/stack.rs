//! nats-server and PostgreSQL together, in one folder.

use std::fs::{File, TryLockError};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::Signal;

use crate::nats::{NatsOptions, NatsServer};
use crate::postgres::{self, PostgresOptions, PostgresServer};
use crate::progress::Progress;
use crate::tools::Tools;
use crate::watchdog::{Watchdog, await_former};

/// How long the watchdog of a killed owner may take to clear the folder.
const FORMER_OWNER_WITHIN: Duration = Duration::from_secs(20);

/// What PostgreSQL promises when the machine goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// What is committed is on disk.
    Durable,
    /// No flush to disk: quick, and safe against a killed process but not against a lost machine. For tests.
    Fast,
}

/// How to start a [`Stack`]. The default is a temporary, durable stack on free ports.
#[derive(Debug, Clone)]
pub struct StackOptions {
    /// Where everything lives. `None`: a temporary folder that goes with the stack. A folder that is given is kept, and
    /// a stack that is started on it again finds its data.
    pub folder: Option<PathBuf>,
    /// Of PostgreSQL. Default: durable.
    pub durability: Durability,
    /// Whether JetStream flushes each message to disk before it acknowledges (`sync_interval: always`). Default: true.
    pub nats_sync_always: bool,
    /// Port of NATS. `None`, the default: a free one.
    pub nats_port: Option<u16>,
    /// Port of PostgreSQL. `None`, the default: a free one.
    pub postgres_port: Option<u16>,
    /// PostgreSQL's `max_connections`. Default: 200.
    pub postgres_connections: u16,
    /// The nats-server program. `None`, the default: as [`Tools::nats_server`] finds it.
    pub nats_program: Option<PathBuf>,
    /// The folder of PostgreSQL's programs. `None`, the default: as [`Tools::postgres`] finds it.
    pub postgres_bin: Option<PathBuf>,
    /// Where to find or put the servers' programs. Default: [`Tools::default`].
    pub tools: Tools,
}

impl Default for StackOptions {
    fn default() -> Self {
        Self {
            folder: None,
            durability: Durability::Durable,
            nats_sync_always: true,
            nats_port: None,
            postgres_port: None,
            postgres_connections: 200,
            nats_program: None,
            postgres_bin: None,
            tools: Tools::default(),
        }
    }
}

impl StackOptions {
    /// A temporary stack for tests: quick, because nothing is flushed to disk.
    pub fn for_tests() -> Self {
        Self {
            durability: Durability::Fast,
            nats_sync_always: false,
            ..Self::default()
        }
    }

    /// A kept stack in `folder`, for `vigie dev --data`.
    pub fn kept_in(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: Some(folder.into()),
            ..Self::default()
        }
    }

    /// Tells `progress` what is fetched instead of standard error.
    #[must_use]
    pub fn with_progress(mut self, progress: Progress) -> Self {
        self.tools = self.tools.with_progress(progress);
        self
    }
}

/// A private nats-server and PostgreSQL. Dropping it stops both and removes a temporary folder.
#[derive(Debug)]
pub struct Stack {
    // In this order on drop, should `shut_down` have failed half-way: servers, then the watchdog that looks after them.
    nats: NatsServer,
    postgres: PostgresServer,
    watchdog: Watchdog,
    folder: PathBuf,
    run: String,
    nats_program: PathBuf,
    sync_always: bool,
    temporary: bool,
    down: bool,
    _lock: File,
}

impl Stack {
    /// Finds or fetches both servers, starts them and waits until they take connections.
    ///
    /// # Errors
    /// When a server is missing and cannot be fetched (says what to install), when another stack uses the folder, or
    /// when a server does not start (quotes the end of its log).
    pub async fn start(options: StackOptions) -> anyhow::Result<Self> {
        let start = tokio::task::spawn_blocking(move || Self::start_servers(&options));
        let stack = start
            .await
            .context("the task that starts the servers panicked")??;
        stack
            .postgres
            .ensure_database()
            .await
            .context("create the first database")?;
        Ok(stack)
    }

    fn start_servers(options: &StackOptions) -> anyhow::Result<Self> {
        let nats_program = options
            .nats_program
            .clone()
            .map_or_else(|| options.tools.nats_server(), Ok)?;
        let postgres_bin = options
            .postgres_bin
            .clone()
            .map_or_else(|| options.tools.postgres(), Ok)?;
        // Part of the names of this start's pid files: the slow watchdog of a former owner must not find our servers.
        let run = run_name();
        let signal = postgres::gentle(options.durability);
        let temporary = options.folder.is_none();
        let (folder, lock, watchdog) = if let Some(folder) = &options.folder {
            std::fs::create_dir_all(folder).with_context(|| format!("create `{}`", folder.display()))?;
            let folder = folder.canonicalize()?;
            let lock = lock(&folder)?;
            await_former(&folder, FORMER_OWNER_WITHIN)?;
            let watchdog = Watchdog::start(&folder, false, &run, signal)?;
            (folder, lock, watchdog)
        } else {
            let (folder, watchdog) = temporary_folder(&run, signal)?;
            let lock = lock(&folder)?;
            (folder, lock, watchdog)
        };
        let [nats_folder, postgres_folder] = ["nats", "postgres"].map(|name| folder.join(name));
        for folder in [&nats_folder, &postgres_folder] {
            std::fs::create_dir_all(folder).with_context(|| format!("create `{}`", folder.display()))?;
        }
        let nats_pid_file = nats_folder.join(format!("nats-server-{run}.pid"));
        let postgres_pid_file = postgres_folder.join(format!("postgres-{run}.pid"));
        let initdb_pid_file = postgres_folder.join(format!("initdb-{run}.pid"));

        let nats_options = NatsOptions {
            name: "vigie".to_owned(),
            program: nats_program.clone(),
            folder: nats_folder,
            pid_file: nats_pid_file,
            sync_always: options.nats_sync_always,
            port: options.nats_port,
        };
        let postgres_options = PostgresOptions {
            bin: postgres_bin,
            folder: postgres_folder,
            pid_file: postgres_pid_file,
            initdb_pid_file,
            durability: options.durability,
            connections: options.postgres_connections,
            port: options.postgres_port,
        };
        let (nats, postgres) = std::thread::scope(|scope| {
            let nats = scope.spawn(|| NatsServer::start(nats_options));
            let postgres = PostgresServer::start(postgres_options);
            (nats.join(), postgres)
        });
        let nats = nats.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // A server that did start is stopped by its drop, and the watchdog removes the folder.
        let postgres = postgres.context("start PostgreSQL")?;
        let nats = nats.context("start nats-server")?;
        let sync_always = options.nats_sync_always;
        Ok(Self {
            nats,
            postgres,
            watchdog,
            folder,
            run,
            nats_program,
            sync_always,
            temporary,
            down: false,
            _lock: lock,
        })
    }

    /// `nats://127.0.0.1:PORT`.
    pub fn nats_url(&self) -> String {
        self.nats.url()
    }

    /// `postgres://vigie@127.0.0.1:PORT/vigie`.
    pub fn database_url(&self) -> String {
        self.postgres.url()
    }

    /// Makes an empty database and gives its URL; see [`PostgresServer::create_database`].
    pub async fn create_database(&self, name: &str) -> anyhow::Result<String> {
        self.postgres.create_database(name).await
    }

    /// Makes a copy of a database and gives its URL; see [`PostgresServer::create_database_from_template`].
    pub async fn create_database_from_template(&self, name: &str, template: &str) -> anyhow::Result<String> {
        self.postgres.create_database_from_template(name, template).await
    }

    /// The broker, to be killed and restarted by fault tests.
    pub fn nats(&self) -> &NatsServer {
        &self.nats
    }

    /// The database server, to be killed and restarted by fault tests.
    pub fn postgres(&self) -> &PostgresServer {
        &self.postgres
    }

    /// Starts another broker, called `name`, in the stack's folder. Stop or drop it before the stack.
    ///
    /// # Errors
    /// When there is one of that name, or it does not start (quotes the end of its log).
    pub async fn start_nats(&self, name: &str) -> anyhow::Result<NatsServer> {
        let folder = self.folder.join(name);
        std::fs::create_dir(&folder).with_context(|| format!("create `{}`", folder.display()))?;
        let options = NatsOptions {
            name: name.to_owned(),
            program: self.nats_program.clone(),
            pid_file: folder.join(format!("nats-server-{}.pid", self.run)),
            folder,
            sync_always: self.sync_always,
            port: None,
        };
        let start = tokio::task::spawn_blocking(move || NatsServer::start(options));
        start
            .await
            .context("the task that starts nats-server panicked")?
            .with_context(|| format!("start `{name}`"))
    }

    /// Starts a cluster of brokers, called `name` and a number, in the stack's folder. Stop or drop them before the stack.
    ///
    /// # Errors
    /// When one does not start (quotes the end of its log).
    pub async fn start_nats_cluster(&self, name: &str, servers: usize) -> anyhow::Result<Vec<NatsServer>> {
        let mut started = Vec::new();
        for number in 0..servers {
            started.push(self.start_nats(&format!("{name}-{number}")).await?);
        }
        let form = tokio::task::spawn_blocking(move || NatsServer::form_cluster(&started).map(|()| started));
        form.await
            .context("the task that forms the cluster panicked")?
            .with_context(|| format!("form the cluster `{name}`"))
    }

    /// Where everything lives.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Stops both servers and removes a temporary folder.
    ///
    /// # Errors
    /// When a process cannot be stopped or the folder not removed.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        tokio::task::spawn_blocking(move || self.shut_down())
            .await
            .context("the task that stops the servers panicked")?
    }

    fn shut_down(&mut self) -> anyhow::Result<()> {
        if std::mem::replace(&mut self.down, true) {
            return Ok(());
        }
        let nats = self.nats.stop().context("stop nats-server");
        let postgres = self.postgres.stop().context("stop PostgreSQL");
        nats.and(postgres)?;
        if self.temporary {
            let removed = std::fs::remove_dir_all(&self.folder);
            removed.with_context(|| format!("remove `{}`", self.folder.display()))?;
        }
        self.watchdog.release()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if let Err(error) = self.shut_down() {
            eprintln!("local-stack: {error:#}");
        }
    }
}

/// A folder of this run, and the watchdog that removes it. The watchdog comes first, so that there is no moment at which
/// nobody would.
pub(crate) fn temporary_folder(run: &str, postgres_signal: Signal) -> anyhow::Result<(PathBuf, Watchdog)> {
    let parent = std::env::temp_dir();
    let parent = parent
        .canonicalize()
        .with_context(|| format!("the folder `{}`", parent.display()))?;
    let folder = parent.join(format!("vigie-{run}"));
    let watchdog = Watchdog::start(&folder, true, run, postgres_signal)?;
    std::fs::create_dir(&folder).with_context(|| format!("create `{}`", folder.display()))?;
    // Others may pass through to what they own in it, and see nothing else; whatever the umask.
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o711))?;
    Ok((folder, watchdog))
}

fn lock(folder: &Path) -> anyhow::Result<File> {
    let path = folder.join("stack.lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path);
    let file = file.with_context(|| format!("open `{}`", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!(
            "another stack runs on `{}`; stop it or choose another folder",
            folder.display()
        ),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("lock `{}`", path.display())),
    }
}

pub(crate) fn run_name() -> String {
    static STARTS: AtomicU64 = AtomicU64::new(0);
    let since_epoch = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0, |elapsed| elapsed.as_nanos());
    format!(
        "{}-{}-{since_epoch}",
        std::process::id(),
        STARTS.fetch_add(1, Ordering::Relaxed)
    )
}
