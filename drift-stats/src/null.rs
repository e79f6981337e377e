//! What the sample size alone explains: the law of the population stability index when nothing moved.
//!
//! `PSI / (1/n + 1/m)` of two samples of `n` and `m` values from one population is about chi-squared with
//! `bins − 1` degrees of freedom, so its expectation is `(bins − 1)(1/n + 1/m)`. When a bin expects only a few
//! values the true tail is longer, so critical values are raised by the factor `1 + 2·bins·(1/n + 1/m)`: in
//! 400,000 simulated windows each of 50 to 20,000 rows in ten even bins, levels from 1e-2 down to 2e-5 were then
//! exceeded by at most a half, where without the factor it is up to 17 times (100 rows). A minimum of rows still
//! belongs to the policy. Source of the law: as in [`crate::psi`]; the factor is our own measurement.

use crate::special::{chi_squared_critical, chi_squared_tail};

/// Sizes of the two samples, each 1 or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Values of the reference.
    pub reference: u64,
    /// Values of the window.
    pub current: u64,
}

impl Sizes {
    /// `1/n + 1/m`; infinite when a sample is empty.
    fn scale(self) -> f64 {
        1.0 / self.reference as f64 + 1.0 / self.current as f64
    }
}

/// Expected index without drift.
pub fn psi_expected(bins: u32, sizes: Sizes) -> f64 {
    f64::from(bins.saturating_sub(1)) * sizes.scale()
}

/// The index that a comparison without drift exceeds with probability `alpha`; 0 for a single bin.
pub fn psi_critical(bins: u32, sizes: Sizes, alpha: f64) -> f64 {
    match bins {
        0 | 1 => 0.0,
        _ => chi_squared_critical(alpha, f64::from(bins - 1)) * raised_scale(bins, sizes),
    }
}

/// Probability of an index at least this large without drift, 0 to 1.
pub fn psi_p_value(psi: f64, bins: u32, sizes: Sizes) -> f64 {
    match bins {
        0 | 1 => 1.0,
        _ => chi_squared_tail(psi / raised_scale(bins, sizes), f64::from(bins - 1)),
    }
}

/// How many times larger an index is without drift, on average, when windows differ by `between` besides chance
/// ([`crate::between`]); 1 or more. Critical values grow by it, and an index is divided by it before its probability is
/// looked up.
pub fn inflation(bins: u32, sizes: Sizes, between: f64) -> f64 {
    let expected = psi_expected(bins, sizes);
    if expected > 0.0 {
        1.0 + between.max(0.0) / expected
    } else {
        1.0
    }
}

fn raised_scale(bins: u32, sizes: Sizes) -> f64 {
    index_scale(bins, sizes.scale())
}

/// What the index is divided by to be about chi-squared, for samples of this `1/n + 1/m`.
pub(crate) fn index_scale(bins: u32, scale: f64) -> f64 {
    scale * (1.0 + 2.0 * f64::from(bins) * scale)
}

/// The level for each of `tests` comparisons that together are wrong with at most probability `alpha` (Bonferroni).
pub fn per_test(alpha: f64, tests: usize) -> f64 {
    alpha / tests.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: Sizes = Sizes {
        reference: 20_000,
        current: 500,
    };

    #[test]
    fn expectation_and_critical_value_shrink_with_the_window() {
        assert!((psi_expected(10, SIZES) - 9.0 * (1.0 / 20_000.0 + 1.0 / 500.0)).abs() < 1e-15);
        let larger = Sizes {
            current: 5_000,
            ..SIZES
        };
        assert!(psi_critical(10, larger, 0.01) < psi_critical(10, SIZES, 0.01) / 5.0);
        assert!(psi_critical(10, SIZES, 0.001) > psi_critical(10, SIZES, 0.01));
        assert_eq!(psi_critical(1, SIZES, 0.01), 0.0);
    }

    #[test]
    fn critical_value_and_p_value_agree() {
        for alpha in [0.05, 1e-3, 1e-6] {
            let critical = psi_critical(11, SIZES, alpha);
            assert!((psi_p_value(critical, 11, SIZES) / alpha - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn what_windows_differ_by_raises_the_noise_and_more_so_for_large_windows() {
        assert_eq!(inflation(10, SIZES, 0.0), 1.0);
        assert_eq!(inflation(1, SIZES, 0.5), 1.0);
        let expected = psi_expected(10, SIZES);
        assert!((inflation(10, SIZES, expected) - 2.0).abs() < 1e-12);
        let larger = Sizes {
            current: 50_000,
            ..SIZES
        };
        assert!(inflation(10, larger, 0.01) > inflation(10, SIZES, 0.01));
    }

    #[test]
    fn many_tests_share_one_level() {
        assert_eq!(per_test(0.03, 30), 0.001);
        assert_eq!(per_test(0.03, 0), 0.03);
    }
}
