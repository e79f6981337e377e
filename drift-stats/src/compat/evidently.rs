//! evidently 0.7: the numbers of its tests, so that a team can move without learning its thresholds anew.
//!
//! Numeric columns with more than 20 distinct values in the reference are cut into even bins by Sturges' rule over *both* samples,
//! others have a bin for each value. An empty share of one sample counts as 0.0001, or as a millionth of that sample's smallest
//! share when that is 0.0001 or less (PSI and KL only). Jensen–Shannon uses the natural logarithm. The chi-squared test takes the
//! reference for known without error. Mann–Whitney is one-sided. Missing and infinite values are left out.

use super::{count_between, count_values, finite, sturges_edges};
use crate::psi::term;
use crate::samples::Pair;
use crate::shares;
use crate::special::{chi_squared_tail, normal_tail};
use crate::{Sample, Unusable, jensen_shannon, kullback_leibler};

/// Distinct values of the reference up to which each has its own bin.
const VALUES_MAX: usize = 20;

/// What evidently takes when it is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// The p-value of Kolmogorov–Smirnov.
    KolmogorovSmirnov,
    /// The p-value of its chi-squared test.
    ChiSquared,
    /// The p-value of two proportions.
    ZTest,
    /// Wasserstein in standard deviations of the reference.
    NormedWasserstein,
    /// Jensen–Shannon, natural logarithm.
    JensenShannon,
}

impl Method {
    /// Its default threshold.
    pub const fn threshold(self) -> f64 {
        match self {
            Self::KolmogorovSmirnov | Self::ChiSquared | Self::ZTest => 0.05,
            Self::NormedWasserstein | Self::JensenShannon => 0.1,
        }
    }

    /// Whether it calls this value drift at its default threshold: a small p-value, a large distance.
    pub fn is_drift(self, value: f64) -> bool {
        match self {
            Self::KolmogorovSmirnov => value <= self.threshold(),
            Self::ChiSquared | Self::ZTest => value < self.threshold(),
            Self::NormedWasserstein | Self::JensenShannon => value >= self.threshold(),
        }
    }
}

/// Whether it calls a data set drifted: half of the columns or more.
pub fn is_dataset_drift(drifted: usize, columns: usize) -> bool {
    columns > 0 && drifted as f64 / columns as f64 >= 0.5
}

/// Its choice for a column, by the rows of the reference and the distinct values of both samples, missing ones left out.
pub const fn default_method(numeric: bool, reference_rows: usize, distinct_values: usize) -> Method {
    match (reference_rows <= 1_000, distinct_values) {
        (true, 0..=2) => Method::ZTest,
        (true, 3..=5) => Method::ChiSquared,
        (true, _) if numeric => Method::KolmogorovSmirnov,
        (true, _) => Method::ChiSquared,
        (false, 6..) if numeric => Method::NormedWasserstein,
        (false, _) => Method::JensenShannon,
    }
}

/// Counts of both samples in its bins.
///
/// # Errors
/// [`Unusable::TooFewValues`] when a sample has no finite value.
pub fn binned(reference: &[f64], current: &[f64]) -> Result<(Vec<u64>, Vec<u64>), Unusable> {
    let (reference, current) = (finite(reference), finite(current));
    expect_values(&reference, Sample::Reference)?;
    expect_values(&current, Sample::Current)?;
    let mut distinct = reference.clone();
    distinct.sort_unstable_by(f64::total_cmp);
    distinct.dedup();
    if distinct.len() <= VALUES_MAX {
        return Ok(count_values(&reference, &current));
    }
    let both: Vec<f64> = reference.iter().chain(&current).copied().collect();
    let edges = sturges_edges(&both);
    Ok((count_between(&reference, &edges), count_between(&current, &edges)))
}

fn expect_values(values: &[f64], sample: Sample) -> Result<(), Unusable> {
    if values.is_empty() {
        return Err(Unusable::TooFewValues {
            sample,
            values: 0,
            min: 1,
        });
    }
    Ok(())
}

/// Shares with its stand-in for empty ones.
fn filled(counts: &[u64], sample: Sample) -> Result<Vec<f64>, Unusable> {
    let total: u64 = counts.iter().sum();
    if total == 0 {
        return Err(Unusable::TooFewValues {
            sample,
            values: 0,
            min: 1,
        });
    }
    let shares: Vec<f64> = counts.iter().map(|count| *count as f64 / total as f64).collect();
    let least = shares
        .iter()
        .copied()
        .filter(|share| *share > 0.0)
        .fold(1.0, f64::min);
    let empty = if least <= 0.0001 { least / 1e6 } else { 0.0001 };
    Ok(shares
        .into_iter()
        .map(|share| if share == 0.0 { empty } else { share })
        .collect())
}

fn filled_pairs(reference: &[u64], current: &[u64]) -> Result<Vec<(f64, f64)>, Unusable> {
    if reference.len() != current.len() {
        return Err(Unusable::BinsDiffer);
    }
    let (r, c) = (
        filled(reference, Sample::Reference)?,
        filled(current, Sample::Current)?,
    );
    Ok(r.into_iter().zip(c).collect())
}

/// `psi`, of counts in the same bins or levels.
///
/// # Errors
/// [`Unusable`] when a sample is empty or the lists differ in length.
pub fn psi(reference: &[u64], current: &[u64]) -> Result<f64, Unusable> {
    Ok(filled_pairs(reference, current)?
        .iter()
        .map(|(r, c)| term(*r, *c))
        .sum())
}

/// `kl_div`: of the reference from the current sample.
///
/// # Errors
/// As [`psi`].
pub fn kl_div(reference: &[u64], current: &[u64]) -> Result<f64, Unusable> {
    let swapped: Vec<(f64, f64)> = filled_pairs(reference, current)?
        .into_iter()
        .map(|(r, c)| (c, r))
        .collect();
    Ok(kullback_leibler::of_shares(&swapped))
}

/// `jensenshannon`, 0 to `√ln 2`.
///
/// # Errors
/// As [`psi`].
pub fn jensenshannon(reference: &[u64], current: &[u64]) -> Result<f64, Unusable> {
    jensen_shannon::natural(reference, current)
}

/// `hellinger` of a numeric column: over even bins by Sturges' rule of the set of distinct values.
///
/// # Errors
/// [`Unusable::TooFewValues`] when a sample has no finite value.
pub fn hellinger(reference: &[f64], current: &[f64]) -> Result<f64, Unusable> {
    let (reference, current) = (finite(reference), finite(current));
    let pair = Pair::new(&reference, &current)?;
    let distinct: Vec<f64> = pair.steps().map(|step| step.value).collect();
    let edges = sturges_edges(&distinct);
    let (r, c) = (count_between(&reference, &edges), count_between(&current, &edges));
    let (n, m) = (reference.len() as f64, current.len() as f64);
    let overlap: f64 = r
        .iter()
        .zip(&c)
        .map(|(r, c)| (*r as f64 / n * (*c as f64 / m)).sqrt())
        .sum();
    Ok((1.0 - overlap).clamp(0.0, 1.0).sqrt())
}

/// `chisquare`: p of the current counts against the reference's shares, which are taken for exact.
///
/// # Errors
/// [`Unusable`]: as [`psi`]; `Constant` for a single level.
pub fn chisquare(reference: &[u64], current: &[u64]) -> Result<f64, Unusable> {
    let (n, m) = shares::sizes(reference, current)?;
    let levels: Vec<(f64, f64)> = levels(reference, current);
    if levels.len() < 2 {
        return Err(Unusable::Constant);
    }
    let statistic: f64 = levels
        .iter()
        .map(|(r, c)| {
            let expected = r * m / n;
            if expected > 0.0 {
                (c - expected).powi(2) / expected
            } else {
                f64::INFINITY
            }
        })
        .sum();
    Ok(chi_squared_tail(statistic, levels.len() as f64 - 1.0))
}

/// `g_test`: p of the likelihood ratio of the counts; both samples must be of one size.
///
/// # Errors
/// [`Unusable`]: as [`chisquare`]; `TotalsDiffer` for samples of two sizes.
pub fn g_test(reference: &[u64], current: &[u64]) -> Result<f64, Unusable> {
    let (n, m) = shares::sizes(reference, current)?;
    if n != m {
        return Err(Unusable::TotalsDiffer);
    }
    let levels = levels(reference, current);
    if levels.len() < 2 {
        return Err(Unusable::Constant);
    }
    let statistic: f64 = levels
        .iter()
        .filter(|(_, c)| *c > 0.0)
        .map(|(r, c)| 2.0 * c * (c / r).ln())
        .sum();
    Ok(chi_squared_tail(statistic, levels.len() as f64 - 1.0))
}

/// `z`: p of two proportions of one of two levels, two-sided; 1 when only one level is there.
///
/// # Errors
/// As [`psi`].
pub fn z_test(reference: &[u64], current: &[u64]) -> Result<f64, Unusable> {
    let (n, m) = shares::sizes(reference, current)?;
    let levels = levels(reference, current);
    let Some((r, c)) = levels.first().filter(|_| levels.len() > 1) else {
        return Ok(1.0);
    };
    let pooled = (r + c) / (n + m);
    let error = (pooled * (1.0 - pooled) * (1.0 / n + 1.0 / m)).sqrt();
    Ok((2.0 * normal_tail(((r / n - c / m) / error).abs())).min(1.0))
}

/// Levels that some sample has.
fn levels(reference: &[u64], current: &[u64]) -> Vec<(f64, f64)> {
    let filled = reference.iter().zip(current).filter(|(r, c)| **r + **c > 0);
    filled.map(|(r, c)| (*r as f64, *c as f64)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_choice_changes_at_a_thousand_rows() {
        for (numeric, rows, distinct, method) in [
            (true, 1_000, 2, Method::ZTest),
            (true, 1_000, 5, Method::ChiSquared),
            (true, 1_000, 6, Method::KolmogorovSmirnov),
            (true, 1_001, 6, Method::NormedWasserstein),
            (true, 1_001, 5, Method::JensenShannon),
            (false, 1_000, 2, Method::ZTest),
            (false, 1_000, 40, Method::ChiSquared),
            (false, 1_001, 40, Method::JensenShannon),
        ] {
            assert_eq!(default_method(numeric, rows, distinct), method);
        }
    }
}
