//! The literal conventions of other tools, so that their numbers can be reproduced and compared with ours.
//!
//! Not used for verdicts: quantile bins collapse on zero-inflated columns, and a fixed stand-in for an empty
//! share makes the index depend on the number of bins rather than on the number of rows.

use crate::Unusable;
use crate::binning::quantile_sorted;
use crate::psi::term;

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
