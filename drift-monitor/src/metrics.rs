//! Numbers the monitor exports.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use schemas::Share;
use schemas::events::{DriftChecked, Interval, PredictionDrift};

/// Checks by model and verdict.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CheckLabels {
    /// The model.
    pub model: String,
    /// `stable`, `drifted` or `unknown`.
    pub verdict: String,
}

/// A metric of the newest check.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DriftLabels {
    /// The model.
    pub model: String,
    /// `psi`, `fraud_rate_change`, `recall_drop` or `precision_drop`.
    pub metric: String,
    /// The feature, empty for target and concept.
    pub feature: String,
}

/// What scores tell of the newest rows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ScoreLabels {
    /// The model.
    pub model: String,
    /// Of an estimate `recall` or `precision`, each also with `_low` and `_high`; of scores `psi`, `noise`, `validated_flagged_share`,
    /// `flagged_share` or `beyond_chance` (1 or 0).
    pub metric: String,
}

/// Numbers of a model.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ModelLabels {
    /// The model.
    pub model: String,
}

/// What the monitor counts and shows.
#[derive(Debug, Clone)]
pub struct MonitorMetrics {
    /// Checks by model and verdict.
    pub checks: Family<CheckLabels, Counter>,
    /// Values of the newest check.
    pub drift: Family<DriftLabels, Gauge<f64, AtomicU64>>,
    /// What the newest check expects by scores, before labels are known; absent when it expects nothing.
    pub estimated: Family<ScoreLabels, Gauge<f64, AtomicU64>>,
    /// How the scores of the newest check lie beside those of the validation; absent when that is not known.
    pub prediction: Family<ScoreLabels, Gauge<f64, AtomicU64>>,
    /// Rows in the window of the newest check.
    pub rows: Family<ModelLabels, Gauge>,
    /// Instant that the newest check looked at, seconds since 1970: stale when checks stop.
    pub as_of: Family<ModelLabels, Gauge>,
    /// Duration of checks, seconds.
    pub seconds: Histogram,
}

impl MonitorMetrics {
    /// Registers everything with the service's registry.
    pub fn register(metrics: &chassis::metrics::Metrics) -> Self {
        let own = Self {
            checks: Family::default(),
            drift: Family::default(),
            estimated: Family::default(),
            prediction: Family::default(),
            rows: Family::default(),
            as_of: Family::default(),
            seconds: Histogram::new(exponential_buckets(0.005, 2.5, 10)),
        };
        metrics.register(|registry| {
            registry.register(
                "vigie_drift_checks",
                "Drift checks by model and verdict",
                own.checks.clone(),
            );
            registry.register(
                "vigie_drift_value",
                "Drift metrics of the newest check",
                own.drift.clone(),
            );
            registry.register(
                "vigie_drift_estimated",
                "Recall and precision to expect of the newest rows by their scores, with the ends of their intervals",
                own.estimated.clone(),
            );
            registry.register(
                "vigie_drift_prediction",
                "The scores of the newest rows beside those of the validation: PSI and its noise, shares of flagged rows (0 to 1), and whether it is beyond chance (1 or 0)",
                own.prediction.clone(),
            );
            registry.register(
                "vigie_drift_window_rows",
                "Rows in the window of the newest check",
                own.rows.clone(),
            );
            registry.register(
                "vigie_drift_check_as_of_seconds",
                "Instant that the newest check looked at, seconds since 1970",
                own.as_of.clone(),
            );
            registry.register(
                "vigie_drift_check_seconds",
                "Duration of drift checks",
                own.seconds.clone(),
            );
        });
        own
    }

    /// Shows what scores tell of a check; what it does not know is not shown.
    pub fn show_scores(&self, model: &str, checked: &DriftChecked) {
        let estimated = checked.estimated.as_ref();
        let prediction = checked.prediction.as_ref();
        let end = |interval: Option<&Interval>, of: fn(&Interval) -> Share| interval.map(of);
        let [recall, precision] = [
            estimated.and_then(|found| found.recall_interval.as_ref()),
            estimated.and_then(|found| found.precision_interval.as_ref()),
        ];
        let estimates = [
            ("recall", estimated.and_then(|found| found.recall)),
            ("recall_low", end(recall, |interval| interval.low)),
            ("recall_high", end(recall, |interval| interval.high)),
            ("precision", estimated.and_then(|found| found.precision)),
            ("precision_low", end(precision, |interval| interval.low)),
            ("precision_high", end(precision, |interval| interval.high)),
        ];
        for (metric, value) in estimates {
            show(&self.estimated, model, metric, value.map(Share::get));
        }
        let of = |value: fn(&PredictionDrift) -> f64| prediction.map(value);
        let predictions = [
            ("psi", of(|found| found.psi.get())),
            ("noise", of(|found| found.noise.get())),
            (
                "validated_flagged_share",
                of(|found| found.validated_flagged_share.get()),
            ),
            ("flagged_share", of(|found| found.flagged_share.get())),
            (
                "beyond_chance",
                of(|found| f64::from(u8::from(found.beyond_chance))),
            ),
        ];
        for (metric, value) in predictions {
            show(&self.prediction, model, metric, value);
        }
    }
}

fn show(family: &Family<ScoreLabels, Gauge<f64, AtomicU64>>, model: &str, metric: &str, value: Option<f64>) {
    let labels = ScoreLabels {
        model: model.to_owned(),
        metric: metric.to_owned(),
    };
    match value {
        Some(value) => {
            family.get_or_create(&labels).set(value);
        }
        None => {
            family.remove(&labels);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_check_does_not_know_is_no_longer_shown() {
        let golden = include_str!("../../schemas/golden/drift.checked.v1.prediction.json");
        let golden: serde_json::Value = serde_json::from_str(golden).unwrap();
        let mut checked: DriftChecked = serde_json::from_value(golden["data"].clone()).unwrap();
        let registry = chassis::metrics::Metrics::new("drift-monitor");
        let metrics = MonitorMetrics::register(&registry);
        let shown = || {
            let text = registry.render().unwrap();
            let lines = text.lines().filter(|line| {
                line.starts_with("vigie_drift_estimated{") || line.starts_with("vigie_drift_prediction{")
            });
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        metrics.show_scores("fraud-cards", &checked);
        let text = shown().join("\n");
        for line in [
            r#"metric="recall_low"} 0.79"#,
            r#"metric="precision"} 0.772"#,
            r#"metric="flagged_share"} 0.0213"#,
            r#"metric="beyond_chance"} 1.0"#,
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert_eq!(shown().len(), 11);
        (checked.estimated, checked.prediction) = (None, None);
        metrics.show_scores("fraud-cards", &checked);
        assert_eq!(shown(), Vec::<String>::new());
    }
}
