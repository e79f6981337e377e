//! Everything that can be checked without running the system; all steps run, then all that failed is named.

use std::time::Instant;

use anyhow::bail;

use crate::process::{cargo, command, lasting, root, run, target, works};
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

/// The release of cargo-deny that is brought where none is installed.
const CARGO_DENY: &str = "0.20.2";

/// `deny.toml`: by cargo-deny, which is brought into `.tools` where it is missing (a minute); where that cannot be done either, licences
/// and sources are still checked here, and what no dependency may bring by `layering`.
fn dependencies() -> anyhow::Result<()> {
    licences::check(&root())?;
    let place = root().join(".tools").join("cargo-deny");
    let ours = place.join("bin").join("cargo-deny");
    let mut deny = if works(cargo().args(["deny", "--version"])) {
        let mut installed = cargo();
        installed.arg("deny");
        installed
    } else {
        if !works(command(&ours).arg("--version")) {
            eprintln!("lint: bringing cargo-deny {CARGO_DENY} into {}", place.display());
            let mut install = cargo();
            install
                .args([
                    "install",
                    "cargo-deny",
                    "--version",
                    CARGO_DENY,
                    "--locked",
                    "--debug",
                    "--quiet",
                ])
                .arg("--root")
                .arg(&place)
                .arg("--target-dir")
                .arg(target().join("cargo-deny"));
            if let Err(error) = run(&mut install) {
                eprintln!(
                    "lint: cargo-deny could not be brought ({error:#}); licences and sources were checked without it"
                );
                return Ok(());
            }
        }
        command(&ours)
    };
    run(deny.args(["--offline", "check", "bans", "licenses", "sources"]))
}

fn compose() -> anyhow::Result<()> {
    if !works(command("python3").arg("--version")) {
        bail!("the compose file is checked by compose/check.py, which needs python3");
    }
    run(command("python3").arg("compose/check.py"))
}
