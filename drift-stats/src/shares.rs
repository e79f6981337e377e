//! Shares of two samples in the same bins, for detectors that compare them bin by bin.

use crate::{Sample, Unusable};

/// A bin that is not empty in both: its shares in reference and current sample, 0 to 1.
pub type Pair = (f64, f64);

/// The shares of two lists of counts, without bins that are empty in both.
///
/// # Errors
/// [`Unusable`] when a sample is empty or the lists differ in length.
pub fn of_counts(reference: &[u64], current: &[u64]) -> Result<Vec<Pair>, Unusable> {
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
    let n = size_of(reference, Sample::Reference)?;
    let m = size_of(current, Sample::Current)?;
    let filled = reference.iter().zip(current).filter(|(r, c)| **r + **c > 0);
    Ok(filled.map(|(r, c)| (*r as f64 / n, *c as f64 / m)).collect())
}

/// How many bins there are, for a score.
pub fn bins(shares: &[Pair]) -> u32 {
    u32::try_from(shares.len()).unwrap_or(u32::MAX)
}
