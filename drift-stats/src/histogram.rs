//! Counts of one sample in the bins of one feature: what detectors compare.

use crate::Unusable;
use crate::binning::{BinsDigest, FeatureBins, UNSEEN_BIN};

/// Counts in fine bins and in the coarse bins that they merge into.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    bins: BinsDigest,
    fine: Vec<u64>,
    coarse: Vec<u64>,
    /// Of categorical features: rows with unseen levels to be expected in another sample of this size, from and to.
    unseen_expected: Option<(f64, f64)>,
}

impl Histogram {
    /// Counts in the fine bins of a feature.
    ///
    /// # Errors
    /// [`Unusable::BinsDiffer`] when the number of counts is not the number of bins.
    pub fn new(bins: &FeatureBins, fine: Vec<u64>) -> Result<Self, Unusable> {
        if fine.len() != bins.fine_len() {
            return Err(Unusable::BinsDiffer);
        }
        Ok(Self {
            bins: bins.digest(),
            coarse: bins.merge_fine(&fine),
            fine,
            unseen_expected: match bins {
                FeatureBins::Category(bins) => Some(bins.unseen_expected()),
                FeatureBins::Numeric(_) => None,
            },
        })
    }

    /// Counts in bins made elsewhere; fine and coarse bins are the same, and the order is the only identity.
    pub fn from_counts(counts: Vec<u64>) -> Self {
        Self {
            bins: BinsDigest::of_count(counts.len()),
            coarse: counts.clone(),
            fine: counts,
            unseen_expected: None,
        }
    }

    /// Counts in fine bins.
    pub fn fine(&self) -> &[u64] {
        &self.fine
    }

    /// Counts in coarse bins.
    pub fn coarse(&self) -> &[u64] {
        &self.coarse
    }

    /// Counts in coarse bins of the reference itself beside a window, with as many rows of unseen levels as the window has, as far as
    /// another sample of the reference would have some: it has none of them by definition, and a window is not to be blamed for
    /// what the reference missed by chance.
    pub fn coarse_beside(&self, window: &Self) -> Vec<u64> {
        let mut counts = self.coarse.clone();
        let (rows, window_rows) = (self.values() as f64, window.values() as f64);
        if let (Some((low, high)), Some(unseen), Some(seen)) = (
            self.unseen_expected,
            counts.get_mut(UNSEEN_BIN),
            window.coarse.get(UNSEEN_BIN),
        ) && window_rows > 0.0
        {
            let alike = *seen as f64 / window_rows * rows;
            *unseen = (*unseen).max(alike.clamp(low, high).round() as u64);
        }
        counts
    }

    /// Values counted, missing ones included.
    pub fn values(&self) -> u64 {
        self.fine.iter().sum()
    }

    /// Whether both were counted in the same bins.
    ///
    /// # Errors
    /// [`Unusable::BinsDiffer`].
    pub fn comparable(&self, other: &Self) -> Result<(), Unusable> {
        if self.bins == other.bins {
            Ok(())
        } else {
            Err(Unusable::BinsDiffer)
        }
    }
}
