//! The private nats-server with JetStream on a file store.

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

/// A running nats-server of one's own. It can be killed and restarted on its port and data, for fault tests.
#[derive(Debug)]
pub struct NatsServer {
    program: PathBuf,
    run_as: RunAs,
    files: Files,
    sync_always: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    server: Option<Server>,
    client_port: u16,
    monitor_port: u16,
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
            sync_always: options.sync_always,
            state: Mutex::new(State {
                server: None,
                client_port: options.port.unwrap_or(0),
                monitor_port: 0,
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
        *state = State {
            server: Some(server),
            client_port,
            monitor_port,
        };
        Ok(())
    }

    fn configuration(&self, state: &State) -> String {
        // -1 lets the server choose a free port itself, which cannot clash.
        let port = |port: u16| if port == 0 { -1 } else { i32::from(port) };
        format!(
            "server_name: vigie\n\
             listen: \"127.0.0.1:{}\"\n\
             http: \"127.0.0.1:{}\"\n\
             ports_file_dir: {}\n\
             max_payload: 1MB\n\
             # Streams reserve their bounds; this is how much they may reserve together, not what is taken.\n\
             jetstream {{ store_dir: {}, max_mem: 1GB, max_file: 1TB{} }}\n",
            port(state.client_port),
            port(state.monitor_port),
            quoted(&self.files.ports),
            quoted(&self.files.store),
            if self.sync_always {
                ", sync_interval: always"
            } else {
                ""
            },
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
