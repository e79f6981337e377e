//! How far parts of the reference differ from the whole, more than chance explains.
//!
//! The law of the index without drift ([`crate::null`]) is that of rows drawn independently. Real rows are not: a weekend, a
//! promotion or a fraud wave moves the rows of some hours together, and two windows of a world that does not change then differ by
//! more than their sizes say. The rows of the reference, in the order in which they are read (by time, in most exports and tables),
//! are cut into 16 to 32 blocks. For each feature the index of every block against the whole is compared with what chance
//! alone would give a block of its size, `(bins − 1)(1/b − 1/n)` for a block of `b` among `n` values (a block is part of the
//! whole). Where the sum over all blocks is so large that chance gives it with probability [`SURE`] at most, the mean surplus
//! is the variation *between* windows, in units of the index; else it is 0, so rows in random order lose no sensitivity.
//!
//! Convention: the surplus of a chi-squared over its degrees of freedom as the measure of extra variation (the variance component of a
//! one-way layout; McCullagh and Nelder, *Generalized Linear Models*, 1989, §4.5, "over-dispersion").

use crate::Unusable;
use crate::binning::FeatureBins;
use crate::null::index_scale;
use crate::profile::{Profile, Values};
use crate::psi::of_counts;
use crate::special::chi_squared_tail;

/// Probability of finding variation where there is none, for one feature.
pub const SURE: f64 = 1e-3;
/// Blocks at most; twice as many are merged in pairs.
const BLOCKS_MAX: usize = 32;
/// Blocks that say something.
const BLOCKS_MIN: usize = 8;
/// Rows of a block at the beginning.
const ROWS_FIRST: u64 = 1_000;

/// A reference that is counted block by block, in memory that does not grow with it.
#[derive(Debug)]
pub struct Blocks {
    blocks: Vec<Profile>,
    rows_each: u64,
}

/// A reference that was counted.
#[derive(Debug, Clone, PartialEq)]
pub struct Whole {
    /// All rows.
    pub profile: Profile,
    /// Per feature, in units of the index, 0 or more: how far windows differ by more than chance.
    pub between: Vec<f64>,
}

impl Blocks {
    /// No rows.
    pub const fn new() -> Self {
        Self {
            blocks: Vec::new(),
            rows_each: ROWS_FIRST,
        }
    }

    /// Counts a batch. However rows are batched, the blocks are the same.
    ///
    /// # Errors
    /// [`Unusable::BinsDiffer`] when the features are not those of the bins.
    pub fn add(&mut self, features: &[FeatureBins], values: &[Values<'_>]) -> Result<(), Unusable> {
        let rows = values.first().map_or(0, Values::len);
        if values.iter().any(|column| column.len() != rows) {
            return Err(Unusable::BinsDiffer);
        }
        let mut from = 0;
        while from < rows {
            let begun = self.block(features)?.rows();
            let room = usize::try_from(self.rows_each - begun).unwrap_or(usize::MAX);
            let until = rows.min(from.saturating_add(room));
            let part: Vec<Values<'_>> = values.iter().map(|column| column.part(from..until)).collect();
            self.block(features)?.add(features, &part)?;
            from = until;
        }
        Ok(())
    }

    /// Adds rows that were counted together, such as an hour's, and are not to be divided.
    ///
    /// # Errors
    /// [`Unusable::BinsDiffer`] when they were counted in other bins.
    pub fn add_part(&mut self, features: &[FeatureBins], part: &Profile) -> Result<(), Unusable> {
        self.block(features)?.merge(part)
    }

    /// The block under way.
    fn block(&mut self, features: &[FeatureBins]) -> Result<&mut Profile, Unusable> {
        let is_full = |block: &Profile| block.rows() >= self.rows_each;
        if self.blocks.last().is_none_or(is_full) {
            if self.blocks.len() == BLOCKS_MAX {
                self.halve()?;
            }
            self.blocks.push(Profile::empty(features));
        }
        self.blocks.last_mut().ok_or(Unusable::BinsDiffer)
    }

    fn halve(&mut self) -> Result<(), Unusable> {
        let mut halved: Vec<Profile> = Vec::with_capacity(BLOCKS_MAX);
        for (at, block) in std::mem::take(&mut self.blocks).into_iter().enumerate() {
            match halved.last_mut().filter(|_| at % 2 == 1) {
                Some(pair) => pair.merge(&block)?,
                None => halved.push(block),
            }
        }
        self.blocks = halved;
        self.rows_each *= 2;
        Ok(())
    }

    /// The whole, and how far its parts differ.
    ///
    /// # Errors
    /// [`Unusable::BinsDiffer`] when other features were counted.
    pub fn finish(self, features: &[FeatureBins]) -> Result<Whole, Unusable> {
        let mut profile = Profile::empty(features);
        for block in &self.blocks {
            profile.merge(block)?;
        }
        let between = features
            .iter()
            .enumerate()
            .map(|(at, bins)| surplus(&self.blocks, &profile, at, bins))
            .collect();
        Ok(Whole { profile, between })
    }
}

impl Default for Blocks {
    fn default() -> Self {
        Self::new()
    }
}

/// Mean surplus of one feature's index; 0 where chance may explain it, or nothing can be said.
fn surplus(blocks: &[Profile], whole: &Profile, at: usize, bins: &FeatureBins) -> f64 {
    let Ok(all) = whole.histogram(at, bins) else {
        return 0.0;
    };
    let (mut statistic, mut freedom, mut sum, mut counted) = (0.0, 0.0, 0.0, 0_usize);
    for block in blocks {
        let Ok(part) = block.histogram(at, bins) else {
            continue;
        };
        let Ok(score) = of_counts(all.coarse(), part.coarse()) else {
            continue;
        };
        let (rest, of) = (part.values() as f64, all.values() as f64);
        if score.bins < 2 || rest < ROWS_FIRST as f64 / 2.0 || rest >= of {
            continue;
        }
        let degrees = f64::from(score.bins - 1);
        let scale = index_scale(score.bins, 1.0 / rest - 1.0 / of);
        statistic += score.value / scale;
        freedom += degrees;
        sum += score.value - degrees * scale;
        counted += 1;
    }
    if counted < BLOCKS_MIN || chi_squared_tail(statistic, freedom) > SURE {
        return 0.0;
    }
    (sum / counted as f64).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binning::{BinSettings, NumericBins};

    fn bins() -> Vec<FeatureBins> {
        let sample: Vec<f64> = (0..1_000).map(f64::from).collect();
        vec![FeatureBins::Numeric(NumericBins::fit(
            &sample,
            &BinSettings::default(),
        ))]
    }

    /// Even numbers from 0 to 1, the same ones each time (SplitMix64).
    fn even(state: &mut u64) -> f64 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// `batches` of 500 rows around `centre(batch)`.
    fn counted(batches: usize, centre: impl Fn(usize) -> f64) -> Whole {
        let bins = bins();
        let mut blocks = Blocks::new();
        let mut state = 7;
        for batch in 0..batches {
            let values: Vec<f64> = (0..500)
                .map(|_| centre(batch) + 800.0 * even(&mut state))
                .collect();
            blocks.add(&bins, &[Values::Numbers(&values)]).unwrap();
        }
        blocks.finish(&bins).unwrap()
    }

    #[test]
    fn rows_in_random_order_have_none() {
        for batches in [20, 100, 1_000] {
            let whole = counted(batches, |_| 100.0);
            assert_eq!(whole.profile.rows(), batches as u64 * 500);
            assert_eq!(whole.between, [0.0], "{batches}");
        }
    }

    #[test]
    fn parts_that_move_together_have_what_they_move_by() {
        // Every second stretch of 32,000 rows lies higher.
        let whole = counted(1_000, |batch| if batch / 64 % 2 == 0 { 60.0 } else { 140.0 });
        let between = whole.between[0];
        assert!((0.02..0.5).contains(&between), "{between}");
        let little = counted(1_000, |batch| if batch / 64 % 2 == 0 { 90.0 } else { 110.0 });
        assert!(
            little.between[0] < between / 3.0 && little.between[0] > 0.0,
            "{} of {between}",
            little.between[0]
        );
    }

    #[test]
    fn a_few_rows_say_nothing() {
        assert_eq!(counted(8, |batch| batch as f64 * 50.0).between, [0.0]);
        assert_eq!(Blocks::new().finish(&bins()).unwrap().between, [0.0]);
    }

    #[test]
    fn blocks_are_the_same_however_rows_come() {
        let bins = bins();
        let values: Vec<f64> = (0..70_000).map(|value| f64::from(value % 997)).collect();
        let mut profile = Profile::empty(&bins);
        profile.add(&bins, &[Values::Numbers(&values)]).unwrap();
        let mut found: Vec<Whole> = Vec::new();
        for size in [1, 7, 999, 70_000] {
            let mut blocks = Blocks::new();
            for batch in values.chunks(size) {
                blocks.add(&bins, &[Values::Numbers(batch)]).unwrap();
            }
            assert!(blocks.blocks.len() <= BLOCKS_MAX && blocks.blocks.len() >= BLOCKS_MAX / 2);
            found.push(blocks.finish(&bins).unwrap());
        }
        for whole in &found {
            assert_eq!(
                whole.profile.features()[0].counts(),
                profile.features()[0].counts()
            );
            assert_eq!(whole.between, found[0].between);
        }
    }

    #[test]
    fn columns_of_different_lengths_are_refused() {
        let bins = [bins(), bins()].concat();
        let (long, short) = ([1.0, 2.0], [1.0]);
        let refused = Blocks::new().add(&bins, &[Values::Numbers(&long), Values::Numbers(&short)]);
        assert_eq!(refused, Err(Unusable::BinsDiffer));
    }
}
