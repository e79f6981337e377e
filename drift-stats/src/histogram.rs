//! Counts of one sample in the bins of one feature: what detectors compare.

use crate::Unusable;
use crate::binning::{BinsDigest, FeatureBins, UNSEEN_BIN};

/// Counts in fine bins and in the coarse bins that they merge into.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    bins: BinsDigest,
    fine: Vec<u64>,
    coarse: Vec<u64>,
    unseen_expected: u64,
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
                FeatureBins::Category(bins) => bins.unseen_expected(),
                FeatureBins::Numeric(_) => 0,
            },
        })
    }

    /// Counts in bins made elsewhere; fine and coarse bins are the same, and the order is the only identity.
    pub fn from_counts(counts: Vec<u64>) -> Self {
        Self {
            bins: BinsDigest::of_count(counts.len()),
            coarse: counts.clone(),
            fine: counts,
            unseen_expected: 0,
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

    /// Counts in coarse bins of the reference itself, with the unseen levels that another sample of its size would have: it has none of
    /// them by definition, and a window is not to be blamed for the first.
    pub fn coarse_of_reference(&self) -> Vec<u64> {
        let mut counts = self.coarse.clone();
        if let Some(unseen) = counts.get_mut(UNSEEN_BIN).filter(|_| self.unseen_expected > 0) {
            *unseen = (*unseen).max(self.unseen_expected);
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
