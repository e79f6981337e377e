//! Kullback–Leibler divergence: how surprising the current sample is to who knows the reference, `Σ c · ln(c/r)`.
//!
//! In nats, 0 or more, not symmetric. A bin that the reference lacks would make it infinite; as in [`crate::psi`] an empty bin
//! counts as half a value, or as fewer when fewer are to be expected. Shares are then scaled to sum to 1, so that the result is
//! never below 0. evidently measures the other way round: swap the arguments.
//!
//! Source: Kullback and Leibler, "On information and sufficiency", Annals of Mathematical Statistics 22(1), 1951.

use crate::shares::{self, Pair};
use crate::{Detector, Histogram, Score, Unusable};

/// The divergence of the current sample from the reference, over coarse bins.
#[derive(Debug, Clone, Copy)]
pub struct KullbackLeibler;

impl Detector for KullbackLeibler {
    fn name(&self) -> &'static str {
        "kullback_leibler"
    }

    fn score(&self, reference: &Histogram, current: &Histogram) -> Result<Score, Unusable> {
        let (n, m) = shares::sizes(reference.coarse(), current.coarse())?;
        shares::score(reference, current, |shares| measure(shares, n, m))
    }
}

/// The same of two lists of counts in the same bins.
///
/// # Errors
/// [`Unusable`] when a sample is empty or the lists differ in length.
pub fn of_counts(reference: &[u64], current: &[u64]) -> Result<f64, Unusable> {
    let (n, m) = shares::sizes(reference, current)?;
    Ok(measure(&shares::of_counts(reference, current)?, n, m))
}

/// Of samples of `n` and `m` values.
fn measure(shares: &[Pair], n: f64, m: f64) -> f64 {
    let stood_in: Vec<(f64, f64)> = shares
        .iter()
        .map(|&(r, c)| {
            if r == 0.0 {
                (c.min(0.5 / n), c)
            } else if c == 0.0 {
                (r, r.min(0.5 / m))
            } else {
                (r, c)
            }
        })
        .collect();
    of_shares(&stood_in)
}

/// Of shares that are all above 0, which need not sum to 1.
pub(crate) fn of_shares(shares: &[(f64, f64)]) -> f64 {
    let (r_sum, c_sum) = shares
        .iter()
        .fold((0.0, 0.0), |sum, (r, c)| (sum.0 + r, sum.1 + c));
    let sum: f64 = shares
        .iter()
        .map(|(r, c)| c / c_sum * ((c / c_sum) / (r / r_sum)).ln())
        .sum();
    sum.max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_not_symmetric_and_never_infinite() {
        let want = 0.8 * (0.8_f64 / 0.5).ln() + 0.2 * (0.2_f64 / 0.5).ln();
        assert!((of_counts(&[50, 50], &[80, 20]).unwrap() - want).abs() < 1e-15);
        assert!(of_counts(&[50, 0], &[0, 50]).unwrap().is_finite());
        assert_eq!(of_counts(&[3, 4], &[30, 40]), Ok(0.0));
        assert!(of_counts(&[99_999, 1], &[50, 0]).unwrap() < 1e-4);
    }
}
