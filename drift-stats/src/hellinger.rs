//! Hellinger distance: half the Euclidean distance between the roots of shares, `‖√r − √c‖/√2`.
//!
//! 0 to 1, a metric, symmetric; empty bins need no rule. Source: Hellinger 1909; as a drift measure Ditzler and Polikar,
//! "Hellinger distance based drift detection for nonstationary environments", CIDUE 2011.

use crate::shares::{self, Pair};
use crate::{Detector, Histogram, Score, Unusable};

/// The distance over coarse bins.
#[derive(Debug, Clone, Copy)]
pub struct Hellinger;

impl Detector for Hellinger {
    fn name(&self) -> &'static str {
        "hellinger"
    }

    fn score(&self, reference: &Histogram, current: &Histogram) -> Result<Score, Unusable> {
        shares::score(reference, current, measure)
    }
}

/// The same of two lists of counts in the same bins.
///
/// # Errors
/// [`Unusable`] when a sample is empty or the lists differ in length.
pub fn of_counts(reference: &[u64], current: &[u64]) -> Result<f64, Unusable> {
    Ok(measure(&shares::of_counts(reference, current)?))
}

fn measure(shares: &[Pair]) -> f64 {
    let sum: f64 = shares.iter().map(|(r, c)| (r.sqrt() - c.sqrt()).powi(2)).sum();
    (sum / 2.0).sqrt().min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_from_nothing_to_one() {
        assert_eq!(of_counts(&[5, 5], &[50, 50]), Ok(0.0));
        assert_eq!(of_counts(&[5, 0], &[0, 50]), Ok(1.0));
        let want = (1.0 - (0.5_f64 * 0.8).sqrt() - (0.5_f64 * 0.2).sqrt()).sqrt();
        assert!((of_counts(&[1, 1], &[8, 2]).unwrap() - want).abs() < 1e-15);
    }
}
