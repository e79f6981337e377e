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
