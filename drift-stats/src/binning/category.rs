//! Bins of text levels.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{BinSettings, Fnv, pool_neighbours, share_min};

/// Bins of text levels. Fine bins in this order: missing, unseen, pooled rest, then one per level.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "CategoryParts", into = "CategoryParts")]
pub struct CategoryBins {
    /// Known levels by falling frequency in the reference; equal ones by name.
    pub(super) levels: Vec<String>,
    /// Levels that the reference had and that are pooled.
    pub(super) pooled: Vec<String>,
    pub(super) coarse: Vec<u16>,
    /// Levels that one row of the reference had.
    pub(super) once: u64,
    /// Levels that two rows had.
    pub(super) twice: u64,
    pub(super) bin_of_level: BTreeMap<String, u16>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct CategoryParts {
    levels: Vec<String>,
    pooled: Vec<String>,
    coarse: Vec<u16>,
    #[serde(default)]
    once: u64,
    #[serde(default)]
    twice: u64,
}

impl From<CategoryBins> for CategoryParts {
    fn from(bins: CategoryBins) -> Self {
        Self {
            levels: bins.levels,
            pooled: bins.pooled,
            coarse: bins.coarse,
            once: bins.once,
            twice: bins.twice,
        }
    }
}

impl TryFrom<CategoryParts> for CategoryBins {
    type Error = String;

    fn try_from(parts: CategoryParts) -> Result<Self, String> {
        let bins = parts.levels.len() + CategoryBins::FIRST_LEVEL_BIN;
        if parts.coarse.len() != bins {
            return Err(format!(
                "categorical bins have {bins} fine bins, but {} coarse numbers",
                parts.coarse.len()
            ));
        }
        let rare = [parts.once, parts.twice];
        Ok(Self::build(parts.levels, parts.pooled, parts.coarse, rare))
    }
}

/// A pool of rare levels holds so many times the share of a level with a bin of its own: many small ones would be many times chance.
const RARE_TOGETHER: f64 = 5.0;
/// Fine bin of levels that the reference never had.
pub const UNSEEN_BIN: usize = 1;
/// Fine bin of known levels beyond the bound.
pub const POOLED_BIN: usize = 2;

impl CategoryBins {
    const FIRST_LEVEL_BIN: usize = 3;
    /// Names of pooled levels kept so that they are not taken for unseen ones; beyond it they are.
    pub const POOLED_NAMES_MAX: usize = 10_000;

    /// Bins for these reference levels and their counts.
    pub fn fit(counts: &BTreeMap<String, u64>, settings: &BinSettings) -> Self {
        let mut ranked: Vec<(&String, u64)> = counts.iter().map(|(level, count)| (level, *count)).collect();
        // The map is in name order and the sort is stable, so equal counts stay in name order.
        ranked.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let known = ranked.len().min(settings.levels_max);
        let total: u64 = ranked.iter().map(|(_, count)| count).sum();
        let rare = [1, 2].map(|rows| ranked.iter().filter(|(_, count)| *count == rows).count() as u64);
        let mut coarse = vec![0, 1, 2];
        coarse.extend(Self::groups(&ranked, known, total, settings));
        let names =
            |part: &[(&String, u64)]| part.iter().map(|(level, _)| (*level).clone()).collect::<Vec<_>>();
        let pooled_end = ranked.len().min(known + Self::POOLED_NAMES_MAX);
        Self::build(
            names(&ranked[..known]),
            names(&ranked[known..pooled_end]),
            coarse,
            rare,
        )
    }

    /// Coarse bins of the `known` levels that are most frequent. Rare ones are pooled in an order that has nothing to do with their counts:
    /// neighbours in rank would share the luck that they were counted with, and come back to the mean in every window. For the
    /// same reason they join the rest where there are more levels than are known: luck alone decides which of them that are.
    fn groups(all: &[(&String, u64)], known: usize, total: u64, settings: &BinSettings) -> Vec<u16> {
        let ranked = &all[..known];
        let share_min = share_min(settings, ranked.len(), total as usize);
        let needed = share_min * total as f64;
        let own = ranked
            .iter()
            .take_while(|(_, count)| *count as f64 >= needed)
            .count();
        let numbered = |at: usize| (Self::FIRST_LEVEL_BIN + at) as u16;
        if known < all.len() {
            let rest = |at| if at < own { numbered(at) } else { POOLED_BIN as u16 };
            return (0..known).map(rest).collect();
        }
        let mut rare: Vec<usize> = (own..ranked.len()).collect();
        rare.sort_by_key(|at| {
            let mut hash = Fnv::new();
            hash.add(ranked[*at].0.as_bytes());
            hash.0
        });
        let counts: Vec<usize> = rare.iter().map(|at| ranked[*at].1 as usize).collect();
        // Too few rows for a bin, all of them together: they stay with the rarest level that has one.
        let first = if (counts.iter().sum::<usize>() as f64) < needed && own > 0 {
            own - 1
        } else {
            own
        };
        let pools = pool_neighbours(&counts, total as usize, RARE_TOGETHER * share_min);
        let mut groups: Vec<u16> = (0..ranked.len()).map(|at| numbered(at.min(first))).collect();
        for (at, pool) in rare.into_iter().zip(pools) {
            groups[at] = numbered(first) + pool;
        }
        groups
    }

    fn build(levels: Vec<String>, pooled: Vec<String>, coarse: Vec<u16>, rare: [u64; 2]) -> Self {
        let known = levels
            .iter()
            .enumerate()
            .map(|(at, level)| (level.clone(), (at + Self::FIRST_LEVEL_BIN) as u16));
        let rest = pooled.iter().map(|level| (level.clone(), POOLED_BIN as u16));
        let bin_of_level = rest.chain(known).collect();
        Self {
            levels,
            pooled,
            coarse,
            once: rare[0],
            twice: rare[1],
            bin_of_level,
        }
    }

    /// How many rows with a level that the reference never had are to be expected among as many rows as the reference has: from the first
    /// number to the second. In the middle stand as many as it has levels in a single row (Good, Biometrika 40, 1953, after Turing);
    /// three standard errors on either side (of the variance `once + 2 twice` of that estimate, Robbins, Annals of Mathematical Statistics 39, 1968), because levels that
    /// a reference missed by chance are in every window.
    pub fn unseen_expected(&self) -> (f64, f64) {
        let (once, twice) = (self.once as f64, self.twice as f64);
        let slack = 3.0 * (once + 2.0 * twice + 1.0).sqrt();
        ((once - slack).max(0.0), once + slack)
    }

    /// Levels that one row of the reference had.
    pub const fn seen_once(&self) -> u64 {
        self.once
    }

    /// Known levels, most frequent first.
    pub fn levels(&self) -> &[String] {
        &self.levels
    }

    /// Levels that share the bin [`POOLED_BIN`].
    pub fn pooled(&self) -> &[String] {
        &self.pooled
    }

    /// The fine bin of a level.
    pub fn bin_of(&self, level: &str) -> usize {
        self.bin_of_level
            .get(level)
            .map_or(UNSEEN_BIN, |bin| usize::from(*bin))
    }

    pub(super) fn coarse_labels(&self) -> Vec<String> {
        let mut labels = vec!["missing".to_owned(), "unseen".to_owned(), "rest".to_owned()];
        for (level, group) in self.levels.iter().zip(&self.coarse[Self::FIRST_LEVEL_BIN..]) {
            match labels.get_mut(usize::from(*group)) {
                Some(_) if usize::from(*group) == POOLED_BIN => {}
                Some(label) => {
                    label.push_str(", ");
                    label.push_str(level);
                }
                None => labels.push(level.clone()),
            }
        }
        labels
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binning::FeatureBins;

    #[test]
    fn levels_are_bounded_and_unseen_ones_told_apart_from_pooled_ones() {
        let counts: BTreeMap<String, u64> = (0..300)
            .map(|i| (format!("level-{i:03}"), if i < 100 { 1000 } else { 1 }))
            .collect();
        let bins = CategoryBins::fit(&counts, &BinSettings::default());
        assert_eq!(bins.levels.len(), 200);
        assert_eq!(bins.bin_of("level-000"), 3);
        assert_eq!(bins.bin_of("level-299"), POOLED_BIN);
        assert_eq!(bins.bin_of("level-300"), UNSEEN_BIN);
        let coarse = FeatureBins::Category(bins);
        assert!(
            coarse.coarse_len() <= 103,
            "rare levels share coarse bins: {}",
            coarse.coarse_len()
        );
    }

    #[test]
    fn rare_levels_are_pooled_whatever_luck_they_were_counted_with() {
        // Two references of one world: the same levels, counted a little differently.
        let counted = |luck: u64| -> BTreeMap<String, u64> {
            (0..150_u64)
                .map(|level| {
                    (
                        format!("level {level}"),
                        if level < 10 {
                            2_000
                        } else {
                            20 + (level * luck) % 7
                        },
                    )
                })
                .collect()
        };
        let groups = |counts: &BTreeMap<String, u64>| {
            let bins = CategoryBins::fit(counts, &BinSettings::default());
            let rare: BTreeMap<String, u16> = bins
                .levels
                .iter()
                .zip(&bins.coarse[3..])
                .skip(10)
                .map(|(level, group)| (level.clone(), *group))
                .collect();
            (bins.coarse.len(), rare)
        };
        let (first, second) = (groups(&counted(3)), groups(&counted(5)));
        let moved = first
            .1
            .iter()
            .filter(|(level, group)| second.1[*level] != **group)
            .count();
        assert!(moved < 20, "{moved} of 140 changed their pool");
        assert!(first.1.values().max() > first.1.values().min());
    }

    #[test]
    fn where_more_levels_are_than_are_known_all_rare_ones_are_the_rest() {
        let counts: BTreeMap<String, u64> = (0..500_u64)
            .map(|level| (format!("level {level}"), 20_000 / (level + 1)))
            .collect();
        let bins = FeatureBins::Category(CategoryBins::fit(&counts, &BinSettings::default()));
        let labels = bins.coarse_labels();
        assert_eq!(labels[..4], ["missing", "unseen", "rest", "level 0"]);
        // A hundredth of all rows are 1,357: levels 0 to 13.
        assert_eq!(labels.len(), 3 + 14);
        assert_eq!(bins.fine_len(), 3 + 200);
    }

    #[test]
    fn as_many_unseen_rows_are_expected_as_there_are_levels_seen_once() {
        let mut counts: BTreeMap<String, u64> = (0..30).map(|level| (format!("rare {level}"), 1)).collect();
        counts.insert("common".to_owned(), 970);
        let bins = CategoryBins::fit(&counts, &BinSettings::default());
        let (low, high) = bins.unseen_expected();
        assert!(
            (low + high - 60.0).abs() < 1e-9 && (46.0..47.0).contains(&high),
            "{low} to {high}"
        );
        let stored = serde_json::to_string(&FeatureBins::Category(bins.clone())).unwrap();
        assert_eq!(
            serde_json::from_str::<FeatureBins>(&stored).unwrap(),
            FeatureBins::Category(bins)
        );
    }

    #[test]
    fn levels_that_the_reference_missed_by_chance_are_no_drift_and_a_new_one_is() {
        use crate::profile::{Profile, Values};
        use crate::{Detector as _, psi};
        // A hundred levels of half a row each in a reference of 20,000: some are missed.
        let mut counts: BTreeMap<String, u64> = (0..3).map(|level| (format!("rare {level}"), 1)).collect();
        counts.insert("common".to_owned(), 19_997);
        let bins = vec![FeatureBins::Category(CategoryBins::fit(
            &counts,
            &BinSettings::default(),
        ))];
        let profile = |levels: &[(&str, usize)]| {
            let names: Vec<String> = levels.iter().map(|(level, _)| (*level).to_owned()).collect();
            let codes: Vec<u32> = levels
                .iter()
                .enumerate()
                .flat_map(|(at, (_, rows))| std::iter::repeat_n(at as u32, *rows))
                .collect();
            let mut profile = Profile::empty(&bins);
            let values = Values::Levels {
                codes: &codes,
                levels: &names,
            };
            profile.add(&bins, &[values]).unwrap();
            profile.histogram(0, &bins[0]).unwrap()
        };
        let reference = profile(&[("common", 19_997), ("rare 0", 1), ("rare 1", 1), ("rare 2", 1)]);
        let index = |rows: usize| {
            let window = profile(&[("common", 10_000 - rows), ("new", rows)]);
            psi::Psi.score(&reference, &window).unwrap().value
        };
        assert!(index(0) < 0.001 && index(4) < 0.001, "{} {}", index(0), index(4));
        assert!(index(100) > 0.01, "{}", index(100));
    }
}
