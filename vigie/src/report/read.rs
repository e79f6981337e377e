//! Files become counts. The reference is read twice, once for the edges of bins and once to count; the current file once, at the
//! same time as the second. Memory does not grow with the files.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use drift_monitor::config::Config;
use drift_monitor::reference::{Reference, values_of};
use drift_monitor::segments::{self, Among, LEVELS_MAX, Misfit, Profiles, Segments};
use drift_stats::between::{Blocks, Whole};
use drift_stats::binning::FeatureBins;
use drift_stats::outcome::{Known, Outcome};
use drift_stats::profile::Profile;
use drift_stats::reference::ReferenceBuilder;
use transactions::Column;
use transactions::table::{As, Table, Wanted};

use super::ReportOptions;
use super::columns::Plan;
use super::row_names::RowNames;

use super::together::EvenRows;
use crate::output::Usage;

/// How far reading is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Rows read, each reading of a file counted.
    pub rows: u64,
    /// Rows to be read.
    pub of: u64,
}

/// What was counted.
#[derive(Debug)]
pub struct Counted {
    /// What was compared.
    pub plan: Plan,
    /// Bins and counts of the reference.
    pub reference: Reference,
    /// The current file in these bins.
    pub current: Profile,
    /// Scores and labels of the reference.
    pub reference_outcome: Outcome,
    /// Scores and labels of the current file.
    pub current_outcome: Outcome,
    /// Some rows of each, when they are to be told apart.
    pub rows: Option<[EvenRows; 2]>,
    /// Both by segments, when asked for.
    pub segments: Vec<Segments>,
}

/// What one file gave.
struct Part {
    whole: Whole,
    outcome: Outcome,
    rows: Option<EvenRows>,
    segments: Vec<Profiles>,
}

/// Which of the two tables.
#[derive(Clone, Copy)]
enum Which {
    Reference = 0,
    Current = 1,
}

/// Reads both tables.
///
/// # Errors
/// Files that cannot be read, and labels that are none.
pub fn count(
    reference: &Table,
    current: &Table,
    mut plan: Plan,
    config: &Config,
    options: &ReportOptions,
    progress: &(dyn Fn(Progress) + Sync),
) -> anyhow::Result<Counted> {
    for table in [reference, current] {
        if table.rows() == 0 {
            return Err(Usage(format!("{} has no rows", table.path().display())).into());
        }
    }
    let read = AtomicU64::new(0);
    let of = reference.rows() * 2 + current.rows();
    let tell = |rows: usize| {
        let rows = read.fetch_add(rows as u64, Ordering::Relaxed) + rows as u64;
        progress(Progress { rows, of });
    };
    let bins = fit(reference, &mut plan, config, &tell)?;
    let count = |table: &Table, which| count_one(table, which, &plan, &bins, options, &tell);
    let (before, now) = std::thread::scope(|scope| {
        let before = scope.spawn(|| count(reference, Which::Reference));
        let now = count(current, Which::Current);
        (before.join(), now)
    });
    let before = before.map_err(|_| anyhow::anyhow!("reading the reference panicked"))?;
    let (
        Part {
            whole,
            outcome: reference_outcome,
            rows: before,
            segments: segments_before,
        },
        now,
    ) = (before?, now?);
    let Whole { profile, between } = whole;
    let rate = reference_outcome.fraud_rate();
    let features = plan.features.iter().map(|feature| feature.name.clone()).collect();
    Ok(Counted {
        reference: Reference {
            between,
            labelled: rate.of,
            frauds: rate.hits,
            ..Reference::of_counts(features, bins, profile)
        },
        current: now.whole.profile,
        reference_outcome,
        current_outcome: now.outcome,
        rows: before.zip(now.rows).map(|(before, now)| [before, now]),
        segments: plan
            .segments
            .iter()
            .zip(segments_before.into_iter().zip(now.segments))
            .map(|((column, _), (before, now))| Segments {
                column: column.clone(),
                profiles: [before, now],
            })
            .collect(),
        plan,
    })
}

fn wanted(plan: &Plan, which: Which) -> Vec<Wanted> {
    let features = plan.features.iter().map(|feature| Wanted {
        at: feature.at[which as usize],
        read_as: feature.read_as,
    });
    let others = [plan.target, plan.score.as_ref().map(|(_, at)| *at)];
    let others = others.into_iter().flatten().map(|at| Wanted {
        at: at[which as usize],
        read_as: As::Numbers,
    });
    let segments = plan.segments.iter().map(|(_, at)| Wanted {
        at: at[which as usize],
        read_as: As::Categories,
    });
    features.chain(others).chain(segments).collect()
}

/// Bins of the reference. What turns out to name rows is left out of the plan.
fn fit(
    table: &Table,
    plan: &mut Plan,
    config: &Config,
    tell: &(dyn Fn(usize) + Sync),
) -> anyhow::Result<Vec<FeatureBins>> {
    let mut builder = ReferenceBuilder::new(config.bins.clone(), config.sample_rows_max);
    let wanted = &wanted(plan, Which::Reference)[..plan.features.len()];
    let mut misfit = None;
    let mut row_names = RowNames::new(plan.features.len());
    table.read(wanted, &mut |columns| {
        row_names.look(columns);
        tell(columns.first().map_or(0, Column::len));
        match builder.add(&values_of(columns)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                misfit = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    if let Some(error) = misfit {
        return Err(error).context("batches of the reference do not fit together");
    }
    let (distinct, rows) = (builder.distinct_levels(), builder.rows());
    let bins = builder.finish();
    let stays = row_names.leave_out(plan, &distinct, rows);
    plan.expect_features()?;
    Ok(bins
        .into_iter()
        .zip(stays)
        .filter_map(|(bins, stays)| stays.then_some(bins))
        .collect())
}

fn count_one(
    table: &Table,
    which: Which,
    plan: &Plan,
    bins: &[FeatureBins],
    options: &ReportOptions,
    tell: &(dyn Fn(usize) + Sync),
) -> anyhow::Result<Part> {
    let wanted = wanted(plan, which);
    let features = plan.features.len();
    let (target_at, score_at) = match (&plan.target, &plan.score) {
        (Some(_), Some(_)) => (Some(features), Some(features + 1)),
        (Some(_), None) => (Some(features), None),
        (None, Some(_)) => (None, Some(features)),
        (None, None) => (None, None),
    };
    let mut blocks = Blocks::new();
    let mut outcome = Outcome::empty(options.operating_threshold);
    let mut segments = vec![Profiles::new(); plan.segments.len()];
    let first_segment = wanted.len() - plan.segments.len();
    let mut sample = options.together.then(|| EvenRows::of(table.rows()));
    let mut failed: Option<anyhow::Error> = None;
    table.read(&wanted, &mut |columns| {
        let rows = columns.first().map_or(0, Column::len);
        tell(rows);
        if let Some(sample) = &mut sample {
            sample.add(&columns[..features]);
        }
        let numbers = |at: Option<usize>| at.and_then(|at| columns.get(at)).and_then(Column::numbers);
        let (labels, scores) = (numbers(target_at), numbers(score_at));
        let mut added = blocks
            .add(bins, &values_of(&columns[..features]))
            .map_err(anyhow::Error::new);
        let by = columns[first_segment..].iter().zip(&plan.segments);
        for (profiles, (column, (name, _))) in segments.iter_mut().zip(by) {
            added = added.and_then(|()| {
                segments::add(
                    profiles,
                    bins,
                    &columns[..features],
                    column,
                    Among::AtMost(LEVELS_MAX),
                )
                .map_err(|misfit| misfit_of(misfit, name, table))
            });
        }
        if labels.is_some() || scores.is_some() {
            for row in 0..rows {
                let score = scores.map_or(f64::NAN, |scores| scores[row]);
                if !score.is_nan() && !(0.0..=1.0).contains(&score) {
                    let name = plan.score.as_ref().map_or("", |(name, _)| name.as_str());
                    added = Err(Usage(format!(
                        "`--score {name}` holds {score} in {}; expected numbers from 0 to 1",
                        table.path().display()
                    ))
                    .into());
                    break;
                }
                match labels.map_or(Ok(Known::Unknown), |labels| known(labels[row])) {
                    Ok(label) => outcome.add(score, label),
                    Err(value) => {
                        let name = table.columns()[wanted[features].at].name.clone();
                        added = Err(Usage(format!(
                            "`--target {name}` holds {value} in {}; expected 0, 1 or nothing",
                            table.path().display()
                        ))
                        .into());
                        break;
                    }
                }
            }
        }
        match added {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    match failed {
        Some(error) => Err(error),
        None => Ok(Part {
            whole: blocks.finish(bins)?,
            outcome,
            rows: sample,
            segments,
        }),
    }
}

fn misfit_of(misfit: Misfit, name: &str, table: &Table) -> anyhow::Error {
    match misfit {
        Misfit::TooManyLevels => Usage(format!(
            "`--segment {name}` has more than {LEVELS_MAX} levels in {}; segments are few, such as countries or channels",
            table.path().display()
        ))
        .into(),
        Misfit::Unusable(error) => error.into(),
    }
}

fn known(value: f64) -> Result<Known, f64> {
    match value {
        1.0 => Ok(Known::Fraud),
        0.0 => Ok(Known::Genuine),
        missing if missing.is_nan() => Ok(Known::Unknown),
        other => Err(other),
    }
}
