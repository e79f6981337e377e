//! Finds the programs that a stack needs, or fetches pinned versions of them.
//!
//! What is fetched goes into a tool folder: `VIGIE_TOOLS_DIR`, else `.tools/` at the root of the checkout, else the
//! user's cache folder. Each tool is made in a folder beside its place and renamed when it is whole, under a file lock,
//! so that any number of processes may ask at once.

mod command;
pub mod nats_server;
mod npm;
pub mod postgres;
pub(crate) mod python;
mod system_packages;

use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::progress::Progress;

/// Where tools are looked for and put.
#[derive(Debug, Clone)]
pub struct Tools {
    /// Best first. A tool that is in any of them is used; a new one goes into the first that can be written.
    folders: Vec<PathBuf>,
    progress: Progress,
}

impl Default for Tools {
    fn default() -> Self {
        Self {
            folders: default_folders(),
            progress: Progress::default(),
        }
    }
}

impl Tools {
    /// Uses this folder only.
    pub fn in_folder(folder: impl Into<PathBuf>) -> Self {
        Self {
            folders: vec![folder.into()],
            progress: Progress::default(),
        }
    }

    /// Tells `progress` what is fetched instead of standard error.
    #[must_use]
    pub fn with_progress(mut self, progress: Progress) -> Self {
        self.progress = progress;
        self
    }

    /// The path of a nats-server that is new enough; see [`nats_server`].
    ///
    /// # Errors
    /// One sentence on what to install or set.
    pub fn nats_server(&self) -> anyhow::Result<PathBuf> {
        nats_server::find_or_fetch(self, &nats_server::Search::from_environment())
    }

    /// The folder with `initdb` and `postgres` of a PostgreSQL that is new enough; see [`postgres`].
    ///
    /// # Errors
    /// One sentence on what to install or set.
    pub fn postgres(&self) -> anyhow::Result<PathBuf> {
        postgres::find_or_fetch(self, &postgres::Search::from_environment())
    }

    pub(crate) fn progress(&self) -> &Progress {
        &self.progress
    }
}

fn default_folders() -> Vec<PathBuf> {
    if let Some(folder) = variable("VIGIE_TOOLS_DIR") {
        return vec![folder];
    }
    let mut folders = Vec::new();
    if let Some(root) = std::env::current_dir().ok().as_deref().and_then(checkout) {
        folders.push(root.join(".tools"));
    }
    if let Some(root) = checkout(Path::new(env!("CARGO_MANIFEST_DIR"))) {
        folders.push(root.join(".tools"));
    }
    let cache = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
    folders.extend(cache.map(|cache| cache.join("vigie/tools")));
    folders.dedup();
    folders
}

/// The root of the checkout that `folder` lies in.
fn checkout(folder: &Path) -> Option<PathBuf> {
    let is_root = |folder: &&Path| {
        folder.join("Cargo.lock").is_file() && folder.join("local-stack/Cargo.toml").is_file()
    };
    folder.ancestors().find(is_root).map(Path::to_owned)
}

/// An environment variable that holds a path; an empty one counts as not set.
fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

/// Every absolute folder on PATH.
fn path_folders() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .filter(|folder| folder.is_absolute())
        .collect()
}

impl Tools {
    /// The folder of tool `name`, made by `make` unless some tool folder has it already. `make` gets an empty folder
    /// to fill; what it leaves there is moved into place as a whole.
    pub(crate) fn provide(
        &self,
        name: &str,
        make: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<PathBuf> {
        let present = || {
            self.folders
                .iter()
                .map(|folder| folder.join(name))
                .find(|place| place.is_dir())
        };
        if let Some(place) = present() {
            return Ok(place);
        }
        let folder = self.writable_folder()?;
        let lock = self.lock(&folder.join(format!("{name}.lock")), name)?;
        if let Some(place) = present() {
            return Ok(place);
        }
        let partial = tempfile::Builder::new()
            .prefix(&format!(".{name}-"))
            .permissions(std::fs::Permissions::from_mode(0o755))
            .tempdir_in(folder)
            .with_context(|| format!("make a folder in `{}`", folder.display()))?;
        make(partial.path())?;
        let place = folder.join(name);
        std::fs::rename(partial.path(), &place).with_context(|| format!("move `{name}` into place"))?;
        // It is no longer where it was made: nothing to remove.
        let _moved = partial.keep();
        drop(lock);
        Ok(place)
    }

    fn lock(&self, path: &Path, name: &str) -> anyhow::Result<File> {
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path);
        let lock = lock.with_context(|| format!("open `{}`", path.display()))?;
        if lock.try_lock().is_err() {
            self.progress
                .tell(&format!("waiting for another process that fetches {name}"));
            lock.lock()
                .with_context(|| format!("lock `{}`", path.display()))?;
        }
        Ok(lock)
    }

    fn writable_folder(&self) -> anyhow::Result<&Path> {
        let mut refusals = Vec::new();
        for folder in &self.folders {
            match std::fs::create_dir_all(folder).and_then(|()| tempfile::tempfile_in(folder)) {
                Ok(_) => return Ok(folder),
                Err(error) => refusals.push(format!("`{}`: {error}", folder.display())),
            }
        }
        anyhow::bail!(
            "no tool folder can be written ({}); set VIGIE_TOOLS_DIR to one that can",
            if refusals.is_empty() {
                "neither a checkout nor HOME is known".to_owned()
            } else {
                refusals.join(", ")
            }
        )
    }
}
