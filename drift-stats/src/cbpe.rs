//! CBPE, confidence-based performance estimation: how well a model does before its labels are there.
//!
//! If the scores are probabilities, a row with probability `p` is `p` of a fraud: summed over the rows above and below the threshold
//! they give the confusion matrix to expect, and from it recall, precision and their kin. Scores that are not probabilities are made
//! so first ([`crate::isotonic`], fitted to labelled rows); who is above the threshold is decided by the raw score in any case.
//!
//! Limits: it assumes that a score means what it meant when it was calibrated. It sees what a shift of the inputs does to the
//! results, and is blind to concept drift, where the same score means something else: compare it with what was realised once labels
//! have ripened. Nor does it know how much fraud there is: where fraud becomes rarer and nothing else changes, rows below the threshold
//! still count for as many missed frauds, so that estimated recall falls and estimated precision stays, though it is the other way round.
//!
//! Intervals are in [`Calibration::intervals`].
//!
//! Source: NannyML, "Confidence-based performance estimation"; Guillory et al., ICCV 2021. Rows of equal score are one group here.

use crate::isotonic::Isotonic;
use crate::outcome::{SCORE_CELLS, first_flagged_cell};
use crate::predictive::{self, Cell};
use crate::proportion::{Interval, Rate};
use crate::{Sample, Unusable};

/// A confusion matrix in expectation: parts of rows.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ExpectedConfusion {
    /// Frauds among the flagged rows.
    pub true_positives: f64,
    /// Genuine rows among them.
    pub false_positives: f64,
    /// Frauds among the rest.
    pub false_negatives: f64,
    /// Genuine rows among the rest.
    pub true_negatives: f64,
}

fn ratio(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

impl ExpectedConfusion {
    /// Found frauds of all frauds; none when none is expected.
    pub fn recall(&self) -> Option<f64> {
        ratio(self.true_positives, self.true_positives + self.false_negatives)
    }

    /// True alarms of all alarms; none without an alarm.
    pub fn precision(&self) -> Option<f64> {
        ratio(self.true_positives, self.true_positives + self.false_positives)
    }

    /// Genuine rows let through of all genuine rows; none when none is expected.
    pub fn specificity(&self) -> Option<f64> {
        ratio(self.true_negatives, self.true_negatives + self.false_positives)
    }

    /// Right predictions of all.
    pub fn accuracy(&self) -> Option<f64> {
        let right = self.true_positives + self.true_negatives;
        ratio(right, right + self.false_positives + self.false_negatives)
    }

    /// Harmonic mean of recall and precision.
    pub fn f1(&self) -> Option<f64> {
        let found = 2.0 * self.true_positives;
        ratio(found, found + self.false_positives + self.false_negatives)
    }
}

/// What to expect of a window.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// Counts to expect.
    pub confusion: ExpectedConfusion,
    /// Area under the ROC curve; none when only one class is expected.
    pub roc_auc: Option<f64>,
    /// Average precision; none when no fraud is expected.
    pub average_precision: Option<f64>,
}

/// Estimates from raw scores and the probabilities that they stand for; a row is flagged from `threshold` on.
///
/// # Errors
/// [`Unusable`] when there is no row, the lists differ in length, a score is not finite, or a probability is none.
pub fn estimate(scores: &[f64], probabilities: &[f64], threshold: f64) -> Result<Estimate, Unusable> {
    if scores.len() != probabilities.len() {
        return Err(Unusable::LengthsDiffer {
            scores: scores.len(),
            labels: probabilities.len(),
        });
    }
    if scores.is_empty() {
        return Err(Unusable::TooFewValues {
            sample: Sample::Current,
            values: 0,
            min: 1,
        });
    }
    if let Some(at) = scores.iter().position(|score| !score.is_finite()) {
        return Err(Unusable::ScoreNotANumber { at });
    }
    if probabilities.iter().any(|p| !(0.0..=1.0).contains(p)) {
        return Err(Unusable::OutsideRange { low: 0.0, high: 1.0 });
    }
    let mut confusion = ExpectedConfusion::default();
    for (score, p) in scores.iter().zip(probabilities) {
        let (fraud, genuine) = if *score >= threshold {
            (&mut confusion.true_positives, &mut confusion.false_positives)
        } else {
            (&mut confusion.false_negatives, &mut confusion.true_negatives)
        };
        *fraud += p;
        *genuine += 1.0 - p;
    }
    let mut rows: Vec<(f64, f64)> = scores
        .iter()
        .copied()
        .zip(probabilities.iter().copied())
        .collect();
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    let frauds: f64 = probabilities.iter().sum();
    let genuine = probabilities.len() as f64 - frauds;
    let (mut found, mut alarms, mut area, mut precision) = (0.0, 0.0, 0.0, 0.0);
    for group in rows.chunk_by(|a, b| a.0.total_cmp(&b.0).is_eq()) {
        let more: f64 = group.iter().map(|(_, p)| p).sum();
        let false_ones = group.len() as f64 - more;
        area += false_ones * (found + more / 2.0);
        found += more;
        alarms += false_ones;
        precision += more * found / (found + alarms);
    }
    let both = frauds > 0.0 && genuine > 0.0;
    Ok(Estimate {
        confusion,
        roc_auc: both.then(|| area / (frauds * genuine)),
        average_precision: (frauds > 0.0).then(|| precision / frauds),
    })
}

/// What scores stand for, learnt from labelled rows that were counted by the cells of their scores
/// ([`Outcome::score_counts`](crate::outcome::Outcome::score_counts)).
#[derive(Debug, Clone, PartialEq)]
pub struct Calibration {
    threshold: f64,
    /// Frauds among the labelled rows, per cell.
    seen: Vec<Rate>,
    /// Probability of fraud per cell, not decreasing.
    probabilities: Vec<f64>,
}

/// Where recall and precision come to lie once the rows are labelled, if a score means what it meant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExpectedIntervals {
    /// Of recall; none when no fraud is expected.
    pub recall: Option<Interval>,
    /// Of precision; none without an alarm.
    pub precision: Option<Interval>,
}

impl Calibration {
    /// Learns it from labelled rows, for predictions at this operating threshold: isotonic over the cells.
    ///
    /// # Errors
    /// [`Unusable::BinsDiffer`] when there are not [`SCORE_CELLS`] of either; [`Unusable::TooFewValues`] without a row.
    pub fn fit(threshold: f64, genuine: &[u64], frauds: &[u64]) -> Result<Self, Unusable> {
        if [genuine.len(), frauds.len()] != [SCORE_CELLS; 2] {
            return Err(Unusable::BinsDiffer);
        }
        let rate = |(genuine, frauds): (&u64, &u64)| Rate {
            hits: *frauds,
            of: genuine.saturating_add(*frauds),
        };
        let seen: Vec<Rate> = genuine.iter().zip(frauds).map(rate).collect();
        let groups: Vec<(f64, Rate)> = seen
            .iter()
            .enumerate()
            .map(|(cell, rate)| (cell as f64, *rate))
            .collect();
        let curve = Isotonic::fit_rates(&groups)?;
        Ok(Self {
            threshold,
            seen,
            probabilities: (0..SCORE_CELLS).map(|cell| curve.at(cell as f64)).collect(),
        })
    }

    /// What to expect of rows that were counted by the cells of their scores, for predictions at the same threshold.
    ///
    /// # Errors
    /// [`Unusable::BinsDiffer`] when there are not [`SCORE_CELLS`].
    pub fn expect(&self, rows: &[u64]) -> Result<ExpectedConfusion, Unusable> {
        if rows.len() != self.probabilities.len() {
            return Err(Unusable::BinsDiffer);
        }
        let first_flagged = first_flagged_cell(self.threshold);
        let mut confusion = ExpectedConfusion::default();
        for (cell, (rows, p)) in rows.iter().zip(&self.probabilities).enumerate() {
            let (fraud, genuine) = if cell >= first_flagged {
                (&mut confusion.true_positives, &mut confusion.false_positives)
            } else {
                (&mut confusion.false_negatives, &mut confusion.true_negatives)
            };
            *fraud += *rows as f64 * p;
            *genuine += *rows as f64 * (1.0 - p);
        }
        Ok(confusion)
    }

    /// Where recall and precision of these rows come to lie once their labels are known ([`crate::predictive`]). `confidence` is two-sided,
    /// between 0 and 1. What is [expected](Self::expect) lies inside.
    ///
    /// # Errors
    /// [`Unusable::BinsDiffer`] when there are not [`SCORE_CELLS`].
    pub fn intervals(&self, rows: &[u64], confidence: f64) -> Result<ExpectedIntervals, Unusable> {
        let expected = self.expect(rows)?;
        let cells: Vec<Cell> = rows
            .iter()
            .zip(&self.seen)
            .zip(smoothed(&self.seen, &self.probabilities))
            .map(|((rows, seen), probability)| Cell {
                rows: *rows,
                seen: *seen,
                probability,
            })
            .collect();
        let (others, flagged) = cells.split_at(first_flagged_cell(self.threshold).min(cells.len()));
        // Pooling may have moved the estimate a little out of what the rates themselves say.
        let with = |rate: Option<f64>, interval: Option<Interval>| {
            rate.zip(interval).map(|(rate, interval)| Interval {
                low: interval.low.min(rate),
                high: interval.high.max(rate),
            })
        };
        Ok(ExpectedIntervals {
            recall: with(expected.recall(), predictive::recall(flagged, others, confidence)),
            precision: with(expected.precision(), predictive::precision(flagged, confidence)),
        })
    }
}

/// Probabilities, with half a fraud and half a genuine row more (Jeffreys) in each block of cells that share one.
fn smoothed(seen: &[Rate], probabilities: &[f64]) -> Vec<f64> {
    let cells: Vec<(&Rate, f64)> = seen.iter().zip(probabilities.iter().copied()).collect();
    cells
        .chunk_by(|a, b| a.1.total_cmp(&b.1).is_eq())
        .flat_map(|block| {
            let count = |of: fn(&Rate) -> u64| block.iter().map(|(rate, _)| of(rate) as f64).sum::<f64>();
            let (frauds, rows) = (count(|rate| rate.hits), count(|rate| rate.of));
            let known = (frauds + 0.5) / (rows + 1.0);
            // Between two blocks lies what is between their probabilities.
            block
                .iter()
                .map(move |(_, p)| if rows > 0.0 { known } else { *p })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Known, Outcome};

    /// Scores in the middle of cells, more often fraud the higher they are.
    fn rows() -> Vec<(f64, bool)> {
        let mut state = 7_u64;
        let mut dice = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as f64 / (1_u64 << 31) as f64
        };
        (0..5_000)
            .map(|_| {
                let score = ((dice() * 50.0).floor() + 0.5) / 50.0;
                (score, dice() < score * score)
            })
            .collect()
    }

    fn counted(threshold: f64, rows: &[(f64, bool)]) -> Outcome {
        let mut outcome = Outcome::empty(threshold);
        for (score, is_fraud) in rows {
            outcome.add(*score, if *is_fraud { Known::Fraud } else { Known::Genuine });
        }
        outcome
    }

    #[test]
    fn counts_let_expect_what_rows_do() {
        for threshold in [0.37, 0.5, 0.93] {
            let all = rows();
            let (learnt, new) = all.split_at(3_000);
            let outcome = counted(threshold, learnt);
            let [genuine, frauds] = [Known::Genuine, Known::Fraud].map(|label| outcome.score_counts(label));
            let calibration = Calibration::fit(threshold, genuine, frauds).unwrap();
            let (scores, labels): (Vec<f64>, Vec<f64>) = learnt
                .iter()
                .map(|(score, is_fraud)| (*score, f64::from(u8::from(*is_fraud))))
                .unzip();
            let curve = Isotonic::fit(&scores, &labels).unwrap();
            let scores: Vec<f64> = new.iter().map(|(score, _)| *score).collect();
            let probabilities: Vec<f64> = scores.iter().map(|score| curve.at(*score)).collect();
            let wanted = estimate(&scores, &probabilities, threshold).unwrap().confusion;
            let mut unlabelled = Outcome::empty(threshold);
            for score in &scores {
                unlabelled.add(*score, Known::Unknown);
            }
            let found = calibration
                .expect(unlabelled.score_counts(Known::Unknown))
                .unwrap();
            for (found, wanted) in [
                (found.true_positives, wanted.true_positives),
                (found.false_positives, wanted.false_positives),
                (found.false_negatives, wanted.false_negatives),
                (found.true_negatives, wanted.true_negatives),
            ] {
                assert!((found - wanted).abs() < 1e-6, "{found} {wanted} at {threshold}");
            }
        }
    }

    #[test]
    fn of_the_rows_that_it_was_learnt_from_it_expects_what_was() {
        let outcome = counted(0.5, &rows());
        let [genuine, frauds] = [Known::Genuine, Known::Fraud].map(|label| outcome.score_counts(label));
        let calibration = Calibration::fit(0.5, genuine, frauds).unwrap();
        let rows: Vec<u64> = genuine.iter().zip(frauds).map(|(a, b)| a + b).collect();
        let found = calibration.expect(&rows).unwrap();
        let was = outcome.confusion().recall().value().unwrap();
        assert!((found.recall().unwrap() - was).abs() < 0.01, "{found:?}");
        let all: u64 = frauds.iter().sum();
        assert!((found.true_positives + found.false_negatives - all as f64).abs() < 1e-6);
        assert_eq!(calibration.expect(&[0; 3]), Err(Unusable::BinsDiffer));
        assert_eq!(
            Calibration::fit(0.5, &[0; SCORE_CELLS], &[1]),
            Err(Unusable::BinsDiffer)
        );
        assert!(Calibration::fit(0.5, &[0; SCORE_CELLS], &[0; SCORE_CELLS]).is_err());
    }

    #[test]
    fn certain_rows_are_counted_as_rows() {
        let found = estimate(&[0.9, 0.8, 0.2, 0.1], &[1.0, 0.0, 1.0, 0.0], 0.5).unwrap();
        let confusion = found.confusion;
        assert_eq!((confusion.true_positives, confusion.false_negatives), (1.0, 1.0));
        assert_eq!(
            (confusion.recall(), confusion.precision()),
            (Some(0.5), Some(0.5))
        );
        assert_eq!(found.roc_auc, Some(0.75));
        assert_eq!(found.average_precision, Some(f64::midpoint(1.0, 2.0 / 3.0)));
    }

    #[test]
    fn nothing_to_expect_is_no_number() {
        let found = estimate(&[0.1, 0.2], &[0.0, 0.0], 0.5).unwrap();
        assert_eq!(
            (found.confusion.recall(), found.confusion.precision()),
            (None, None)
        );
        assert_eq!((found.roc_auc, found.average_precision), (None, None));
        assert!(matches!(
            estimate(&[], &[], 0.5),
            Err(Unusable::TooFewValues { .. })
        ));
        assert!(matches!(
            estimate(&[0.1], &[1.5], 0.5),
            Err(Unusable::OutsideRange { .. })
        ));
    }

    #[test]
    fn it_does_not_know_how_much_fraud_there_is() {
        // 88 of 100 frauds above the threshold and one in two hundred genuine rows, whatever the share of fraud.
        let counts = |frauds: u64, genuine: u64| {
            let mut outcome = Outcome::empty(0.5);
            for (score, label, rows) in [
                (0.9, Known::Fraud, frauds * 88 / 100),
                (0.1, Known::Fraud, frauds - frauds * 88 / 100),
                (0.9, Known::Genuine, genuine / 200),
                (0.1, Known::Genuine, genuine - genuine / 200),
            ] {
                outcome.add_rows(score, label, rows);
            }
            [Known::Genuine, Known::Fraud].map(|label| outcome.score_counts(label).to_vec())
        };
        let [genuine, frauds] = counts(500, 9_500);
        let calibration = Calibration::fit(0.5, &genuine, &frauds).unwrap();
        for (frauds, wanted) in [(250, 0.80), (500, 0.88), (1_000, 0.935)] {
            let [genuine, frauds] = counts(frauds, 10_000 - frauds);
            let rows: Vec<u64> = genuine.iter().zip(&frauds).map(|(a, b)| a + b).collect();
            let found = calibration.expect(&rows).unwrap().recall().unwrap();
            assert!((found - wanted).abs() < 0.005, "{found} {wanted}");
        }
    }
}
