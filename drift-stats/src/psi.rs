//! Population stability index: the symmetric relative entropy of two histograms.
//!
//! `PSI = Σ (cᵢ − rᵢ) · ln(cᵢ / rᵢ)` over the coarse bins, `rᵢ` and `cᵢ` being shares of each sample.
//! Dimensionless, 0 for equal histograms, unbounded above but always finite here.
//!
//! An empty bin counts as half a value, or as fewer when fewer than half a value is what the other sample leads
//! one to expect: one value in a hundred thousand does not make a window of fifty rows, which lacks it, look
//! drifted. A bin that is empty in both samples is no bin. Shares are not renormalised, so every term is 0 or
//! more. Symmetric in its two samples.
//!
//! Source: Yurdakul and Naranjo, "Statistical properties of the population stability index",
//! Journal of Risk Model Validation 14(4), 2020. Its null distribution is in [`crate::null`].

use crate::shares;
use crate::{Detector, Histogram, Score, Unusable};

/// The population stability index over coarse bins.
#[derive(Debug, Clone, Copy)]
pub struct Psi;

impl Detector for Psi {
    fn name(&self) -> &'static str {
        "psi"
    }

    fn score(&self, reference: &Histogram, current: &Histogram) -> Result<Score, Unusable> {
        reference.comparable(current)?;
        of_counts(&reference.coarse_beside(current), current.coarse())
    }
}

/// The index of two lists of counts in the same bins.
///
/// # Errors
/// [`Unusable`] when a sample is empty or the lists differ in length.
pub fn of_counts(reference: &[u64], current: &[u64]) -> Result<Score, Unusable> {
    let terms = terms(reference, current)?;
    let bins = terms.iter().flatten().count();
    Ok(Score {
        value: terms.iter().flatten().sum(),
        bins: u32::try_from(bins).unwrap_or(u32::MAX),
    })
}

/// What each bin adds to the index, 0 or more; nothing for a bin that is empty in both samples.
///
/// # Errors
/// As [`of_counts`].
pub fn terms(reference: &[u64], current: &[u64]) -> Result<Vec<Option<f64>>, Unusable> {
    let (reference_size, current_size) = shares::sizes(reference, current)?;
    let bins = reference.iter().zip(current).map(|(r, c)| {
        let (r_share, c_share) = match (*r, *c) {
            (0, 0) => return None,
            (0, c) => (
                stand_in(c as f64 / current_size, reference_size),
                c as f64 / current_size,
            ),
            (r, 0) => (
                r as f64 / reference_size,
                stand_in(r as f64 / reference_size, current_size),
            ),
            (r, c) => (r as f64 / reference_size, c as f64 / current_size),
        };
        Some(term(r_share, c_share))
    });
    Ok(bins.collect())
}

/// The share that an empty bin counts as, given the other sample's share and this sample's size.
fn stand_in(other_share: f64, size: f64) -> f64 {
    other_share.min(0.5 / size)
}

/// One bin's contribution; 0 or more.
pub(crate) fn term(r: f64, c: f64) -> f64 {
    (c - r) * (c / r).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Sample;

    #[test]
    fn a_hand_computed_example() {
        let score = of_counts(&[50, 50], &[80, 20]).unwrap();
        let want = (0.8 - 0.5) * (0.8_f64 / 0.5).ln() + (0.2 - 0.5) * (0.2_f64 / 0.5).ln();
        assert!((score.value - want).abs() < 1e-15);
        assert_eq!(score.bins, 2);
    }

    #[test]
    fn an_empty_bin_counts_as_half_a_value() {
        let score = of_counts(&[50, 50], &[100, 0]).unwrap();
        let want = 0.5 * 2.0_f64.ln() + (0.005 - 0.5) * (0.005_f64 / 0.5).ln();
        assert!((score.value - want).abs() < 1e-15);
    }

    #[test]
    fn an_empty_bin_that_was_to_be_expected_says_nothing() {
        assert_eq!(
            of_counts(&[99_999, 1], &[50, 0]).unwrap().value,
            of_counts(&[99_999], &[50]).unwrap().value + term(0.99999, 1.0)
        );
        assert!(of_counts(&[99_999, 1], &[50, 0]).unwrap().value < 1e-9);
        assert!(of_counts(&[50, 0], &[99_999, 1]).unwrap().value < 1e-9);
    }

    #[test]
    fn bins_empty_in_both_samples_are_no_bins() {
        let with = of_counts(&[10, 0, 30], &[5, 0, 95]).unwrap();
        let without = of_counts(&[10, 30], &[5, 95]).unwrap();
        assert_eq!(with, without);
    }

    #[test]
    fn no_values_is_a_reason_and_not_a_zero() {
        assert_eq!(
            of_counts(&[1, 2], &[0, 0]),
            Err(Unusable::TooFewValues {
                sample: Sample::Current,
                values: 0,
                min: 1
            })
        );
        assert_eq!(
            of_counts(&[0], &[1]),
            Err(Unusable::TooFewValues {
                sample: Sample::Reference,
                values: 0,
                min: 1
            })
        );
        assert_eq!(of_counts(&[1], &[1, 2]), Err(Unusable::BinsDiffer));
    }
}
