//! Total variation: the share of the values that would have to move to another bin, `½ Σ |c − r|`.
//!
//! 0 to 1, a metric, symmetric, and the easiest to say aloud. Source: any text on probability.

use crate::shares::{self, Pair};
use crate::{Detector, Histogram, Score, Unusable};

/// The share that would have to move, over coarse bins.
#[derive(Debug, Clone, Copy)]
pub struct TotalVariation;

impl Detector for TotalVariation {
    fn name(&self) -> &'static str {
        "total_variation"
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
    let sum: f64 = shares.iter().map(|(r, c)| (c - r).abs()).sum();
    (sum / 2.0).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_would_have_to_move() {
        let moved = of_counts(&[50, 30, 20], &[40, 55, 5]).unwrap();
        assert!((moved - 0.25).abs() < 1e-15);
        assert_eq!(of_counts(&[5, 0], &[0, 50]), Ok(1.0));
    }
}
