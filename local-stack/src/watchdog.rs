//! Sees to it that no server outlives its owner, also after `kill -9`.
//!
//! A shell (`watchdog.sh`) waits for the end of its standard input, whose other end only the owner holds: the kernel
//! closes it when the owner ends, in whatever way. Then the shell stops the servers that the pid files name and
//! removes a temporary folder.

use std::ffi::OsStr;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal};

const SCRIPT: &str = include_str!("watchdog.sh");
/// How the shell calls itself.
const NAME: &str = "vigie-watchdog";

#[derive(Debug)]
pub(crate) struct Watchdog {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Watchdog {
    /// Starts to watch. Must come before the first server. `run` is part of the names of the servers' pid files,
    /// `postgres_signal` ends PostgreSQL gently.
    pub(crate) fn start(
        folder: &Path,
        temporary: bool,
        run: &str,
        postgres_signal: Signal,
    ) -> anyhow::Result<Self> {
        let lifetime = if temporary { "temporary" } else { "kept" };
        let postgres_signal = if postgres_signal == Signal::QUIT {
            "QUIT"
        } else {
            "INT"
        };
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", SCRIPT, NAME])
            .arg(folder)
            .args([lifetime, run, postgres_signal]);
        // A group of its own, so that Ctrl-C in the terminal does not reach it.
        command
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = command.spawn().context("start the watchdog with `/bin/sh`")?;
        let stdin = child.stdin.take();
        Ok(Self { child, stdin })
    }

    /// Ends the watch after the owner has cleaned up itself.
    pub(crate) fn release(&mut self) -> anyhow::Result<()> {
        let Some(mut stdin) = self.stdin.take() else {
            return Ok(());
        };
        // A watchdog that somebody killed cannot read it, and need not.
        let _gone = stdin.write_all(b"done\n");
        drop(stdin);
        self.child.wait().context("wait for the watchdog")?;
        Ok(())
    }
}

impl Drop for Watchdog {
    /// Without [`Watchdog::release`] the shell takes over and cleans up.
    fn drop(&mut self) {
        drop(self.stdin.take());
        if let Err(error) = self.child.wait() {
            eprintln!("local-stack: wait for the watchdog: {error}");
        }
    }
}

/// Waits until the servers of an earlier owner of `folder` are gone: its watchdog is at it. Kills what is left when there
/// is no watchdog (any more) or `bound` has passed.
pub(crate) fn await_former(folder: &Path, bound: Duration) -> anyhow::Result<()> {
    let started = Instant::now();
    let name = folder.to_string_lossy();
    while started.elapsed() < bound && any_process(&[NAME, &name])? {
        std::thread::sleep(Duration::from_millis(50));
    }
    for file in pid_files(folder)? {
        let alive = |pid: Pid| command_line(pid.as_raw_nonzero().get()).contains(&*name);
        if let Some(pid) = read_pid(&file).filter(|pid| alive(*pid)) {
            let killed = rustix::process::kill_process_group(pid, Signal::KILL);
            killed.with_context(|| format!("kill the leftover server {pid:?} of `{name}`"))?;
            while alive(pid) {
                ensure!(
                    started.elapsed() < bound * 2,
                    "the leftover server {pid:?} of `{name}` outlives `kill -9`"
                );
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        crate::process::remove_if_there(&file)?;
    }
    Ok(())
}

/// `FOLDER/*/*.pid`, except PostgreSQL's own.
fn pid_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for server in folder
        .read_dir()
        .with_context(|| format!("read the folder `{}`", folder.display()))?
    {
        let server = server?.path();
        if server.is_dir() {
            for entry in server.read_dir()? {
                files.push(entry?.path());
            }
        }
    }
    files.retain(|file| file.extension() == Some(OsStr::new("pid")));
    Ok(files)
}

fn read_pid(file: &Path) -> Option<Pid> {
    Pid::from_raw(std::fs::read_to_string(file).ok()?.trim().parse().ok()?)
}

/// Whether some process has all these words in its command line.
fn any_process(words: &[&str]) -> anyhow::Result<bool> {
    for entry in Path::new("/proc").read_dir()? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let line = command_line(pid);
        if words.iter().all(|word| line.contains(word)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Empty for a process that is gone or a zombie.
fn command_line(pid: i32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}
