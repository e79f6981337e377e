//! Two samples in the same levels: Pearson's chi-squared test of the 2 × k table, and Cramér's V.
//!
//! `χ² = Σ (observed − expected)²/expected`, `k − 1` degrees of freedom, where the expectation is that of one population: the
//! reference's own error counts, unlike in one-sample tests. Levels that neither sample has are no levels. The law is good while
//! most expectations are 5 or more. For two levels the differences may be made smaller by a half (Yates), which is too careful.
//! Cramér's V is `√(χ²/N)` without that correction: 0 to 1 whatever the sizes, for one level 0.
//!
//! Sources: Pearson 1900; Yates 1934; Cramér 1946. Convention: scipy's `chi2_contingency` and `association`.

use crate::Unusable;
use crate::samples::Test;
use crate::shares;
use crate::special::chi_squared_tail;

/// Whether differences in a table of two levels are made smaller by a half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Correction {
    /// As they are.
    None,
    /// Yates' correction, for two levels only.
    YatesForTwo,
}

/// What a table says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Association {
    /// Statistic, 0 or more, and its probability.
    pub test: Test,
    /// Degrees of freedom, 1 or more.
    pub degrees: u32,
}

/// The test of two lists of counts in the same levels.
///
/// # Errors
/// [`Unusable`] when a sample is empty, the lists differ in length, or all values are of one level.
pub fn chi_squared(
    reference: &[u64],
    current: &[u64],
    correction: Correction,
) -> Result<Association, Unusable> {
    let (n, m) = shares::sizes(reference, current)?;
    let levels: Vec<(f64, f64)> = reference
        .iter()
        .zip(current)
        .filter(|(r, c)| **r + **c > 0)
        .map(|(r, c)| (*r as f64, *c as f64))
        .collect();
    if levels.len() < 2 {
        return Err(Unusable::Constant);
    }
    let half = if correction == Correction::YatesForTwo && levels.len() == 2 {
        0.5
    } else {
        0.0
    };
    let cell = |observed: f64, expected: f64| {
        let gap = (observed - expected).abs();
        let gap = gap - f64::min(half, gap);
        gap * gap / expected
    };
    let statistic: f64 = levels
        .iter()
        .map(|(r, c)| {
            let both = r + c;
            cell(*r, both * n / (n + m)) + cell(*c, both * m / (n + m))
        })
        .sum();
    let degrees = u32::try_from(levels.len() - 1).unwrap_or(u32::MAX);
    Ok(Association {
        test: Test {
            statistic,
            p: chi_squared_tail(statistic, f64::from(degrees)),
        },
        degrees,
    })
}

/// Cramér's V, 0 to 1.
///
/// # Errors
/// [`Unusable`] when a sample is empty or the lists differ in length.
pub fn cramers_v(reference: &[u64], current: &[u64]) -> Result<f64, Unusable> {
    let (n, m) = shares::sizes(reference, current)?;
    match chi_squared(reference, current, Correction::None) {
        Ok(found) => Ok((found.test.statistic / (n + m)).sqrt().min(1.0)),
        Err(Unusable::Constant) => Ok(0.0),
        Err(other) => Err(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Sample;

    #[test]
    fn a_hand_computed_table() {
        let found = chi_squared(&[10, 20], &[20, 10], Correction::None).unwrap();
        assert!((found.test.statistic - 20.0 / 3.0).abs() < 1e-12);
        assert_eq!(found.degrees, 1);
        let careful = chi_squared(&[10, 20], &[20, 10], Correction::YatesForTwo).unwrap();
        assert!((careful.test.statistic - 4.0 * 4.5 * 4.5 / 15.0).abs() < 1e-12);
        assert!((cramers_v(&[10, 20], &[20, 10]).unwrap() - 1.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn degenerate_tables_are_defined() {
        assert_eq!(
            chi_squared(&[3, 0], &[5, 0], Correction::None),
            Err(Unusable::Constant)
        );
        assert_eq!(cramers_v(&[3, 0], &[5, 0]), Ok(0.0));
        assert_eq!(cramers_v(&[3, 0], &[0, 5]), Ok(1.0));
        assert!(matches!(
            cramers_v(&[3], &[0]),
            Err(Unusable::TooFewValues {
                sample: Sample::Current,
                ..
            })
        ));
    }
}
