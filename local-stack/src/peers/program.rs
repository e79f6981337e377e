//! A peer that is a program of its own: a temporary folder, one process (with its helpers), a watchdog.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::Signal;

use crate::account::RunAs;
use crate::process::{Launch, Server, remove_if_there};
use crate::stack::{run_name, temporary_folder};
use crate::tools::python::PythonPackages;
use crate::watchdog::Watchdog;

const STOP_WITHIN: Duration = Duration::from_secs(10);

/// Dropping it stops the program and removes its folder.
#[derive(Debug)]
pub(crate) struct Program {
    name: &'static str,
    packages: PythonPackages,
    /// What the watchdog removes.
    root: PathBuf,
    /// What the program works in, below `root`.
    folder: PathBuf,
    pid_file: PathBuf,
    log: PathBuf,
    server: Mutex<Option<Server>>,
    watchdog: Watchdog,
}

impl Program {
    /// Prepares a folder; nothing runs yet.
    pub(crate) fn prepare(name: &'static str, packages: PythonPackages) -> anyhow::Result<Self> {
        let run = run_name();
        // The signal is for PostgreSQL, which is not here.
        let (root, watchdog) = temporary_folder(&run, Signal::QUIT)?;
        let folder = root.join(name);
        std::fs::create_dir(&folder).with_context(|| format!("create `{}`", folder.display()))?;
        Ok(Self {
            name,
            packages,
            pid_file: folder.join(format!("{name}-{run}.pid")),
            log: folder.join(format!("{name}.log")),
            root,
            folder,
            server: Mutex::new(None),
            watchdog,
        })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// Process id, while it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.server().as_ref().map(Server::pid)
    }

    /// Starts Python with these arguments, of which one must name the folder, and waits until `ready` gives a value.
    pub(crate) fn launch<T>(
        &self,
        arguments: &[String],
        environment: &[(&'static str, String)],
        within: Duration,
        ready: impl FnMut() -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<T> {
        let mut server = Launch {
            name: self.name,
            run_as: RunAs::Ourselves,
            program: &self.packages.python,
            arguments,
            environment: &[&self.packages.environment(), environment].concat(),
            folder: &self.folder,
            pid_file: &self.pid_file,
            log: &self.log,
        }
        .spawn()?;
        let value = server.await_ready(&self.log, within, ready)?;
        *self.server() = Some(server);
        Ok(value)
    }

    /// `kill -9` of the program and its helpers. Returns when the program is gone.
    pub(crate) fn kill(&self) -> anyhow::Result<()> {
        if let Some(mut server) = self.server().take() {
            server.kill()?;
        }
        Ok(())
    }

    /// Stops it in an orderly way.
    pub(crate) fn stop(&self) -> anyhow::Result<()> {
        if let Some(mut server) = self.server().take() {
            server.stop(&[(Signal::TERM, STOP_WITHIN)])?;
        }
        Ok(())
    }

    fn server(&self) -> MutexGuard<'_, Option<Server>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn clean_up(&mut self) -> anyhow::Result<()> {
        self.stop()?;
        remove_if_there(&self.pid_file)?;
        std::fs::remove_dir_all(&self.root).with_context(|| format!("remove `{}`", self.root.display()))?;
        self.watchdog.release()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Err(error) = self.clean_up() {
            eprintln!("local-stack: stop {}: {error:#}", self.name);
        }
    }
}
