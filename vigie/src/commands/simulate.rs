//! `vigie simulate`.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use crate::cli::{Output, SimulateArgs};
use crate::output;
use crate::simulator::{self, SimulateOptions};

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
    let terminal = std::io::stderr().is_terminal();
    let done = simulator::simulate(&options, &args.out, |progress| {
        if terminal {
            eprint!(
                "\rday {} of {}, {} payments ",
                progress.days, progress.days_total, progress.payments
            );
            // Progress only; the result is what counts.
            let _shown = std::io::stderr().flush();
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
