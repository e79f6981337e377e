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

use anyhow::Context as _;
use rustix::process::Signal;

const SCRIPT: &str = include_str!("watchdog.sh");

/// A server to stop: its pid file and the signal that ends it gently.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) pid_file: PathBuf,
    pub(crate) signal: Signal,
}

#[derive(Debug)]
pub(crate) struct Watchdog {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Watchdog {
    /// Starts to watch. Must come before the first server.
    pub(crate) fn start(folder: &Path, temporary: bool, watched: &[Watched]) -> anyhow::Result<Self> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", SCRIPT, "vigie-watchdog"]).arg(folder).arg(if temporary { "temporary" } else { "kept" });
        for Watched { pid_file, signal } in watched {
            command.args([OsStr::new(name(*signal)), pid_file.as_os_str()]);
        }
        // A group of its own, so that Ctrl-C in the terminal does not reach it.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().context("start the watchdog with `/bin/sh`")?;
        let stdin = child.stdin.take();
        Ok(Self { child, stdin })
    }

    /// Ends the watch after the owner has cleaned up itself.
    pub(crate) fn release(&mut self) -> anyhow::Result<()> {
        let Some(mut stdin) = self.stdin.take() else { return Ok(()) };
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

fn name(signal: Signal) -> &'static str {
    match signal {
        Signal::QUIT => "QUIT",
        Signal::INT => "INT",
        _ => "TERM",
    }
}

/// Waits until the servers of an earlier owner of `folders` are gone (its watchdog removes their pid files), and kills
/// what is left after `bound`: that watchdog was killed, too, or the machine went down.
pub(crate) fn await_former(folders: &[&Path], bound: Duration) -> anyhow::Result<()> {
    let started = Instant::now();
    for folder in folders {
        loop {
            let left = pid_files(folder)?;
            if left.is_empty() {
                break;
            }
            if started.elapsed() < bound && left.iter().any(|file| runs_below(file, folder)) {
                std::thread::sleep(Duration::from_millis(50));
                continue;
            }
            for file in left {
                if runs_below(&file, folder)
                    && let Some(pid) = read_pid(&file)
                {
                    let killed = rustix::process::kill_process(pid, Signal::KILL);
                    killed.with_context(|| format!("kill the leftover server {pid:?} of `{}`", folder.display()))?;
                }
                crate::process::remove_if_there(&file)?;
            }
        }
    }
    Ok(())
}

fn pid_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = folder.read_dir().with_context(|| format!("read the folder `{}`", folder.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension() == Some(OsStr::new("pid")) {
            files.push(path);
        }
    }
    Ok(files)
}

fn read_pid(file: &Path) -> Option<rustix::process::Pid> {
    let text = std::fs::read_to_string(file).ok()?;
    rustix::process::Pid::from_raw(text.trim().parse().ok()?)
}

/// Whether the process named in the file is still one that names our folder in its command line.
fn runs_below(file: &Path, folder: &Path) -> bool {
    let Some(pid) = read_pid(file) else { return false };
    let command_line = std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
    String::from_utf8_lossy(&command_line).contains(&*folder.to_string_lossy())
}
