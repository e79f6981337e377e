//! Reference bins of a feature: fixed once from the reference, then every window is counted in them.
//!
//! **Numeric.** Missing values (NaN) have a bin of their own. A value that dominates (by default a tenth of the
//! values or more, such as zero) has a bin of its own; there may be several. A column of few distinct values
//! has one bin a value. All other values fall into fine quantile bins `[a, b)`, open at both ends of the line,
//! which merge into the coarse bins (tenths of all values) that the population stability index uses. With
//! nothing dominating, coarse edges are exactly `unique(quantile(values, 0.1 … 0.9))`, linear interpolation.
//!
//! **Categorical.** One bin per known level up to a bound, one for the pooled rest, one for levels that the
//! reference never had, one for missing values.
//!
//! Degenerate columns are defined, not refused: a constant column has one bin for its value and one for any
//! other; a column that is all missing has one bin for any value. Infinities fall into the outermost bins.

mod category;
mod lookup;
mod numeric;

use serde::{Deserialize, Serialize};

pub use category::{CategoryBins, POOLED_BIN, UNSEEN_BIN};
pub use numeric::{NumericBins, quantile_sorted};

/// How reference bins are made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BinSettings {
    /// Coarse bins that the values without a dominating one are split into, 2 or more; 10 are deciles.
    pub coarse_bins: usize,
    /// Fine bins in each coarse bin, 1 or more.
    pub fine_per_coarse: usize,
    /// Share of the non-missing values from which a value has its own bin, above 0 and up to 1.
    pub dominating_share: f64,
    /// A column of at most this many distinct values has one bin a value.
    pub distinct_values_max: usize,
    /// Values and levels rarer than this share are pooled in the coarse bins, 0 to 1; in proportion less where there are fewer than
    /// twenty: a flag that is rare is not to disappear.
    pub coarse_share_min: f64,
    /// Levels of a categorical feature that are told apart; the rest is pooled.
    pub levels_max: usize,
}

impl Default for BinSettings {
    fn default() -> Self {
        Self {
            coarse_bins: 10,
            fine_per_coarse: 10,
            dominating_share: 0.1,
            distinct_values_max: 20,
            coarse_share_min: 0.01,
            levels_max: 200,
        }
    }
}

/// The bins of one feature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FeatureBins {
    /// Bins of numbers.
    Numeric(NumericBins),
    /// Bins of text levels.
    Category(CategoryBins),
}

impl FeatureBins {
    /// Number of fine bins, missing (and unseen) included.
    pub fn fine_len(&self) -> usize {
        self.coarse_of_fine().len()
    }

    /// Number of coarse bins, missing (and unseen) included.
    pub fn coarse_len(&self) -> usize {
        self.coarse_of_fine()
            .iter()
            .max()
            .map_or(0, |last| usize::from(*last) + 1)
    }

    /// For each fine bin the coarse bin it belongs to.
    pub fn coarse_of_fine(&self) -> &[u16] {
        match self {
            Self::Numeric(bins) => &bins.coarse,
            Self::Category(bins) => &bins.coarse,
        }
    }

    /// Merges counts in fine bins into counts in coarse bins.
    pub fn merge_fine(&self, fine: &[u64]) -> Vec<u64> {
        let mut coarse = vec![0; self.coarse_len()];
        for (count, group) in fine.iter().zip(self.coarse_of_fine()) {
            coarse[usize::from(*group)] += count;
        }
        coarse
    }

    /// Identifies the bins: equal bins have equal digests, on every machine.
    pub fn digest(&self) -> BinsDigest {
        let mut hash = Fnv::new();
        match self {
            Self::Numeric(bins) => {
                hash.add(b"numeric");
                for value in bins.points.iter().chain(&bins.edges) {
                    hash.add(&value.to_bits().to_be_bytes());
                }
                hash.add(&(bins.points.len() as u64).to_be_bytes());
            }
            Self::Category(bins) => {
                hash.add(b"category");
                for level in &bins.levels {
                    hash.add(&(level.len() as u64).to_be_bytes());
                    hash.add(level.as_bytes());
                }
            }
        }
        for group in self.coarse_of_fine() {
            hash.add(&group.to_be_bytes());
        }
        BinsDigest(hash.0)
    }

    /// What each coarse bin holds, in words for people, e.g. `[1.5, 2)`, `0`, `missing`.
    pub fn coarse_labels(&self) -> Vec<String> {
        self.coarse_labels_with(&|number| number.to_string())
    }

    /// [`Self::coarse_labels`] with numbers written as `written` does.
    pub fn coarse_labels_with(&self, written: &dyn Fn(f64) -> String) -> Vec<String> {
        match self {
            Self::Numeric(bins) => bins.coarse_labels(written),
            Self::Category(bins) => bins.coarse_labels(),
        }
    }
}

/// Fingerprint of a set of bins (64-bit FNV-1a over their exact bits).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BinsDigest(u64);

impl BinsDigest {
    /// The digest of bins known only by their number, for histograms counted elsewhere.
    pub fn of_count(bins: usize) -> Self {
        let mut hash = Fnv::new();
        hash.add(b"count");
        hash.add(&(bins as u64).to_be_bytes());
        Self(hash.0)
    }
}

struct Fnv(u64);

impl Fnv {
    const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// Fine bin of missing values, in every kind of bins.
pub const MISSING_BIN: usize = 0;

/// Share that a coarse bin of one among so many values or levels needs. Few bins have little noise, and can be small; but what a
/// handful of rows has is no share.
fn share_min(settings: &BinSettings, distinct: usize, total: usize) -> f64 {
    let few = settings.coarse_share_min * (distinct as f64 / 20.0).min(1.0);
    few.max((ROWS_MIN / total.max(1) as f64).min(settings.coarse_share_min))
}

/// Rows of the reference from which a small bin says something (Cochran, Biometrics 10, 1954).
const ROWS_MIN: f64 = 5.0;

/// Groups neighbours until each group holds at least the share; numbers the groups from 0.
fn pool_neighbours(counts: &[usize], total: usize, share_min: f64) -> Vec<u16> {
    let needed = share_min * total as f64;
    let mut groups = Vec::with_capacity(counts.len());
    let (mut group, mut held) = (0_u16, 0_usize);
    for (at, count) in counts.iter().enumerate() {
        groups.push(group);
        held += count;
        let remaining: usize = counts[at + 1..].iter().sum();
        // A tail that could not fill a group of its own stays with this one.
        if held as f64 >= needed && remaining as f64 >= needed && remaining > 0 {
            group += 1;
            held = 0;
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    pub(super) fn fit(values: &[f64]) -> NumericBins {
        NumericBins::fit(values, &BinSettings::default())
    }

    pub(super) fn count(bins: &NumericBins, values: &[f64]) -> Vec<u64> {
        let mut fine = vec![0; bins.coarse.len()];
        for value in values {
            fine[bins.bin_of(*value)] += 1;
        }
        FeatureBins::Numeric(bins.clone()).merge_fine(&fine)
    }

    #[test]
    fn bins_survive_storage_and_broken_ones_are_refused() {
        let values: Vec<f64> = (0..500).map(|i| (f64::from(i) * 0.1).sin()).collect();
        let bins = FeatureBins::Numeric(fit(&values));
        let text = serde_json::to_string(&bins).unwrap();
        let back: FeatureBins = serde_json::from_str(&text).unwrap();
        assert_eq!(back, bins);
        assert_eq!(back.digest(), bins.digest());
        for broken in [
            r#"{"kind":"numeric","points":[1.0,1.0],"edges":[],"coarse":[0,1,2,3]}"#,
            r#"{"kind":"numeric","points":[],"edges":[2.0,1.0],"coarse":[0,1,2,3]}"#,
            r#"{"kind":"numeric","points":[1.0],"edges":[],"coarse":[0,1]}"#,
            r#"{"kind":"category","levels":["a"],"pooled":[],"coarse":[0,1]}"#,
        ] {
            assert!(serde_json::from_str::<FeatureBins>(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn a_rare_flag_and_a_rare_level_among_few_keep_their_bins() {
        let flags = fit(&[vec![0.0; 4_970], vec![1.0; 30]].concat());
        assert_eq!(count(&flags, &[0.0, 1.0]), [0, 1, 1, 0]);
        let levels = |counts: &[(&str, u64)]| {
            let counts = counts
                .iter()
                .map(|(level, count)| ((*level).to_owned(), *count))
                .collect();
            FeatureBins::Category(CategoryBins::fit(&counts, &BinSettings::default())).coarse_labels()
        };
        assert_eq!(levels(&[("no", 4_970), ("yes", 30)])[3..], ["no", "yes"]);
        assert_eq!(levels(&[("no", 4_996), ("yes", 4)])[3..], ["no, yes"]);
    }

    #[test]
    fn labels_name_every_coarse_bin() {
        let values: Vec<f64> = (0..1000)
            .map(|i| if i < 600 { 0.0 } else { f64::from(i) })
            .collect();
        let bins = FeatureBins::Numeric(fit(&values));
        let labels = bins.coarse_labels();
        assert_eq!(labels.len(), bins.coarse_len());
        assert_eq!(labels[..2], ["missing".to_owned(), "0".to_owned()]);
        let counts = BTreeMap::from([("a".to_owned(), 500), ("b".to_owned(), 499), ("c".to_owned(), 1)]);
        let bins = FeatureBins::Category(CategoryBins::fit(&counts, &BinSettings::default()));
        assert_eq!(bins.coarse_labels(), ["missing", "unseen", "rest", "a", "b, c"]);
    }
}
