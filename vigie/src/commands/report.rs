//! `vigie report`.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chassis::{Reader, Service as _, Settings, Sources};
use drift_monitor::DriftMonitor;
use drift_monitor::config::Config;

use crate::cli::{Output, ReportArgs};
use crate::output;
use crate::report::columns::Choice;
use crate::report::document::{Report, Word};
use crate::report::{ReportOptions, compare, html, text};

/// Pause between two lines of progress where they cannot overwrite each other.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Pause between two where they can.
const REDRAW_EVERY: Duration = Duration::from_millis(200);
/// What is done sooner needs no progress.
const QUIET_FOR: Duration = Duration::from_secs(1);

/// Compares two files.
pub fn run(output: Output, args: &ReportArgs, sources: &Sources) -> anyhow::Result<ExitCode> {
    let mut config = rules(sources)?;
    config.limits.data_tell = args.columns.tell_from;
    let options = ReportOptions {
        reference: args.reference.clone(),
        current: args.current.clone(),
        choice: Choice {
            target: args.target.clone(),
            score: args.score.clone(),
            features: args.columns.features.clone(),
            ignore: args.columns.ignore.clone(),
            types: args.columns.types.clone(),
            segments: args.segments.clone(),
        },
        operating_threshold: args.operating_threshold,
        together: args.together,
    };
    let teller = Teller::new(Instant::now());
    let report = compare(&options, &config, &|progress| {
        teller.tell("rows read", progress.rows, progress.of);
    });
    teller.end();
    let report = report?;
    if let Some(path) = &args.html {
        write_page(path, &report)?;
    }
    output::print(output, &report, |report| {
        let mut text = text::describe(report);
        if let Some(path) = &args.html {
            text.push_str("\npage: ");
            text.push_str(&path.display().to_string());
        }
        text
    })?;
    Ok(match report.verdict {
        Word::Stable => ExitCode::SUCCESS,
        Word::Drifted | Word::Broken => ExitCode::from(2),
        Word::Unknown => ExitCode::from(3),
    })
}

/// The rules of the hourly check: `[drift]` of the settings, or their defaults.
pub(super) fn rules(sources: &Sources) -> anyhow::Result<Config> {
    let definition = DriftMonitor::DEFINITION;
    let mut defaults = vec![chassis::settings::COMMON_DEFAULTS];
    defaults.extend(definition.defaults);
    let aliases = [&[chassis::settings::COMMON_ALIASES], definition.aliases]
        .concat()
        .concat();
    let settings = Settings::load(&defaults, &aliases, sources)?;
    let reader = Reader::new(&settings);
    let config = Config::read(&reader);
    reader.finish()?;
    Ok(config)
}

fn write_page(path: &Path, report: &Report) -> anyhow::Result<()> {
    std::fs::write(path, html::page(report)).with_context(|| format!("write {} (--html)", path.display()))
}

/// Says on standard error how far it is and how long it will take.
pub(super) struct Teller {
    terminal: bool,
    begun: Instant,
    told: Mutex<Option<Instant>>,
}

impl Teller {
    pub(super) fn new(begun: Instant) -> Self {
        Self {
            terminal: std::io::stderr().is_terminal(),
            begun,
            told: Mutex::new(None),
        }
    }

    /// So many of all are done.
    pub(super) fn tell(&self, what: &str, done: u64, of: u64) {
        let every = if self.terminal { REDRAW_EVERY } else { LINE_EVERY };
        // Two threads read: whoever comes second has nothing to add.
        let Ok(mut told) = self.told.try_lock() else {
            return;
        };
        if self.begun.elapsed() < QUIET_FOR || told.is_some_and(|told| told.elapsed() < every) {
            return;
        }
        *told = Some(Instant::now());
        let share = done as f64 / of.max(1) as f64;
        let left = self.begun.elapsed().as_secs_f64() * (1.0 / share.max(1e-6) - 1.0);
        let line = format!("{done} of {of} {what}, about {left:.0} s left");
        if self.terminal {
            eprint!("\r{line} ");
            // Progress only; the result is what counts.
            let _shown = std::io::stderr().flush();
        } else {
            eprintln!("{line}");
        }
    }

    pub(super) fn end(&self) {
        if self.terminal && self.told.lock().is_ok_and(|told| told.is_some()) {
            eprintln!();
        }
    }
}
