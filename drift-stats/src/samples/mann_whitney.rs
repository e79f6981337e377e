//! Mann–Whitney: whether values of one sample are larger than values of the other more often than not.
//!
//! `U` counts the pairs in which the reference's value is larger, ties as halves; 0 to `n·m`. `U/(n·m)` is the probability of that,
//! which is also the area under a ROC curve. Blind to changes of spread. The asymptotic p is normal with corrections for ties and
//! for continuity; the exact one counts, and needs samples without ties. Infinities are values like others.
//!
//! Source: Mann and Whitney, Annals of Mathematical Statistics 18, 1947. Convention: scipy's `mannwhitneyu`.

use super::{Pair, Test};
use crate::special::normal_tail;

/// Which differences count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alternative {
    /// Either.
    TwoSided,
    /// The reference's values are smaller: the current ones have risen.
    ReferenceLess,
}

/// Smaller sample for which [`p_value`] counts exactly when there are no ties, as in scipy.
pub const EXACT_MAX: u64 = 8;

struct Ranked {
    /// `U` of the reference.
    u: f64,
    /// Sum of `t³ − t` over groups of ties.
    ties: f64,
}

fn ranked(pair: &Pair) -> Ranked {
    let n = pair.sizes().0 as f64;
    let (mut ranks, mut ties) = (0.0, 0.0);
    for step in pair.steps() {
        let t = step.ties() as f64;
        let before = (step.up_to_reference + step.up_to_current) as f64 - t;
        ranks += step.in_reference as f64 * (before + f64::midpoint(t, 1.0));
        ties += t * t * t - t;
    }
    Ranked {
        u: ranks - n * (n + 1.0) / 2.0,
        ties,
    }
}

/// `U` that the alternative looks at, and by how much a tail counts.
fn looked_at(u: f64, pairs: f64, alternative: Alternative) -> (f64, f64) {
    match alternative {
        Alternative::TwoSided => (u.max(pairs - u), 2.0),
        Alternative::ReferenceLess => (pairs - u, 1.0),
    }
}

/// Test by the normal law. Where no two values differ, p is 1.
pub fn asymptotic(pair: &Pair, alternative: Alternative) -> Test {
    let (n, m) = (pair.sizes().0 as f64, pair.sizes().1 as f64);
    let Ranked { u, ties } = ranked(pair);
    let (looked, tails) = looked_at(u, n * m, alternative);
    let whole = n + m;
    let variance = n * m / 12.0 * ((whole + 1.0) - ties / (whole * (whole - 1.0)));
    let p = if variance > 0.0 {
        (tails * normal_tail((looked - n * m / 2.0 - 0.5) / variance.sqrt())).min(1.0)
    } else {
        1.0
    };
    Test { statistic: u, p }
}

/// Test by counting every order of the joined sample, in `n²·m` steps; too small where there are ties.
pub fn exact(pair: &Pair, alternative: Alternative) -> Test {
    let (n, m) = pair.sizes();
    let Ranked { u, .. } = ranked(pair);
    let (looked, tails) = looked_at(u, (n * m) as f64, alternative);
    // How many orders of n and m values have which U; the Gaussian binomial coefficient.
    let (small, large) = (n.min(m) as usize, n.max(m) as usize);
    let pairs = small * large;
    let mut orders = vec![0.0_f64; pairs + 1];
    orders[0] = 1.0;
    for i in 1..=small {
        for sum in (large + i..=pairs).rev() {
            orders[sum] -= orders[sum - large - i];
        }
        for sum in i..=pairs {
            orders[sum] += orders[sum - i];
        }
    }
    let all: f64 = orders.iter().sum();
    let from = looked.ceil().max(0.0) as usize;
    let extreme: f64 = orders.iter().skip(from).sum();
    Test {
        statistic: u,
        p: (tails * extreme / all).min(1.0),
    }
}

/// Exact for a small sample without ties, else asymptotic.
pub fn p_value(pair: &Pair, alternative: Alternative) -> Test {
    let (n, m) = pair.sizes();
    if n.min(m) <= EXACT_MAX && pair.steps().all(|step| step.ties() == 1) {
        exact(pair, alternative)
    } else {
        asymptotic(pair, alternative)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_counted() {
        let apart = Pair::new(&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0, 7.0]).unwrap();
        let one = exact(&apart, Alternative::ReferenceLess);
        assert_eq!(one.statistic, 0.0);
        // One of the 35 orders.
        assert!((one.p - 1.0 / 35.0).abs() < 1e-12, "{}", one.p);
        assert!((exact(&apart, Alternative::TwoSided).p - 2.0 / 35.0).abs() < 1e-12);
        let back = Pair::new(apart.current(), apart.reference()).unwrap();
        assert!((exact(&back, Alternative::ReferenceLess).p - 1.0).abs() < 1e-12);
    }

    #[test]
    fn constants_do_not_differ() {
        let same = Pair::new(&[1.0, 1.0], &[1.0]).unwrap();
        assert_eq!(p_value(&same, Alternative::TwoSided).p, 1.0);
    }
}
