//! The command as people run it.

mod arguments;
mod asking;
mod audit;
mod canaries;
mod dlq;
mod planted;
mod provisioning;
mod public_data;
mod readme;
mod report;
mod restricted;
mod rights;
mod roles;
mod selftest;

use std::path::Path;
use std::process::{Command, Output};

/// The command in a folder, with nothing of the caller's environment that could change settings.
fn vigie(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vigie"));
    command.current_dir(folder).env_clear();
    command
}

/// Exit code, standard output, standard error.
fn told(output: &Output) -> (i32, String, String) {
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout.clone()).unwrap(),
        String::from_utf8(output.stderr.clone()).unwrap(),
    )
}
