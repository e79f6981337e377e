//! Counts of one sample in the bins of one feature: what detectors compare.

use crate::Unusable;
use crate::binning::{BinsDigest, FeatureBins, UNSEEN_BIN};

/// Counts in fine bins and in the coarse bins that they merge into.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    bins: BinsDigest,
    fine: Vec<u64>,
    coarse: Vec<u64>,
    /// Of categorical features: rows with unseen levels to be expected in another sample of this size.
    unseen: Option<Unseen>,
}

/// Rows with levels that a sample missed, to be expected in another of its size.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Unseen {
    /// Most likely.
    once: f64,
    /// Not fewer.
    low: f64,
    /// Not more.
    high: f64,
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
            unseen: match bins {
                FeatureBins::Category(bins) => {
                    let (low, high) = bins.unseen_expected();
                    Some(Unseen {
                        once: bins.seen_once() as f64,
                        low,
                        high,
                    })
                }
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
            unseen: None,
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
        if let (Some(unseen), Some(seen)) = (counts.get_mut(UNSEEN_BIN), window.coarse.get(UNSEEN_BIN)) {
            *unseen = self.unseen_beside(*seen, window.values());
        }
        counts
    }

    /// The count of [`UNSEEN_BIN`] in [`coarse_beside`](Self::coarse_beside), for a window of so many values of which `seen` are unseen.
    pub(crate) fn unseen_beside(&self, seen: u64, window: u64) -> u64 {
        let own = self.coarse.get(UNSEEN_BIN).copied().unwrap_or(0);
        match self.unseen {
            Some(Unseen { low, high, .. }) if window > 0 => {
                let alike = seen as f64 / window as f64 * self.values() as f64;
                own.max(alike.clamp(low, high).round() as u64)
            }
            _ => own,
        }
    }

    /// Rows of unseen levels that are most likely in another sample of this size; nothing for numbers.
    pub(crate) fn unseen_once(&self) -> Option<f64> {
        self.unseen.map(|unseen| unseen.once)
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
