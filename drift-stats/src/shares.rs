//! Shares of two samples in the same bins, for detectors that compare them bin by bin.

use crate::{Histogram, Sample, Score, Unusable};

/// A bin that is not empty in both: its shares in reference and current sample, 0 to 1.
pub type Pair = (f64, f64);

/// The shares of two lists of counts, without bins that are empty in both.
///
/// # Errors
/// [`Unusable`] when a sample is empty or the lists differ in length.
pub fn of_counts(reference: &[u64], current: &[u64]) -> Result<Vec<Pair>, Unusable> {
    let (n, m) = sizes(reference, current)?;
    let filled = reference.iter().zip(current).filter(|(r, c)| **r + **c > 0);
    Ok(filled.map(|(r, c)| (*r as f64 / n, *c as f64 / m)).collect())
}

/// How many values two lists of counts in the same bins hold.
///
/// # Errors
/// [`Unusable`] when a sample is empty or the lists differ in length.
pub fn sizes(reference: &[u64], current: &[u64]) -> Result<(f64, f64), Unusable> {
    if reference.len() != current.len() {
        return Err(Unusable::BinsDiffer);
    }
    let size_of = |counts: &[u64], sample| match counts.iter().sum::<u64>() {
        0 => Err(Unusable::TooFewValues {
            sample,
            values: 0,
            min: 1,
        }),
        values => Ok(values as f64),
    };
    Ok((
        size_of(reference, Sample::Reference)?,
        size_of(current, Sample::Current)?,
    ))
}

/// What a measure says of two histograms' coarse bins.
///
/// # Errors
/// [`Unusable`] when the bins differ or a sample is empty.
pub fn score(
    reference: &Histogram,
    current: &Histogram,
    measure: impl Fn(&[Pair]) -> f64,
) -> Result<Score, Unusable> {
    reference.comparable(current)?;
    let shares = of_counts(reference.coarse(), current.coarse())?;
    Ok(Score {
        value: measure(&shares),
        bins: u32::try_from(shares.len()).unwrap_or(u32::MAX),
    })
}
