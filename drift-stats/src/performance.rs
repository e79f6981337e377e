//! How well scores tell fraud from genuine: recall, precision and their kin, ranking measures, intervals,
//! and the choice of an operating threshold.
//!
//! A row is predicted fraud when its score is at or above the threshold. Equal scores are one group: no measure
//! depends on how a sort breaks ties. What has no value (precision when nothing is predicted) is `None`.
//!
//! Intervals need no randomness: Wilson for recall and precision; for F1 Wilson on `tp / (tp + fp + fn)`, of
//! which F1 is a monotone function; for the area under the ROC curve the score-type interval on Hanley and
//! McNeil's variance (Newcombe, Statistics in Medicine 25, 2006, method 5), which also holds at 0 and 1; for
//! average precision the logit interval (Boyd, Eng, Page, ECML PKDD 2013).

use serde::{Deserialize, Serialize};

use crate::Unusable;
use crate::proportion::{Interval, Rate, wilson, z_of};

/// Labelled rows by prediction, counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Confusion {
    /// Frauds predicted as fraud.
    #[serde(rename = "tp")]
    pub true_positives: u64,
    /// Genuine rows predicted as fraud.
    #[serde(rename = "fp")]
    pub false_positives: u64,
    /// Frauds missed.
    #[serde(rename = "fn")]
    pub false_negatives: u64,
    /// Genuine rows let through.
    #[serde(rename = "tn")]
    pub true_negatives: u64,
}

impl Confusion {
    /// Counts one labelled row.
    pub fn add(&mut self, predicted_fraud: bool, is_fraud: bool) {
        self.add_rows(predicted_fraud, is_fraud, 1);
    }

    /// Counts labelled rows that are alike.
    pub fn add_rows(&mut self, predicted_fraud: bool, is_fraud: bool, rows: u64) {
        *match (predicted_fraud, is_fraud) {
            (true, true) => &mut self.true_positives,
            (true, false) => &mut self.false_positives,
            (false, true) => &mut self.false_negatives,
            (false, false) => &mut self.true_negatives,
        } += rows;
    }

    /// Adds the counts of other rows.
    pub fn merge(&mut self, other: &Self) {
        self.true_positives += other.true_positives;
        self.false_positives += other.false_positives;
        self.false_negatives += other.false_negatives;
        self.true_negatives += other.true_negatives;
    }

    /// All rows.
    pub fn rows(&self) -> u64 {
        self.frauds() + self.false_positives + self.true_negatives
    }

    /// Frauds, found and missed.
    pub fn frauds(&self) -> u64 {
        self.true_positives + self.false_negatives
    }

    /// Found frauds of all frauds.
    pub fn recall(&self) -> Rate {
        Rate {
            hits: self.true_positives,
            of: self.frauds(),
        }
    }

    /// True alarms of all alarms.
    pub fn precision(&self) -> Rate {
        Rate {
            hits: self.true_positives,
            of: self.true_positives + self.false_positives,
        }
    }

    /// Genuine rows let through of all genuine rows.
    pub fn specificity(&self) -> Rate {
        Rate {
            hits: self.true_negatives,
            of: self.true_negatives + self.false_positives,
        }
    }

    /// Right predictions of all.
    pub fn accuracy(&self) -> Rate {
        Rate {
            hits: self.true_positives + self.true_negatives,
            of: self.rows(),
        }
    }

    /// Harmonic mean of recall and precision; 0 when no fraud is found, `None` when there is none and no alarm.
    pub fn f1(&self) -> Option<f64> {
        let errors = self.false_positives + self.false_negatives;
        let denominator = 2 * self.true_positives + errors;
        (denominator > 0).then(|| 2.0 * self.true_positives as f64 / denominator as f64)
    }

    /// Interval of [`Self::f1`].
    pub fn f1_interval(&self, confidence: f64) -> Option<Interval> {
        let union = self.true_positives + self.false_positives + self.false_negatives;
        let overlap = wilson(
            Rate {
                hits: self.true_positives,
                of: union,
            },
            confidence,
        )?;
        let f1 = |overlap: f64| 2.0 * overlap / (1.0 + overlap);
        Some(Interval {
            low: f1(overlap.low),
            high: f1(overlap.high),
        })
    }

    /// Matthews' correlation, -1 to 1; `None` when a class or a prediction does not occur.
    pub fn matthews(&self) -> Option<f64> {
        let [tp, fp, fn_, tn] = [
            self.true_positives,
            self.false_positives,
            self.false_negatives,
            self.true_negatives,
        ]
        .map(|n| n as f64);
        let product = (tp + fp) * (tp + fn_) * (tn + fp) * (tn + fn_);
        (product > 0.0).then(|| (tp * tn - fp * fn_) / product.sqrt())
    }
}

/// Rows of one score.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Step {
    score: f64,
    frauds: u64,
    genuine: u64,
}

/// Labelled scores, grouped by equal score, highest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranking {
    steps: Vec<Step>,
    frauds: u64,
    genuine: u64,
}

/// A threshold and what it does to the rows it was chosen on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OperatingPoint {
    /// A score of the data; rows at or above it are predicted fraud.
    pub threshold: f64,
    /// Predictions at this threshold.
    pub confusion: Confusion,
}

impl Ranking {
    /// Groups labelled scores; `frauds[i]` says whether row `i` is fraud. The order of rows does not matter.
    ///
    /// # Errors
    /// [`Unusable::LengthsDiffer`], or [`Unusable::ScoreNotANumber`] for a missing or infinite score.
    pub fn new(scores: &[f64], frauds: &[bool]) -> Result<Self, Unusable> {
        if scores.len() != frauds.len() {
            return Err(Unusable::LengthsDiffer {
                scores: scores.len(),
                labels: frauds.len(),
            });
        }
        if let Some(at) = scores.iter().position(|score| !score.is_finite()) {
            return Err(Unusable::ScoreNotANumber { at });
        }
        let mut rows: Vec<(f64, bool)> = scores.iter().copied().zip(frauds.iter().copied()).collect();
        rows.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        let mut steps: Vec<Step> = Vec::new();
        for (score, fraud) in rows {
            match steps.last_mut() {
                Some(step) if step.score == score => {
                    step.frauds += u64::from(fraud);
                    step.genuine += u64::from(!fraud);
                }
                _ => steps.push(Step {
                    score,
                    frauds: u64::from(fraud),
                    genuine: u64::from(!fraud),
                }),
            }
        }
        let frauds = steps.iter().map(|step| step.frauds).sum();
        let genuine = steps.iter().map(|step| step.genuine).sum();
        Ok(Self {
            steps,
            frauds,
            genuine,
        })
    }

    /// Rows, both classes.
    pub fn rows(&self) -> u64 {
        self.frauds + self.genuine
    }

    /// Frauds.
    pub fn frauds(&self) -> u64 {
        self.frauds
    }

    /// Predictions at a threshold.
    pub fn confusion_at(&self, threshold: f64) -> Confusion {
        let alarmed = self.steps.iter().take_while(|step| step.score >= threshold);
        let (found, false_alarms) = alarmed.fold((0, 0), |(found, wrong), step| {
            (found + step.frauds, wrong + step.genuine)
        });
        self.confusion(found, false_alarms)
    }

    fn confusion(&self, true_positives: u64, false_positives: u64) -> Confusion {
        Confusion {
            true_positives,
            false_positives,
            false_negatives: self.frauds - true_positives,
            true_negatives: self.genuine - false_positives,
        }
    }

    fn both_classes(&self) -> Result<(), Unusable> {
        if self.frauds > 0 && self.genuine > 0 {
            Ok(())
        } else {
            Err(Unusable::OneClassOnly {
                frauds: self.frauds,
                genuine: self.genuine,
            })
        }
    }

    /// Area under the ROC curve: the chance that a fraud scores above a genuine row, ties half; 0 to 1.
    ///
    /// # Errors
    /// [`Unusable::OneClassOnly`].
    pub fn roc_auc(&self) -> Result<f64, Unusable> {
        self.both_classes()?;
        // Twice the number of pairs in the right order: exact in integers up to 2^53 pairs and beyond.
        let (mut above, mut twice_right) = (0_u64, 0_u128);
        for step in &self.steps {
            twice_right += u128::from(step.genuine) * u128::from(2 * above + step.frauds);
            above += step.frauds;
        }
        Ok(twice_right as f64 / (2.0 * self.frauds as f64 * self.genuine as f64))
    }

    /// Interval of [`Self::roc_auc`].
    ///
    /// # Errors
    /// [`Unusable::OneClassOnly`].
    pub fn roc_auc_interval(&self, confidence: f64) -> Result<Interval, Unusable> {
        let found = self.roc_auc()?;
        let (m, n) = (self.frauds as f64, self.genuine as f64);
        let half = f64::midpoint(m, n) - 1.0;
        let spread = |area: f64| {
            let inflation = 1.0 + half * ((1.0 - area) / (2.0 - area) + area / (1.0 + area));
            (area * (1.0 - area) * inflation / (m * n)).sqrt()
        };
        let z = z_of(confidence);
        // The bounds are the areas that lie exactly z standard errors, their own ones, from the found area.
        let bound = |mut inside: f64, mut outside: f64| {
            for _ in 0..100 {
                let middle = f64::midpoint(inside, outside);
                if (found - middle).abs() <= z * spread(middle) {
                    inside = middle;
                } else {
                    outside = middle;
                }
            }
            f64::midpoint(inside, outside)
        };
        Ok(Interval {
            low: bound(found, 0.0),
            high: bound(found, 1.0),
        })
    }

    /// Average precision: precision at each new fraud group, weighted by the recall it adds; 0 to 1.
    ///
    /// # Errors
    /// [`Unusable::OneClassOnly`] when there is no fraud.
    pub fn average_precision(&self) -> Result<f64, Unusable> {
        if self.frauds == 0 {
            return Err(Unusable::OneClassOnly {
                frauds: 0,
                genuine: self.genuine,
            });
        }
        let (mut found, mut alarms, mut sum) = (0_u64, 0_u64, 0.0);
        for step in &self.steps {
            found += step.frauds;
            alarms += step.frauds + step.genuine;
            sum += step.frauds as f64 * (found as f64 / alarms as f64);
        }
        Ok(sum / self.frauds as f64)
    }

    /// Interval of [`Self::average_precision`].
    ///
    /// # Errors
    /// [`Unusable::OneClassOnly`] when there is no fraud.
    pub fn average_precision_interval(&self, confidence: f64) -> Result<Interval, Unusable> {
        let found = self.average_precision()?;
        let frauds = self.frauds as f64;
        // Half a fraud keeps the logit finite for a perfect ranking.
        let inside = found.clamp(0.5 / (frauds + 1.0), 1.0 - 0.5 / (frauds + 1.0));
        let (logit, spread) = (
            (inside / (1.0 - inside)).ln(),
            (frauds * inside * (1.0 - inside)).sqrt().recip(),
        );
        let back = |value: f64| 1.0 / (1.0 + (-value).exp());
        let z = z_of(confidence);
        Ok(Interval {
            low: back(logit - z * spread).min(found),
            high: back(logit + z * spread).max(found),
        })
    }

    /// Mean squared difference between score and label (0 or 1); `None` without rows.
    pub fn brier(&self) -> Option<f64> {
        let sum: f64 = self
            .steps
            .iter()
            .map(|step| {
                step.frauds as f64 * (step.score - 1.0).powi(2) + step.genuine as f64 * step.score.powi(2)
            })
            .sum();
        (self.rows() > 0).then(|| sum / self.rows() as f64)
    }

    /// Mean negative logarithm of the probability given to the label, scores clipped to `[1e-15, 1 - 1e-15]`.
    pub fn log_loss(&self) -> Option<f64> {
        let sum: f64 = self
            .steps
            .iter()
            .map(|step| {
                let score = step.score.clamp(1e-15, 1.0 - 1e-15);
                -(step.frauds as f64 * score.ln() + step.genuine as f64 * (1.0 - score).ln())
            })
            .sum();
        (self.rows() > 0).then(|| sum / self.rows() as f64)
    }

    /// Every distinct threshold from the highest score down, with its predictions.
    pub fn operating_points(&self) -> impl Iterator<Item = OperatingPoint> + '_ {
        self.steps.iter().scan((0, 0), |(found, false_alarms), step| {
            *found += step.frauds;
            *false_alarms += step.genuine;
            Some(OperatingPoint {
                threshold: step.score,
                confusion: self.confusion(*found, *false_alarms),
            })
        })
    }

    /// The threshold of the largest F1; of equal ones the highest. `None` without fraud.
    pub fn threshold_of_best_f1(&self) -> Option<OperatingPoint> {
        if self.frauds == 0 {
            return None;
        }
        first_best(self.operating_points(), |point| {
            point.confusion.f1().unwrap_or(0.0)
        })
    }

    /// The threshold of the largest recall whose precision is at least `precision_min`; of equal recalls the more
    /// precise one. `None` without fraud, or when no threshold that finds any fraud is precise enough.
    pub fn threshold_of_best_recall(&self, precision_min: f64) -> Option<OperatingPoint> {
        let precise = self.operating_points().filter(|point| {
            point.confusion.true_positives > 0
                && point
                    .confusion
                    .precision()
                    .value()
                    .is_some_and(|precision| precision >= precision_min)
        });
        // Within one recall the first threshold from above has the fewest false alarms.
        first_best(precise, |point| point.confusion.true_positives as f64)
    }
}

fn first_best(
    points: impl Iterator<Item = OperatingPoint>,
    worth: impl Fn(&OperatingPoint) -> f64,
) -> Option<OperatingPoint> {
    let mut best: Option<(f64, OperatingPoint)> = None;
    for point in points {
        let value = worth(&point);
        if best.as_ref().is_none_or(|(top, _)| value > *top) {
            best = Some((value, point));
        }
    }
    best.map(|(_, point)| point)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranking(rows: &[(f64, bool)]) -> Ranking {
        let (scores, frauds): (Vec<f64>, Vec<bool>) = rows.iter().copied().unzip();
        Ranking::new(&scores, &frauds).unwrap()
    }

    #[test]
    fn the_threshold_itself_is_an_alarm() {
        let rows = ranking(&[(0.2, true), (0.199, true), (0.2, false)]);
        let confusion = rows.confusion_at(0.2);
        assert_eq!(
            (
                confusion.true_positives,
                confusion.false_positives,
                confusion.false_negatives
            ),
            (1, 1, 1)
        );
    }

    #[test]
    fn what_has_no_value_is_none_or_a_reason() {
        let nothing = Confusion::default();
        assert_eq!(nothing.recall().value(), None);
        assert_eq!(nothing.precision().value(), None);
        assert_eq!(
            (nothing.f1(), nothing.f1_interval(0.95), nothing.matthews()),
            (None, None, None)
        );
        let genuine_only = ranking(&[(0.1, false), (0.9, false)]);
        assert_eq!(
            genuine_only.roc_auc(),
            Err(Unusable::OneClassOnly {
                frauds: 0,
                genuine: 2
            })
        );
        assert!(genuine_only.average_precision().is_err());
        assert_eq!(genuine_only.threshold_of_best_f1(), None);
        assert_eq!(genuine_only.threshold_of_best_recall(0.5), None);
        assert_eq!(ranking(&[]).brier(), None);
        assert_eq!(
            Ranking::new(&[0.1, f64::NAN], &[true, false]),
            Err(Unusable::ScoreNotANumber { at: 1 })
        );
        assert_eq!(
            Ranking::new(&[0.1], &[]),
            Err(Unusable::LengthsDiffer { scores: 1, labels: 0 })
        );
    }

    #[test]
    fn ties_count_half_whatever_the_order() {
        let tied = ranking(&[(0.5, true), (0.5, false), (0.5, false)]);
        assert_eq!(tied.roc_auc(), Ok(0.5));
        assert_eq!(tied.average_precision(), Ok(1.0 / 3.0));
        let turned = ranking(&[(0.5, false), (0.5, true), (0.5, false)]);
        assert_eq!(tied, turned);
    }

    #[test]
    fn thresholds_are_chosen_as_promised() {
        let rows = ranking(&[
            (0.9, true),
            (0.8, true),
            (0.7, false),
            (0.6, true),
            (0.5, false),
            (0.4, false),
            (0.3, true),
        ]);
        assert_eq!(rows.threshold_of_best_f1().unwrap().threshold, 0.6);
        let point = rows.threshold_of_best_recall(0.75).unwrap();
        assert_eq!((point.threshold, point.confusion.true_positives), (0.6, 3));
        assert_eq!(rows.threshold_of_best_recall(0.9).unwrap().threshold, 0.8);
        assert_eq!(rows.threshold_of_best_recall(0.5).unwrap().threshold, 0.3);
        assert_eq!(rows.threshold_of_best_recall(1.1), None);
    }

    #[test]
    fn intervals_hold_the_value_and_widen_with_confidence() {
        let rows: Vec<(f64, bool)> = (0..400)
            .map(|i| {
                (
                    f64::from((i * 37) % 400) / 400.0,
                    i % 9 == 0 || (i * 37) % 400 > 380,
                )
            })
            .collect();
        let rows = ranking(&rows);
        let (auc, ap) = (rows.roc_auc().unwrap(), rows.average_precision().unwrap());
        let confusion = rows.confusion_at(0.5);
        let pairs = [
            (
                auc,
                rows.roc_auc_interval(0.9).unwrap(),
                rows.roc_auc_interval(0.99).unwrap(),
            ),
            (
                ap,
                rows.average_precision_interval(0.9).unwrap(),
                rows.average_precision_interval(0.99).unwrap(),
            ),
            (
                confusion.f1().unwrap(),
                confusion.f1_interval(0.9).unwrap(),
                confusion.f1_interval(0.99).unwrap(),
            ),
        ];
        for (value, narrow, wide) in pairs {
            assert!(
                wide.low < narrow.low && narrow.low < value && value < narrow.high && narrow.high < wide.high
            );
            assert!(wide.low >= 0.0 && wide.high <= 1.0);
        }
    }

    #[test]
    fn a_perfect_ranking_of_few_rows_still_has_a_wide_interval() {
        let rows = ranking(&[(0.9, true), (0.8, true), (0.2, false), (0.1, false)]);
        assert_eq!(rows.roc_auc(), Ok(1.0));
        let area = rows.roc_auc_interval(0.95).unwrap();
        assert!(area.high > 0.999 && area.low < 0.7, "{area:?}");
        let precision = rows.average_precision_interval(0.95).unwrap();
        assert!(precision.high == 1.0 && precision.low < 0.7, "{precision:?}");
    }

    #[test]
    fn the_area_interval_equals_an_independent_solution() {
        // Newcombe 2006, method 5, for area 0.75 with 20 and 30 rows: |0.75 - a| = z * spread(a).
        let mut rows = Vec::new();
        for fraud in 0..20 {
            rows.push((f64::from(fraud) + 100.0, true));
        }
        // 150 of the 600 pairs wrong: 15 frauds lie below 10 genuine rows.
        for (at, row) in rows.iter_mut().enumerate() {
            row.0 = if at < 15 { 1.0 } else { 3.0 };
        }
        rows.extend((0..30).map(|at| (if at < 10 { 2.0 } else { 0.0 }, false)));
        let rows = ranking(&rows);
        assert_eq!(rows.roc_auc(), Ok(0.75));
        let found = rows.roc_auc_interval(0.95).unwrap();
        for bound in [found.low, found.high] {
            let spread = (bound * (1.0 - bound) / 600.0
                * (1.0 + 24.0 * (1.0 - bound) / (2.0 - bound) + 24.0 * bound / (1.0 + bound)))
                .sqrt();
            assert!(((0.75 - bound).abs() / spread - 1.959_963_984_540_054).abs() < 1e-6);
        }
    }
}
