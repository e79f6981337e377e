//! Builds the operator's command once and becomes its demo.

use std::ffi::OsString;
use std::time::Instant;

use crate::process::{become_command, cargo, command, lasting, run, target};

/// What cargo is told. The features are resolved for the whole workspace, as they are for the tests: nothing is compiled
/// twice for having run both.
fn build_arguments(arguments: &[OsString]) -> Vec<&'static str> {
    let mut all = vec!["build", "--workspace"];
    // Each service as a process of its own is a program of its own.
    if arguments.iter().any(|argument| argument == "--processes") {
        all.push("--bins");
    } else {
        all.extend(["--bin", "vigie"]);
    }
    all
}

/// Builds, says how long it took, and becomes the demo.
///
/// # Errors
/// When the build fails.
pub(crate) fn run_demo(arguments: &[OsString]) -> anyhow::Result<()> {
    let program = target().join("debug").join("vigie");
    let expectation = if program.exists() {
        "built before; only what changed since is built"
    } else {
        "the first time takes about four minutes on two cores, later ones seconds"
    };
    eprintln!("xtask: building the command `vigie` ({expectation})");
    let started = Instant::now();
    run(cargo().args(build_arguments(arguments)))?;
    eprintln!(
        "xtask: built in {}; starting `vigie demo`\n",
        lasting(started.elapsed())
    );
    become_command(command(program).arg("demo").args(arguments))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_built_when_they_run_as_processes() {
        for (given, expected) in [
            (vec![], vec!["build", "--workspace", "--bin", "vigie"]),
            (
                vec!["--days", "40"],
                vec!["build", "--workspace", "--bin", "vigie"],
            ),
            (
                vec!["--stay", "--processes"],
                vec!["build", "--workspace", "--bins"],
            ),
        ] {
            let given: Vec<OsString> = given.into_iter().map(Into::into).collect();
            assert_eq!(build_arguments(&given), expected, "{given:?}");
        }
    }
}
