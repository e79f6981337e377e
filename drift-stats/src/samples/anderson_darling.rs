//! Anderson–Darling for two samples: Cramér–von Mises with the weight `1/(H(1 − H))`, so that tails count as much as the middle.
//!
//! The statistic is `(A² − 1)/σ_N` with midranks for ties; about 0 without change. Its p-value is interpolated in a table of seven
//! critical values and so lies between 0.001 and 0.25: outside it says "at most" and "at least". Infinities are values like
//! others. Two values are needed that differ, and three in all.
//!
//! Source: Scholz and Stephens, "K-sample Anderson–Darling tests", JASA 82, 1987. Convention: scipy's `anderson_ksamp`.

use super::{Pair, Test};
use crate::{Sample, Unusable};

/// Levels of the table, and the coefficients of their critical values summed for two samples.
const TABLE: [(f64, f64); 7] = [
    (0.25, 0.675 - 0.245 - 0.105),
    (0.1, 1.281 + 0.25 - 0.305),
    (0.05, 1.645 + 0.678 - 0.362),
    (0.025, 1.96 + 1.149 - 0.391),
    (0.01, 2.326 + 1.822 - 0.396),
    (0.005, 2.573 + 2.364 - 0.345),
    (0.001, 3.085 + 3.615 - 0.154),
];

/// The test.
///
/// # Errors
/// [`Unusable`] when all values are the same, or there are fewer than four in all.
pub fn test(pair: &Pair) -> Result<Test, Unusable> {
    let (n, m) = pair.sizes();
    let whole = n + m;
    if whole < 4 {
        return Err(Unusable::TooFewValues {
            sample: Sample::Current,
            values: m,
            min: 4 - n.min(3),
        });
    }
    if pair.steps().nth(1).is_none() {
        return Err(Unusable::Constant);
    }
    let (n, m, size) = (n as f64, m as f64, whole as f64);
    let mut sums = (0.0, 0.0);
    for step in pair.steps() {
        let ties = step.ties() as f64;
        let before = (step.up_to_reference + step.up_to_current - step.ties()) as f64 + ties / 2.0;
        let weight = ties / size / (before * (size - before) - size * ties / 4.0);
        let part = |up_to: u64, in_it: u64, values: f64| {
            let middle = up_to as f64 - in_it as f64 / 2.0;
            weight * (size * middle - before * values).powi(2)
        };
        sums.0 += part(step.up_to_reference, step.in_reference, n);
        sums.1 += part(step.up_to_current, step.in_current, m);
    }
    let a2 = (sums.0 / n + sums.1 / m) * (size - 1.0) / size;
    let statistic = (a2 - 1.0) / deviation(n, m, whole);
    Ok(Test {
        statistic,
        p: p_value(statistic),
    })
}

/// Standard deviation of `A²` of two samples without change.
#[expect(clippy::many_single_char_names, reason = "the names of the source")]
fn deviation(n: f64, m: f64, whole: u64) -> f64 {
    let size = whole as f64;
    let k = 2.0;
    let sizes = 1.0 / n + 1.0 / m;
    // Sums of 1/(N − i), and of those over the ranks.
    let (mut cumulated, mut g) = (0.0, 0.0);
    for (i, divisor) in (2..whole).rev().zip(2_u64..) {
        cumulated += 1.0 / i as f64;
        g += cumulated / divisor as f64;
    }
    let h = cumulated + 1.0;
    let a = (4.0 * g - 6.0) * (k - 1.0) + (10.0 - 6.0 * g) * sizes;
    let b =
        (2.0 * g - 4.0) * k * k + 8.0 * h * k + (2.0 * g - 14.0 * h - 4.0) * sizes - 8.0 * h + 4.0 * g - 6.0;
    let c =
        (6.0 * h + 2.0 * g - 2.0) * k * k + (4.0 * h - 4.0 * g + 6.0) * k + (2.0 * h - 6.0) * sizes + 4.0 * h;
    let d = (2.0 * h + 6.0) * k * k - 4.0 * h * k;
    let variance =
        (a * size.powi(3) + b * size * size + c * size + d) / ((size - 1.0) * (size - 2.0) * (size - 3.0));
    variance.sqrt()
}

/// By a parabola through the logarithms of the table's levels, least squares.
fn p_value(statistic: f64) -> f64 {
    let (least, most) = (TABLE[0], TABLE[TABLE.len() - 1]);
    if statistic < least.1 {
        return least.0;
    }
    if statistic > most.1 {
        return most.0;
    }
    let [constant, linear, square] = parabola();
    (constant + linear * statistic + square * statistic * statistic).exp()
}

/// Coefficients of the parabola, lowest first.
fn parabola() -> [f64; 3] {
    let mut equations = [[0.0_f64; 4]; 3];
    for (level, x) in TABLE {
        let powers = [1.0, x, x * x];
        for (row, equation) in equations.iter_mut().enumerate() {
            for column in 0..3 {
                equation[column] += powers[row] * powers[column];
            }
            equation[3] += powers[row] * level.ln();
        }
    }
    for pivot in 0..3 {
        for row in 0..3 {
            if row != pivot {
                let factor = equations[row][pivot] / equations[pivot][pivot];
                let from = equations[pivot];
                for (cell, other) in equations[row].iter_mut().zip(from) {
                    *cell -= factor * other;
                }
            }
        }
    }
    [0, 1, 2].map(|row| equations[row][3] / equations[row][row])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_levels_of_the_table_are_met_nearly() {
        for (level, critical) in TABLE {
            assert!((p_value(critical) / level - 1.0).abs() < 0.1, "{level}");
        }
        assert_eq!(p_value(-5.0), 0.25);
        assert_eq!(p_value(50.0), 0.001);
    }

    #[test]
    fn what_does_not_vary_has_no_test() {
        let constant = Pair::new(&[1.0, 1.0, 1.0], &[1.0, 1.0]).unwrap();
        assert_eq!(test(&constant), Err(Unusable::Constant));
        let few = Pair::new(&[1.0], &[2.0, 3.0]).unwrap();
        assert!(matches!(test(&few), Err(Unusable::TooFewValues { .. })));
    }
}
