//! What scores let expect before labels are known (confidence-based performance estimation): pure, and judged by nobody.

use drift_stats::cbpe::{Calibration, ExpectedConfusion};
use drift_stats::outcome::{Known, Outcome};
use schemas::events::EstimatedPerformance;
use schemas::{Finite, Share};

use crate::store::Champion;

/// What the scores of a champion stand for, as its validation found; `None` where the validation did not count them.
#[derive(Debug)]
pub struct Estimator(Calibration);

impl Estimator {
    /// Of a champion.
    pub fn of(champion: &Champion) -> Option<Self> {
        let scores = champion.score_counts.as_ref()?;
        match Calibration::fit(champion.operating_threshold, &scores.genuine, &scores.frauds) {
            Ok(calibration) => Some(Self(calibration)),
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
        let all = [Known::Unknown, Known::Genuine, Known::Fraud];
        let expected = self.expect(rows, &all)?;
        let frauds = expected.true_positives + expected.false_negatives;
        Some(EstimatedPerformance {
            rows: rows.scored(),
            frauds: Finite::new(frauds).ok()?,
            recall: expected.recall().and_then(share),
            precision: expected.precision().and_then(share),
        })
    }

    /// Recall and precision of the rows whose label is known, to be held beside what was realised on them.
    pub fn of_labelled(&self, rows: &Outcome) -> (Option<Share>, Option<Share>) {
        let expected = self.expect(rows, &[Known::Genuine, Known::Fraud]);
        let of =
            |rate: fn(&ExpectedConfusion) -> Option<f64>| expected.as_ref().and_then(rate).and_then(share);
        (of(ExpectedConfusion::recall), of(ExpectedConfusion::precision))
    }

    fn expect(&self, rows: &Outcome, labels: &[Known]) -> Option<ExpectedConfusion> {
        let counts = labels.iter().map(|label| rows.score_counts(*label));
        let cells = counts.fold(Vec::new(), |sum: Vec<u64>, counts| {
            if sum.is_empty() {
                return counts.to_vec();
            }
            sum.iter().zip(counts).map(|(a, b)| a + b).collect()
        });
        if cells.iter().all(|rows| *rows == 0) {
            return None;
        }
        self.0.expect(&cells).ok()
    }
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
        assert_eq!(estimator.of_labelled(&rows), (None, None));
        rows.add_rows(0.9, Known::Unknown, 10);
        assert_eq!(estimator.of_scored(&rows, 11), None, "too few");
        let found = estimator.of_scored(&rows, 10).unwrap();
        assert_eq!((found.rows, found.frauds.get()), (10, 9.0));
        assert_eq!(found.recall.map(Share::get), Some(1.0));
        assert!((found.precision.unwrap().get() - 0.9).abs() < 1e-12);
        assert_eq!(estimator.of_labelled(&rows), (None, None), "no label is known");
        // The validation's own rows are expected to do what they did.
        let found = estimator.of_labelled(&holdout);
        let near = |share: Option<Share>| (share.unwrap().get() - 0.9).abs() < 1e-12;
        assert!(near(found.0) && near(found.1), "{found:?}");
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
}
