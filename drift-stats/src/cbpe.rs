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
//! Intervals ([`Calibration::intervals`]) are for what will be realised on the same rows once they are labelled, if the assumption holds.
//! Two things are uncertain: which of the rows are fraud (each a draw with its probability), and the probabilities, which come from so
//! many labelled rows. To first order (delta method) their variances add; the interval is symmetric on the logit scale. What is not in
//! it: that a score may mean something else now, and that pooling may have smoothed the curve.
//!
//! Source: NannyML, "Confidence-based performance estimation"; Guillory et al., ICCV 2021. Rows of equal score are one group here.

use crate::isotonic::Isotonic;
use crate::outcome::{SCORE_CELLS, first_flagged_cell};
use crate::proportion::{Interval, Rate, z_of};
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
    /// Probability of fraud per cell, not decreasing.
    probabilities: Vec<f64>,
    /// Cells that share what is known of them, in order.
    blocks: Vec<Block>,
}

/// Neighbouring cells with one probability, and the labelled rows it was learnt from.
#[derive(Debug, Clone, PartialEq)]
struct Block {
    /// One more than the last cell.
    end: usize,
    seen: Rate,
}

impl Block {
    /// Variance of one row's label: Jeffreys' estimate, so that a block that saw no fraud is not sure that there is none.
    fn variance(&self) -> f64 {
        let p = (self.seen.hits as f64 + 0.5) / (self.seen.of as f64 + 1.0);
        p * (1.0 - p)
    }
}

/// Where recall and precision come to lie once the rows are labelled.
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
        let rates: Vec<Rate> = genuine
            .iter()
            .zip(frauds)
            .map(|(genuine, frauds)| Rate {
                hits: *frauds,
                of: genuine.saturating_add(*frauds),
            })
            .collect();
        let groups: Vec<(f64, Rate)> = rates
            .iter()
            .enumerate()
            .map(|(cell, rate)| (cell as f64, *rate))
            .collect();
        let curve = Isotonic::fit_rates(&groups)?;
        let probabilities: Vec<f64> = (0..SCORE_CELLS).map(|cell| curve.at(cell as f64)).collect();
        Ok(Self {
            threshold,
            blocks: blocks(&rates, &probabilities),
            probabilities,
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

    /// Intervals for what is realised on rows that were counted by the cells of their scores, once their labels are known.
    /// `confidence` is two-sided, between 0 and 1.
    ///
    /// # Errors
    /// [`Unusable::BinsDiffer`] when there are not [`SCORE_CELLS`].
    pub fn intervals(&self, rows: &[u64], confidence: f64) -> Result<ExpectedIntervals, Unusable> {
        let expected = self.expect(rows)?;
        let z = z_of(confidence);
        let frauds = expected.true_positives + expected.false_negatives;
        let alarms = expected.true_positives + expected.false_positives;
        // What one more fraud does to the rate, among the flagged rows and among the rest.
        let of_recall = [
            expected.false_negatives / frauds.powi(2),
            -expected.true_positives / frauds.powi(2),
        ];
        let of_precision = [alarms.recip(), 0.0];
        let around = |rate: Option<f64>, whole: f64, slopes| {
            rate.map(|rate| logit_interval(rate, whole, z * self.deviation(rows, slopes)))
        };
        Ok(ExpectedIntervals {
            recall: around(expected.recall(), frauds, of_recall),
            precision: around(expected.precision(), alarms, of_precision),
        })
    }

    /// Standard deviation of a number that changes by `slopes` with each fraud among the flagged rows and among the rest.
    fn deviation(&self, rows: &[u64], slopes: [f64; 2]) -> f64 {
        let first_flagged = first_flagged_cell(self.threshold);
        let (mut variance, mut begin) = (0.0, 0);
        for block in &self.blocks {
            let (mut labels, mut together) = (0.0, 0.0);
            for (cell, rows) in rows.iter().enumerate().take(block.end).skip(begin) {
                let (rows, slope) = (*rows as f64, slopes[usize::from(cell < first_flagged)]);
                labels += rows * slope * slope;
                together += rows * slope;
            }
            variance += block.variance() * (labels + together * together / block.seen.of as f64);
            begin = block.end;
        }
        variance.sqrt()
    }
}

/// Cells of one probability are a block; cells in which nothing was seen belong to the block before, at the beginning to the one after.
fn blocks(rates: &[Rate], probabilities: &[f64]) -> Vec<Block> {
    let mut blocks: Vec<(f64, Block)> = Vec::new();
    for (cell, (rate, p)) in rates.iter().zip(probabilities).enumerate() {
        let end = cell + 1;
        match blocks.last_mut() {
            Some((_, block)) if rate.of == 0 => block.end = end,
            Some((same, block)) if same.total_cmp(p).is_eq() => {
                block.end = end;
                block.seen.hits += rate.hits;
                block.seen.of += rate.of;
            }
            None if rate.of == 0 => {}
            _ => blocks.push((*p, Block { end, seen: *rate })),
        }
    }
    blocks.into_iter().map(|(_, block)| block).collect()
}

/// `rate` and so much on either side, on the logit scale; half a row of `whole` keeps the logit finite.
fn logit_interval(rate: f64, whole: f64, half: f64) -> Interval {
    let room = 0.5 / (whole + 1.0);
    let inside = rate.clamp(room, 1.0 - room);
    let logit = (inside / (1.0 - inside)).ln();
    let half = half / (inside * (1.0 - inside));
    let back = |value: f64| 1.0 / (1.0 + (-value).exp());
    Interval {
        low: back(logit - half).min(rate),
        high: back(logit + half).max(rate),
    }
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

    /// Rows with their labels, and the same rows without; scores lie mostly near 0, as those of a fraud model do.
    fn drawn(dice: &mut impl FnMut() -> f64, rows: usize) -> (Outcome, Outcome) {
        let (mut outcome, mut blank) = (Outcome::empty(0.5), Outcome::empty(0.5));
        for _ in 0..rows {
            let score = dice().powi(4);
            let is_fraud = dice() < 0.8 * score.powf(1.5);
            outcome.add(score, if is_fraud { Known::Fraud } else { Known::Genuine });
            blank.add(score, Known::Unknown);
        }
        (outcome, blank)
    }

    #[test]
    fn intervals_hold_what_is_realised_as_often_as_they_say() {
        let mut state = 11_u64;
        let mut dice = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        // Validations and windows of different sizes: either may be what is uncertain.
        for (learnt_from, window) in [
            (300, 5_000),
            (500, 500),
            (1_000, 10_000),
            (3_000, 3_000),
            (20_000, 500),
        ] {
            let (mut held, draws) = ([0_u32; 2], 500);
            for _ in 0..draws {
                let (learnt, _) = drawn(&mut dice, learnt_from);
                let [genuine, frauds] =
                    [Known::Genuine, Known::Fraud].map(|label| learnt.score_counts(label));
                let calibration = Calibration::fit(0.5, genuine, frauds).unwrap();
                let (realised, blank) = drawn(&mut dice, window);
                let found = calibration
                    .intervals(blank.score_counts(Known::Unknown), 0.95)
                    .unwrap();
                let was = realised.confusion();
                for (at, (found, was)) in [(found.recall, was.recall()), (found.precision, was.precision())]
                    .into_iter()
                    .enumerate()
                {
                    let (found, was) = (found.unwrap(), was.value().unwrap());
                    assert!(0.0 <= found.low && found.low <= found.high && found.high <= 1.0);
                    held[at] += u32::from((found.low..=found.high).contains(&was));
                }
            }
            for held in held {
                let share = f64::from(held) / f64::from(draws);
                assert!(
                    (0.92..=0.985).contains(&share),
                    "{share} of {window} rows by {learnt_from}"
                );
            }
        }
    }

    #[test]
    fn a_few_labelled_rows_leave_much_open_and_no_fraud_is_not_surely_none() {
        let interval = |found: u64, missed: u64, genuine: u64| {
            let mut outcome = Outcome::empty(0.5);
            outcome.add_rows(0.9, Known::Fraud, found);
            outcome.add_rows(0.9, Known::Genuine, found / 9);
            outcome.add_rows(0.1, Known::Fraud, missed);
            outcome.add_rows(0.1, Known::Genuine, genuine);
            let [genuine, frauds] = [Known::Genuine, Known::Fraud].map(|label| outcome.score_counts(label));
            let calibration = Calibration::fit(0.5, genuine, frauds).unwrap();
            let mut window = Outcome::empty(0.5);
            window.add_rows(0.9, Known::Unknown, 1_000);
            window.add_rows(0.1, Known::Unknown, 100_000);
            calibration
                .intervals(window.score_counts(Known::Unknown), 0.95)
                .unwrap()
                .recall
                .unwrap()
        };
        let width = |found: Interval| found.high - found.low;
        let [few, many] = [interval(18, 2, 2_000), interval(1_800, 200, 200_000)];
        assert!(width(few) > 5.0 * width(many), "{few:?} {many:?}");
        // Not one fraud was seen below the threshold, among few rows: recall is estimated at 1, and may be less.
        let none = interval(18, 0, 2_000);
        assert!(none.low < 0.97, "{none:?}");
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
