//! The literal conventions of other tools, so that their numbers can be reproduced and compared with ours.
//!
//! Not used for verdicts: quantile bins collapse on zero-inflated columns, and a fixed stand-in for an empty
//! share makes the index depend on the number of bins rather than on the number of rows.
//!
//! Here are numpy's and scipy's; [`evidently`] and [`nannyml`] have those of the tools of these names.

pub mod evidently;
pub mod nannyml;

use crate::Unusable;
use crate::binning::quantile_sorted;
use crate::psi::term;

/// The finite values of a sample, which is what these tools look at.
fn finite(values: &[f64]) -> Vec<f64> {
    values.iter().copied().filter(|value| value.is_finite()).collect()
}

/// Smallest and largest value.
fn range(values: &[f64]) -> (f64, f64) {
    values
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(*value), high.max(*value))
        })
}

/// Even edges, both ends included, for bins of about this width; numpy's `histogram_bin_edges`.
fn even_edges(values: &[f64], width: f64) -> Vec<f64> {
    let (low, high) = range(values);
    let bins = if width > 0.0 {
        ((high - low) / width).ceil().max(1.0)
    } else {
        1.0
    };
    let (low, high) = if low < high {
        (low, high)
    } else {
        (low - 0.5, high + 0.5)
    };
    let step = (high - low) / bins;
    let inner = (0..bins as usize).map(|at| low + at as f64 * step);
    inner.chain([high]).collect()
}

/// Sturges' rule.
fn sturges_edges(values: &[f64]) -> Vec<f64> {
    let (low, high) = range(values);
    even_edges(values, (high - low) / ((values.len() as f64).log2() + 1.0))
}

/// Doane's rule: Sturges' with more bins for skewed values.
fn doane_edges(values: &[f64]) -> Vec<f64> {
    let n = values.len() as f64;
    let (low, high) = range(values);
    let mean = values.iter().sum::<f64>() / n;
    let sigma = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / n).sqrt();
    let width = if n > 2.0 && sigma > 0.0 {
        let error = (6.0 * (n - 2.0) / ((n + 1.0) * (n + 3.0))).sqrt();
        let skewness = values
            .iter()
            .map(|value| ((value - mean) / sigma).powi(3))
            .sum::<f64>()
            / n;
        (high - low) / (1.0 + n.log2() + (1.0 + skewness.abs() / error).log2())
    } else {
        0.0
    };
    even_edges(values, width)
}

/// Counts in the bins `[a, b)` between edges, the last one closed; values outside are not counted, as in numpy's `histogram`.
fn count_between(values: &[f64], edges: &[f64]) -> Vec<u64> {
    let bins = edges.len().saturating_sub(1);
    let mut counts = vec![0; bins];
    for value in values {
        if *value < edges[0] || *value > edges[bins] {
            continue;
        }
        let at = edges.partition_point(|edge| edge <= value);
        counts[at.saturating_sub(1).min(bins - 1)] += 1;
    }
    counts
}

/// Inner edges `unique(quantile(values, 0, 1/bins … 1))` without the outermost two, by linear interpolation.
///
/// NaN is skipped. Fewer than `bins - 1` edges come back when quantiles coincide, none when all do.
pub fn quantile_edges(values: &[f64], bins: usize) -> Vec<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let mut edges: Vec<f64> = (0..=bins)
        .map(|step| quantile_sorted(&sorted, step as f64 / bins as f64))
        .collect();
    edges.dedup();
    if edges.len() < 2 {
        Vec::new()
    } else {
        edges[1..edges.len() - 1].to_vec()
    }
}

/// Counts in the bins `[a, b)` between inner edges, open at both ends of the line; NaN is skipped.
pub fn count_in_edges(values: &[f64], edges: &[f64]) -> Vec<u64> {
    let mut counts = vec![0; edges.len() + 1];
    for value in values.iter().filter(|value| !value.is_nan()) {
        counts[edges.partition_point(|edge| edge <= value)] += 1;
    }
    counts
}

/// Counts per distinct value of either sample, ascending by value; NaN is skipped.
pub fn count_values(reference: &[f64], current: &[f64]) -> (Vec<u64>, Vec<u64>) {
    let mut distinct: Vec<f64> = reference
        .iter()
        .chain(current)
        .copied()
        .filter(|value| !value.is_nan())
        .collect();
    distinct.sort_unstable_by(f64::total_cmp);
    distinct.dedup();
    let count = |values: &[f64]| {
        let mut counts = vec![0; distinct.len()];
        for value in values.iter().filter(|value| !value.is_nan()) {
            counts[distinct.partition_point(|known| known < value)] += 1;
        }
        counts
    };
    (count(reference), count(current))
}

/// The index with shares of exactly zero replaced by `empty_share`, not renormalised.
///
/// # Errors
/// [`Unusable`] when a sample is empty or the lists differ in length.
pub fn psi_with_empty_share(reference: &[u64], current: &[u64], empty_share: f64) -> Result<f64, Unusable> {
    if reference.len() != current.len() {
        return Err(Unusable::BinsDiffer);
    }
    let shares = |counts: &[u64], sample| {
        let total: u64 = counts.iter().sum();
        if total == 0 {
            return Err(Unusable::TooFewValues {
                sample,
                values: 0,
                min: 1,
            });
        }
        let share = move |count: &u64| {
            if *count == 0 {
                empty_share
            } else {
                *count as f64 / total as f64
            }
        };
        Ok(counts.iter().map(share).collect::<Vec<f64>>())
    };
    let reference = shares(reference, crate::Sample::Reference)?;
    let current = shares(current, crate::Sample::Current)?;
    Ok(reference.iter().zip(&current).map(|(r, c)| term(*r, *c)).sum())
}
