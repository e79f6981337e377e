//! The private nats-server with JetStream on a file store.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::Signal;

use crate::account::RunAs;
use crate::process::{Launch, Server, remove_if_there};

const READY_WITHIN: Duration = Duration::from_mins(1);
/// TERM is nats-server's orderly shutdown.
pub(crate) const GENTLE: Signal = Signal::TERM;
const STOP_WITHIN: Duration = Duration::from_secs(10);
const CLUSTER_TRIES: u32 = 3;

/// A running nats-server of one's own. It can be killed and restarted on its port and data, for fault tests.
#[derive(Debug)]
pub struct NatsServer {
    program: PathBuf,
    run_as: RunAs,
    name: String,
    files: Files,
    sync_always: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    server: Option<Server>,
    client_port: u16,
    monitor_port: u16,
    /// Configuration besides its own, e.g. accounts and TLS.
    more: String,
}

#[derive(Debug)]
struct Files {
    folder: PathBuf,
    config: PathBuf,
    log: PathBuf,
    pid_file: PathBuf,
    ports: PathBuf,
    store: PathBuf,
}

pub(crate) struct NatsOptions {
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    pub(crate) folder: PathBuf,
    pub(crate) pid_file: PathBuf,
    pub(crate) sync_always: bool,
    pub(crate) port: Option<u16>,
}

impl NatsServer {
    pub(crate) fn start(options: NatsOptions) -> anyhow::Result<Self> {
        let folder = options.folder;
        let files = Files {
            config: folder.join("nats.conf"),
            log: folder.join("nats.log"),
            pid_file: options.pid_file,
            ports: folder.join("ports"),
            store: folder.join("jetstream"),
            folder,
        };
        for folder in [&files.ports, &files.store] {
            std::fs::create_dir_all(folder).with_context(|| format!("create `{}`", folder.display()))?;
        }
        let run_as = match RunAs::choose(&files.folder, &[&options.program], None) {
            Ok(run_as) => run_as,
            // Unlike PostgreSQL it works as root; below a folder that only root can enter that is all there is.
            Err(_) if rustix::process::geteuid().is_root() => RunAs::Ourselves,
            Err(error) => return Err(error),
        };
        let server = Self {
            program: options.program,
            run_as,
            name: options.name,
            sync_always: options.sync_always,
            state: Mutex::new(State {
                server: None,
                client_port: options.port.unwrap_or(0),
                monitor_port: 0,
                more: String::new(),
            }),
            files,
        };
        server.launch(&mut server.state())?;
        Ok(server)
    }

    /// `nats://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.state().client_port)
    }

    /// `http://127.0.0.1:PORT`: the server's monitoring pages (`/healthz`, `/jsz`, …).
    pub fn monitor_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.state().monitor_port)
    }

    /// Process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.state().server.as_ref().map(Server::pid)
    }

    /// The server's log file.
    pub fn log(&self) -> &Path {
        &self.files.log
    }

    /// `kill -9`. Returns when the process is gone.
    pub fn kill(&self) -> anyhow::Result<()> {
        if let Some(mut server) = self.state().server.take() {
            server.kill()?;
        }
        Ok(())
    }

    /// Stops it in an orderly way.
    pub fn stop(&self) -> anyhow::Result<()> {
        if let Some(mut server) = self.state().server.take() {
            server.stop(&[(GENTLE, STOP_WITHIN)])?;
        }
        Ok(())
    }

    /// Starts it again on the same port and data; stops it first if it runs. Blocks until it is ready.
    pub fn restart(&self) -> anyhow::Result<()> {
        self.stop()?;
        self.launch(&mut self.state())
    }

    /// Restarts it with `more` configuration besides its own, such as accounts or TLS; also at later restarts.
    ///
    /// # Errors
    /// When it does not start (quotes the end of its log).
    pub fn restart_with(&self, more: &str) -> anyhow::Result<()> {
        more.clone_into(&mut self.state().more);
        self.restart()
    }

    /// Makes one cluster of servers; they are restarted for it, and what they had stored is not theirs any more.
    ///
    /// # Errors
    /// When one does not start (quotes the end of its log).
    pub fn form_cluster(servers: &[Self]) -> anyhow::Result<()> {
        // Somebody else may take a port between the choice and the start.
        for _ in 1..CLUSTER_TRIES {
            if Self::try_to_form_cluster(servers).is_ok() {
                return Ok(());
            }
        }
        Self::try_to_form_cluster(servers)
    }

    fn try_to_form_cluster(servers: &[Self]) -> anyhow::Result<()> {
        // Each must know the others before it starts, so the ports are chosen here: free ones, all different.
        let held: Vec<TcpListener> = servers
            .iter()
            .map(|_| TcpListener::bind(("127.0.0.1", 0)))
            .collect::<Result<_, _>>()?;
        let ports: Vec<u16> = held
            .iter()
            .map(|held| Ok(held.local_addr()?.port()))
            .collect::<std::io::Result<_>>()?;
        drop(held);
        let routes: Vec<String> = ports
            .iter()
            .map(|port| format!("\"nats-route://127.0.0.1:{port}\""))
            .collect();
        for (server, port) in servers.iter().zip(&ports) {
            server.stop()?;
            server.lose_disk()?;
            server.restart_with(&format!(
                "cluster {{ name: vigie, listen: \"127.0.0.1:{port}\", routes: [{}] }}\n",
                routes.join(", ")
            ))?;
        }
        Ok(())
    }

    /// The server's folder: files in it can be read by the account that it runs as.
    pub fn folder(&self) -> &Path {
        &self.files.folder
    }

    /// Copies what the (stopped) server has stored, to go back to it later as after a loss of power.
    ///
    /// # Errors
    /// When the server runs, or the copy fails.
    pub fn keep_disk(&self) -> anyhow::Result<PathBuf> {
        let state = self.state();
        ensure!(
            state.server.is_none(),
            "nats-server runs; stop it before its disk is copied"
        );
        let copy = self.files.folder.join("jetstream-kept");
        if copy.exists() {
            std::fs::remove_dir_all(&copy)?;
        }
        copy_folder(&self.files.store, &copy)?;
        Ok(copy)
    }

    /// Copies what the running server has stored so far; it stands still meanwhile, as a disk at the moment of a loss of power.
    ///
    /// # Errors
    /// When the server does not run, or the copy fails.
    pub fn keep_disk_of_running(&self) -> anyhow::Result<PathBuf> {
        self.freeze()?;
        let copy = self.files.folder.join("jetstream-kept");
        let copied = (|| {
            if copy.exists() {
                std::fs::remove_dir_all(&copy)?;
            }
            copy_folder(&self.files.store, &copy)
        })();
        self.thaw()?;
        copied.map(|()| copy)
    }

    /// Stops the running process where it stands (SIGSTOP).
    ///
    /// # Errors
    /// When the server does not run.
    pub fn freeze(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets a frozen server go on.
    ///
    /// # Errors
    /// When the server does not run.
    pub fn thaw(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let state = self.state();
        let server = state.server.as_ref().context("nats-server does not run")?;
        server.signal(signal)
    }

    /// Goes back to a copy: whatever was stored since is lost.
    ///
    /// # Errors
    /// When the server runs, or the copy cannot be read.
    pub fn roll_back_disk(&self, copy: &Path) -> anyhow::Result<()> {
        self.lose_disk()?;
        std::fs::remove_dir_all(&self.files.store)?;
        copy_folder(copy, &self.files.store)
    }

    /// Goes back to the messages of a copy and keeps what readers have had since, as a file system may after a loss of power.
    ///
    /// # Errors
    /// When the server runs, or no stream's messages are found.
    pub fn roll_back_messages(&self, copy: &Path) -> anyhow::Result<()> {
        let state = self.state();
        ensure!(
            state.server.is_none(),
            "nats-server runs; kill it before its disk changes"
        );
        let folders = message_folders(copy)?;
        ensure!(!folders.is_empty(), "`{}` holds no stream", copy.display());
        for folder in folders {
            let target = self.files.store.join(folder.strip_prefix(copy)?);
            std::fs::remove_dir_all(&target)?;
            copy_folder(&folder, &target)?;
        }
        Ok(())
    }

    /// Throws away everything the (stopped) server has stored, as a lost disk would.
    ///
    /// # Errors
    /// When the server runs.
    pub fn lose_disk(&self) -> anyhow::Result<()> {
        let state = self.state();
        ensure!(
            state.server.is_none(),
            "nats-server runs; kill or stop it before its disk is lost"
        );
        std::fs::remove_dir_all(&self.files.store)?;
        std::fs::create_dir_all(&self.files.store)?;
        Ok(())
    }

    fn launch(&self, state: &mut State) -> anyhow::Result<()> {
        std::fs::write(&self.files.config, self.configuration(state))
            .with_context(|| format!("write `{}`", self.files.config.display()))?;
        for entry in self.files.ports.read_dir()? {
            remove_if_there(&entry?.path())?;
        }
        self.run_as
            .take(&self.files.folder)
            .context("hand the folder over to the server's account")?;
        let mut server = Launch {
            name: "nats-server",
            run_as: self.run_as,
            program: &self.program,
            arguments: &["-c".to_owned(), self.files.config.display().to_string()],
            environment: &[],
            folder: &self.files.folder,
            pid_file: &self.files.pid_file,
            log: &self.files.log,
        }
        .spawn()?;
        let ports = self
            .files
            .ports
            .join(format!("nats-server_{}.ports", server.pid()));
        let (client_port, monitor_port) =
            server.await_ready(&self.files.log, READY_WITHIN, || read_ports(&ports))?;
        state.server = Some(server);
        state.client_port = client_port;
        state.monitor_port = monitor_port;
        Ok(())
    }

    fn configuration(&self, state: &State) -> String {
        // -1 lets the server choose a free port itself, which cannot clash.
        let port = |port: u16| if port == 0 { -1 } else { i32::from(port) };
        format!(
            "server_name: {}\n\
             listen: \"127.0.0.1:{}\"\n\
             http: \"127.0.0.1:{}\"\n\
             ports_file_dir: {}\n\
             max_payload: 1MB\n\
             # Streams reserve their bounds; this is how much they may reserve together, not what is taken.\n\
             jetstream {{ store_dir: {}, max_mem: 1GB, max_file: 1TB{} }}\n{}",
            quoted(Path::new(&self.name)),
            port(state.client_port),
            port(state.monitor_port),
            quoted(&self.files.ports),
            quoted(&self.files.store),
            if self.sync_always {
                ", sync_interval: always"
            } else {
                ""
            },
            state.more,
        )
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state is replaced as a whole, so a panic elsewhere cannot leave it half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn quoted(path: &Path) -> String {
    format!(
        "\"{}\"",
        path.display()
            .to_string()
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
    )
}

/// `{"nats":["nats://127.0.0.1:4222"],"monitoring":["http://127.0.0.1:8222"]}`, written when the server is ready.
fn read_ports(file: &Path) -> anyhow::Result<Option<(u16, u16)>> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("read `{}`", file.display())),
    };
    // Half written: look again.
    let Ok(ports) = serde_json::from_str::<serde_json::Value>(&text) else {
        return Ok(None);
    };
    let port = |key: &str| -> Option<u16> { ports[key][0].as_str()?.rsplit(':').next()?.parse().ok() };
    match (port("nats"), port("monitoring")) {
        (Some(client), Some(monitor)) => Ok(Some((client, monitor))),
        _ => anyhow::bail!("`{}` does not name both ports: {text}", file.display()),
    }
}

/// With owners and modes: the server may run as another user.
fn copy_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    let status = std::process::Command::new("cp")
        .arg("-a")
        .arg("--")
        .arg(from)
        .arg(to)
        .status();
    let status = status.context("start `cp`")?;
    ensure!(
        status.success(),
        "copy `{}` to `{}`: {status}",
        from.display(),
        to.display()
    );
    Ok(())
}

/// The folders `msgs` of all streams below a store.
fn message_folders(below: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(below)? {
        let path = entry?.path();
        if !path.is_dir() {
            continue;
        }
        let in_stream =
            path.file_name().is_some_and(|name| name == "msgs") && path.with_file_name("obs").exists();
        if in_stream {
            found.push(path);
        } else {
            found.extend(message_folders(&path)?);
        }
    }
    Ok(found)
}
