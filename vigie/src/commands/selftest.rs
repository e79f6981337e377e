//! `vigie selftest`.

use std::process::ExitCode;
use std::time::Instant;

use chassis::Sources;

use super::report::{Teller, rules};
use crate::cli::{Output, SelfTestArgs};
use crate::output;
use crate::report::columns::Choice;
use crate::selftest::{SelfTestOptions, run as try_rules, text};

/// Tries the rules on the user's own data.
pub fn run(output: Output, args: &SelfTestArgs, sources: &Sources) -> anyhow::Result<ExitCode> {
    let mut config = rules(sources)?;
    config.limits.data_tell = args.columns.tell_from;
    let options = SelfTestOptions {
        reference: args.reference.clone(),
        choice: Choice {
            features: args.columns.features.clone(),
            ignore: args.columns.ignore.clone(),
            types: args.columns.types.clone(),
            ..Choice::default()
        },
        sizes: args.rows.clone(),
        windows: args.windows,
        power_windows: (args.windows / 10).max(10),
        seed: args.seed,
    };
    let teller = Teller::new(Instant::now());
    let answer = try_rules(&options, &config, &|progress| {
        teller.tell("windows judged", progress.windows as u64, progress.of as u64);
    });
    teller.end();
    output::print(output, &answer?, text::describe)?;
    Ok(ExitCode::SUCCESS)
}
