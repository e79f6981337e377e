//! Packages from the Python index, each set in a folder of its own by `pip install --target`.
//!
//! `--target` needs no virtual environment, can be moved, and works where the distribution forbids pip to touch its own
//! packages (PEP 668). Where Python comes without pip, a virtual environment in the tool folder provides it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use super::{Tools, command, path_folders, variable};

/// `cp311` and the like: compiled packages fit one version of Python.
const PRINT_TAG: &str = "import sys; print('cp%d%d' % sys.version_info[:2])";

/// Whether a requirements file pins the content of the packages, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hashes {
    Pinned,
    None,
}

/// Installed packages and the Python they fit.
#[derive(Debug, Clone)]
pub(crate) struct PythonPackages {
    pub(crate) python: PathBuf,
    folder: PathBuf,
}

impl PythonPackages {
    /// What the environment must hold for [`Self::python`] to find them, and nothing of the user's own.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("PYTHONPATH", self.folder.display().to_string()),
            ("PYTHONNOUSERSITE", "1".to_owned()),
            ("PYTHONDONTWRITEBYTECODE", "1".to_owned()),
        ]
    }
}

impl Tools {
    /// Installs exactly what the requirements file says, hashes checked, nothing else, into `place`.
    pub(crate) fn pip_install(&self, requirements: &str, place: &Path) -> anyhow::Result<()> {
        run_pip(
            &self.python_with_pip()?,
            requirements,
            place,
            &["--require-hashes", "--no-deps"],
        )
    }

    /// The packages of a requirements file that names every one of them, and a Python that finds them. They are
    /// installed on first use, once for each version of Python, as tool `name`.
    pub(crate) fn python_packages(
        &self,
        name: &str,
        requirements: &str,
        hashes: Hashes,
    ) -> anyhow::Result<PythonPackages> {
        let python = self.python_with_pip()?;
        let tag = command::output(Command::new(&python).args(["-c", PRINT_TAG]))?;
        let folder = self.provide(&format!("{name}-{}", tag.trim()), |place| {
            self.progress().tell(&format!("installing {name} with pip"));
            let options: &[&str] = match hashes {
                Hashes::Pinned => &["--require-hashes", "--no-deps"],
                Hashes::None => &["--no-deps"],
            };
            run_pip(&python, requirements, place, options)
        })?;
        Ok(PythonPackages { python, folder })
    }

    /// A Python whose `-m pip` works.
    ///
    /// # Errors
    /// One sentence on what to install.
    pub(crate) fn python_with_pip(&self) -> anyhow::Result<PathBuf> {
        let pythons = pythons();
        if let Some(python) = pythons.iter().find(|python| has_pip(python)) {
            return Ok(python.clone());
        }
        if let Some(python) = self.bootstrap_pip(&pythons)? {
            return Ok(python);
        }
        self.install_system_packages("Python's pip", &["python3", "python3-venv"])?;
        if let Some(python) = self.bootstrap_pip(&self::pythons())? {
            return Ok(python);
        }
        bail!("installed python3-venv, and yet no python3 on PATH can make a virtual environment with pip")
    }

    fn bootstrap_pip(&self, pythons: &[PathBuf]) -> anyhow::Result<Option<PathBuf>> {
        let can = |python: &&PathBuf| {
            command::succeeds(Command::new(python).args(["-c", "import venv, ensurepip"]))
        };
        let Some(python) = pythons.iter().find(can) else {
            return Ok(None);
        };
        // Its scripts carry absolute paths and are not used; `python -m pip` works wherever the folder is moved.
        let folder = self.provide("python-with-pip", |place| {
            self.progress()
                .tell("making a virtual environment, because python3 has no pip");
            command::output(Command::new(python).args(["-m", "venv"]).arg(place))?;
            Ok(())
        })?;
        let python = folder.join("bin/python3");
        if !has_pip(&python) {
            bail!(
                "`{}` has no pip; remove its folder and try again",
                python.display()
            );
        }
        Ok(Some(python))
    }
}

/// Every Python worth a try: `VIGIE_PYTHON`, else each `python3` on PATH, else the usual place.
fn pythons() -> Vec<PathBuf> {
    if let Some(python) = variable("VIGIE_PYTHON") {
        return vec![python];
    }
    let mut pythons: Vec<PathBuf> = path_folders()
        .iter()
        .map(|folder| folder.join("python3"))
        .collect();
    pythons.push("/usr/bin/python3".into());
    pythons.retain(|python| python.is_file());
    pythons.dedup();
    pythons
}

fn has_pip(python: &Path) -> bool {
    command::succeeds(Command::new(python).args(["-m", "pip", "--version"]))
}

fn run_pip(python: &Path, requirements: &str, place: &Path, options: &[&str]) -> anyhow::Result<()> {
    let file = tempfile::Builder::new()
        .prefix("requirements-")
        .suffix(".txt")
        .tempfile()?;
    std::fs::write(file.path(), requirements)?;
    let mut pip = Command::new(python);
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-input",
        "--only-binary",
        ":all:",
    ]);
    pip.args(options)
        .arg("--target")
        .arg(place)
        .arg("-r")
        .arg(file.path());
    // A person's own settings that would contradict ours.
    pip.envs([
        ("PIP_USER", "0"),
        ("PIP_REQUIRE_VIRTUALENV", "0"),
        ("PIP_DISABLE_PIP_VERSION_CHECK", "1"),
        ("PIP_ROOT_USER_ACTION", "ignore"),
    ]);
    pip.env_remove("PIP_TARGET").env_remove("PIP_PREFIX");
    command::output(&mut pip)
        .with_context(|| format!("install Python packages with `{}`", python.display()))?;
    Ok(())
}
