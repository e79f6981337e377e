//! L-infinity: the largest change of any one share, `max |c − r|`.
//!
//! 0 to 1; says at once that some level gained or lost so much of the whole, and is blind to many small changes. Source: the
//! Chebyshev distance; as a drift measure NannyML's.

use crate::shares::{self, Pair};
use crate::{Detector, Histogram, Score, Unusable};

/// The largest change of a share over coarse bins.
#[derive(Debug, Clone, Copy)]
pub struct LInfinity;

impl Detector for LInfinity {
    fn name(&self) -> &'static str {
        "l_infinity"
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
    shares.iter().map(|(r, c)| (c - r).abs()).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_largest_change() {
        let moved = of_counts(&[50, 30, 20], &[40, 55, 5]).unwrap();
        assert!((moved - 0.25).abs() < 1e-15);
        assert_eq!(of_counts(&[1], &[7]), Ok(0.0));
    }
}
