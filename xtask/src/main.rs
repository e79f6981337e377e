//! What developers run: `cargo xtask demo | test | faults | fuzz | bench | lint | schemas | schedules | layering`.
//!
//! * `demo` – builds the operator's command and runs its demo.
//! * `test` – all set-up on a fresh machine, then every test.
//! * `faults` – the trial of faults: breaks the system on purpose and audits what came of it.
//! * `lint` – everything that is checked without running the system; each check is a `Step`.
//! * `schemas` – writes or compares the JSON Schemas and the AsyncAPI document.
//! * `fuzz` – broken inputs by the million.
//! * `schedules` – the rules of delivery under many schedules of a simulated broker.
//! * `bench` – how fast, beside what peers need.
//! * `layering` – who may import whom, and where SQL and clocks may be.

mod bench;
mod changelog;
mod demo;
mod docs;
mod faults;
mod fuzz;
mod layering;
mod licences;
mod lint;
mod process;
mod schedules;
mod schema_files;
mod test;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What developers run.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch a fraud model decay, be retrained and recover, on a private broker and database.
    ///
    /// Builds the command `vigie` (about four minutes on two cores the first time, seconds later) and runs
    /// `vigie demo`. Needs nothing that is not fetched by itself. What follows is passed on:
    /// `cargo xtask demo --data FILE.parquet` replays a file, `cargo xtask demo -- --help` shows all options.
    Demo {
        /// Passed to `vigie demo`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Run every test, with all that it needs.
    ///
    /// Builds the services first, because stories start them as processes, then runs the tests with
    /// cargo-nextest if it is installed, else with `cargo test`. Servers are found or fetched by the tests
    /// themselves. What follows is passed to the runner: `cargo xtask test -p schemas golden`.
    Test {
        /// Passed to the test runner.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Break the running system on purpose, and audit what came of it.
    ///
    /// Builds the services and runs the trial. `cargo xtask faults --minutes 60 --seed 7` breaks things at random for an
    /// hour; `crash-points`, `controls`, `outage`, `disk-full` and `load` are further trials. `--quick` builds with optimisation: that
    /// takes longer, and less of the machine afterwards. `cargo xtask faults -- --help` shows all options.
    Faults {
        /// Passed to the trial.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Check everything that needs no running system, and say all that is wrong.
    ///
    /// Formatting, layering, generated files, changelog, documents (tests and files that they name exist),
    /// compose file, clippy with warnings denied.
    Lint,
    /// Write the JSON Schemas and the AsyncAPI document from the event types.
    Schemas {
        /// Compare only; fails and names the files that are stale.
        #[arg(long)]
        check: bool,
    },
    /// Put broken inputs through everything that reads what others wrote.
    ///
    /// The suite runs 3,000 of them for each target, 300 for the slow ones (settings, identifiers). An input that breaks a property is shown; put it into the target's
    /// folder of `bad-input/corpus`.
    Fuzz {
        /// How many for each target.
        #[arg(long, default_value_t = 1_000_000)]
        inputs: u64,
        /// What the inputs follow from.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// A part of the names of the tests to run, e.g. `any_body`.
        #[arg(long)]
        target: Option<String>,
    },
    /// Put the rules of delivery through many schedules of crashes and losses of a simulated broker.
    ///
    /// The suite runs 2,000 of them. A schedule that breaks a property is shown with its seed and story.
    Schedules {
        /// How many.
        #[arg(long, default_value_t = 100_000)]
        count: u64,
        /// The first one; the next ones follow.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Measure: updates of the detectors on streams, and whole reports of files with 33 columns.
    ///
    /// Writes its tables into the target folder, once. Whole processes are measured: wall clock, CPU with all children, largest
    /// resident memory. Nothing else should run beside it.
    Bench {
        /// Rows of each of the two files; may be repeated. Default: 1000000 and 5000000.
        #[arg(long)]
        rows: Vec<u64>,
        /// Also measure evidently and NannyML on the same files, installed from PyPI into `.tools` (up to a million rows).
        #[arg(long)]
        peers: bool,
        /// Instead: how often the default rules speak though nothing moved, and how often they see what did.
        #[arg(long, conflicts_with = "rows")]
        false_alarms: bool,
        /// Instead: what an hourly check of a table in PostgreSQL costs, for windows of an hour, a day and a month.
        #[arg(long, conflicts_with_all = ["rows", "peers", "false_alarms"])]
        hourly: bool,
    },
    /// Check who imports whom, and where SQL, clocks and other services' tables are used.
    Layering,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Demo { arguments } => demo::run_demo(&arguments),
        Command::Test { arguments } => test::run_tests(&arguments),
        Command::Faults { arguments } => faults::run_faults(&arguments),
        Command::Lint => lint::run_steps(),
        Command::Schemas { check } => schema_files::run(check),
        Command::Fuzz { inputs, seed, target } => fuzz::run_fuzz(inputs, seed, target.as_deref()),
        Command::Schedules { count, seed } => schedules::run_schedules(count, seed),
        Command::Bench {
            peers,
            false_alarms: true,
            ..
        } => bench::run_false_alarms(peers),
        Command::Bench { hourly: true, .. } => bench::run_hourly(),
        Command::Bench { rows, peers, .. } => {
            bench::run_bench(if rows.is_empty() { &bench::ROWS } else { &rows }, peers)
        }
        Command::Layering => layering::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
