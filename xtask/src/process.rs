//! Finding the workspace, and running cargo and other programs in it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};

/// The folder of the workspace.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// A program to be run in the folder of the workspace.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    command
}

/// The cargo that runs this, so that a toolchain chosen by `cargo +…` stays chosen.
pub(crate) fn cargo() -> Command {
    let mut command = command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What cargo told this program of its own package; build scripts that look at such names would take it for a change, and
    // with them half of the workspace would be built again after every `cargo build`.
    for (name, _) in std::env::vars_os() {
        let told = name
            .to_str()
            .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"));
        if told {
            command.env_remove(name);
        }
    }
    command
}

/// How a command is shown to people.
pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let mut words = words.map(|word| word.to_string_lossy().into_owned());
    let program = words.next().unwrap_or_default();
    let name = Path::new(&program)
        .file_name()
        .map_or(program.clone(), |name| name.to_string_lossy().into_owned());
    std::iter::once(name).chain(words).collect::<Vec<_>>().join(" ")
}

/// Runs a command with this terminal and waits.
///
/// # Errors
/// When it cannot be started or does not succeed.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command
        .status()
        .with_context(|| format!("start `{}`", shown(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", shown(command));
    }
    Ok(())
}

/// Whether a command can be started and succeeds; its output is dropped.
pub(crate) fn works(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// Becomes the command: signals and the exit code are its own from here on.
///
/// # Errors
/// When it cannot be started; else this does not return.
#[cfg(unix)]
pub(crate) fn become_command(command: &mut Command) -> anyhow::Result<()> {
    use std::os::unix::process::CommandExt as _;
    let error = command.exec();
    Err(error).with_context(|| format!("start `{}`", shown(command)))
}

/// Runs the command and passes its failure on.
///
/// # Errors
/// When it cannot be started or does not succeed.
#[cfg(not(unix))]
pub(crate) fn become_command(command: &mut Command) -> anyhow::Result<()> {
    run(command)
}

/// A time for people, e.g. `3 min 5 s` or `1.2 s`.
pub(crate) fn lasting(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds >= 60 {
        format!("{} min {} s", seconds / 60, seconds % 60)
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_well() {
        for (milliseconds, text) in [
            (40, "0.0 s"),
            (1240, "1.2 s"),
            (59_900, "59.9 s"),
            (60_000, "1 min 0 s"),
            (185_000, "3 min 5 s"),
        ] {
            assert_eq!(lasting(Duration::from_millis(milliseconds)), text);
        }
    }

    #[test]
    fn failures_name_the_command_without_its_folder() {
        let error = run(command("/bin/sh").args(["-c", "exit 3"]))
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("`sh -c exit 3` failed"), "{error}");
        let error = run(&mut command("/nowhere/at-all")).unwrap_err().to_string();
        assert!(error.contains("start `at-all`"), "{error}");
    }

    #[test]
    fn cargo_is_not_told_of_this_package() {
        let command = cargo();
        let removed = |name: &str| {
            command
                .get_envs()
                .any(|(known, value)| known == name && value.is_none())
        };
        assert!(removed("CARGO_PKG_NAME") && removed("CARGO_MANIFEST_DIR"));
    }

    #[test]
    fn the_root_is_the_folder_of_the_workspace() {
        let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
        assert!(manifest.contains("[workspace]"));
    }
}
