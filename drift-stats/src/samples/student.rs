//! Student's t test with equal variances: whether two means differ.
//!
//! `t = (x̄ − ȳ)/√(s²(1/n + 1/m))` with the pooled variance and `n + m − 2` degrees of freedom, two-sided. For values whose means are
//! about normal; amounts with heavy tails are not, at small sizes. Here for comparison with other tools.
//!
//! Source: Student, Biometrika 6, 1908; Fisher 1925. Convention: scipy's `ttest_ind`.

use super::{Pair, Test};
use crate::special::student_two_sided;
use crate::{Sample, Unusable};

/// The test.
///
/// # Errors
/// [`Unusable`] for infinite values, fewer than three values in all, or samples that do not vary.
pub fn test(pair: &Pair) -> Result<Test, Unusable> {
    pair.expect_finite()?;
    let (n, m) = pair.sizes();
    if n + m < 3 {
        return Err(Unusable::TooFewValues {
            sample: Sample::Current,
            values: m,
            min: 2,
        });
    }
    let moments = |values: &[f64]| {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        (
            n,
            mean,
            values
                .iter()
                .map(|value| (value - mean) * (value - mean))
                .sum::<f64>(),
        )
    };
    let (n, x, xs) = moments(pair.reference());
    let (m, y, ys) = moments(pair.current());
    let degrees = n + m - 2.0;
    let error = ((xs + ys) / degrees * (1.0 / n + 1.0 / m)).sqrt();
    let statistic = (x - y) / error;
    if statistic.is_finite() {
        Ok(Test {
            statistic,
            p: student_two_sided(statistic, degrees),
        })
    } else if error > 0.0 {
        Err(Unusable::NotFinite)
    } else {
        Err(Unusable::Constant)
    }
}
