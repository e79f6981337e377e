//! A real MLflow server, installed from the Python index on first use (360 MB in the tool folder).

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::OnceCell;

use super::program::Program;
use crate::postgres::free_port;
use crate::tools::Tools;
use crate::tools::python::Hashes;

/// The version that is installed.
pub const VERSION: &str = "3.17.2";
const REQUIREMENTS: &str = include_str!("../../requirements/mlflow.txt");

const READY_WITHIN: Duration = Duration::from_mins(2);
/// How often another port is tried when somebody took the chosen one in between.
const PORTS_MAX: usize = 3;

/// A running MLflow server with an empty store. Dropping it stops it and removes its store.
#[derive(Debug)]
pub struct Mlflow {
    // Shared with the tasks that start and stop it.
    program: Arc<Program>,
    port: u16,
}

/// The server that all tests of this process share; it takes seconds to start. Tests keep apart by the names of their
/// experiments and models. A test that kills the server must start one of its own.
///
/// # Errors
/// As [`Mlflow::start`].
pub async fn shared_mlflow() -> anyhow::Result<&'static Mlflow> {
    static SHARED: OnceCell<Mlflow> = OnceCell::const_new();
    SHARED.get_or_try_init(Mlflow::start).await
}

impl Mlflow {
    /// Installs it if necessary, starts it on a free loopback port and waits until it answers.
    ///
    /// # Errors
    /// When it cannot be installed (says what to install), or does not start (quotes the end of its log).
    pub async fn start() -> anyhow::Result<Self> {
        blocking(|| {
            let tools = Tools::default();
            let packages = tools
                .python_packages(&format!("mlflow-{VERSION}"), REQUIREMENTS, Hashes::None)
                .context("MLflow (it needs Python 3.11 or newer)")?;
            let program = Program::prepare("mlflow", packages)?;
            let mut ports_tried = 0;
            loop {
                let port = free_port()?;
                ports_tried += 1;
                match launch(&program, port) {
                    Ok(()) => {
                        return Ok(Self {
                            program: Arc::new(program),
                            port,
                        });
                    }
                    Err(error)
                        if ports_tried == PORTS_MAX
                            || !format!("{error:#}").contains("address already in use") =>
                    {
                        return Err(error);
                    }
                    Err(_) => {}
                }
            }
        })
        .await
    }

    /// `http://127.0.0.1:PORT`, for `MLFLOW_TRACKING_URI`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.program.pid()
    }

    /// Its folder, with log, database and artefacts.
    pub fn folder(&self) -> &Path {
        self.program.folder()
    }

    /// Its log file.
    pub fn log(&self) -> &Path {
        self.program.log()
    }

    /// `kill -9`. Returns when the process is gone.
    pub async fn kill(&self) -> anyhow::Result<()> {
        let program = self.program.clone();
        blocking(move || program.kill()).await
    }

    /// Starts it again on the same port and store; stops it first if it runs.
    pub async fn restart(&self) -> anyhow::Result<()> {
        let (program, port) = (self.program.clone(), self.port);
        blocking(move || {
            program.stop()?;
            launch(&program, port)
        })
        .await
    }
}

fn launch(program: &Program, port: u16) -> anyhow::Result<()> {
    let folder = program.folder().display();
    let arguments = [
        "-m".to_owned(),
        "mlflow".to_owned(),
        "server".to_owned(),
        "--host=127.0.0.1".to_owned(),
        format!("--port={port}"),
        "--workers=1".to_owned(),
        format!("--backend-store-uri=sqlite:///{folder}/mlflow.sqlite"),
        format!("--artifacts-destination={folder}/artifacts"),
    ];
    let environment = [
        // The job runner would be eight more processes and a gigabyte.
        ("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false".to_owned()),
        ("MLFLOW_DISABLE_TELEMETRY", "true".to_owned()),
        ("DO_NOT_TRACK", "true".to_owned()),
        ("GIT_PYTHON_REFRESH", "quiet".to_owned()),
    ];
    program.launch(&arguments, &environment, READY_WITHIN, || {
        Ok(is_healthy(port).then_some(()))
    })
}

/// Whether GET /health answers 200.
fn is_healthy(port: u16) -> bool {
    let ask = || -> std::io::Result<bool> {
        let timeout = Duration::from_secs(5);
        let mut stream = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), timeout)?;
        stream.set_read_timeout(Some(timeout))?;
        write!(stream, "GET /health HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n")?;
        let mut answer = String::new();
        stream.take(4096).read_to_string(&mut answer)?;
        Ok(answer
            .lines()
            .next()
            .is_some_and(|status| status.contains(" 200 ")))
    };
    ask().unwrap_or(false)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .context("the task panicked")?
}
