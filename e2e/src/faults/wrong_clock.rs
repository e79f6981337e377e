//! Hosts need not agree on the time, and a clock may jump: some replicas live with a wall clock that does.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

/// What a process with a wrong clock loads.
const SOURCE: &str = include_str!("wrong_clock.c");
/// How far ahead it is at its worst; set back, it is a 24th of it behind.
const AHEAD: &str = "86400";

/// Wall clocks that are wrong, for some replicas.
#[derive(Debug, Clone)]
pub struct WrongClock {
    library: PathBuf,
}

impl WrongClock {
    /// Builds it in `folder`.
    ///
    /// # Errors
    /// When there is no C compiler, which the crates of the services need as well.
    pub fn build(folder: &Path) -> anyhow::Result<Self> {
        let (source, library) = (folder.join("wrong_clock.c"), folder.join("wrong_clock.so"));
        std::fs::write(&source, SOURCE)?;
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&library)
            .arg(&source)
            .arg("-ldl")
            .output()
            .context("start the C compiler `cc`")?;
        ensure!(
            built.status.success(),
            "cc: {}",
            String::from_utf8_lossy(&built.stderr)
        );
        Ok(Self { library })
    }

    /// Variables of a replica's environment: every second one has a wrong clock.
    pub fn of(&self, replica: usize) -> Vec<(&'static str, String)> {
        if replica.is_multiple_of(2) {
            return Vec::new();
        }
        vec![
            ("LD_PRELOAD", self.library.display().to_string()),
            ("WRONG_CLOCK_SECONDS", AHEAD.to_owned()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_of_every_second_replica_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let clock = WrongClock::build(folder.path()).unwrap();
        let seconds = |replica| {
            let mut date = Command::new("python3");
            date.args(["-c", "import time; print(int(time.time()))"])
                .envs(clock.of(replica));
            let told = date.output().unwrap().stdout;
            String::from_utf8(told).unwrap().trim().parse::<i64>().unwrap()
        };
        let (right, wrong) = (seconds(0), seconds(1));
        let off = (wrong - right).abs();
        assert!((3_000..90_000).contains(&off), "{off} s");
    }
}
