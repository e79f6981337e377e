//! Scores and labels of the holdout become confusion, metrics and intervals.

use drift_stats::Unusable;
use drift_stats::outcome::{Known, Outcome};
use drift_stats::performance::{Confusion, Ranking};
use drift_stats::proportion::{self, Rate, wilson};
use schemas::Share;
use schemas::events::{self, MetricEstimate, ScoreCounts};
use scoring::{Model, Rows, ScoreError};
use transactions::{Batch, Column, Label};

use crate::judge::{Estimate, Measured};

/// Everything that the report says of the holdout.
#[derive(Debug, Clone, PartialEq)]
pub struct Measurement {
    /// What the judge looks at.
    pub measured: Measured,
    /// Counts at the operating threshold.
    pub confusion: events::Confusion,
    /// Metrics with intervals.
    pub metrics: Vec<MetricEstimate>,
    /// The rows by their scores.
    pub score_counts: ScoreCounts,
}

/// Scores the labelled rows of a batch. `names` are the features of the batch in order.
pub fn score(model: &Model, batch: &Batch, names: &[String]) -> Result<(Vec<f64>, Vec<bool>), ScoreError> {
    let mut rows = Rows::new(batch.rows());
    for (name, column) in names.iter().zip(&batch.features) {
        let column = match column {
            Column::Numeric(values) => scoring::Column::Numeric(values),
            Column::Category { codes, levels } => scoring::Column::Category {
                codes,
                dictionary: levels,
            },
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
///
/// # Errors
/// When a score is no number: a comparison with it would pass for "genuine".
pub fn measure(
    scores: &[f64],
    frauds: &[bool],
    threshold: f64,
    confidence: f64,
) -> Result<Measurement, Unusable> {
    let ranking = Ranking::new(scores, frauds)?;
    let confusion = ranking.confusion_at(threshold);
    let rates = [
        ("recall", confusion.recall()),
        ("precision", confusion.precision()),
        ("false_positive_rate", false_positive_rate(&confusion)),
    ];
    let mut metrics: Vec<MetricEstimate> = rates
        .into_iter()
        .map(|(name, rate)| estimate(name, rate.value(), wilson(rate, confidence), confidence))
        .collect();
    metrics.push(estimate(
        "f1",
        confusion.f1(),
        confusion.f1_interval(confidence),
        confidence,
    ));
    // Without both classes there is nothing to rank; the report then has the name without a value.
    let area = ranking.roc_auc().ok();
    metrics.push(estimate(
        "roc_auc",
        area,
        ranking.roc_auc_interval(confidence).ok(),
        confidence,
    ));
    let average = ranking.average_precision().ok();
    let interval = ranking.average_precision_interval(confidence).ok();
    metrics.push(estimate("average_precision", average, interval, confidence));
    let by_name = metrics
        .iter()
        .filter_map(|metric| Some((metric.name.clone(), metric.value?.get())))
        .collect();
    Ok(Measurement {
        measured: Measured {
            rows: confusion.rows(),
            frauds: confusion.frauds(),
            recall: with_interval(confusion.recall(), confidence),
            precision: with_interval(confusion.precision(), confidence),
            by_name,
        },
        confusion: events::Confusion {
            true_positives: confusion.true_positives,
            false_positives: confusion.false_positives,
            false_negatives: confusion.false_negatives,
            true_negatives: confusion.true_negatives,
        },
        metrics,
        score_counts: by_score(scores, frauds, threshold),
    })
}

fn by_score(scores: &[f64], frauds: &[bool], threshold: f64) -> ScoreCounts {
    let mut outcome = Outcome::empty(threshold);
    for (score, is_fraud) in scores.iter().zip(frauds) {
        outcome.add(*score, if *is_fraud { Known::Fraud } else { Known::Genuine });
    }
    ScoreCounts {
        genuine: outcome.score_counts(Known::Genuine).to_vec(),
        frauds: outcome.score_counts(Known::Fraud).to_vec(),
    }
}

fn with_interval(rate: Rate, confidence: f64) -> Option<Estimate> {
    let (value, interval) = (rate.value()?, wilson(rate, confidence)?);
    Some(Estimate {
        value,
        low: interval.low,
        high: interval.high,
    })
}

fn false_positive_rate(confusion: &Confusion) -> Rate {
    Rate {
        hits: confusion.false_positives,
        of: confusion.false_positives + confusion.true_negatives,
    }
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
            Some(events::Interval {
                low: share(interval.low)?,
                high: share(interval.high)?,
                level: share(confidence)?,
            })
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_is_what_a_pencil_gives() {
        // Four frauds and six genuine rows; at 0.5 three frauds and one genuine row are flagged.
        let rows = [
            (0.9, true),
            (0.8, true),
            (0.7, false),
            (0.5, true),
            (0.49, true),
            (0.4, false),
            (0.3, false),
            (0.2, false),
            (0.1, false),
            (0.0, false),
        ];
        let (scores, frauds): (Vec<f64>, Vec<bool>) = rows.into_iter().unzip();
        let found = measure(&scores, &frauds, 0.5, 0.95).unwrap();
        assert_eq!((found.measured.rows, found.measured.frauds), (10, 4));
        let counts = events::Confusion {
            true_positives: 3,
            false_positives: 1,
            false_negatives: 1,
            true_negatives: 5,
        };
        assert_eq!(found.confusion, counts, "a score at the threshold is flagged");
        // Cells are a fiftieth wide; from the threshold on they are one further.
        let cells = |counts: &[u64]| {
            counts
                .iter()
                .enumerate()
                .filter(|(_, rows)| **rows > 0)
                .map(|(cell, _)| cell)
                .collect::<Vec<_>>()
        };
        assert_eq!(cells(&found.score_counts.frauds), [24, 26, 41, 46]);
        assert_eq!(cells(&found.score_counts.genuine), [0, 5, 10, 15, 20, 35 + 1]);
        let value = |name: &str| {
            let metric = found.metrics.iter().find(|metric| metric.name == name).unwrap();
            let (value, interval) = (metric.value.unwrap().get(), metric.interval.clone().unwrap());
            assert!(
                interval.low.get() <= value && value <= interval.high.get(),
                "{name}: {interval:?}"
            );
            assert_eq!(interval.level.get(), 0.95);
            value
        };
        let expected = [
            ("recall", 0.75),
            ("precision", 0.75),
            ("f1", 0.75),
            ("false_positive_rate", 1.0 / 6.0),
            // Of 24 pairs the genuine row at 0.7 is above two frauds.
            ("roc_auc", 22.0 / 24.0),
            ("average_precision", (1.0 + 1.0 + 3.0 / 4.0 + 4.0 / 5.0) / 4.0),
        ];
        for (name, want) in expected {
            assert!((value(name) - want).abs() < 1e-12, "{name}: {}", value(name));
        }
        assert_eq!(found.metrics.len(), expected.len());
        assert_eq!(found.measured.recall.map(|recall| recall.value), Some(0.75));
    }

    #[test]
    fn what_is_undefined_has_no_value_and_what_is_no_number_is_refused() {
        let found = measure(&[0.1, 0.2], &[false, false], 0.5, 0.95).unwrap();
        assert_eq!((found.measured.recall, found.measured.precision), (None, None));
        for metric in &found.metrics {
            assert_eq!(
                metric.value.is_some(),
                metric.name == "false_positive_rate",
                "{metric:?}"
            );
        }
        assert!(measure(&[0.1, f64::NAN], &[false, true], 0.5, 0.95).is_err());
        assert_eq!(measure(&[], &[], 0.5, 0.95).unwrap().measured.rows, 0);
    }
}
