//! Builds the services and becomes the trial of faults.

use std::ffi::OsString;

use crate::process::{become_command, cargo, command, run, target};

/// Builds, and becomes the trial.
///
/// # Errors
/// When the build fails.
pub(crate) fn run_faults(arguments: &[OsString]) -> anyhow::Result<()> {
    let (release, arguments): (Vec<&OsString>, Vec<&OsString>) =
        arguments.iter().partition(|argument| *argument == "--release");
    eprintln!("xtask: building the services and the trial");
    let mut build = cargo();
    build.args(["build", "--workspace", "--bins"]);
    if !release.is_empty() {
        build.arg("--release");
    }
    run(&mut build)?;
    let folder = if release.is_empty() { "debug" } else { "release" };
    become_command(command(target().join(folder).join("faults")).args(arguments))
}
