//! Scores and labels of the holdout become confusion, metrics and intervals.

use drift_stats::performance::{Confusion, Ranking};
use drift_stats::proportion::{self, Rate, wilson};
use schemas::Share;
use schemas::events::{self, MetricEstimate};
use scoring::{Model, Rows, ScoreError};
use transactions::{Batch, Column, Label};

use crate::judge::Measured;

/// Everything that the report says of the holdout.
#[derive(Debug, Clone, PartialEq)]
pub struct Measurement {
    /// What the judge looks at.
    pub measured: Measured,
    /// Counts at the operating threshold.
    pub confusion: events::Confusion,
    /// Metrics with intervals.
    pub metrics: Vec<MetricEstimate>,
}

/// Scores the labelled rows of a batch. `names` are the features of the batch in order.
pub fn score(model: &Model, batch: &Batch, names: &[String]) -> Result<(Vec<f64>, Vec<bool>), ScoreError> {
    let mut rows = Rows::new(batch.rows());
    for (name, column) in names.iter().zip(&batch.features) {
        let column = match column {
            Column::Numeric(values) => scoring::Column::Numeric(values),
            Column::Category { codes, levels } => scoring::Column::Category { codes, dictionary: levels },
        };
        rows = rows.with(name, column)?;
    }
    let scores = model.score_rows(&rows)?;
    Ok(scores
        .into_iter()
        .zip(&batch.labels)
        .filter_map(|(score, label)| match label {
            Label::Unknown => None,
            Label::Genuine => Some((score, false)),
            Label::Fraud => Some((score, true)),
        })
        .unzip())
}

/// Measures at the operating threshold.
pub fn measure(scores: &[f64], frauds: &[bool], threshold: f64, confidence: f64) -> Measurement {
    let mut confusion = Confusion::default();
    for (score, fraud) in scores.iter().zip(frauds) {
        confusion.add(*score >= threshold, *fraud);
    }
    let rates = [
        ("recall", confusion.recall()),
        ("precision", confusion.precision()),
        ("false_positive_rate", false_positive_rate(&confusion)),
    ];
    let mut metrics: Vec<MetricEstimate> =
        rates.into_iter().map(|(name, rate)| estimate(name, rate.value(), wilson(rate, confidence), confidence)).collect();
    metrics.push(estimate("f1", confusion.f1(), confusion.f1_interval(confidence), confidence));
    if let Ok(ranking) = Ranking::new(scores, frauds) {
        let auc = ranking.roc_auc().ok();
        metrics.push(estimate("roc_auc", auc, ranking.roc_auc_interval(confidence).ok(), confidence));
        let precision = ranking.average_precision().ok();
        let interval = ranking.average_precision_interval(confidence).ok();
        metrics.push(estimate("average_precision", precision, interval, confidence));
    }
    let by_name =
        metrics.iter().filter_map(|metric| Some((metric.name.clone(), metric.value?.get()))).collect();
    Measurement {
        measured: Measured {
            rows: confusion.rows(),
            frauds: confusion.frauds(),
            recall: confusion.recall().value(),
            precision: confusion.precision().value(),
            by_name,
        },
        confusion: events::Confusion {
            true_positives: confusion.true_positives,
            false_positives: confusion.false_positives,
            false_negatives: confusion.false_negatives,
            true_negatives: confusion.true_negatives,
        },
        metrics,
    }
}

fn false_positive_rate(confusion: &Confusion) -> Rate {
    Rate { hits: confusion.false_positives, of: confusion.false_positives + confusion.true_negatives }
}

fn estimate(
    name: &str,
    value: Option<f64>,
    interval: Option<proportion::Interval>,
    confidence: f64,
) -> MetricEstimate {
    let share = |value: f64| Share::new(value.clamp(0.0, 1.0)).ok();
    MetricEstimate {
        name: name.to_owned(),
        value: value.and_then(share),
        interval: interval.and_then(|interval| {
            Some(events::Interval { low: share(interval.low)?, high: share(interval.high)?, level: share(confidence)? })
        }),
    }
}
