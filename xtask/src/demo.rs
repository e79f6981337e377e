//! Builds the operator's command once and becomes its demo.

use std::ffi::OsString;
use std::time::Instant;

use crate::process::{become_command, cargo, lasting, run, target};

/// What cargo is told, so that the demo gets the arguments as they are.
fn run_demo_arguments(arguments: &[OsString]) -> Vec<OsString> {
    let mut all: Vec<OsString> = [
        "run",
        "--quiet",
        "--package",
        "vigie",
        "--bin",
        "vigie",
        "--",
        "demo",
    ]
    .map(Into::into)
    .into();
    all.extend(arguments.iter().cloned());
    all
}

/// Builds, says how long it took, and becomes the demo.
///
/// # Errors
/// When the build fails.
pub(crate) fn run_demo(arguments: &[OsString]) -> anyhow::Result<()> {
    let first = !target().join("debug").join("vigie").exists();
    let expectation = if first {
        "the first time takes about four minutes on two cores, later ones seconds"
    } else {
        "built before; only what changed since is built"
    };
    eprintln!("xtask: building the command `vigie` ({expectation})");
    let started = Instant::now();
    run(cargo().args(["build", "--package", "vigie", "--bin", "vigie"]))?;
    eprintln!(
        "xtask: built in {}; starting `vigie demo`\n",
        lasting(started.elapsed())
    );
    become_command(cargo().args(run_demo_arguments(arguments)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_reach_the_demo_unchanged() {
        let passed: Vec<OsString> = ["--data", "a file.parquet", "--output", "json"]
            .map(Into::into)
            .into();
        let all = run_demo_arguments(&passed);
        let separator = all.iter().position(|word| word == "--").unwrap();
        assert_eq!(all[separator + 1], "demo");
        assert_eq!(all[separator + 2..], passed);
    }
}
