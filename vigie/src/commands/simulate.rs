//! `vigie simulate`.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::cli::{Output, SimulateArgs};
use crate::output::{self, Usage};
use crate::simulator::{self, SimulateOptions};

/// Pause between lines of progress where they cannot overwrite each other.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// Writes simulated payments to a Parquet file.
pub fn run(output: Output, args: &SimulateArgs) -> anyhow::Result<ExitCode> {
    let options = SimulateOptions {
        days: args.days,
        customers: args.customers,
        terminals: args.terminals,
        seed: args.seed,
        start: SimulateOptions::default().start,
        warm_up_days: args.warm_up_days,
        drifts: args
            .drifts
            .iter()
            .map(|text| text.parse())
            .collect::<Result<_, _>>()?,
    };
    options.check()?;
    check_name(&args.out)?;
    let terminal = std::io::stderr().is_terminal();
    let mut told = Instant::now();
    let done = simulator::simulate(&options, &args.out, |progress| {
        if terminal {
            eprint!(
                "\rday {} of {}, {} payments ",
                progress.days, progress.days_total, progress.payments
            );
            // Progress only; the result is what counts.
            let _shown = std::io::stderr().flush();
        } else if told.elapsed() >= PROGRESS_EVERY {
            told = Instant::now();
            eprintln!(
                "day {} of {}, {} payments",
                progress.days, progress.days_total, progress.payments
            );
        }
    })?;
    if terminal {
        eprintln!();
    }
    let answer = serde_json::json!({
        "file": args.out,
        "payments": done.payments,
        "frauds": done.frauds,
        "days": done.days,
        "seed": options.seed,
    });
    output::print(output, &answer, |_| {
        format!(
            "{} payments, {} of them fraud, of {} days (seed {}) in {}",
            done.payments,
            done.frauds,
            done.days,
            options.seed,
            args.out.display()
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The name says what is in a file; another one would mislead whoever reads it.
fn check_name(path: &Path) -> Result<(), Usage> {
    let parquet = path
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("parquet"));
    if parquet {
        return Ok(());
    }
    Err(Usage(format!(
        "`--out` is `{}`; expected a name that ends in `.parquet`, which is what is written",
        path.display()
    )))
}
