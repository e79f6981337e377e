//! Jensen–Shannon distance: the root of the mean relative entropy of two histograms to their middle.
//!
//! `√((KL(r ‖ m) + KL(c ‖ m))/2)`, `m = (r + c)/2`. In base 2 it lies between 0 and 1, which is ours and NannyML's; evidently uses the
//! natural logarithm, whose largest value is `√ln 2 ≈ 0.8326`: see [`natural`]. A metric, symmetric, and empty bins need no rule.
//!
//! Source: Lin, "Divergence measures based on the Shannon entropy", IEEE Transactions on Information Theory 37(1), 1991; as a
//! distance Endres and Schindelin 2003.

use crate::shares::{self, Pair};
use crate::{Detector, Histogram, Score, Unusable};

/// The distance in base 2 over coarse bins.
#[derive(Debug, Clone, Copy)]
pub struct JensenShannon;

impl Detector for JensenShannon {
    fn name(&self) -> &'static str {
        "jensen_shannon"
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
    (divergence(shares) / std::f64::consts::LN_2).sqrt().min(1.0)
}

/// The distance with natural logarithms, 0 to `√ln 2`.
///
/// # Errors
/// As [`of_counts`].
pub fn natural(reference: &[u64], current: &[u64]) -> Result<f64, Unusable> {
    Ok(divergence(&shares::of_counts(reference, current)?).sqrt())
}

/// In nats, 0 or more.
fn divergence(shares: &[Pair]) -> f64 {
    let part = |share: f64, middle: f64| {
        if share > 0.0 {
            share * (share / middle).ln()
        } else {
            0.0
        }
    };
    let sum: f64 = shares
        .iter()
        .map(|(r, c)| {
            let middle = r.midpoint(*c);
            part(*r, middle) + part(*c, middle)
        })
        .sum();
    (sum / 2.0).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_from_nothing_to_one() {
        assert_eq!(of_counts(&[5, 5], &[50, 50]), Ok(0.0));
        assert_eq!(of_counts(&[5, 0], &[0, 50]), Ok(1.0));
        assert!((natural(&[5, 0], &[0, 50]).unwrap() - std::f64::consts::LN_2.sqrt()).abs() < 1e-15);
        assert!(matches!(
            of_counts(&[0], &[1]),
            Err(Unusable::TooFewValues { .. })
        ));
    }
}
