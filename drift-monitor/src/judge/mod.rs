//! Metrics and thresholds become a verdict: pure, and the only place where the two meet.
//!
//! A metric counts as drift when it exceeds its threshold *and* lies outside what the sample size explains, in as many checks in a row
//! as are asked for; it is over below a lower level. "Could not look" is the verdict `unknown`, never `stable`.
//!
//! * [`limits`] – thresholds and how much evidence they need, as data.
//! * [`history`] – what earlier checks found, as far as it matters to this one.

mod history;
mod limits;
#[cfg(test)]
mod tests;

use schemas::Finite;
use schemas::events::{DriftKind, DriftSeverity, Metric, NotMeasured, Verdict};

pub use history::{Before, Previous, Standing, Unknown, blocking, run_of, unknown_since};
pub use limits::{Aggregate, Evidence, Limits, MetricName};

/// A number before it is judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// What was measured.
    pub name: MetricName,
    /// The feature it is about.
    pub feature: Option<String>,
    /// How much the feature counts beside others, 0 or more; with 0 it is measured and never a reason to retrain.
    pub weight: f64,
    /// The value.
    pub value: Finite,
    /// What the sample size alone explains, in the direction of the value; same scale, 0 or more.
    pub noise: Finite,
    /// The same, with what parts of the reference differ by among themselves; at least `noise`.
    pub unrest: Finite,
}

/// What a check concludes.
#[must_use]
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// Kinds that drifted, in the order data, target, concept.
    pub drifted: Vec<DriftKind>,
    /// How urgent, when drifted.
    pub severity: Option<DriftSeverity>,
    /// The model's data-drift value, when data drift was measured.
    pub data_drift: Option<f64>,
    /// The metrics with thresholds and whether each exceeds.
    pub metrics: Vec<Metric>,
    /// Those of the features that moved: they exceed, or people want to be told of them.
    pub moved: Vec<Metric>,
}

/// Judges what was measured and what was not, in the light of what was found before.
pub fn judge(
    limits: &Limits,
    measured: &[Measured],
    not_measured: &[NotMeasured],
    before: &Before,
) -> Judgement {
    let weighed: Vec<(Metric, f64)> = measured
        .iter()
        .map(|measured| (weigh(limits, before, measured), measured.weight))
        .collect();
    let features: Vec<(&Metric, f64)> = weighed
        .iter()
        .filter(|(metric, _)| metric.kind == DriftKind::Data)
        .map(|(metric, weight)| (metric, *weight))
        .collect();
    let data = DataDrift::of(limits, before, &features);
    let moved: Vec<Metric> = features
        .iter()
        .filter(|(metric, _)| metric.exceeded || metric.told)
        .map(|(metric, _)| (*metric).clone())
        .collect();
    let lasts = |metric: &Metric| metric.in_a_row >= limits.consecutive;
    let exceeded = |kind| {
        weighed
            .iter()
            .any(|(metric, _)| metric.kind == kind && metric.exceeded && lasts(metric))
    };
    let mut drifted = Vec::new();
    let told = features.iter().any(|(metric, _)| metric.told && lasts(metric));
    if told || data.as_ref().is_some_and(|data| data.exceeded) {
        drifted.push(DriftKind::Data);
    }
    if exceeded(DriftKind::Target) {
        drifted.push(DriftKind::Target);
    }
    if exceeded(DriftKind::Concept) {
        drifted.push(DriftKind::Concept);
    }
    let blocked = not_measured.iter().any(|missing| missing.blocks_verdict);
    let verdict = match (drifted.is_empty(), blocked) {
        // What was seen was seen, whatever else could not be looked at.
        (false, _) => Verdict::Drifted,
        (true, true) => Verdict::Unknown,
        (true, false) => Verdict::Stable,
    };
    let severity = severity(&drifted, data.as_ref());
    let data_drift = data.as_ref().map(|data| data.value);
    let mut metrics: Vec<Metric> = weighed.into_iter().map(|(metric, _)| metric).collect();
    metrics.extend(data.and_then(|data| data.metric));
    Judgement {
        verdict,
        drifted,
        severity,
        data_drift,
        metrics,
        moved,
    }
}

fn weigh(limits: &Limits, before: &Before, measured: &Measured) -> Metric {
    let (value, noise) = (measured.value.get(), measured.noise.get());
    let name = measured.name;
    let standing = before.standing(name.as_str(), measured.feature.as_deref());
    let level = |level: f64, was_beyond: bool| if was_beyond { level * limits.clear } else { level };
    let threshold = level(limits.threshold(name), standing.exceeded);
    // A falling fraud rate is target drift too; a rising recall is no concept drift.
    let size = if name.kind() == DriftKind::Target {
        value.abs()
    } else {
        value
    };
    let beyond = match name {
        MetricName::DriftingShare => size >= threshold && size > 0.0,
        _ => size > threshold,
    };
    let exceeded = beyond && size > noise;
    let told = name == MetricName::Psi
        && is_told(
            limits,
            measured,
            level(limits.data_tell, standing.told || standing.exceeded),
        );
    Metric {
        kind: name.kind(),
        name: name.as_str().to_owned(),
        feature: measured.feature.clone(),
        value: measured.value,
        // Settings hold finite numbers only.
        threshold: Finite::new(threshold).unwrap_or(Finite::ZERO),
        noise: Some(measured.noise),
        exceeded,
        told,
        in_a_row: if exceeded || told {
            standing.in_a_row.saturating_add(1)
        } else {
            0
        },
    }
}

/// Whether a feature moved farther than chance and the reference's own unrest explain, and than people want to be told of, be it less
/// than its threshold. What exceeds the threshold counts whatever the unrest: a reference that moved itself must not hide it.
/// Never where `data_tell` is the threshold itself: then the aggregate alone decides.
fn is_told(limits: &Limits, measured: &Measured, from: f64) -> bool {
    limits.data_tell < limits.data_threshold
        && measured.value.get() > from
        && measured.value > measured.unrest
}

/// What features come to together.
struct DataDrift {
    value: f64,
    exceeded: bool,
    severe: bool,
    /// The value as a metric of its own, where it is not that of a feature.
    metric: Option<Metric>,
}

impl DataDrift {
    /// `None` without features.
    fn of(limits: &Limits, before: &Before, features: &[(&Metric, f64)]) -> Option<Self> {
        if features.is_empty() {
            return None;
        }
        let severe = |metric: &Metric| metric.exceeded && metric.value.get() > limits.data_threshold_high;
        if limits.aggregate == Aggregate::Max {
            let counting = || {
                features
                    .iter()
                    .filter(|(_, weight)| *weight > 0.0)
                    .map(|(metric, _)| *metric)
            };
            let lasting =
                || counting().filter(|metric| metric.exceeded && metric.in_a_row >= limits.consecutive);
            return Some(Self {
                value: counting().map(|metric| metric.value.get()).fold(0.0, f64::max),
                exceeded: lasting().next().is_some(),
                severe: lasting().any(severe),
                metric: None,
            });
        }
        let mean = |of: &dyn Fn(&Metric) -> f64| {
            let sum: f64 = features.iter().map(|(metric, weight)| of(metric) * weight).sum();
            let weights: f64 = features.iter().map(|(_, weight)| weight).sum();
            if weights > 0.0 { sum / weights } else { 0.0 }
        };
        let share = |is: &dyn Fn(&Metric) -> bool| mean(&|metric| f64::from(u8::from(is(metric))));
        let by_share = limits.aggregate == Aggregate::ShareOfFeatures;
        let (name, value, noise) = if by_share {
            (MetricName::DriftingShare, share(&|metric| metric.exceeded), 0.0)
        } else {
            let noise = |metric: &Metric| metric.noise.map_or(0.0, Finite::get);
            (
                MetricName::PsiMean,
                mean(&|metric| metric.value.get()),
                mean(&noise),
            )
        };
        let noise = Finite::new(noise).ok()?;
        let measured = Measured {
            name,
            feature: None,
            weight: 1.0,
            value: Finite::new(value).ok()?,
            noise,
            unrest: noise,
        };
        let metric = weigh(limits, before, &measured);
        Some(Self {
            value,
            exceeded: metric.exceeded && metric.in_a_row >= limits.consecutive,
            severe: if by_share {
                share(&severe) >= limits.share_threshold
            } else {
                value > limits.data_threshold_high
            },
            metric: Some(metric),
        })
    }
}

fn severity(drifted: &[DriftKind], data: Option<&DataDrift>) -> Option<DriftSeverity> {
    if drifted.is_empty() {
        None
    } else if drifted.contains(&DriftKind::Concept) {
        Some(DriftSeverity::Immediate)
    } else {
        Some(match data {
            Some(data) if data.exceeded && data.severe => DriftSeverity::High,
            Some(data) if data.exceeded => DriftSeverity::Medium,
            // The fraud rate moved, or a feature moved less than its threshold: people are told, nothing is retrained.
            _ => DriftSeverity::AlertOnly,
        })
    }
}

/// The word of `drift_metrics.severity`.
pub fn metric_severity(limits: &Limits, metric: &Metric) -> &'static str {
    match (metric.exceeded, metric.kind) {
        (false, _) => "LOW",
        (true, DriftKind::Concept) => "CRITICAL",
        (true, DriftKind::Data) if metric.value.get() > limits.data_threshold_high => "HIGH",
        (true, DriftKind::Data | DriftKind::Target) => "MEDIUM",
    }
}
