//! Kolmogorov–Smirnov: the largest gap between two empirical distribution functions.
//!
//! `D = max |F(x) − G(x)|`, 0 to 1, unchanged by any increasing map of the values; infinities are values like others. Ties are
//! allowed; with many of them the p-values are too large, never too small.
//!
//! Exact p: the share of the lattice paths from (0, 0) to (n, m) that leave the band of width `D`; in `n·m` steps, and for equal
//! sizes by a sum. Asymptotic p: the law of Kolmogorov's statistic of `round(n·m/(n + m))` values, as scipy has it – not its
//! limit, which is off by several percent at hundreds of values.
//!
//! Sources: Hodges, "The significance probability of the Smirnov two-sample test", Arkiv för Matematik 3, 1957; the finite law
//! as chosen by Simard and L'Ecuyer, "Computing the two-sided Kolmogorov–Smirnov distribution", JSS 39(11), 2011: Durbin's
//! matrix by Marsaglia, Tsang and Wang (JSS 8(18), 2003), Pelz and Good (JRSS B 38, 1976), and twice the one-sided law.

use std::f64::consts::PI;

use super::{Pair, Test};
use crate::special::{ln_choose, ln_gamma};

/// Largest size of a sample for which [`p_value`] is exact, as in scipy.
pub const EXACT_MAX: u64 = 10_000;

/// The largest gap and where it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Distance {
    /// `D`, 0 to 1.
    pub value: f64,
    /// Whether the reference's function is above: then the current values are larger there.
    pub reference_above: bool,
    /// The smallest value at which the gap is largest.
    pub at: f64,
    /// `D·n·m`, a whole number.
    lattice: u64,
}

/// Measures the distance.
pub fn distance(pair: &Pair) -> Distance {
    let (n, m) = pair.sizes();
    let (mut above, mut below) = ((0, f64::NAN), (0, f64::NAN));
    for step in pair.steps() {
        let (r, c) = (step.up_to_reference * m, step.up_to_current * n);
        if r > c && r - c > above.0 {
            above = (r - c, step.value);
        } else if c > r && c - r > below.0 {
            below = (c - r, step.value);
        }
    }
    let reference_above = above.0 >= below.0;
    let (lattice, at) = if reference_above { above } else { below };
    Distance {
        value: lattice as f64 / (n as f64 * m as f64),
        reference_above,
        at: if at.is_nan() { pair.reference()[0] } else { at },
        lattice,
    }
}

/// `D·n·m` of two lists in ascending order.
pub(crate) fn lattice_distance(first: &[f64], second: &[f64]) -> u64 {
    let (n, m) = (first.len() as u64, second.len() as u64);
    let (mut i, mut j) = (0, 0);
    let mut largest = 0;
    while i < first.len() && j < second.len() {
        let value = first[i].min(second[j]);
        while i < first.len() && first[i] <= value {
            i += 1;
        }
        while j < second.len() && second[j] <= value {
            j += 1;
        }
        largest = largest.max((i as u64 * m).abs_diff(j as u64 * n));
    }
    largest
}

/// Probability, without any change, of a distance of `lattice / (n·m)` or more between samples of `n` and `m` values, 0 to 1.
pub(crate) fn exact_tail(n: usize, m: usize, lattice: u64) -> f64 {
    if lattice == 0 {
        return 1.0;
    }
    if n == m {
        return equal_sizes(n as u64, lattice.div_ceil(n as u64));
    }
    // Each cell holds the share of the paths to it that have left the band before or here.
    let (n, m) = (n.max(m), n.min(m));
    let outside = |i: usize, j: usize| ((i * m) as u64).abs_diff((j * n) as u64) >= lattice;
    let mut left = vec![0.0_f64; m + 1];
    for j in 1..=m {
        left[j] = if outside(0, j) { 1.0 } else { left[j - 1] };
    }
    for i in 1..=n {
        if outside(i, 0) {
            left[0] = 1.0;
        }
        for j in 1..=m {
            left[j] = if outside(i, j) {
                1.0
            } else {
                (i as f64 * left[j] + j as f64 * left[j - 1]) / (i + j) as f64
            };
        }
    }
    left[m].clamp(0.0, 1.0)
}

/// The same for two samples of `n` values and a distance of `steps / n`: reflections, `2 Σ (−1)^(k+1) C(2n, n − k·steps)/C(2n, n)`.
fn equal_sizes(n: u64, steps: u64) -> f64 {
    let whole = ln_choose(2 * n, n);
    let mut sum = 0.0;
    for k in (1..=n / steps).rev() {
        let share = (ln_choose(2 * n, n - k * steps) - whole).exp();
        sum = share - sum;
    }
    (2.0 * sum).clamp(0.0, 1.0)
}

/// Exact test; `n·m` steps unless the sizes are equal.
pub fn exact(pair: &Pair) -> Test {
    let found = distance(pair);
    Test {
        statistic: found.value,
        p: exact_tail(pair.reference().len(), pair.current().len(), found.lattice),
    }
}

/// Test by the finite law of Kolmogorov's statistic; good from some dozens of values on.
pub fn asymptotic(pair: &Pair) -> Test {
    let (n, m) = pair.sizes();
    let statistic = distance(pair).value;
    let values = (n as f64 * m as f64 / (n as f64 + m as f64)).round();
    Test {
        statistic,
        p: finite_tail(statistic, values as u64),
    }
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

/// Probability that the distance of `n` values to the function they were drawn from is `d` or more, 0 to 1.
pub fn finite_tail(d: f64, n: u64) -> f64 {
    if d <= 0.0 || n == 0 {
        return 1.0;
    }
    if d >= 1.0 {
        return 0.0;
    }
    let size = n as f64;
    let t = d * size;
    let p = if t <= 0.5 {
        1.0
    } else if t <= 1.0 {
        // Each value in an interval of its own.
        1.0 - (ln_gamma(size + 1.0) + size * ((2.0 * t - 1.0) / size).ln()).exp()
    } else if t >= size - 1.0 {
        2.0 * (1.0 - d).powf(size)
    } else if d >= 0.5 {
        2.0 * one_sided_tail(d, n)
    } else if n <= 140 {
        if t * d <= 4.0 {
            1.0 - durbin(d, n)
        } else {
            2.0 * one_sided_tail(d, n)
        }
    } else if t * d >= 2.2 {
        if t * d >= 370.0 {
            0.0
        } else {
            2.0 * one_sided_tail(d, n)
        }
    } else if n <= 100_000 && size * d.powf(1.5) <= 1.4 {
        1.0 - durbin(d, n)
    } else {
        1.0 - pelz_good(d, n)
    };
    p.clamp(0.0, 1.0)
}

/// Probability that `n` values lie `d` or more below the function they were drawn from (Birnbaum and Tingey 1951).
fn one_sided_tail(d: f64, n: u64) -> f64 {
    let size = n as f64;
    let last = (size * (1.0 - d)).floor() as u64;
    let mut sum = 0.0;
    for k in 0..=last {
        let share = k as f64 / size;
        let (low, high) = (1.0 - d - share, d + share);
        if low <= 0.0 {
            continue;
        }
        let ln = ln_choose(n, k) + (n - k) as f64 * low.ln() + (k as f64 - 1.0) * high.ln();
        sum += ln.exp();
    }
    (d * sum).clamp(0.0, 1.0)
}

/// Probability of less than `d`, by a power of Durbin's matrix.
fn durbin(d: f64, n: u64) -> f64 {
    let size = n as f64;
    let k = (size * d).floor() as usize + 1;
    let h = k as f64 - size * d;
    let side = 2 * k - 1;
    let mut matrix = vec![vec![0.0_f64; side]; side];
    for (i, row) in matrix.iter_mut().enumerate() {
        for (j, cell) in row.iter_mut().enumerate() {
            *cell = if i + 1 >= j { 1.0 } else { 0.0 };
        }
    }
    for i in 0..side {
        let power = h.powi(i32::try_from(i + 1).unwrap_or(i32::MAX));
        matrix[i][0] -= power;
        matrix[side - 1][side - 1 - i] -= power;
    }
    if 2.0 * h > 1.0 {
        matrix[side - 1][0] += (2.0 * h - 1.0).powi(i32::try_from(side).unwrap_or(i32::MAX));
    }
    for (i, row) in matrix.iter_mut().enumerate() {
        for (j, cell) in row.iter_mut().enumerate() {
            if i + 1 > j {
                for g in 1..=(i + 1 - j) {
                    *cell /= g as f64;
                }
            }
        }
    }
    let (power, exponent) = raised(&matrix, n);
    let mut value = power[k - 1][k - 1];
    let mut exponent = exponent;
    for i in 1..=n {
        value *= i as f64 / size;
        if value < 1e-140 {
            value *= 1e140;
            exponent -= 140;
        }
    }
    value * 10.0_f64.powi(exponent)
}

type Matrix = Vec<Vec<f64>>;

fn product(first: &Matrix, second: &Matrix) -> Matrix {
    first
        .iter()
        .map(|row| {
            (0..second.len())
                .map(|j| row.iter().zip(second).map(|(cell, other)| cell * other[j]).sum())
                .collect()
        })
        .collect()
}

/// A power of a matrix and the power of ten that it is to be multiplied with.
fn raised(matrix: &Matrix, n: u64) -> (Matrix, i32) {
    if n <= 1 {
        return (matrix.clone(), 0);
    }
    let (half, exponent) = raised(matrix, n / 2);
    let (mut power, mut exponent) = (product(&half, &half), 2 * exponent);
    if n % 2 == 1 {
        power = product(&power, matrix);
    }
    let middle = matrix.len() / 2;
    if power[middle][middle] > 1e140 {
        for cell in power.iter_mut().flatten() {
            *cell *= 1e-140;
        }
        exponent += 140;
    }
    (power, exponent)
}

/// Probability of less than `d`: the limiting law and three corrections in powers of `1/√n`.
#[expect(clippy::many_single_char_names, reason = "the names of the source")]
fn pelz_good(d: f64, n: u64) -> f64 {
    let root = (n as f64).sqrt();
    let z = root * d;
    let (pi2, pi4, pi6) = (PI.powi(2), PI.powi(4), PI.powi(6));
    let (z2, z4, z6) = (z * z, z.powi(4), z.powi(6));
    let q = |odd: f64| (-pi2 * odd * odd / (8.0 * z2)).exp();
    let (mut k0, mut k1, mut k2, mut k3) = (0.0, 0.0, 0.0, 0.0);
    for step in (0..40_u32).rev() {
        let half = f64::from(step) + 0.5;
        let (h2, h4, h6) = (half * half, half.powi(4), half.powi(6));
        let weight = q(2.0 * half);
        k0 += weight;
        k1 += (pi2 * h2 - z2) * weight;
        k2 += (6.0 * z6 + 2.0 * z4 + pi2 * (2.0 * z4 - 5.0 * z2) * h2 + pi4 * (1.0 - 2.0 * z2) * h4) * weight;
        k3 += (-30.0 * z6 - 90.0 * z6 * z2
            + pi2 * (135.0 * z4 - 96.0 * z6) * h2
            + pi4 * (-60.0 * z2 + 212.0 * z4) * h4
            + pi6 * (5.0 - 30.0 * z2) * h6)
            * weight;
    }
    let (mut extra2, mut extra3) = (0.0, 0.0);
    for step in (1..40_u32).rev() {
        let k = f64::from(step);
        let weight = q(2.0 * k);
        extra2 += k * k * weight;
        extra3 += (3.0 * pi2 * k * k * z2 - pi4 * k.powi(4)) * weight;
    }
    let half_pi = (PI / 2.0).sqrt();
    k0 *= (2.0 * PI).sqrt() / z;
    k1 *= half_pi / (3.0 * z4);
    k2 = k2 * half_pi / (36.0 * z6 * z) - extra2 * half_pi * pi2 / (18.0 * z2 * z);
    k3 = k3 * half_pi / (3_240.0 * z6 * z4) + extra3 * half_pi / (108.0 * z6);
    k0 + k1 / root + k2 / (root * root) + k3 / root.powi(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(got: f64, want: f64, relative: f64) {
        assert!(
            (got - want).abs() <= relative * want.abs().max(1e-300),
            "got {got}, want {want}"
        );
    }

    #[test]
    fn the_gap_has_a_side_and_a_place() {
        let pair = Pair::new(&[1.0, 2.0, 3.0, 4.0], &[3.0, 4.0, 5.0, 6.0]).unwrap();
        let found = distance(&pair);
        assert_eq!((found.value, found.reference_above, found.at), (0.5, true, 2.0));
        let back = distance(&Pair::new(pair.current(), pair.reference()).unwrap());
        assert_eq!((back.value, back.reference_above), (0.5, false));
        let same = distance(&Pair::new(&[7.0], &[7.0]).unwrap());
        assert_eq!((same.value, same.at), (0.0, 7.0));
    }

    #[test]
    fn equal_sizes_by_reflection_are_the_paths_that_leave_the_band() {
        for n in [1_usize, 2, 3, 7, 20] {
            for steps in 1..=n as u64 {
                // Counted one by one, as if the sizes differed.
                let lattice = steps * n as u64;
                let mut left = vec![0.0_f64; n + 1];
                let outside = |i: usize, j: usize| (i.abs_diff(j) * n) as u64 >= lattice;
                for j in 1..=n {
                    left[j] = if outside(0, j) { 1.0 } else { left[j - 1] };
                }
                for i in 1..=n {
                    left[0] = if outside(i, 0) { 1.0 } else { left[0] };
                    for j in 1..=n {
                        left[j] = if outside(i, j) {
                            1.0
                        } else {
                            (i as f64 * left[j] + j as f64 * left[j - 1]) / (i + j) as f64
                        };
                    }
                }
                close(exact_tail(n, n, lattice), left[n], 1e-10);
            }
        }
    }

    #[test]
    fn the_ways_to_the_finite_law_agree_where_they_meet() {
        for (n, d) in [
            (140, 0.1),
            (141, 0.1),
            (500, 0.05),
            (2_000, 0.03),
            (20_000, 0.008),
        ] {
            let by_matrix = durbin(d, n);
            close(pelz_good(d, n), by_matrix, 2e-6);
        }
        for n in [20, 100, 140] {
            let d = (4.0 / n as f64).sqrt();
            close(2.0 * one_sided_tail(d, n), 1.0 - durbin(d, n), 1e-6);
        }
        close(2.0 * one_sided_tail(0.1, 220), 1.0 - durbin(0.1, 220), 1e-4);
    }

    #[test]
    fn the_finite_law_falls_from_one_to_nothing() {
        for n in [1, 2, 10, 139, 140, 141, 1_000, 200_000] {
            let mut before = 1.0;
            for step in 0..=200_u32 {
                let p = finite_tail(f64::from(step) / 200.0, n);
                assert!(p <= before + 1e-9 && (0.0..=1.0).contains(&p), "{n} {step}: {p}");
                before = p;
            }
            assert_eq!(before, 0.0);
        }
    }
}
