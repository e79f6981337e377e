//! Cramér–von Mises: the squared gap between two distribution functions, averaged over the values of both.
//!
//! `T = U/(n·m·N) − (4nm − 1)/(6N)`, `N = n + m`, `U = n Σ (rᵢ − i)² + m Σ (sⱼ − j)²` with the ranks of both in the joined sample
//! (midranks for ties). More even over the range than Kolmogorov–Smirnov, which looks at one place. Infinities are values like
//! others. The asymptotic p is that of the limiting law at the standardised `T`; exact for small samples by counting.
//!
//! Sources: Anderson, "On the distribution of the two-sample Cramér–von Mises criterion", Annals of Mathematical Statistics 33(3),
//! 1962; the limit by Csörgő and Faraway, JRSS B 58, 1996; the count by Xiao, Gordon and Yakovlev, JSS 17(8), 2006. Convention:
//! scipy's `cramervonmises_2samp`.

use std::collections::BTreeMap;
use std::f64::consts::PI;

use super::{Pair, Test};
use crate::special::{bessel_k_quarter, ln_gamma};

/// Largest size of a sample for which [`p_value`] counts exactly, as in scipy.
pub const EXACT_MAX: u64 = 20;

/// `U` of the joined ranks.
fn joined(pair: &Pair) -> f64 {
    let (n, m) = (pair.sizes().0 as f64, pair.sizes().1 as f64);
    let mut sums = (0.0, 0.0);
    for step in pair.steps() {
        let before = (step.up_to_reference + step.up_to_current - step.ties()) as f64;
        let rank = before + f64::midpoint(step.ties() as f64, 1.0);
        let squares = |up_to: u64, ties: u64| -> f64 {
            ((up_to - ties)..up_to)
                .map(|i| (rank - (i + 1) as f64).powi(2))
                .sum()
        };
        sums.0 += squares(step.up_to_reference, step.in_reference);
        sums.1 += squares(step.up_to_current, step.in_current);
    }
    n * sums.0 + m * sums.1
}

fn statistic(pair: &Pair, u: f64) -> f64 {
    let (n, m) = (pair.sizes().0 as f64, pair.sizes().1 as f64);
    let (k, whole) = (n * m, n + m);
    u / (k * whole) - (4.0 * k - 1.0) / (6.0 * whole)
}

/// Test by the limiting law.
pub fn asymptotic(pair: &Pair) -> Test {
    let statistic = statistic(pair, joined(pair));
    let (n, m) = (pair.sizes().0 as f64, pair.sizes().1 as f64);
    let (k, whole) = (n * m, n + m);
    let expected = (1.0 + 1.0 / whole) / 6.0;
    let variance = (whole + 1.0) * (4.0 * k * whole - 3.0 * (n * n + m * m) - 2.0 * k)
        / (45.0 * whole * whole * 4.0 * k);
    let standard = 1.0 / 6.0 + (statistic - expected) / (45.0 * variance).sqrt();
    // One value against one leaves nothing to vary.
    let p = if variance <= 0.0 || standard < 0.003 {
        1.0
    } else {
        (1.0 - limiting(standard)).clamp(0.0, 1.0)
    };
    Test { statistic, p }
}

/// The limiting law's probability of less than `x`, for `x` above 0.
fn limiting(x: f64) -> f64 {
    let mut sum = 0.0;
    for k in 0..200_u32 {
        let k = f64::from(k);
        let y = 4.0 * k + 1.0;
        let q = y * y / (16.0 * x);
        let ln = ln_gamma(k + 0.5) - ln_gamma(k + 1.0);
        let term = ln.exp() / (PI.powf(1.5) * x.sqrt()) * y.sqrt() * (-q).exp() * bessel_k_quarter(q);
        sum += term;
        if term < 1e-17 * sum.max(1e-300) {
            break;
        }
    }
    sum
}

/// Test by counting every order of the joined sample; grows fast with the sizes, so for some dozens of values at most.
#[expect(clippy::many_single_char_names, reason = "the names of the source")]
pub fn exact(pair: &Pair) -> Test {
    let u = joined(pair);
    let (n, m) = pair.sizes();
    let lcm = n / gcd(n, m) * m;
    let (a, b) = (lcm / n, lcm / m);
    let (product, scale) = ((n * m) as f64, (lcm * lcm * (n + m)) as f64);
    let zeta = (scale * (6.0 * u - product * (4.0 * product - 1.0)) / (6.0 * product * product)).floor();
    // For each number of values of the reference, how many orders lead to which sum.
    let empty = BTreeMap::<u64, f64>::new();
    let mut table = vec![empty.clone(); n as usize + 1];
    table[0].insert(0, 1.0);
    for u in 0..=m {
        let mut orders = empty.clone();
        for (v, of_before) in table.iter_mut().enumerate() {
            for (sum, count) in of_before.iter() {
                *orders.entry(*sum).or_default() += count;
            }
            let gap = (a * v as u64).abs_diff(b * u);
            orders = orders
                .into_iter()
                .map(|(sum, count)| (sum + gap * gap, count))
                .collect();
            of_before.clone_from(&orders);
        }
    }
    let last = &table[n as usize];
    let all: f64 = last.values().sum();
    let extreme: f64 = last
        .iter()
        .filter(|(sum, _)| **sum as f64 >= zeta)
        .map(|(_, count)| count)
        .sum();
    Test {
        statistic: statistic(pair, u),
        p: extreme / all,
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Exact while both samples have at most [`EXACT_MAX`] values, else asymptotic.
pub fn p_value(pair: &Pair) -> Test {
    let (n, m) = pair.sizes();
    if n.max(m) <= EXACT_MAX {
        exact(pair)
    } else {
        asymptotic(pair)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limiting_law_has_its_printed_quantiles() {
        // Anderson and Darling 1952, table 1.
        for (x, below) in [(0.34730, 0.90), (0.46136, 0.95), (0.74346, 0.99)] {
            assert!((limiting(x) - below).abs() < 2e-5, "{x}: {}", limiting(x));
        }
    }

    #[test]
    fn all_orders_are_counted_once() {
        let apart = Pair::new(&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0]).unwrap();
        let mixed = Pair::new(&[1.0, 4.0, 5.0], &[2.0, 3.0, 6.0]).unwrap();
        // Of the 20 orders, two are as far apart as this one.
        assert!((exact(&apart).p - 0.1).abs() < 1e-12);
        assert!(exact(&mixed).p > 0.9);
    }
}
