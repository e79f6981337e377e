//! Every number about one feature, and what moved. Nothing here says what is drift.

use drift_monitor::explain;
use drift_monitor::judge::Judgement;
use drift_monitor::segments::SegmentShift;
use drift_stats::binned::{self, Bounded};
use drift_stats::binning::FeatureBins;
use drift_stats::contingency::{Correction, chi_squared, cramers_v};
use drift_stats::null_law::Comparison;
use drift_stats::profile::{FeatureProfile, Moments};
use drift_stats::proportion::{Rate, wilson};
use drift_stats::{DETECTORS, Detector as _, Histogram, psi};
use schemas::events::Metric;

use super::document::{
    Bin, Breakage, FeatureReport, Moved, Number, RateOf, RateReport, SegmentMove, Summary,
};
use super::read::Counted;
use super::text::brief;

/// Confidence of the intervals that are shown.
const CONFIDENCE: f64 = 0.95;

/// Every feature, the farthest first: what exceeds, then by index.
///
/// `level` is the probability of an index beyond the noise, for each of them.
pub fn features(
    counted: &Counted,
    judgement: &Judgement,
    broken: &[Breakage],
    segments: Vec<Vec<SegmentShift>>,
    level: f64,
) -> Vec<FeatureReport> {
    let score = counted.plan.score.as_ref().map(|(name, _)| name.as_str());
    let mut all: Vec<FeatureReport> = counted
        .reference
        .features
        .iter()
        .zip(segments)
        .enumerate()
        .map(|(at, (name, segments))| {
            let mut report = feature(counted, at, name, level);
            report.segments = segments.into_iter().map(SegmentMove::from).collect();
            let metric = judgement
                .metrics
                .iter()
                .find(|metric| metric.feature.as_deref() == Some(name.as_str()));
            report.exceeded = metric.is_some_and(|metric| metric.exceeded);
            let is_it = |metric: &Metric| metric.feature.as_deref() == Some(name.as_str());
            report.told = judgement.moved.iter().any(is_it);
            report.broken = broken.iter().any(|breakage| breakage.column == *name);
            report.is_score = score == Some(name.as_str());
            report
        })
        .collect();
    all.sort_by(|a, b| {
        let rank = |report: &FeatureReport| (report.broken, report.exceeded, report.told);
        let index = |report: &FeatureReport| report.psi.unwrap_or(-1.0);
        rank(b)
            .cmp(&rank(a))
            .then(index(b).total_cmp(&index(a)))
            .then(a.name.cmp(&b.name))
    });
    all
}

fn feature(counted: &Counted, at: usize, name: &str, level: f64) -> FeatureReport {
    let bins = &counted.reference.bins[at];
    let (before, now) = (
        &counted.reference.profile.features()[at],
        &counted.current.features()[at],
    );
    let histograms = counted
        .reference
        .profile
        .histogram(at, bins)
        .and_then(|before| Ok((before, counted.current.histogram(at, bins)?)));
    let rows = [counted.reference.profile.rows(), counted.current.rows()];
    let mut report = FeatureReport {
        name: name.to_owned(),
        kind: match bins {
            FeatureBins::Numeric(_) => "number",
            FeatureBins::Category(_) => "category",
        },
        is_score: false,
        exceeded: false,
        told: false,
        broken: false,
        psi: None,
        noise: None,
        unrest: counted.reference.between.get(at).copied().unwrap_or(0.0),
        p_value: None,
        metrics: Vec::new(),
        missing: [share(before.missing(), rows[0]), share(now.missing(), rows[1])],
        unseen: now.unseen().map(|unseen| share(unseen, rows[1])),
        summary: summary(before.moments())
            .zip(summary(now.moments()))
            .map(|(a, b)| [a, b]),
        bins: Vec::new(),
        moved: Vec::new(),
        segments: Vec::new(),
    };
    let Ok((reference, current)) = histograms else {
        return report;
    };
    if let Ok(found) = Comparison::of(&reference, &current, report.unrest) {
        report.psi = Some(found.psi);
        report.noise = Some(found.noise(level));
        report.p_value = Some(found.p_value());
    }
    report.metrics = metrics(bins, before, now, &reference, &current);
    report.bins = shares(bins, &reference, &current);
    report.moved = moved(bins, &reference, &current);
    report
}

fn share(count: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { count as f64 / of as f64 }
}

fn summary(moments: Option<&Moments>) -> Option<Summary> {
    let moments = moments?;
    Some(Summary {
        mean: moments.mean()?,
        deviation: moments.deviation()?,
        min: moments.min,
        max: moments.max,
    })
}

/// Every further number that can be had.
fn metrics(
    bins: &FeatureBins,
    before: &FeatureProfile,
    now: &FeatureProfile,
    reference: &Histogram,
    current: &Histogram,
) -> Vec<Number> {
    let mut found: Vec<Number> = DETECTORS
        .iter()
        .filter(|detector| detector.name() != psi::Psi.name())
        .filter_map(|detector| {
            let score = detector.score(reference, current).ok()?;
            Some(exact(detector.name(), score.value))
        })
        .collect();
    if let Ok(test) = chi_squared(reference.coarse(), current.coarse(), Correction::None) {
        found.push(exact("chi_squared_p", test.test.p));
    }
    if let Ok(v) = cramers_v(reference.coarse(), current.coarse()) {
        found.push(exact("cramers_v", v));
    }
    if let (FeatureBins::Numeric(bins), Some(was), Some(is)) = (bins, before.moments(), now.moments()) {
        if let Ok(distance) = binned::kolmogorov_smirnov(bins, reference.fine(), current.fine()) {
            found.push(bounded("kolmogorov_smirnov", distance));
        }
        let span = (was.min.min(is.min), was.max.max(is.max));
        // An infinite value is counted in the outermost bin, and no distance says how far away it is.
        let finite = |profile: &FeatureProfile, moments: &Moments| {
            moments.values + profile.missing() == profile.counts().iter().sum::<u64>()
        };
        if !finite(before, was) || !finite(now, is) {
            return found;
        }
        if let Ok(mut distance) = binned::wasserstein(bins, reference.fine(), current.fine(), span) {
            // No transport is shorter than the means are apart, and the means are known exactly.
            if let (Some(was), Some(is)) = (was.mean(), is.mean()) {
                distance.low = distance.low.max((is - was).abs()).min(distance.high);
                distance.value = distance.value.max(distance.low);
            }
            found.push(bounded("wasserstein", distance));
            if let Some(deviation) = was.deviation().filter(|deviation| *deviation > 0.0) {
                found.push(bounded(
                    "wasserstein_normed",
                    Bounded {
                        value: distance.value / deviation,
                        low: distance.low / deviation,
                        high: distance.high / deviation,
                    },
                ));
            }
        }
    }
    found
}

fn exact(name: &'static str, value: f64) -> Number {
    Number {
        name,
        value,
        range: None,
    }
}

fn bounded(name: &'static str, value: Bounded) -> Number {
    Number {
        name,
        value: value.value,
        range: (value.high > value.low).then_some([value.low, value.high]),
    }
}

/// Shares in coarse bins; those that are empty in both are left out.
fn shares(bins: &FeatureBins, reference: &Histogram, current: &Histogram) -> Vec<Bin> {
    let (n, m) = (reference.values(), current.values());
    bins.coarse_labels_with(&brief)
        .into_iter()
        .zip(reference.coarse().iter().zip(current.coarse()))
        .filter(|(_, (before, now))| **before + **now > 0)
        .map(|(label, (before, now))| Bin {
            label,
            reference: share(*before, n),
            current: share(*now, m),
        })
        .collect()
}

fn moved(bins: &FeatureBins, reference: &Histogram, current: &Histogram) -> Vec<Moved> {
    let shifts = explain::shifts(bins, reference, current).into_iter();
    shifts
        .map(|shift| Moved {
            label: shift.label,
            from: shift.from,
            to: shift.to,
            part: shift.part,
        })
        .collect()
}

/// The fraud rate in both files.
pub fn target(counted: &Counted, judgement: &Judgement) -> Option<RateReport> {
    counted.plan.target?;
    Some(rates(
        "fraud_rate",
        "fraud_rate_change",
        counted.reference_outcome.fraud_rate(),
        counted.current_outcome.fraud_rate(),
        judgement,
    ))
}

/// Recall and precision in both files, when there are labels and scores.
pub fn performance(counted: &Counted, judgement: &Judgement) -> Vec<RateReport> {
    if counted.plan.target.is_none() || counted.plan.score.is_none() {
        return Vec::new();
    }
    let (before, now) = (
        counted.reference_outcome.confusion(),
        counted.current_outcome.confusion(),
    );
    vec![
        rates("recall", "recall_drop", before.recall(), now.recall(), judgement),
        rates(
            "precision",
            "precision_drop",
            before.precision(),
            now.precision(),
            judgement,
        ),
    ]
}

fn rates(
    name: &'static str,
    metric: &str,
    reference: Rate,
    current: Rate,
    judgement: &Judgement,
) -> RateReport {
    RateReport {
        name,
        reference: rate_of(reference),
        current: rate_of(current),
        exceeded: judgement
            .metrics
            .iter()
            .any(|found| found.name == metric && found.exceeded),
    }
}

fn rate_of(rate: Rate) -> RateOf {
    RateOf {
        hits: rate.hits,
        of: rate.of,
        value: rate.value(),
        interval: wilson(rate, CONFIDENCE).map(|interval| [interval.low, interval.high]),
    }
}
