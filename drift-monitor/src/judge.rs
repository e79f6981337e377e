//! Metrics and thresholds become a verdict: pure, and the only place where the two meet.
//!
//! A metric counts as drift when it exceeds its threshold *and* lies outside what the sample size explains.
//! "Could not look" is the verdict `unknown`, never `stable`.

use chrono::{DateTime, Utc};
use schemas::Finite;
use schemas::events::{DriftKind, DriftSeverity, Metric, NotMeasured, Verdict};

/// What is measured. A new metric is a variant here, and its threshold in [`Limits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricName {
    /// Population stability index of a feature.
    Psi,
    /// Relative change of the fraud rate.
    FraudRateChange,
    /// Validated recall less realised recall.
    RecallDrop,
    /// Validated precision less realised precision.
    PrecisionDrop,
}

impl MetricName {
    /// The word used in events, tables and texts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Psi => "psi",
            Self::FraudRateChange => "fraud_rate_change",
            Self::RecallDrop => "recall_drop",
            Self::PrecisionDrop => "precision_drop",
        }
    }

    /// The kind of drift it tells of.
    pub const fn kind(self) -> DriftKind {
        match self {
            Self::Psi => DriftKind::Data,
            Self::FraudRateChange => DriftKind::Target,
            Self::RecallDrop | Self::PrecisionDrop => DriftKind::Concept,
        }
    }
}

/// Thresholds, and how much evidence they need.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// PSI from which people are told that a feature moved farther than chance explains, though nothing is retrained for it; at
    /// `data_threshold` or above nobody is.
    pub data_tell: f64,
    /// PSI from which data drift is meant.
    pub data_threshold: f64,
    /// PSI from which it is severe.
    pub data_threshold_high: f64,
    /// How features make the model's data-drift value.
    pub aggregate: Aggregate,
    /// With [`Aggregate::ShareOfFeatures`]: share of drifting features from which it is drift.
    pub share_threshold: f64,
    /// Relative change of the fraud rate.
    pub target_threshold: f64,
    /// Drop of recall.
    pub recall_threshold: f64,
    /// Drop of precision.
    pub precision_threshold: f64,
    /// Rows that a window needs.
    pub rows_min: u64,
    /// Frauds, or flagged rows, that a realised rate needs.
    pub frauds_min: u64,
    /// Probability of exceeding the noise without drift, over all features of a check.
    pub false_alarm_rate: f64,
    /// Confidence of intervals.
    pub confidence: f64,
}

/// How features make the model's data-drift value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregate {
    /// The largest PSI.
    Max,
    /// The mean PSI.
    Mean,
    /// The share of features whose PSI exceeds threshold and noise.
    ShareOfFeatures,
}

/// A number before it is judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// What was measured.
    pub name: MetricName,
    /// The feature it is about.
    pub feature: Option<String>,
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

/// Judges what was measured and what was not.
pub fn judge(limits: &Limits, measured: &[Measured], not_measured: &[NotMeasured]) -> Judgement {
    let metrics: Vec<Metric> = measured.iter().map(|metric| weigh(limits, metric)).collect();
    let psi: Vec<&Metric> = metrics
        .iter()
        .filter(|metric| metric.kind == DriftKind::Data)
        .collect();
    let data = data_drift(limits, &psi);
    let told = |measured: &Measured| is_told(limits, measured);
    let moved: Vec<Metric> = measured
        .iter()
        .zip(&metrics)
        .filter(|(measured, metric)| metric.kind == DriftKind::Data && (metric.exceeded || told(measured)))
        .map(|(_, metric)| metric.clone())
        .collect();
    let exceeded = |kind| {
        metrics
            .iter()
            .any(|metric| metric.kind == kind && metric.exceeded)
    };
    let mut drifted = Vec::new();
    if measured.iter().any(told) || data.as_ref().is_some_and(|data| data.exceeded) {
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
    Judgement {
        verdict,
        severity: severity(&drifted, data.as_ref()),
        data_drift: data.map(|data| data.value),
        drifted,
        moved,
        metrics,
    }
}

impl Limits {
    const fn threshold(&self, name: MetricName) -> f64 {
        match name {
            MetricName::Psi => self.data_threshold,
            MetricName::FraudRateChange => self.target_threshold,
            MetricName::RecallDrop => self.recall_threshold,
            MetricName::PrecisionDrop => self.precision_threshold,
        }
    }
}

fn weigh(limits: &Limits, metric: &Measured) -> Metric {
    let (value, noise, threshold) = (
        metric.value.get(),
        metric.noise.get(),
        limits.threshold(metric.name),
    );
    let kind = metric.name.kind();
    // A falling fraud rate is target drift too; a rising recall is no concept drift.
    let size = if kind == DriftKind::Target {
        value.abs()
    } else {
        value
    };
    Metric {
        kind,
        name: metric.name.as_str().to_owned(),
        feature: metric.feature.clone(),
        value: metric.value,
        // Settings hold finite numbers only.
        threshold: Finite::new(threshold).unwrap_or(Finite::ZERO),
        noise: Some(metric.noise),
        exceeded: size > threshold && size > noise,
    }
}

/// Whether a feature moved farther than chance and the reference's own unrest explain, and than people want to be told of, be it less
/// than its threshold. What exceeds the threshold counts whatever the unrest: a reference that moved itself must not hide it.
/// Never where `data_tell` is the threshold itself: then the aggregate alone decides.
fn is_told(limits: &Limits, measured: &Measured) -> bool {
    limits.data_tell < limits.data_threshold
        && measured.name == MetricName::Psi
        && measured.value.get() > limits.data_tell
        && measured.value > measured.unrest
}

struct DataDrift {
    value: f64,
    exceeded: bool,
    severe: bool,
}

fn data_drift(limits: &Limits, psi: &[&Metric]) -> Option<DataDrift> {
    if psi.is_empty() {
        return None;
    }
    let values = psi.iter().map(|metric| metric.value.get());
    let exceeding = psi.iter().filter(|metric| metric.exceeded).count();
    Some(match limits.aggregate {
        Aggregate::Max => {
            let value = values.fold(0.0, f64::max);
            let severe = psi
                .iter()
                .any(|metric| metric.exceeded && metric.value.get() > limits.data_threshold_high);
            DataDrift {
                value,
                exceeded: exceeding > 0,
                severe,
            }
        }
        Aggregate::Mean => {
            let value = values.sum::<f64>() / psi.len() as f64;
            let noise = psi
                .iter()
                .filter_map(|metric| metric.noise)
                .map(Finite::get)
                .sum::<f64>()
                / psi.len() as f64;
            let exceeded = value > limits.data_threshold && value > noise;
            DataDrift {
                value,
                exceeded,
                severe: exceeded && value > limits.data_threshold_high,
            }
        }
        Aggregate::ShareOfFeatures => {
            let value = exceeding as f64 / psi.len() as f64;
            let severe = psi
                .iter()
                .filter(|metric| metric.exceeded && metric.value.get() > limits.data_threshold_high)
                .count() as f64
                / psi.len() as f64;
            DataDrift {
                value,
                exceeded: exceeding > 0 && value >= limits.share_threshold,
                severe: severe >= limits.share_threshold,
            }
        }
    })
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

/// The check before this one.
#[derive(Debug, Clone, PartialEq)]
pub struct Previous {
    /// Its verdict.
    pub verdict: Verdict,
    /// The champion it compared with.
    pub champion: Option<String>,
    /// First check of its run of drifted ones.
    pub since: Option<DateTime<Utc>>,
    /// Length of that run.
    pub consecutive: u32,
    /// Why it could not look, when it could not.
    pub unknown: Option<Unknown>,
}

/// Why a check could not look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// First check of the run that could not look for these reasons.
    pub since: DateTime<Utc>,
    /// Kinds and reasons that kept it from a verdict, sorted.
    pub reasons: Vec<(DriftKind, String)>,
}

/// What keeps a check from a verdict, sorted.
pub fn blocking(not_measured: &[NotMeasured]) -> Vec<(DriftKind, String)> {
    let blocking = not_measured.iter().filter(|missing| missing.blocks_verdict);
    let mut reasons: Vec<_> = blocking
        .map(|missing| (missing.kind, missing.reason.clone()))
        .collect();
    reasons.sort();
    reasons
}

/// Since when checks cannot look for these reasons with this champion. Other reasons, or another champion, are another
/// run: people are to hear of them.
pub fn unknown_since(
    previous: Option<&Previous>,
    champion: Option<&str>,
    not_measured: &[NotMeasured],
    as_of: DateTime<Utc>,
) -> DateTime<Utc> {
    match previous {
        Some(Previous {
            champion: before,
            unknown: Some(unknown),
            ..
        }) if before.as_deref() == champion && unknown.reasons == blocking(not_measured) => unknown.since,
        _ => as_of,
    }
}

/// Where this check stands in an unbroken run of drifted checks of one champion: its first instant and its length.
pub fn run_of(previous: Option<&Previous>, champion: &str, as_of: DateTime<Utc>) -> (DateTime<Utc>, u32) {
    match previous {
        Some(Previous {
            verdict: Verdict::Drifted,
            champion: Some(before),
            since: Some(since),
            consecutive,
            ..
        }) if before == champion => (*since, consecutive.saturating_add(1)),
        _ => (as_of, 1),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(aggregate: Aggregate) -> Limits {
        Limits {
            data_tell: 0.3,
            data_threshold: 0.3,
            data_threshold_high: 0.5,
            aggregate,
            share_threshold: 0.5,
            target_threshold: 0.5,
            recall_threshold: 0.05,
            precision_threshold: 0.10,
            rows_min: 500,
            frauds_min: 100,
            false_alarm_rate: 0.01,
            confidence: 0.95,
        }
    }

    fn measured(name: MetricName, value: f64, noise: f64) -> Measured {
        let feature = (name == MetricName::Psi).then(|| "amount".to_owned());
        Measured {
            name,
            feature,
            value: Finite::new(value).unwrap(),
            noise: Finite::new(noise).unwrap(),
            unrest: Finite::new(noise).unwrap(),
        }
    }

    fn psi(value: f64, noise: f64) -> Measured {
        measured(MetricName::Psi, value, noise)
    }

    fn target(value: f64, noise: f64) -> Measured {
        measured(MetricName::FraudRateChange, value, noise)
    }

    fn recall(value: f64, noise: f64) -> Measured {
        measured(MetricName::RecallDrop, value, noise)
    }

    fn precision(value: f64, noise: f64) -> Measured {
        measured(MetricName::PrecisionDrop, value, noise)
    }

    #[test]
    fn a_feature_that_moved_a_little_is_told_and_not_trained_for() {
        let sensitive = Limits {
            data_tell: 0.002,
            ..limits(Aggregate::Max)
        };
        let cases = [
            ("within the noise", psi(0.01, 0.02), None, 0),
            ("less than anybody wants to hear of", psi(0.001, 0.000_1), None, 0),
            (
                "more than chance",
                psi(0.01, 0.004),
                Some(DriftSeverity::AlertOnly),
                1,
            ),
            ("the threshold", psi(0.31, 0.004), Some(DriftSeverity::Medium), 1),
            ("severe", psi(0.51, 0.004), Some(DriftSeverity::High), 1),
        ];
        for (case, metric, severity, moved) in cases {
            let judged = judge(&sensitive, &[metric], &[]);
            assert_eq!((judged.severity, judged.moved.len()), (severity, moved), "{case}");
            let verdict = if severity.is_some() {
                Verdict::Drifted
            } else {
                Verdict::Stable
            };
            assert_eq!(judged.verdict, verdict, "{case}");
        }
        // A reference that moves as much itself explains little shifts, and never hides one above the threshold.
        for (value, verdict) in [(0.01, Verdict::Stable), (0.31, Verdict::Drifted)] {
            let restless = Measured {
                unrest: Finite::new(0.5).unwrap(),
                ..psi(value, 0.004)
            };
            assert_eq!(judge(&sensitive, &[restless], &[]).verdict, verdict, "{value}");
        }
        // The mean alone decides where nobody wants to hear of less.
        let mean = limits(Aggregate::Mean);
        let judged = judge(&mean, &[psi(0.4, 0.01), psi(0.0, 0.01)], &[]);
        assert_eq!((judged.verdict, judged.moved.len()), (Verdict::Stable, 1));
    }

    fn missing(blocks_verdict: bool) -> Vec<NotMeasured> {
        vec![NotMeasured {
            kind: DriftKind::Concept,
            reason: "labels_not_ripe".into(),
            detail: "0 of 100 frauds".into(),
            blocks_verdict,
        }]
    }

    #[test]
    fn thresholds_and_noise_must_both_be_exceeded() {
        use DriftKind::{Concept, Data, Target};
        use DriftSeverity::{AlertOnly, High, Immediate, Medium};
        type Case = (&'static str, Vec<Measured>, Vec<DriftKind>, Option<DriftSeverity>);
        let cases: [Case; 16] = [
            ("nothing moved", vec![psi(0.02, 0.01)], vec![], None),
            (
                "the threshold itself is no drift",
                vec![psi(0.3, 0.01)],
                vec![],
                None,
            ),
            (
                "a hair above",
                vec![psi(0.300_001, 0.01)],
                vec![Data],
                Some(Medium),
            ),
            (
                "high itself is medium",
                vec![psi(0.5, 0.01)],
                vec![Data],
                Some(Medium),
            ),
            ("above high", vec![psi(0.51, 0.01)], vec![Data], Some(High)),
            ("50 rows explain a PSI of 0.4", vec![psi(0.4, 0.45)], vec![], None),
            (
                "one feature of many is enough",
                vec![psi(0.01, 0.01), psi(0.35, 0.02)],
                vec![Data],
                Some(Medium),
            ),
            (
                "fraud rate up",
                vec![target(0.6, 0.2)],
                vec![Target],
                Some(AlertOnly),
            ),
            (
                "fraud rate down counts alike",
                vec![target(-0.6, 0.2)],
                vec![Target],
                Some(AlertOnly),
            ),
            (
                "a change that few frauds explain",
                vec![target(0.6, 0.7)],
                vec![],
                None,
            ),
            (
                "recall dropped",
                vec![recall(0.06, 0.04)],
                vec![Concept],
                Some(Immediate),
            ),
            ("recall rose", vec![recall(-0.2, 0.04)], vec![], None),
            (
                "precision has a threshold of its own",
                vec![precision(0.09, 0.04)],
                vec![],
                None,
            ),
            (
                "precision dropped",
                vec![precision(0.11, 0.04)],
                vec![Concept],
                Some(Immediate),
            ),
            (
                "a drop within the interval",
                vec![recall(0.06, 0.07)],
                vec![],
                None,
            ),
            (
                "everything at once is immediate",
                vec![psi(0.9, 0.1), target(2.0, 0.1), precision(0.2, 0.1)],
                vec![Data, Target, Concept],
                Some(Immediate),
            ),
        ];
        for (case, measured, drifted, severity) in cases {
            let judgement = judge(&limits(Aggregate::Max), &measured, &[]);
            assert_eq!(
                (judgement.drifted, judgement.severity),
                (drifted.clone(), severity),
                "{case}"
            );
            let expected = if drifted.is_empty() {
                Verdict::Stable
            } else {
                Verdict::Drifted
            };
            assert_eq!(judgement.verdict, expected, "{case}");
        }
    }

    #[test]
    fn could_not_look_is_never_stable_and_never_hides_what_was_seen() {
        for (measured, missing, verdict) in [
            (vec![], missing(true), Verdict::Unknown),
            (vec![psi(0.01, 0.01)], missing(true), Verdict::Unknown),
            (vec![psi(0.9, 0.01)], missing(true), Verdict::Drifted),
            (vec![psi(0.01, 0.01)], missing(false), Verdict::Stable),
        ] {
            assert_eq!(
                judge(&limits(Aggregate::Max), &measured, &missing).verdict,
                verdict
            );
        }
    }

    #[test]
    fn the_models_value_can_be_the_mean_or_the_share() {
        let features = [psi(0.9, 0.01), psi(0.1, 0.01), psi(0.1, 0.01), psi(0.1, 0.01)];
        let of = |aggregate| judge(&limits(aggregate), &features, &[]);
        assert_eq!(of(Aggregate::Max).severity, Some(DriftSeverity::High));
        let mean = of(Aggregate::Mean);
        assert!((mean.data_drift.unwrap() - 0.3).abs() < 1e-12);
        assert_eq!(of(Aggregate::ShareOfFeatures).drifted, []);
        assert_eq!(of(Aggregate::ShareOfFeatures).data_drift, Some(0.25));
        let half = [psi(0.9, 0.01), psi(0.4, 0.01), psi(0.1, 0.01), psi(0.1, 0.01)];
        assert_eq!(
            judge(&limits(Aggregate::ShareOfFeatures), &half, &[]).severity,
            Some(DriftSeverity::Medium)
        );
    }

    #[test]
    fn a_run_of_drift_belongs_to_one_champion() {
        let at = |hour| DateTime::UNIX_EPOCH + chrono::TimeDelta::hours(hour);
        let drifted = |champion: &str| Previous {
            verdict: Verdict::Drifted,
            champion: Some(champion.into()),
            since: Some(at(1)),
            consecutive: 4,
            unknown: None,
        };
        assert_eq!(run_of(None, "v1", at(9)), (at(9), 1));
        assert_eq!(run_of(Some(&drifted("v1")), "v1", at(9)), (at(1), 5));
        assert_eq!(run_of(Some(&drifted("v0")), "v1", at(9)), (at(9), 1));
        let stable = Previous {
            verdict: Verdict::Stable,
            since: None,
            consecutive: 0,
            ..drifted("v1")
        };
        assert_eq!(run_of(Some(&stable), "v1", at(9)), (at(9), 1));
    }

    #[test]
    fn other_reasons_or_another_champion_are_another_run_of_unknown_checks() {
        let at = |hour| DateTime::UNIX_EPOCH + chrono::TimeDelta::hours(hour);
        let missing = |reason: &str, blocks_verdict| NotMeasured {
            kind: DriftKind::Data,
            reason: reason.to_owned(),
            detail: "whatever the numbers are".to_owned(),
            blocks_verdict,
        };
        let away = [missing("source_unreachable", true)];
        let before = Previous {
            verdict: Verdict::Unknown,
            champion: Some("v1".into()),
            since: None,
            consecutive: 0,
            unknown: Some(Unknown {
                since: at(1),
                reasons: blocking(&away),
            }),
        };
        let since =
            |previous, champion, missing: &[NotMeasured]| unknown_since(previous, champion, missing, at(9));
        assert_eq!(since(Some(&before), Some("v1"), &away), at(1));
        let more = [away[0].clone(), missing("labels_not_ripe", false)];
        assert_eq!(
            since(Some(&before), Some("v1"), &more),
            at(1),
            "what does not block is no reason"
        );
        assert_eq!(
            since(Some(&before), Some("v1"), &[missing("no_rows", true)]),
            at(9)
        );
        assert_eq!(since(Some(&before), Some("v2"), &away), at(9));
        assert_eq!(since(Some(&before), None, &away), at(9));
        assert_eq!(since(None, Some("v1"), &away), at(9));
    }
}
