//! CBPE, confidence-based performance estimation: how well a model does before its labels are there.
//!
//! If the scores are probabilities, a row with probability `p` is `p` of a fraud: summed over the rows above and below the threshold
//! they give the confusion matrix to expect, and from it recall, precision and their kin. Scores that are not probabilities are made
//! so first ([`crate::isotonic`], fitted to labelled rows); who is above the threshold is decided by the raw score in any case.
//!
//! Limits: it assumes that a score means what it meant when it was calibrated. It sees what a shift of the inputs does to the
//! results, and is blind to concept drift, where the same score means something else: compare it with what was realised once labels
//! have ripened.
//!
//! Source: NannyML, "Confidence-based performance estimation"; Guillory et al., ICCV 2021. Rows of equal score are one group here.

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
