//! NannyML 0.13: the numbers of its univariate methods.
//!
//! Jensen–Shannon (base 2) and Hellinger cut a continuous column into even bins by Doane's rule over the reference; whatever else the
//! current sample has lies in one more bin. For a categorical column the bins are the reference's levels and one for everything
//! unseen. Kolmogorov–Smirnov and Wasserstein are the exact ones of [`crate::samples`] here; NannyML uses a grid of 10,000 cells
//! from 10,000 rows of the reference on. Chi-squared is [`crate::contingency`] with Yates' correction, L-infinity ours.

use super::{count_between, doane_edges, finite};
use crate::{Sample, Unusable, hellinger, jensen_shannon};

/// Counts of a continuous column in its bins, the one for everything else last.
///
/// # Errors
/// [`Unusable::TooFewValues`] when a sample has no finite value.
pub fn binned(reference: &[f64], current: &[f64]) -> Result<(Vec<u64>, Vec<u64>), Unusable> {
    let (reference, current) = (finite(reference), finite(current));
    for (values, sample) in [(&reference, Sample::Reference), (&current, Sample::Current)] {
        if values.is_empty() {
            return Err(Unusable::TooFewValues {
                sample,
                values: 0,
                min: 1,
            });
        }
    }
    let edges = doane_edges(&reference);
    let with_rest = |values: &[f64]| {
        let mut counts = count_between(values, &edges);
        counts.push(values.len() as u64 - counts.iter().sum::<u64>());
        counts
    };
    Ok((with_rest(&reference), with_rest(&current)))
}

/// Counts by level with the levels that the reference lacks pooled; last.
pub fn pooled(reference: &[u64], current: &[u64]) -> (Vec<u64>, Vec<u64>) {
    let (mut r, mut c, mut unseen) = (Vec::new(), Vec::new(), 0);
    for (in_reference, in_current) in reference.iter().zip(current) {
        if *in_reference > 0 {
            r.push(*in_reference);
            c.push(*in_current);
        } else {
            unseen += in_current;
        }
    }
    r.push(0);
    c.push(unseen);
    (r, c)
}

/// Its upper threshold: the mean of the reference chunks' values and three standard deviations (n) of them; none without chunks.
///
/// Each chunk was compared with a reference that holds it, so the threshold is low, and with few chunks it is noise.
pub fn upper_threshold(of_chunks: &[f64]) -> Option<f64> {
    let n = of_chunks.len() as f64;
    let mean = of_chunks.iter().sum::<f64>() / n;
    let variance = of_chunks.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / n;
    (!of_chunks.is_empty()).then(|| mean + 3.0 * variance.sqrt())
}

/// Its sampling errors: one standard error of each metric of a chunk, as far as the number of rows explains it.
///
/// Each is the spread of a row's part in the metric over the reference, divided by the root of the rows that take part. That of the average
/// precision is drawn by chance (50 resamples), and so is not here.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SamplingErrors {
    /// Spread and part of the rows, per metric.
    roc_auc: (f64, f64),
    f1: (f64, f64),
    precision: (f64, f64),
    recall: (f64, f64),
    specificity: (f64, f64),
    accuracy: (f64, f64),
}

impl SamplingErrors {
    /// Those of a reference, whose rows are flagged from `threshold` on.
    ///
    /// # Errors
    /// [`Unusable`] when there is no row, or the lists differ in length.
    pub fn of(scores: &[f64], frauds: &[bool], threshold: f64) -> Result<Self, Unusable> {
        if scores.len() != frauds.len() {
            return Err(Unusable::LengthsDiffer {
                scores: scores.len(),
                labels: frauds.len(),
            });
        }
        if scores.is_empty() {
            return Err(Unusable::TooFewValues {
                sample: Sample::Reference,
                values: 0,
                min: 1,
            });
        }
        let rows = scores.len() as f64;
        let count = |flagged: bool, fraud: bool| {
            let alike =
                |(score, is_fraud): &(&f64, &bool)| (**score >= threshold) == flagged && **is_fraud == fraud;
            scores.iter().zip(frauds).filter(alike).count() as f64
        };
        let (tp, fp) = (count(true, true), count(true, false));
        let (fn_, tn) = (count(false, true), count(false, false));
        // The spread of ones among ones and zeros.
        let spread = |ones: f64, zeros: f64| {
            let share = ones / (ones + zeros);
            (share * (1.0 - share)).sqrt()
        };
        let weight = (tp + fn_ + fp) / (tp + f64::midpoint(fn_, fp));
        Ok(Self {
            roc_auc: roc_auc_spread(scores, frauds),
            f1: (spread(tp, fn_ + fp) * weight, (tp + fn_ + fp) / rows),
            precision: (spread(tp, fp), (tp + fp) / rows),
            recall: (spread(tp, fn_), (tp + fn_) / rows),
            specificity: (spread(tn, fp), (tn + fp) / rows),
            accuracy: (spread(tp + tn, fp + fn_), 1.0),
        })
    }

    /// One standard error of a metric (`roc_auc`, `f1`, `precision`, `recall`, `specificity`, `accuracy`) over so many rows; none of
    /// another metric, or where no row of the reference takes part.
    pub fn metric(&self, name: &str, rows: u64) -> Option<f64> {
        let (spread, part) = match name {
            "roc_auc" => self.roc_auc,
            "f1" => self.f1,
            "precision" => self.precision,
            "recall" => self.recall,
            "specificity" => self.specificity,
            "accuracy" => self.accuracy,
            _ => return None,
        };
        let error = spread / (rows as f64 * part).sqrt();
        error.is_finite().then_some(error)
    }
}

/// Spread of the share of genuine rows below a fraud, and the part of the rarer class.
fn roc_auc_spread(scores: &[f64], frauds: &[bool]) -> (f64, f64) {
    let found = frauds.iter().filter(|fraud| **fraud).count();
    // Whatever is rarer counts as positive.
    let flipped = found * 2 > frauds.len();
    let mut order: Vec<(f64, bool)> = scores
        .iter()
        .zip(frauds)
        .map(|(score, fraud)| (if flipped { -score } else { *score }, *fraud != flipped))
        .collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    let ranks = order
        .iter()
        .enumerate()
        .filter(|(rank, (_, fraud))| *fraud && *rank > 0);
    let below: Vec<f64> = ranks
        .enumerate()
        .map(|(at, (rank, _))| (rank - at) as f64)
        .collect();
    let positives = order.iter().filter(|(_, fraud)| *fraud).count();
    let negatives = (order.len() - positives) as f64;
    let shares: Vec<f64> = below.iter().map(|below| below / negatives).collect();
    let mean = shares.iter().sum::<f64>() / shares.len() as f64;
    let variance = shares.iter().map(|share| (share - mean).powi(2)).sum::<f64>() / shares.len() as f64;
    (variance.sqrt(), positives as f64 / order.len() as f64)
}

/// `jensen_shannon` of counts in its bins, 0 to 1.
///
/// # Errors
/// [`Unusable`] when a sample is empty or the lists differ in length.
pub fn jensen_shannon(reference: &[u64], current: &[u64]) -> Result<f64, Unusable> {
    jensen_shannon::of_counts(reference, current)
}

/// `hellinger` of counts in its bins, 0 to 1.
///
/// # Errors
/// As [`jensen_shannon`].
pub fn hellinger(reference: &[u64], current: &[u64]) -> Result<f64, Unusable> {
    hellinger::of_counts(reference, current)
}
