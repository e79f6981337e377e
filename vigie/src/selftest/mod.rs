//! `vigie selftest`: what the rules do on the user's own data when nothing moves, and when something does.
//!
//! The file is divided by chance, ten times: one half makes the bins, from the other windows are drawn. Nothing has moved between the
//! two, so whatever a rule says about them is a false alarm. Then a change is planted in one feature at a time, and what a rule
//! says is its power. What lies between a real reference and a real window besides chance – weekends, seasons – is not in it.
//!
//! * [`sample`] – rows of a file in memory, and windows of them.
//! * [`plant`] – changes whose size is known.
//! * [`document`] – what was counted; [`text`] – the same for a terminal.

pub mod document;
pub mod plant;
pub mod sample;
pub mod text;

use std::path::PathBuf;

use drift_monitor::config::Config;
use drift_monitor::judge::{Before, Limits, Measured, MetricName, judge};
use drift_monitor::measure::{Findings, data};
use drift_monitor::reference::Reference;
use drift_stats::profile::Profile;
use drift_stats::reference::ReferenceBuilder;
use rand::SeedableRng as _;
use rand_chacha::ChaCha12Rng;
use schemas::events::Metric;
use transactions::table::Table;

use self::document::{RULES, SCHEMA, SelfTest, Tally};
use self::plant::Change;
use self::sample::{Rows, Sample};
use crate::output::Usage;
use crate::report::columns::{Choice, Plan};

/// What is tried.
#[derive(Debug, Clone)]
pub struct SelfTestOptions {
    /// The reference.
    pub reference: PathBuf,
    /// Which columns are compared.
    pub choice: Choice,
    /// Rows of a window, each size by itself.
    pub sizes: Vec<usize>,
    /// Windows of each size.
    pub windows: usize,
    /// Windows of each size for each planted change.
    pub power_windows: usize,
    /// The seed: the same one draws the same windows.
    pub seed: u64,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Windows judged.
    pub windows: usize,
    /// Windows to be judged.
    pub of: usize,
}

/// Runs it.
///
/// # Errors
/// A file that cannot be read, columns that are not there, or too few rows to draw a window from.
pub fn run(
    options: &SelfTestOptions,
    config: &Config,
    progress: &dyn Fn(Progress),
) -> anyhow::Result<SelfTest> {
    let table = Table::open(&options.reference)?;
    let plan = Plan::of(&table, &table, &options.choice)?;
    let mut draw = ChaCha12Rng::seed_from_u64(options.seed);
    let sample = Sample::read(&table, plan, &mut draw)?;
    let sizes = possible(&options.sizes, sample.kept())?;
    let mut tally = Tally::default();
    // Windows of one division share its bins and its chance: of each division only some are drawn.
    let (windows, power_windows) = (parts(options.windows), parts(options.power_windows));
    let mut done = 0;
    for division in 0..DIVISIONS {
        let (fitted, pool) = sample.halves(&mut draw);
        let reference = reference(&sample, &fitted, config)?;
        let trial = Trial {
            sample: &sample,
            pool: &pool,
            reference: &reference,
            config,
        };
        let changes = plant::changes(&sample, &reference);
        let each = sizes.len() * (windows[division] + changes.len() * power_windows[division]);
        let mut tell = || {
            done += 1;
            progress(Progress {
                windows: done,
                of: done.max(each * DIVISIONS),
            });
        };
        for size in &sizes {
            for _ in 0..windows[division] {
                let rows = trial.window(*size, &mut draw);
                tally.false_alarm(*size, trial.alarms(&rows, None)?);
                tell();
            }
            for change in &changes {
                for _ in 0..power_windows[division] {
                    let mut rows = trial.window(*size, &mut draw);
                    change.plant(&mut rows, &mut draw);
                    tally.power(*size, change, trial.alarms(&rows, Some(change))?);
                    tell();
                }
            }
        }
    }
    let (false_alarms, power) = tally.finish(&sample);
    Ok(SelfTest {
        schema: SCHEMA,
        path: table.path().display().to_string(),
        rows: table.rows(),
        divisions: DIVISIONS,
        features: sample.names().map(str::to_owned).collect(),
        tell_from: config.limits.data_tell,
        threshold: config.limits.data_threshold,
        false_alarm_rate: config.once.data,
        seed: options.seed,
        false_alarms,
        power,
        left_out: sample.left_out().to_vec(),
    })
}

/// Divisions of the file into what makes the bins and what windows are drawn from.
const DIVISIONS: usize = 10;

/// So many windows over all divisions.
fn parts(windows: usize) -> [usize; DIVISIONS] {
    std::array::from_fn(|at| windows / DIVISIONS + usize::from(at < windows % DIVISIONS))
}

/// Sizes of which a half of the rows has enough for windows that differ.
fn possible(sizes: &[usize], rows: usize) -> Result<Vec<usize>, Usage> {
    // A half is a half by chance.
    let largest = rows / 5;
    let mut possible: Vec<usize> = sizes.iter().copied().filter(|size| *size <= largest).collect();
    possible.sort_unstable();
    possible.dedup();
    if possible.is_empty() {
        return Err(Usage(format!(
            "of {rows} rows (at most {} are kept) windows can have {largest}; `--rows` asks for more",
            sample::ROWS_MAX
        )));
    }
    Ok(possible)
}

fn reference(sample: &Sample, fitted: &[usize], config: &Config) -> anyhow::Result<Reference> {
    let rows = sample.rows(fitted);
    let mut builder = ReferenceBuilder::new(config.bins.clone(), config.sample_rows_max);
    builder.add(&rows.values())?;
    let bins = builder.finish();
    let mut profile = Profile::empty(&bins);
    profile.add(&bins, &rows.values())?;
    let features = sample.names().map(str::to_owned).collect();
    // The rows were drawn by chance.
    Ok(Reference::of_counts(features, bins, profile))
}

struct Trial<'a> {
    sample: &'a Sample,
    pool: &'a [usize],
    reference: &'a Reference,
    config: &'a Config,
}

impl Trial<'_> {
    fn window(&self, size: usize, draw: &mut ChaCha12Rng) -> Rows {
        let picked = rand::seq::index::sample(draw, self.pool.len(), size);
        let rows: Vec<usize> = picked.into_iter().map(|at| self.pool[at]).collect();
        self.sample.rows(&rows)
    }

    /// What each rule says of a window: of any feature, or of the one that was changed.
    fn alarms(&self, rows: &Rows, change: Option<&Change>) -> anyhow::Result<[bool; RULES.len()]> {
        let bins = &self.reference.bins;
        let mut profile = Profile::empty(bins);
        profile.add(bins, &rows.values())?;
        let limits = Limits {
            evidence: self.config.once,
            // How small a window may be is another rule; here it is what is looked at.
            rows_min: 1,
            ..self.config.limits
        };
        let mut findings = Findings::default();
        data(&limits, self.reference, &profile, &mut findings);
        let judgement = judge(
            &limits,
            &findings.measured,
            &findings.not_measured,
            &Before::default(),
        );
        let name = change.map(|change| self.reference.features[change.feature].as_str());
        let about = |measured: &&Measured| {
            measured.name == MetricName::Psi && (name.is_none() || measured.feature.as_deref() == name)
        };
        let any = |rule: &dyn Fn(f64, f64) -> bool| {
            findings
                .measured
                .iter()
                .filter(about)
                .any(|measured| rule(measured.value.get(), measured.noise.get()))
        };
        let of = |metrics: &[Metric], exceeding: bool| {
            metrics.iter().any(|metric| {
                (metric.exceeded || !exceeding) && (name.is_none() || metric.feature.as_deref() == name)
            })
        };
        Ok([
            any(&|psi, _| psi > 0.1),
            any(&|psi, _| psi > 0.2),
            any(&|psi, noise| psi > noise),
            of(&judgement.moved, false),
            of(&judgement.moved, true),
        ])
    }
}
