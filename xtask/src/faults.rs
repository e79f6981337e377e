//! Builds the services and becomes the trial of faults.

use std::ffi::OsString;

use crate::process::{become_command, cargo, command, run, target};

/// The profile of `--quick`: with optimisation and with what the trials need of a debug build; see `Cargo.toml`.
const QUICK: &str = "trial";

/// Builds, and becomes the trial.
///
/// # Errors
/// When the build fails.
pub(crate) fn run_faults(arguments: &[OsString]) -> anyhow::Result<()> {
    let (quick, arguments): (Vec<&OsString>, Vec<&OsString>) =
        arguments.iter().partition(|argument| *argument == "--quick");
    let profile = if quick.is_empty() { "dev" } else { QUICK };
    eprintln!("xtask: building the services and the trial");
    run(cargo().args(["build", "--workspace", "--bins", "--profile", profile]))?;
    let folder = if quick.is_empty() { "debug" } else { QUICK };
    become_command(command(target().join(folder).join("faults")).args(arguments))
}
