//! One server process: spawned through a shell that leaves a pid file before it becomes the server, so that the
//! watchdog can name every server that ever ran, and stopped by its process id with a bound on the wait.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::io::Errno;
use rustix::process::{Pid, Signal};

use crate::account::RunAs;

/// Writes its own pid to `$1`, then becomes the rest of its arguments under the same pid. When the pid file cannot be
/// written (the watchdog has removed the folder) there is no server either.
const WRAPPER: &str = r#"set -e; file=$1; shift; echo $$ >"$file"; exec "$@""#;

/// How much of a log an error message quotes.
const TAIL_LINES: usize = 20;
const TAIL_BYTES: u64 = 16 * 1024;

/// What to run, as whom, and where it leaves its traces.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    pub(crate) name: &'static str,
    pub(crate) run_as: RunAs,
    pub(crate) program: &'a Path,
    pub(crate) arguments: &'a [String],
    /// Variables besides our own.
    pub(crate) environment: &'a [(&'static str, String)],
    /// Working directory; writable for `run_as`.
    pub(crate) folder: &'a Path,
    pub(crate) pid_file: &'a Path,
    /// Takes standard output and standard error, appended.
    pub(crate) log: &'a Path,
}

/// A running (or just ended) server process. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Server {
    name: &'static str,
    child: Child,
    pid_file: PathBuf,
}

impl Launch<'_> {
    pub(crate) fn spawn(&self) -> anyhow::Result<Server> {
        let log = File::options().create(true).append(true).open(self.log);
        let log = log.with_context(|| format!("open the log `{}`", self.log.display()))?;
        let mut command = self.run_as.command("/bin/sh");
        command
            .args(["-c", WRAPPER, "sh"])
            .arg(self.pid_file)
            .arg(self.program)
            .args(self.arguments);
        command
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(self.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        // A group of its own: Ctrl-C in the terminal is for us; we stop the servers after the services have drained.
        command.process_group(0);
        let child = command
            .spawn()
            .with_context(|| format!("start `{}`", self.program.display()))?;
        Ok(Server {
            name: self.name,
            child,
            pid_file: self.pid_file.to_owned(),
        })
    }
}

impl Server {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Polls until `ready` gives a value, the process ends or `bound` has passed.
    pub(crate) fn await_ready<T>(
        &mut self,
        log: &Path,
        bound: Duration,
        mut ready: impl FnMut() -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<T> {
        let started = Instant::now();
        loop {
            if let Some(value) = ready()? {
                return Ok(value);
            }
            if let Some(status) = self.child.try_wait()? {
                anyhow::bail!("{} ended while starting ({status}); {}", self.name, tail(log));
            }
            if started.elapsed() > bound {
                anyhow::bail!(
                    "{} was not ready after {} s; {}",
                    self.name,
                    bound.as_secs(),
                    tail(log)
                );
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for a process that is to end by itself.
    pub(crate) fn wait_for_end(&mut self, log: &Path, bound: Duration) -> anyhow::Result<ExitStatus> {
        match self.wait(bound)? {
            Some(status) => Ok(status),
            None => anyhow::bail!(
                "{} took longer than {} s; {}",
                self.name,
                bound.as_secs(),
                tail(log)
            ),
        }
    }

    /// Sends each signal in turn and gives the process its time to end, at last kills it.
    pub(crate) fn stop(&mut self, signals: &[(Signal, Duration)]) -> anyhow::Result<ExitStatus> {
        for (signal, patience) in signals {
            if let Some(status) = self.wait(Duration::ZERO)? {
                return Ok(status);
            }
            self.signal(*signal)?;
            if let Some(status) = self.wait(*patience)? {
                return Ok(status);
            }
        }
        self.kill()
    }

    /// `kill -9`, and wait.
    pub(crate) fn kill(&mut self) -> anyhow::Result<ExitStatus> {
        if let Some(status) = self.wait(Duration::ZERO)? {
            return Ok(status);
        }
        self.signal(Signal::KILL)?;
        let status = self.child.wait()?;
        remove_if_there(&self.pid_file)?;
        Ok(status)
    }

    /// To the whole group: servers have helpers. Only for a process that has not been waited for yet, whose id is
    /// still its own.
    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        match rustix::process::kill_process_group(Pid::from_child(&self.child), signal) {
            // The group is there from the child's first moment until we wait for it.
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("send {signal:?} to {}", self.name)),
        }
    }

    fn wait(&mut self, bound: Duration) -> anyhow::Result<Option<ExitStatus>> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                remove_if_there(&self.pid_file)?;
                return Ok(Some(status));
            }
            if started.elapsed() >= bound {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // After `stop` or `kill` there is nothing left to do: the status is kept and no signal is sent.
        if let Err(error) = self.kill() {
            eprintln!("local-stack: {error:#}");
        }
    }
}

pub(crate) fn remove_if_there(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The end of a log, for an error message.
pub(crate) fn tail(log: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Ok(text) if text.trim().is_empty() => format!("its log `{}` is empty", log.display()),
        Ok(text) => {
            let lines: Vec<&str> = text.lines().collect();
            let last = &lines[lines.len().saturating_sub(TAIL_LINES)..];
            format!(
                "its log `{}` ends with:\n    {}",
                log.display(),
                last.join("\n    ")
            )
        }
        Err(error) => format!("its log `{}` cannot be read: {error}", log.display()),
    }
}
