//! The private PostgreSQL: one cluster in a folder, on a free loopback port, never as root.

use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal};
use sqlx::{Connection as _, PgConnection};

use crate::account::RunAs;
use crate::process::{Launch, Server, remove_if_there};
use crate::stack::Durability;

/// The superuser; local connections need no password.
const USER: &str = "vigie";
/// The database that [`PostgresServer::url`] names.
const DATABASE: &str = "vigie";

const READY_WITHIN: Duration = Duration::from_secs(90);
const INITDB_WITHIN: Duration = Duration::from_mins(3);
/// How long a start is repeated while an old process still holds the port or the shared memory.
const RETRY_WITHIN: Duration = Duration::from_secs(20);

/// What a start says while the server before it is not quite gone.
const STILL_DYING: [&str; 2] = [
    "pre-existing shared memory block",
    "lock file \"postmaster.pid\" already exists",
];

/// A running PostgreSQL of one's own. It can be killed and restarted on its port and data, for fault tests.
#[derive(Debug)]
pub struct PostgresServer {
    bin: PathBuf,
    run_as: RunAs,
    files: Files,
    durability: Durability,
    connections: u16,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    server: Option<Server>,
    port: u16,
}

#[derive(Debug)]
struct Files {
    folder: PathBuf,
    data: PathBuf,
    log: PathBuf,
    pid_file: PathBuf,
    initdb_pid_file: PathBuf,
}

pub(crate) struct PostgresOptions {
    pub(crate) bin: PathBuf,
    pub(crate) folder: PathBuf,
    pub(crate) pid_file: PathBuf,
    pub(crate) initdb_pid_file: PathBuf,
    pub(crate) durability: Durability,
    pub(crate) connections: u16,
    pub(crate) port: Option<u16>,
}

/// What ends it within seconds: a fast shutdown writes everything out, an immediate one leaves that to recovery.
pub(crate) fn gentle(durability: Durability) -> Signal {
    match durability {
        Durability::Durable => Signal::INT,
        Durability::Fast => Signal::QUIT,
    }
}

impl PostgresServer {
    pub(crate) fn start(options: PostgresOptions) -> anyhow::Result<Self> {
        let folder = options.folder;
        let files = Files {
            data: folder.join("data"),
            log: folder.join("postgres.log"),
            pid_file: options.pid_file,
            initdb_pid_file: options.initdb_pid_file,
            folder,
        };
        let owner = match files.data.metadata() {
            Ok(metadata) => Some(metadata.uid()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| format!("look at `{}`", files.data.display())),
        };
        let programs = [options.bin.join("initdb"), options.bin.join("postgres")];
        let run_as = RunAs::choose(&files.folder, &programs.each_ref().map(PathBuf::as_path), owner)?;
        let server = Self {
            bin: options.bin,
            run_as,
            files,
            durability: options.durability,
            connections: options.connections,
            state: Mutex::new(State {
                server: None,
                port: 0,
            }),
        };
        server.initialise()?;
        server.launch(&mut server.state(), options.port, Duration::ZERO)?;
        Ok(server)
    }

    /// `postgres://vigie@127.0.0.1:PORT/vigie`: the database that every stack has.
    pub fn url(&self) -> String {
        self.url_of(DATABASE)
    }

    /// The URL of another database of this server.
    pub fn url_of(&self, database: &str) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/{database}", self.state().port)
    }

    /// Makes an empty database and gives its URL. Names are `[a-z_][a-z0-9_]*`, at most 63 characters.
    pub async fn create_database(&self, name: &str) -> anyhow::Result<String> {
        self.create_database_from_template(name, "template0").await
    }

    /// Makes a copy of the database `template`, to which nobody may be connected, and gives its URL.
    pub async fn create_database_from_template(&self, name: &str, template: &str) -> anyhow::Result<String> {
        check_name(name)?;
        check_name(template)?;
        self.execute(format!("create database {name} template {template}"))
            .await
            .with_context(|| format!("create database `{name}` from `{template}`"))?;
        Ok(self.url_of(name))
    }

    /// Drops a database, and whoever is connected to it.
    pub async fn drop_database(&self, name: &str) -> anyhow::Result<()> {
        check_name(name)?;
        self.execute(format!("drop database {name} with (force)"))
            .await
            .with_context(|| format!("drop database `{name}`"))
    }

    /// Makes the database of [`Self::url`] unless it is there.
    pub(crate) async fn ensure_database(&self) -> anyhow::Result<()> {
        let mut connection = self.connect().await?;
        let there: bool = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
            .bind(DATABASE)
            .fetch_one(&mut connection)
            .await?;
        connection.close().await?;
        if !there {
            self.create_database(DATABASE).await?;
        }
        Ok(())
    }

    /// Process id of the postmaster, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.state().server.as_ref().map(Server::pid)
    }

    /// The server's log file.
    pub fn log(&self) -> &Path {
        &self.files.log
    }

    /// `kill -9` of the postmaster and all its children, as a crash of the machine would end them. Returns when they
    /// are gone.
    pub fn kill(&self) -> anyhow::Result<()> {
        let Some(mut server) = self.state().server.take() else {
            return Ok(());
        };
        let children = children_of(server.pid())?;
        server.kill()?;
        for child in &children {
            match rustix::process::kill_process(*child, Signal::KILL) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(error) => return Err(error).context("kill a PostgreSQL child process"),
            }
        }
        let started = Instant::now();
        while children.iter().any(|child| is_alive(*child)) {
            ensure!(
                started.elapsed() < Duration::from_secs(10),
                "PostgreSQL children outlive `kill -9`"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Stops it: with everything written out if it is durable, else at once.
    pub fn stop(&self) -> anyhow::Result<()> {
        if let Some(mut server) = self.state().server.take() {
            match self.durability {
                Durability::Durable => server.stop(&[
                    (Signal::INT, Duration::from_secs(30)),
                    (Signal::QUIT, Duration::from_secs(10)),
                ])?,
                Durability::Fast => server.stop(&[(Signal::QUIT, Duration::from_secs(10))])?,
            };
        }
        self.free_shared_memory();
        Ok(())
    }

    /// Starts it again on the same port and data; stops it first if it runs. Blocks until it takes connections.
    pub fn restart(&self) -> anyhow::Result<()> {
        if let Some(mut server) = self.state().server.take() {
            server.stop(&[
                (Signal::INT, Duration::from_secs(30)),
                (Signal::QUIT, Duration::from_secs(10)),
            ])?;
        }
        let mut state = self.state();
        let port = state.port;
        self.launch(&mut state, Some(port), RETRY_WITHIN)
    }

    /// Starts it again with a certificate and its key (PEM): from now on it also takes connections with TLS. Blocks until it
    /// takes connections.
    ///
    /// # Errors
    /// When it does not start, e.g. because the key is not that of the certificate.
    pub fn restart_with_certificate(&self, certificate: &str, key: &str) -> anyhow::Result<()> {
        for (name, text) in [("server.crt", certificate), ("server.key", key)] {
            let file = self.files.data.join(name);
            std::fs::write(&file, text).with_context(|| format!("write `{}`", file.display()))?;
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600))?;
        }
        let mut settings = std::fs::OpenOptions::new()
            .append(true)
            .open(self.files.data.join("postgresql.conf"))?;
        writeln!(settings, "ssl = on")?;
        self.restart()
    }

    fn initialise(&self) -> anyhow::Result<()> {
        let data = &self.files.data;
        if data.join("PG_VERSION").exists() {
            return self.check_version();
        }
        // Nothing or the ruins of an interrupted initdb: without PG_VERSION no server has ever run on it.
        if data.exists() {
            std::fs::remove_dir_all(data)
                .with_context(|| format!("remove the unfinished `{}`", data.display()))?;
        }
        std::fs::create_dir(data).with_context(|| format!("create `{}`", data.display()))?;
        std::fs::set_permissions(data, std::fs::Permissions::from_mode(0o700))?;
        self.run_as
            .take(&self.files.folder)
            .context("hand the folder over to the server's account")?;
        let mut arguments: Vec<String> = ["-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C"]
            .map(str::to_owned)
            .into();
        if self.durability == Durability::Fast {
            arguments.push("--no-sync".to_owned());
        }
        arguments.extend([
            "--no-instructions".to_owned(),
            "-D".to_owned(),
            data.display().to_string(),
        ]);
        let mut initdb = Launch {
            name: "initdb",
            run_as: self.run_as,
            program: &self.bin.join("initdb"),
            arguments: &arguments,
            // Its messages are searched and quoted.
            environment: &[("LC_ALL", "C".to_owned())],
            folder: &self.files.folder,
            pid_file: &self.files.initdb_pid_file,
            log: &self.files.log,
        }
        .spawn()?;
        let status = initdb.wait_for_end(&self.files.log, INITDB_WITHIN)?;
        ensure!(
            status.success(),
            "initdb failed ({status}); {}",
            crate::process::tail(&self.files.log)
        );
        Ok(())
    }

    fn check_version(&self) -> anyhow::Result<()> {
        let made_by = std::fs::read_to_string(self.files.data.join("PG_VERSION"))?;
        let ours = crate::tools::postgres::version(&self.bin.join("postgres"))?;
        ensure!(
            made_by.trim() == ours.to_string(),
            "`{}` was made by PostgreSQL {}, and `{}` is {ours}; set VIGIE_PG_BIN to the programs of version {0}",
            self.files.data.display(),
            made_by.trim(),
            self.bin.display(),
        );
        Ok(())
    }

    /// On the port `fixed`, tried again for as long as `patience` lasts, or on a free one.
    fn launch(&self, state: &mut State, fixed: Option<u16>, patience: Duration) -> anyhow::Result<()> {
        self.run_as
            .take(&self.files.folder)
            .context("hand the folder over to the server's account")?;
        let port_patience = if fixed.is_some() { patience } else { RETRY_WITHIN };
        let started = Instant::now();
        loop {
            self.forget_zombie()?;
            let port = fixed.map_or_else(free_port, Ok)?;
            let log_start = self.files.log.metadata().map_or(0, |metadata| metadata.len());
            match self.try_launch(port) {
                Ok(server) => {
                    *state = State {
                        server: Some(server),
                        port,
                    };
                    return Ok(());
                }
                Err(error) => {
                    let log = std::fs::read(&self.files.log)?;
                    let new = String::from_utf8_lossy(log.get(log_start as usize..).unwrap_or_default());
                    let patience = if new.contains("could not create any TCP/IP sockets") {
                        port_patience
                    } else if STILL_DYING.iter().any(|sign| new.contains(sign)) {
                        RETRY_WITHIN
                    } else {
                        Duration::ZERO
                    };
                    if started.elapsed() >= patience {
                        return Err(error);
                    }
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
        }
    }

    /// A killed postmaster whose parent died too stays a zombie where process 1 collects none. To PostgreSQL it looks
    /// alive.
    fn forget_zombie(&self) -> anyhow::Result<()> {
        let file = self.files.data.join("postmaster.pid");
        let Ok(text) = std::fs::read_to_string(&file) else {
            return Ok(());
        };
        let pid = text.lines().next().and_then(|line| line.trim().parse().ok());
        if pid
            .and_then(state_and_parent)
            .is_some_and(|(state, _)| state == 'Z')
        {
            remove_if_there(&file)?;
        }
        Ok(())
    }

    fn try_launch(&self, port: u16) -> anyhow::Result<Server> {
        let mut settings = vec![
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={port}"),
            // A socket's path is limited to 107 bytes, which a deep project folder exceeds.
            "unix_socket_directories=".to_owned(),
            format!("max_connections={}", self.connections),
            "shared_buffers=64MB".to_owned(),
            // In the data folder rather than in /dev/shm: goes with it, also after a crash.
            "dynamic_shared_memory_type=mmap".to_owned(),
            "timezone=UTC".to_owned(),
            "log_timezone=UTC".to_owned(),
            "logging_collector=off".to_owned(),
            "log_destination=stderr".to_owned(),
        ];
        if self.durability == Durability::Fast {
            // Not `synchronous_commit`: what is committed must survive `kill -9`, which tests do.
            settings.extend(["fsync=off", "full_page_writes=off"].map(str::to_owned));
        }
        let mut arguments = vec!["-D".to_owned(), self.files.data.display().to_string()];
        arguments.extend(
            settings
                .into_iter()
                .flat_map(|setting| ["-c".to_owned(), setting]),
        );
        let mut server = Launch {
            name: "PostgreSQL",
            run_as: self.run_as,
            program: &self.bin.join("postgres"),
            arguments: &arguments,
            // Its messages are searched and quoted.
            environment: &[("LC_ALL", "C".to_owned())],
            folder: &self.files.folder,
            pid_file: &self.files.pid_file,
            log: &self.files.log,
        }
        .spawn()?;
        let pid = server.pid();
        let postmaster = self.files.data.join("postmaster.pid");
        server.await_ready(&self.files.log, READY_WITHIN, || {
            Ok(is_ready(&postmaster, pid).then_some(()))
        })?;
        Ok(server)
    }

    /// A killed server leaves a small System V segment, which only the next start on its data would free.
    fn free_shared_memory(&self) {
        let Ok(text) = std::fs::read_to_string(self.files.data.join("postmaster.pid")) else {
            return;
        };
        let Some(id) = text
            .lines()
            .nth(6)
            .and_then(|line| line.split_whitespace().nth(1))
        else {
            return;
        };
        let freed = Command::new("ipcrm")
            .args(["-m", id])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        // Best effort: 56 bytes, and machines without ipcrm exist.
        drop(freed);
    }

    async fn execute(&self, statement: String) -> anyhow::Result<()> {
        let mut connection = self.connect().await?;
        // The names in it were checked, and a database cannot be a bound parameter.
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
            .execute(&mut connection)
            .await?;
        connection.close().await?;
        Ok(())
    }

    async fn connect(&self) -> anyhow::Result<PgConnection> {
        let url = self.url_of("postgres");
        PgConnection::connect(&url)
            .await
            .with_context(|| format!("connect to `{url}`"))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state is replaced as a whole, so a panic elsewhere cannot leave it half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("local-stack: stop PostgreSQL: {error:#}");
        }
    }
}

fn check_name(name: &str) -> anyhow::Result<()> {
    let head = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    let tail = name
        .chars()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if !head || !tail || name.len() > 63 {
        bail!("database name `{name}` is not [a-z_][a-z0-9_]* of at most 63 characters");
    }
    Ok(())
}

pub(crate) fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("find a free loopback port")?;
    Ok(listener.local_addr()?.port())
}

/// What pg_ctl looks at: line 1 is the pid, line 8 the state.
fn is_ready(postmaster_pid: &Path, pid: u32) -> bool {
    let Ok(text) = std::fs::read_to_string(postmaster_pid) else {
        return false;
    };
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.first() == Some(&&*pid.to_string()) && lines.get(7) == Some(&"ready")
}

fn children_of(parent: u32) -> anyhow::Result<Vec<Pid>> {
    let mut children = Vec::new();
    for entry in Path::new("/proc").read_dir()? {
        let Some(pid) = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok())
        else {
            continue;
        };
        if state_and_parent(pid).is_some_and(|(_, ppid)| ppid == parent) {
            children.extend(Pid::from_raw(pid));
        }
    }
    Ok(children)
}

fn is_alive(pid: Pid) -> bool {
    state_and_parent(pid.as_raw_nonzero().get()).is_some_and(|(state, _)| state != 'Z')
}

/// From `/proc/PID/stat`: `pid (name) state ppid …`; the name may hold blanks and parentheses.
fn state_and_parent(pid: i32) -> Option<(char, u32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}
