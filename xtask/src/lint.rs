//! Everything that can be checked without running the system; all steps run, then all that failed is named.

use std::time::Instant;

use anyhow::bail;

use crate::process::{cargo, command, lasting, root, run, works};
use crate::{changelog, docs, layering, licences, schema_files};

/// One check.
struct Step {
    name: &'static str,
    check: fn() -> anyhow::Result<()>,
}

/// The quick ones first.
const STEPS: &[Step] = &[
    Step {
        name: "formatting",
        check: formatting,
    },
    Step {
        name: "layering",
        check: layering::run,
    },
    Step {
        name: "generated files",
        check: || schema_files::run(true),
    },
    Step {
        name: "changelog",
        check: || changelog::check(&root()),
    },
    Step {
        name: "documents",
        check: || docs::check(&root()).and_then(|()| docs::check_runbook(&root())),
    },
    Step {
        name: "compose file",
        check: compose,
    },
    Step {
        name: "licences and sources",
        check: dependencies,
    },
    Step {
        name: "clippy",
        check: clippy,
    },
];

/// Runs every step.
///
/// # Errors
/// Names the steps that failed.
pub(crate) fn run_steps() -> anyhow::Result<()> {
    let mut failed = Vec::new();
    for step in STEPS {
        let started = Instant::now();
        let result = (step.check)();
        let time = lasting(started.elapsed());
        match result {
            Ok(()) => eprintln!("lint: {}: fine ({time})", step.name),
            Err(error) => {
                eprintln!("lint: {}: FAILED ({time})\n{error:#}", step.name);
                failed.push(step.name);
            }
        }
    }
    if !failed.is_empty() {
        bail!("lint failed: {}", failed.join(", "));
    }
    Ok(())
}

fn formatting() -> anyhow::Result<()> {
    if !works(cargo().args(["fmt", "--version"])) {
        bail!("rustfmt is not installed; `rustup component add rustfmt` brings it");
    }
    run(cargo().args(["fmt", "--all", "--check"]))
}

fn clippy() -> anyhow::Result<()> {
    if !works(cargo().args(["clippy", "--version"])) {
        bail!("clippy is not installed; `rustup component add clippy` brings it");
    }
    run(cargo().args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ]))
}

/// `deny.toml`: licences and sources anywhere, and with the tool where it is there. What no dependency may bring, `layering`
/// refuses in any case.
fn dependencies() -> anyhow::Result<()> {
    licences::check(&root())?;
    if !works(cargo().args(["deny", "--version"])) {
        eprintln!(
            "lint: cargo-deny is not installed; `cargo install cargo-deny --locked` brings it, and the last word on deny.toml"
        );
        return Ok(());
    }
    run(cargo().args(["deny", "--offline", "check", "bans", "licenses", "sources"]))
}

fn compose() -> anyhow::Result<()> {
    if !works(command("python3").arg("--version")) {
        bail!("the compose file is checked by compose/check.py, which needs python3");
    }
    run(command("python3").arg("compose/check.py"))
}
