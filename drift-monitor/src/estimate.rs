//! What scores tell before labels are known: performance to expect (confidence-based performance estimation) and prediction drift.
//! Pure, and judged by nobody.

use drift_stats::cbpe::{Calibration, ExpectedConfusion};
use drift_stats::null_law::Comparison;
use drift_stats::outcome::{Known, Outcome, first_flagged_cell};
use drift_stats::{Histogram, proportion};
use schemas::events::{EstimatedPerformance, Interval, PredictionDrift};
use schemas::{Finite, Share};

use crate::store::Champion;

/// Confidence of the intervals.
const CONFIDENCE: f64 = 0.95;
const EVERY_LABEL: [Known; 3] = [Known::Unknown, Known::Genuine, Known::Fraud];
const KNOWN_LABELS: [Known; 2] = [Known::Genuine, Known::Fraud];

/// What the scores of a champion stand for, as its validation found; `None` where the validation did not count them.
#[derive(Debug)]
pub struct Estimator {
    calibration: Calibration,
    /// The rows of the validation by the cells of their scores.
    validated: Vec<u64>,
    threshold: f64,
}

/// What is to be expected of rows.
struct Expected {
    confusion: ExpectedConfusion,
    recall_interval: Option<Interval>,
    precision_interval: Option<Interval>,
}

/// Of rows whose labels are known.
#[derive(Debug, Default, PartialEq)]
pub struct OfLabelled {
    /// Recall to expect; none when no fraud is expected.
    pub recall: Option<Share>,
    /// Where it comes to lie.
    pub recall_interval: Option<Interval>,
    /// Precision to expect; none when no row is flagged.
    pub precision: Option<Share>,
}

impl Estimator {
    /// Of a champion.
    pub fn of(champion: &Champion) -> Option<Self> {
        let scores = champion.score_counts.as_ref()?;
        let threshold = champion.operating_threshold;
        match Calibration::fit(threshold, &scores.genuine, &scores.frauds) {
            Ok(calibration) => Some(Self {
                calibration,
                validated: added([&scores.genuine, &scores.frauds]),
                threshold,
            }),
            Err(why) => {
                tracing::warn!("no estimates by the scores of {}: {why}", champion.version);
                None
            }
        }
    }

    /// Of all rows that have a score, whatever is known of their labels; `None` when these are fewer than `rows_min`.
    pub fn of_scored(&self, rows: &Outcome, rows_min: u64) -> Option<EstimatedPerformance> {
        if rows.scored() < rows_min {
            return None;
        }
        let expected = self.expect(&cells(rows, &EVERY_LABEL))?;
        let confusion = expected.confusion;
        let frauds = confusion.true_positives + confusion.false_negatives;
        Some(EstimatedPerformance {
            rows: rows.scored(),
            frauds: Finite::new(frauds).ok()?,
            recall: confusion.recall().and_then(share),
            precision: confusion.precision().and_then(share),
            recall_interval: expected.recall_interval,
            precision_interval: expected.precision_interval,
        })
    }

    /// Of the rows whose label is known, to be held beside what was realised on them.
    pub fn of_labelled(&self, rows: &Outcome) -> OfLabelled {
        let Some(expected) = self.expect(&cells(rows, &KNOWN_LABELS)) else {
            return OfLabelled::default();
        };
        OfLabelled {
            recall: expected.confusion.recall().and_then(share),
            recall_interval: expected.recall_interval,
            precision: expected.confusion.precision().and_then(share),
        }
    }

    /// How the scores of all rows lie beside those of the validation; `None` when fewer than `rows_min` have one. `alpha` is the
    /// probability with which chance alone goes beyond its noise.
    pub fn prediction(&self, rows: &Outcome, rows_min: u64, alpha: f64) -> Option<PredictionDrift> {
        if rows.scored() < rows_min {
            return None;
        }
        let current = cells(rows, &EVERY_LABEL);
        let [validated_flagged, flagged] = [&self.validated, &current].map(|cells| {
            let flagged = cells.iter().skip(first_flagged_cell(self.threshold)).sum();
            Share::of(flagged, cells.iter().sum())
        });
        let [before, now] = [self.validated.clone(), current].map(Histogram::from_counts);
        let found = Comparison::of(&before, &now, 0.0).ok()?;
        Some(PredictionDrift {
            psi: Finite::new(found.psi).ok()?,
            noise: Finite::new(found.noise(alpha)).ok()?,
            validated_flagged: validated_flagged?,
            flagged: flagged?,
        })
    }

    fn expect(&self, cells: &[u64]) -> Option<Expected> {
        if cells.iter().all(|rows| *rows == 0) {
            return None;
        }
        let intervals = self.calibration.intervals(cells, CONFIDENCE).ok()?;
        Some(Expected {
            confusion: self.calibration.expect(cells).ok()?,
            recall_interval: intervals.recall.and_then(interval),
            precision_interval: intervals.precision.and_then(interval),
        })
    }
}

/// Rows by the cells of their scores, of these labels.
fn cells(rows: &Outcome, labels: &[Known]) -> Vec<u64> {
    added(labels.iter().map(|label| rows.score_counts(*label)))
}

fn added<C: AsRef<[u64]>>(counts: impl IntoIterator<Item = C>) -> Vec<u64> {
    let mut counts = counts.into_iter();
    let mut sum = counts
        .next()
        .map_or_else(Vec::new, |first| first.as_ref().to_vec());
    for counts in counts {
        for (sum, count) in sum.iter_mut().zip(counts.as_ref()) {
            *sum = sum.saturating_add(*count);
        }
    }
    sum
}

fn interval(found: proportion::Interval) -> Option<Interval> {
    Some(Interval {
        low: share(found.low)?,
        high: share(found.high)?,
        level: share(CONFIDENCE)?,
    })
}

/// Sums of parts may exceed the whole by the last bit.
fn share(value: f64) -> Option<Share> {
    Share::new(value.clamp(0.0, 1.0)).ok()
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta, Utc};
    use schemas::events::ScoreCounts;
    use schemas::{ModelVersion, Window};

    use super::*;

    fn champion(scores: Option<ScoreCounts>) -> Champion {
        let at = DateTime::<Utc>::UNIX_EPOCH;
        Champion {
            version: ModelVersion::new("v1").unwrap(),
            promoted_as_of: at,
            training_window: Window::new(at, at + TimeDelta::hours(1)).unwrap(),
            operating_threshold: 0.5,
            validated_recall: 0.9,
            validated_precision: 0.9,
            validated_frauds: 100,
            score_counts: scores,
        }
    }

    #[test]
    fn rows_without_a_score_or_a_validation_let_expect_nothing() {
        let mut holdout = Outcome::empty(0.5);
        holdout.add_rows(0.9, Known::Fraud, 90);
        holdout.add_rows(0.9, Known::Genuine, 10);
        holdout.add_rows(0.2, Known::Fraud, 10);
        holdout.add_rows(0.2, Known::Genuine, 890);
        let counts = |label| holdout.score_counts(label).to_vec();
        let scores = ScoreCounts {
            genuine: counts(Known::Genuine),
            frauds: counts(Known::Fraud),
        };
        let estimator = Estimator::of(&champion(Some(scores.clone()))).unwrap();
        let mut rows = Outcome::empty(0.5);
        rows.add_rows(f64::NAN, Known::Genuine, 100);
        assert_eq!(estimator.of_scored(&rows, 1), None);
        assert_eq!(estimator.of_labelled(&rows), OfLabelled::default());
        rows.add_rows(0.9, Known::Unknown, 10);
        assert_eq!(estimator.of_scored(&rows, 11), None, "too few");
        let found = estimator.of_scored(&rows, 10).unwrap();
        assert_eq!((found.rows, found.frauds.get()), (10, 9.0));
        assert_eq!(found.recall.map(Share::get), Some(1.0));
        assert!((found.precision.unwrap().get() - 0.9).abs() < 1e-12);
        assert_eq!(
            estimator.of_labelled(&rows),
            OfLabelled::default(),
            "no label is known"
        );
        // The validation's own rows are expected to do what they did.
        let found = estimator.of_labelled(&holdout);
        let near = |share: Option<Share>| (share.unwrap().get() - 0.9).abs() < 1e-12;
        assert!(near(found.recall) && near(found.precision), "{found:?}");
        let around = found.recall_interval.unwrap();
        assert!(around.low.get() < 0.9 && around.high.get() > 0.9, "{around:?}");
        assert!(Estimator::of(&champion(None)).is_none());
        let broken = ScoreCounts {
            frauds: vec![1],
            ..scores
        };
        assert!(
            Estimator::of(&champion(Some(broken))).is_none(),
            "counted in other cells"
        );
    }

    #[test]
    fn scores_that_moved_are_told_from_scores_that_did_not() {
        let [same, more, few] = [(20, 980), (60, 940), (1, 5)].map(|(high, low)| {
            let mut rows = Outcome::empty(0.5);
            rows.add_rows(0.9, Known::Unknown, high);
            rows.add_rows(0.2, Known::Unknown, low);
            rows
        });
        let scores = ScoreCounts {
            genuine: cells(&same, &EVERY_LABEL),
            frauds: vec![0; same.score_counts(Known::Fraud).len()],
        };
        let estimator = Estimator::of(&champion(Some(scores))).unwrap();
        let found = estimator.prediction(&same, 500, 0.01).unwrap();
        assert_eq!(found.psi, Finite::ZERO);
        assert!(found.noise.get() > 0.0);
        assert_eq!((found.validated_flagged.get(), found.flagged.get()), (0.02, 0.02));
        let found = estimator.prediction(&more, 500, 0.01).unwrap();
        // (0.06 - 0.02) ln 3 + (0.94 - 0.98) ln(0.94 / 0.98)
        assert!((found.psi.get() - 0.045_611).abs() < 1e-5, "{found:?}");
        assert!(found.psi > found.noise, "{found:?}");
        assert_eq!((found.validated_flagged.get(), found.flagged.get()), (0.02, 0.06));
        assert_eq!(estimator.prediction(&few, 500, 0.01), None, "too few");
    }
}
