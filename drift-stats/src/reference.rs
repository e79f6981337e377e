//! Bins of all features from a stream of reference rows, in bounded memory.
//!
//! Edges come from a sample of rows that is spread evenly and chosen without chance: row number `i` takes part
//! when a fixed hash of `i` is small enough, and the bound falls as rows arrive. The same rows in the same order
//! give the same bins. Up to the bound on rows the sample is every row, and edges are exact.

use std::collections::BTreeMap;

use crate::Unusable;
use crate::binning::{BinSettings, CategoryBins, FeatureBins, NumericBins};
use crate::profile::Values;

/// Collects reference rows and makes bins of them.
#[derive(Debug)]
pub struct ReferenceBuilder {
    settings: BinSettings,
    rows_max: usize,
    rows: u64,
    /// Rows whose hash is at most this are in the sample.
    hash_max: u64,
    /// Hashes of the sampled rows.
    sampled: Vec<u64>,
    features: Vec<Collected>,
}

#[derive(Debug)]
enum Collected {
    Numbers(Vec<f64>),
    Levels(BTreeMap<String, u64>),
}

/// Distinct levels of one feature that are kept while collecting; later ones are unseen.
pub const LEVELS_KEPT_MAX: usize = 100_000;

impl ReferenceBuilder {
    /// Starts with no rows. At most `rows_max` rows (1 or more) are sampled for the edges of numeric bins.
    pub fn new(settings: BinSettings, rows_max: usize) -> Self {
        Self {
            settings,
            rows_max: rows_max.max(1),
            rows: 0,
            hash_max: u64::MAX,
            sampled: Vec::new(),
            features: Vec::new(),
        }
    }

    /// Adds a batch: one entry per feature, always in the same order and of the same kind.
    ///
    /// # Errors
    /// [`Unusable::BinsDiffer`] when number, kind or length of the features differ; nothing is then added.
    pub fn add(&mut self, values: &[Values<'_>]) -> Result<(), Unusable> {
        let rows = values.first().map_or(0, Values::len);
        if self.features.is_empty() {
            self.features = values
                .iter()
                .map(|column| match column {
                    Values::Numbers(_) => Collected::Numbers(Vec::new()),
                    Values::Levels { .. } => Collected::Levels(BTreeMap::new()),
                })
                .collect();
        }
        let fits = self.features.len() == values.len()
            && self.features.iter().zip(values).all(|(collected, column)| {
                column.len() == rows
                    && matches!(collected, Collected::Numbers(_)) == matches!(column, Values::Numbers(_))
            });
        if !fits {
            return Err(Unusable::BinsDiffer);
        }
        let chosen: Vec<usize> = (0..rows)
            .filter(|at| {
                let hash = spread(self.rows + *at as u64);
                let in_sample = hash <= self.hash_max;
                if in_sample {
                    self.sampled.push(hash);
                }
                in_sample
            })
            .collect();
        for (collected, column) in self.features.iter_mut().zip(values) {
            match (collected, column) {
                (Collected::Numbers(kept), Values::Numbers(numbers)) => {
                    kept.extend(chosen.iter().map(|at| numbers[*at]));
                }
                (Collected::Levels(kept), Values::Levels { codes, levels }) => {
                    count_levels(kept, codes, levels);
                }
                _ => return Err(Unusable::BinsDiffer),
            }
        }
        self.rows += rows as u64;
        while self.sampled.len() > self.rows_max {
            self.thin_out();
        }
        Ok(())
    }

    /// Halves the sample.
    fn thin_out(&mut self) {
        self.hash_max /= 2;
        let stay: Vec<usize> = (0..self.sampled.len())
            .filter(|at| self.sampled[*at] <= self.hash_max)
            .collect();
        keep(&mut self.sampled, &stay);
        for collected in &mut self.features {
            if let Collected::Numbers(kept) = collected {
                keep(kept, &stay);
            }
        }
    }

    /// Rows seen.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// For each feature how many distinct levels were seen, at most [`LEVELS_KEPT_MAX`]; nothing for numbers.
    pub fn distinct_levels(&self) -> Vec<Option<usize>> {
        let of = |collected: &Collected| match collected {
            Collected::Numbers(_) => None,
            Collected::Levels(kept) => Some(kept.len()),
        };
        self.features.iter().map(of).collect()
    }

    /// The bins, one per feature.
    pub fn finish(self) -> Vec<FeatureBins> {
        let settings = self.settings;
        self.features
            .into_iter()
            .map(|collected| match collected {
                Collected::Numbers(kept) => FeatureBins::Numeric(NumericBins::fit(&kept, &settings)),
                Collected::Levels(kept) => FeatureBins::Category(CategoryBins::fit(&kept, &settings)),
            })
            .collect()
    }
}

/// Keeps the values at these positions, which ascend.
fn keep<T: Copy>(values: &mut Vec<T>, positions: &[usize]) {
    for (to, from) in positions.iter().enumerate() {
        values[to] = values[*from];
    }
    values.truncate(positions.len());
}

fn count_levels(kept: &mut BTreeMap<String, u64>, codes: &[u32], levels: &[String]) {
    let mut counts = vec![0_u64; levels.len()];
    for code in codes {
        if let Some(count) = counts.get_mut(*code as usize) {
            *count += 1;
        }
    }
    for (level, count) in levels.iter().zip(counts).filter(|(_, count)| *count > 0) {
        if let Some(known) = kept.get_mut(level) {
            *known += count;
        } else if kept.len() < LEVELS_KEPT_MAX {
            kept.insert(level.clone(), count);
        }
    }
}

/// The finaliser of splitmix64: neighbouring numbers get unrelated hashes.
pub(crate) fn spread(row: u64) -> u64 {
    let mut x = row.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(values: &[f64], batch: usize, rows_max: usize) -> NumericBins {
        let mut builder = ReferenceBuilder::new(BinSettings::default(), rows_max);
        for part in values.chunks(batch) {
            builder.add(&[Values::Numbers(part)]).unwrap();
        }
        assert_eq!(builder.rows(), values.len() as u64);
        match builder.finish().remove(0) {
            FeatureBins::Numeric(bins) => bins,
            FeatureBins::Category(_) => panic!("a numeric feature"),
        }
    }

    #[test]
    fn below_the_bound_every_row_counts_and_the_batch_size_does_not() {
        let values: Vec<f64> = (0..5_000).map(|i| (f64::from(i) * 0.37).sin()).collect();
        let exact = NumericBins::fit(&values, &BinSettings::default());
        assert_eq!(build(&values, 5_000, 5_000), exact);
        assert_eq!(build(&values, 17, 5_000), exact);
    }

    #[test]
    fn above_the_bound_the_sample_is_even_and_repeatable() {
        // A ramp with a period of two, which a sample of every other row would take for a constant.
        let values: Vec<f64> = (0..200_000)
            .map(|i| if i % 2 == 0 { f64::from(i) } else { 0.0 })
            .collect();
        let bins = build(&values, 1_000, 10_000);
        assert_eq!(bins, build(&values, 777, 10_000), "batches do not matter");
        assert_eq!(bins.points(), [0.0]);
        for (at, edge) in bins.coarse_edges().iter().enumerate() {
            let share = edge / 200_000.0;
            let want = (at + 1) as f64 / (bins.coarse_edges().len() + 1) as f64;
            assert!(
                (share - want).abs() < 0.03,
                "edge {at} lies at {share}, not {want}"
            );
        }
    }

    #[test]
    fn levels_are_counted_in_full() {
        let mut builder = ReferenceBuilder::new(BinSettings::default(), 10);
        let (one, two) = (["a".to_owned(), "b".to_owned()], ["b".to_owned(), "c".to_owned()]);
        builder
            .add(&[Values::Levels {
                codes: &[0, 0, 1, u32::MAX],
                levels: &one,
            }])
            .unwrap();
        builder
            .add(&[Values::Levels {
                codes: &[0, 0, 0],
                levels: &two,
            }])
            .unwrap();
        let bins = builder.finish();
        let [FeatureBins::Category(bins)] = bins.as_slice() else {
            panic!("a categorical feature")
        };
        assert_eq!(
            bins.levels(),
            ["b", "a"],
            "by frequency; a level that no row has is not known"
        );
    }

    #[test]
    fn a_batch_of_another_shape_is_refused() {
        let mut builder = ReferenceBuilder::new(BinSettings::default(), 10);
        builder.add(&[Values::Numbers(&[1.0])]).unwrap();
        assert!(builder.add(&[]).is_err());
        assert!(
            builder
                .add(&[Values::Levels {
                    codes: &[],
                    levels: &[]
                }])
                .is_err()
        );
        assert_eq!(builder.rows(), 1);
    }
}
