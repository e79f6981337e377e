//! `vigie report`: two files of transactions compared without any server, with the rules of the hourly check.
//!
//! * [`columns`], [`row_names`] – which columns are compared as what, and which are left out.
//! * [`read`] – files become bins, profiles and outcomes, in memory that does not grow with the files.
//! * [`together`] – whether rows of the files can be told apart by all features at once, when asked for.
//! * [`measure`] – every number about one feature; [`drift_monitor::judge`] alone says what is drift.
//! * [`document`] – what is said, as data: the JSON document.
//! * [`text`], [`html`] – the same for a terminal and as one page.

pub mod columns;
pub mod document;
pub mod html;
pub mod measure;
pub mod read;
pub mod row_names;
pub mod text;
pub mod together;

use std::path::PathBuf;

use drift_monitor::breakage;
use drift_monitor::config::Config;
use drift_monitor::judge::{Before, Limits, Measured, MetricName, judge};
use drift_monitor::measure::{Findings, data, target};
use drift_monitor::segments;
use drift_stats::null::per_test;
use drift_stats::proportion::{Rate, difference};
use schemas::events::{DriftKind, Verdict};
use transactions::table::Table;

use self::columns::{Choice, Plan};
use self::document::{Breakage, LeftOut, Report, SCHEMA, Side, Together, Word};
use self::read::{Counted, Progress};

/// What is compared, and how.
#[derive(Debug, Clone)]
pub struct ReportOptions {
    /// What is compared with.
    pub reference: PathBuf,
    /// What is looked at.
    pub current: PathBuf,
    /// Which columns mean what.
    pub choice: Choice,
    /// From this score on a row counts as fraud, 0 to 1.
    pub operating_threshold: f64,
    /// Whether to learn to tell the files apart.
    pub together: bool,
}

/// Compares two files with the rules of `config`.
///
/// # Errors
/// Files that cannot be read, columns that are not there, labels that are none.
pub fn compare(
    options: &ReportOptions,
    config: &Config,
    progress: &(dyn Fn(Progress) + Sync),
) -> anyhow::Result<Report> {
    let reference = Table::open(&options.reference)?;
    let current = Table::open(&options.current)?;
    let plan = Plan::of(&reference, &current, &options.choice)?;
    let counted = read::count(&reference, &current, plan, config, options, progress)?;
    Ok(conclude(&reference, &current, &counted, config))
}

fn conclude(reference: &Table, current: &Table, counted: &Counted, config: &Config) -> Report {
    let limits = &Limits {
        evidence: config.once,
        ..config.limits
    };
    let broken = broken(counted, limits.rows_min);
    let mut findings = Findings::default();
    if !counted.plan.features.is_empty() {
        data(limits, &counted.reference, &counted.current, &mut findings);
    }
    // What broke is no drift of the world, and no training mends it.
    findings
        .measured
        .retain(|measured| !is_broken(&broken, measured.feature.as_deref()));
    if counted.plan.target.is_some() {
        target(
            limits,
            &counted.reference,
            &counted.current_outcome,
            &mut findings,
        );
    }
    if counted.plan.target.is_some() && counted.plan.score.is_some() {
        drops(counted, limits, &mut findings);
    }
    let together = apart(counted, &mut findings);
    let judgement = judge(
        limits,
        &findings.measured,
        &findings.not_measured,
        &Before::default(),
    );
    let verdict = match judgement.verdict {
        Verdict::Drifted => Word::Drifted,
        _ if !broken.is_empty() => Word::Broken,
        Verdict::Unknown => Word::Unknown,
        Verdict::Stable => Word::Stable,
    };
    let level = per_test(limits.evidence.data, counted.reference.features.len());
    let segments = segments::moved(
        &counted.segments,
        &counted.reference,
        &counted.current,
        limits,
        counted.reference.features.len(),
    );
    let features = measure::features(counted, &judgement, &broken, segments, level);
    Report {
        schema: SCHEMA,
        verdict,
        drifted: judgement.drifted.clone(),
        severity: judgement.severity,
        data_drift: judgement.data_drift,
        reference: Side::of(reference),
        current: Side::of(current),
        limits: document::Limits::of(limits, counted.reference.features.len()),
        breakage: broken,
        features,
        target: measure::target(counted, &judgement),
        performance: measure::performance(counted, &judgement),
        together,
        not_measured: findings.not_measured,
        left_out: in_order(&counted.plan.left_out, reference),
    }
}

/// How well the files can be told apart, when that was asked for; where it cannot be found out, that is said.
fn apart(counted: &Counted, findings: &mut Findings) -> Option<Together> {
    let [reference, current] = counted.rows.as_ref()?;
    match together::told_apart(&counted.reference.features, reference, current) {
        Ok(found) => Some(found),
        Err(why) => {
            findings.not_measured.push(schemas::events::NotMeasured {
                kind: DriftKind::Data,
                reason: why.word().to_owned(),
                detail: format!("all features together (--together): {why}"),
                blocks_verdict: false,
            });
            None
        }
    }
}

/// In the order of the file.
fn in_order(left_out: &[LeftOut], reference: &Table) -> Vec<LeftOut> {
    let mut sorted = left_out.to_vec();
    sorted.sort_by_key(|left| reference.position(&left.column).unwrap_or(usize::MAX));
    sorted
}

/// Columns that are gone or of another type, and values that changed in form.
fn broken(counted: &Counted, rows_min: u64) -> Vec<Breakage> {
    let mut all = counted.plan.breakage.clone();
    let values = breakage::find(
        &counted.reference.features,
        &counted.reference.profile,
        &counted.current,
        rows_min,
    );
    all.extend(values.into_iter().map(|broken| Breakage {
        column: broken.feature,
        kind: broken.kind,
        detail: broken.detail,
    }));
    all
}

fn is_broken(broken: &[Breakage], feature: Option<&str>) -> bool {
    feature.is_some_and(|feature| broken.iter().any(|breakage| breakage.column == feature))
}

/// Drops of recall and precision from one file to the other, as far as both have the frauds for it.
fn drops(counted: &Counted, limits: &Limits, findings: &mut Findings) {
    let (before, now) = (
        counted.reference_outcome.confusion(),
        counted.current_outcome.confusion(),
    );
    let enough = |rate: Rate| rate.of >= limits.frauds_min;
    for (name, before, now) in [
        (MetricName::RecallDrop, before.recall(), now.recall()),
        (MetricName::PrecisionDrop, before.precision(), now.precision()),
    ] {
        let drop = difference(before, now, limits.evidence.confidence());
        let (Some(drop), true, true) = (drop, enough(before), enough(now)) else {
            findings.not_measured.push(schemas::events::NotMeasured {
                kind: DriftKind::Concept,
                reason: "too_few_frauds".to_owned(),
                detail: format!(
                    "{}: {} and {} rows to measure it on, {} are needed in each file",
                    name.as_str(),
                    before.of,
                    now.of,
                    limits.frauds_min
                ),
                blocks_verdict: false,
            });
            continue;
        };
        // Outside the noise when its whole interval is above zero: when it exceeds the lower half-width.
        let noise = drop.value - drop.interval.low;
        if let (Ok(value), Ok(noise)) = (schemas::Finite::new(drop.value), schemas::Finite::new(noise)) {
            findings.measured.push(Measured {
                name,
                feature: None,
                weight: 1.0,
                value,
                noise,
                unrest: noise,
            });
        }
    }
}
