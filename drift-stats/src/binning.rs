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

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

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

/// Bins of numbers. Fine bins in this order: missing, one per point, then the intervals from low to high.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "NumericParts", into = "NumericParts")]
pub struct NumericBins {
    points: Vec<f64>,
    edges: Vec<f64>,
    coarse: Vec<u16>,
    /// Sorted bounds, padded with infinity to a power of two less one.
    search: Vec<f64>,
    /// For each number of bounds at or below a value the value's fine bin.
    bin_of_rank: Vec<u16>,
}

/// The stored form of [`NumericBins`]: what cannot be derived.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct NumericParts {
    points: Vec<f64>,
    edges: Vec<f64>,
    coarse: Vec<u16>,
}

impl From<NumericBins> for NumericParts {
    fn from(bins: NumericBins) -> Self {
        Self {
            points: bins.points,
            edges: bins.edges,
            coarse: bins.coarse,
        }
    }
}

impl TryFrom<NumericParts> for NumericBins {
    type Error = String;

    fn try_from(parts: NumericParts) -> Result<Self, String> {
        let ascending = |values: &[f64]| {
            values.iter().all(|value| value.is_finite()) && values.windows(2).all(|pair| pair[0] < pair[1])
        };
        if !ascending(&parts.points) || !ascending(&parts.edges) {
            return Err("points and edges of numeric bins must be finite and strictly ascending".to_owned());
        }
        let bins = parts.points.len() + parts.edges.len() + 2;
        if parts.coarse.len() != bins {
            return Err(format!(
                "numeric bins have {bins} fine bins, but {} coarse numbers",
                parts.coarse.len()
            ));
        }
        Ok(Self::build(parts.points, parts.edges, parts.coarse))
    }
}

/// Fine bin of missing values, in every kind of bins.
pub const MISSING_BIN: usize = 0;

impl NumericBins {
    /// Bins for these reference values; NaN is missing.
    pub fn fit(values: &[f64], settings: &BinSettings) -> Self {
        // Adding zero turns -0 into 0, so that a point's bits are always those of its value.
        let mut sorted: Vec<f64> = values.iter().filter(|v| v.is_finite()).map(|v| v + 0.0).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let runs = runs_of(&sorted);
        if runs.len() <= settings.distinct_values_max {
            return Self::of_values(&runs, sorted.len(), settings);
        }
        let needed = (settings.dominating_share * sorted.len() as f64).max(1.0);
        let points: Vec<f64> = runs
            .iter()
            .filter(|run| run.count as f64 >= needed)
            .map(|run| run.value)
            .collect();
        let rest: Vec<f64> = sorted
            .iter()
            .copied()
            .filter(|v| points.binary_search_by(|p| p.total_cmp(v)).is_err())
            .collect();
        Self::of_quantiles(points, &rest, sorted.len(), settings)
    }

    /// One bin per distinct value; one more for any other value.
    fn of_values(runs: &[Run], total: usize, settings: &BinSettings) -> Self {
        let counts: Vec<usize> = runs.iter().map(|run| run.count).collect();
        let groups = pool_neighbours(&counts, total, share_min(settings, counts.len(), total));
        let known = groups.last().map_or(0, |last| last + 1);
        let mut coarse = vec![0];
        coarse.extend(groups.iter().map(|group| group + 1));
        coarse.push(known + 1);
        Self::build(runs.iter().map(|run| run.value).collect(), Vec::new(), coarse)
    }

    /// Own bins for the points, quantile bins for the rest.
    fn of_quantiles(points: Vec<f64>, rest: &[f64], total: usize, settings: &BinSettings) -> Self {
        let share = rest.len() as f64 / total as f64;
        // As many coarse bins as the rest is tenths of the whole, so that no bin is much rarer than another.
        let coarse_bins =
            ((settings.coarse_bins as f64 * share).ceil() as usize).clamp(2, settings.coarse_bins.max(2));
        let per_coarse = settings.fine_per_coarse.max(1);
        let fine_bins = coarse_bins * per_coarse;
        let (mut edges, mut coarse_edges) = (Vec::new(), Vec::new());
        for step in 1..fine_bins {
            // Reduced where it can be, so that the third decile is quantile 3/10 and not 30/100 by another rounding.
            let is_coarse = step % per_coarse == 0;
            let share = if is_coarse {
                (step / per_coarse) as f64 / coarse_bins as f64
            } else {
                step as f64 / fine_bins as f64
            };
            let edge = quantile_sorted(rest, share);
            // An edge at or below the smallest value would leave a bin that no reference value can be in.
            if rest.first().is_none_or(|smallest| edge <= *smallest) {
                continue;
            }
            edges.push(edge);
            if is_coarse {
                coarse_edges.push(edge);
            }
        }
        for list in [&mut edges, &mut coarse_edges] {
            list.sort_unstable_by(f64::total_cmp);
            list.dedup();
        }
        let first = points.len() as u16 + 1;
        let mut coarse: Vec<u16> = (0..first).collect();
        coarse.push(first);
        coarse.extend(
            edges
                .iter()
                .map(|edge| first + coarse_edges.partition_point(|coarse_edge| coarse_edge <= edge) as u16),
        );
        Self::build(points, edges, coarse)
    }

    /// Builds the search table: a point is the interval from itself to the next larger number.
    fn build(points: Vec<f64>, edges: Vec<f64>, coarse: Vec<u16>) -> Self {
        let mut bounds: Vec<f64> = points
            .iter()
            .flat_map(|point| [*point, point.next_up()])
            .chain(edges.iter().copied())
            .collect();
        bounds.sort_unstable_by(f64::total_cmp);
        bounds.dedup();
        let first_interval = points.len() + 1;
        let bin_of = |value: f64| match points.binary_search_by(|point| point.total_cmp(&value)) {
            Ok(point) => point + 1,
            Err(_) => first_interval + edges.partition_point(|edge| *edge <= value),
        };
        let mut bin_of_rank = vec![first_interval as u16];
        bin_of_rank.extend(bounds.iter().map(|bound| bin_of(*bound) as u16));
        let mut search = bounds;
        search.resize((search.len() + 1).next_power_of_two() - 1, f64::INFINITY);
        // Infinity itself counts the padding too and must still be in the last bin.
        let last = bin_of_rank[bin_of_rank.len() - 1];
        bin_of_rank.resize(search.len() + 1, last);
        Self {
            points,
            edges,
            coarse,
            search,
            bin_of_rank,
        }
    }

    /// Values with a bin of their own, ascending.
    pub fn points(&self) -> &[f64] {
        &self.points
    }

    /// Inner edges of the fine interval bins, ascending.
    pub fn edges(&self) -> &[f64] {
        &self.edges
    }

    /// Inner edges of the coarse interval bins, ascending.
    pub fn coarse_edges(&self) -> Vec<f64> {
        let intervals = &self.coarse[self.points.len() + 1..];
        let starts = intervals.windows(2).zip(&self.edges);
        starts
            .filter(|(pair, _)| pair[0] != pair[1])
            .map(|(_, edge)| *edge)
            .collect()
    }

    /// The fine bin of a value; NaN is missing.
    #[inline]
    pub fn bin_of(&self, value: f64) -> usize {
        if value.is_nan() {
            return MISSING_BIN;
        }
        // Branch-free search in a table of 2^k - 1 bounds.
        let mut rank = 0;
        let mut step = self.search.len().div_ceil(2);
        while step > 0 {
            if self.search[rank + step - 1] <= value {
                rank += step;
            }
            step /= 2;
        }
        usize::from(self.bin_of_rank[rank])
    }

    /// Adds one to the count of each value's fine bin, as [`bin_of`](Self::bin_of) says.
    ///
    /// # Panics
    /// When there are fewer counts than fine bins.
    pub(crate) fn count(&self, values: &[f64], counts: &mut [u64]) {
        let depth = (self.search.len() + 1).trailing_zeros() as usize;
        match COUNTERS.get(depth) {
            Some(counter) => counter(self, values, counts),
            None => self.count_each(values, counts),
        }
    }

    fn count_each(&self, values: &[f64], counts: &mut [u64]) {
        for value in values {
            counts[self.bin_of(*value)] += 1;
        }
    }

    /// For a table of `2^DEPTH - 1` bounds: with a depth that the compiler knows, and searches that wait for memory together, it takes a
    /// seventh of the time.
    fn count_at<const DEPTH: usize>(&self, values: &[f64], counts: &mut [u64]) {
        const LANES: usize = 16;
        let bounds = &self.search[..(1 << DEPTH) - 1];
        let bins = &self.bin_of_rank[..1 << DEPTH];
        let (together, rest) = values.as_chunks::<LANES>();
        for lanes in together {
            let mut ranks = [0_usize; LANES];
            for level in (0..DEPTH).rev() {
                let step = 1_usize << level;
                for (rank, value) in ranks.iter_mut().zip(lanes) {
                    *rank += usize::from(bounds[*rank + step - 1] <= *value) << level;
                }
            }
            for (rank, value) in ranks.iter().zip(lanes) {
                let bin = if value.is_nan() {
                    MISSING_BIN
                } else {
                    usize::from(bins[*rank])
                };
                counts[bin] += 1;
            }
        }
        self.count_each(rest, counts);
    }

    fn coarse_labels(&self, written: &dyn Fn(f64) -> String) -> Vec<String> {
        let mut members: BTreeMap<u16, Vec<String>> = BTreeMap::new();
        members
            .entry(self.coarse[0])
            .or_default()
            .push("missing".to_owned());
        for (point, group) in self.points.iter().zip(&self.coarse[1..]) {
            members.entry(*group).or_default().push(written(*point));
        }
        let edges = self.coarse_edges();
        let first = usize::from(self.coarse[self.points.len() + 1]);
        for step in 0..=edges.len() {
            let label = match (step.checked_sub(1).map(|low| edges[low]), edges.get(step)) {
                (None, None) => "any other value".to_owned(),
                (None, Some(high)) => format!("below {}", written(*high)),
                (Some(low), Some(high)) => format!("[{}, {})", written(low), written(*high)),
                (Some(low), None) => format!("{} and above", written(low)),
            };
            members.entry((first + step) as u16).or_default().push(label);
        }
        members.into_values().map(|names| names.join(", ")).collect()
    }
}

type Counter = fn(&NumericBins, &[f64], &mut [u64]);

/// By the depth of the table of bounds: up to 2,047 of them.
const COUNTERS: [Counter; 12] = [
    NumericBins::count_at::<0>,
    NumericBins::count_at::<1>,
    NumericBins::count_at::<2>,
    NumericBins::count_at::<3>,
    NumericBins::count_at::<4>,
    NumericBins::count_at::<5>,
    NumericBins::count_at::<6>,
    NumericBins::count_at::<7>,
    NumericBins::count_at::<8>,
    NumericBins::count_at::<9>,
    NumericBins::count_at::<10>,
    NumericBins::count_at::<11>,
];

/// A distinct value and how often it occurs.
struct Run {
    value: f64,
    count: usize,
}

fn runs_of(sorted: &[f64]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for value in sorted {
        match runs.last_mut() {
            Some(run) if run.value == *value => run.count += 1,
            _ => runs.push(Run {
                value: *value,
                count: 1,
            }),
        }
    }
    runs
}

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

/// Quantile of sorted values, linear interpolation between order statistics (type 7); NaN when there are none.
pub fn quantile_sorted(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let position = last as f64 * share;
    let low = (position.floor() as usize).min(last);
    let high = (low + 1).min(last);
    let weight = position - low as f64;
    let difference = sorted[high] - sorted[low];
    // The form that is exact at the nearer end, as numpy computes it.
    if weight >= 0.5 {
        sorted[high] - difference * (1.0 - weight)
    } else {
        sorted[low] + difference * weight
    }
}

/// Bins of text levels. Fine bins in this order: missing, unseen, pooled rest, then one per level.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "CategoryParts", into = "CategoryParts")]
pub struct CategoryBins {
    /// Known levels by falling frequency in the reference; equal ones by name.
    levels: Vec<String>,
    /// Levels that the reference had and that are pooled.
    pooled: Vec<String>,
    coarse: Vec<u16>,
    /// Levels that one row of the reference had.
    once: u64,
    bin_of_level: BTreeMap<String, u16>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct CategoryParts {
    levels: Vec<String>,
    pooled: Vec<String>,
    coarse: Vec<u16>,
    #[serde(default)]
    once: u64,
}

impl From<CategoryBins> for CategoryParts {
    fn from(bins: CategoryBins) -> Self {
        Self {
            levels: bins.levels,
            pooled: bins.pooled,
            coarse: bins.coarse,
            once: bins.once,
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
        Ok(Self::build(parts.levels, parts.pooled, parts.coarse, parts.once))
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
        let once = ranked.iter().filter(|(_, count)| *count == 1).count() as u64;
        let mut coarse = vec![0, 1, 2];
        coarse.extend(Self::groups(&ranked, known, total, settings));
        let names =
            |part: &[(&String, u64)]| part.iter().map(|(level, _)| (*level).clone()).collect::<Vec<_>>();
        let pooled_end = ranked.len().min(known + Self::POOLED_NAMES_MAX);
        Self::build(
            names(&ranked[..known]),
            names(&ranked[known..pooled_end]),
            coarse,
            once,
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

    fn build(levels: Vec<String>, pooled: Vec<String>, coarse: Vec<u16>, once: u64) -> Self {
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
            once,
            bin_of_level,
        }
    }

    /// Rows with a level that the reference never had, that are to be expected among as many rows as the reference has: as many as it
    /// has levels in a single row (Good, Biometrika 40, 1953, after Turing).
    pub fn unseen_expected(&self) -> u64 {
        self.once
    }

    /// Known levels, most frequent first.
    pub fn levels(&self) -> &[String] {
        &self.levels
    }

    /// The fine bin of a level.
    pub fn bin_of(&self, level: &str) -> usize {
        self.bin_of_level
            .get(level)
            .map_or(UNSEEN_BIN, |bin| usize::from(*bin))
    }

    fn coarse_labels(&self) -> Vec<String> {
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

    fn fit(values: &[f64]) -> NumericBins {
        NumericBins::fit(values, &BinSettings::default())
    }

    fn count(bins: &NumericBins, values: &[f64]) -> Vec<u64> {
        let mut fine = vec![0; bins.coarse.len()];
        for value in values {
            fine[bins.bin_of(*value)] += 1;
        }
        FeatureBins::Numeric(bins.clone()).merge_fine(&fine)
    }

    #[test]
    fn a_steady_column_has_deciles_that_hold_a_tenth_each() {
        let values: Vec<f64> = (0..1000).map(f64::from).collect();
        let bins = fit(&values);
        assert!(bins.points.is_empty());
        assert_eq!(bins.edges.len(), 99);
        assert_eq!(bins.coarse_edges().len(), 9);
        let mut want = vec![100; 11];
        want[MISSING_BIN] = 0;
        assert_eq!(count(&bins, &values), want);
    }

    #[test]
    fn a_dominating_value_has_its_own_bin_and_the_rest_keeps_its_quantiles() {
        let values: Vec<f64> = (0..1000)
            .map(|i| if i < 600 { 0.0 } else { f64::from(i) })
            .collect();
        let bins = fit(&values);
        assert_eq!(bins.points, [0.0]);
        assert_eq!(
            bins.coarse_edges().len(),
            3,
            "two fifths of the values, four tenths"
        );
        assert_eq!(count(&bins, &values), [0, 600, 100, 100, 100, 100]);
        assert_eq!(bins.bin_of(-0.0), bins.bin_of(0.0));
        assert_eq!(
            bins.bin_of(5e-324),
            bins.bin_of(1.0),
            "the smallest number above zero is not zero"
        );
        assert_eq!(
            bins.bin_of(-1.0),
            bins.bin_of(1.0),
            "below the first edge is the first interval"
        );
    }

    #[test]
    fn the_boundary_of_domination_is_inclusive() {
        for (zeros, own_bin) in [(100, true), (99, false)] {
            let values: Vec<f64> = (0..1000)
                .map(|i| if i < zeros { 0.0 } else { f64::from(i) })
                .collect();
            assert_eq!(fit(&values).points == [0.0], own_bin, "{zeros} zeros of 1000");
        }
    }

    #[test]
    fn several_values_can_dominate() {
        let values: Vec<f64> = (0..1000)
            .map(|i| {
                if i < 300 {
                    0.0
                } else if i < 600 {
                    7.5
                } else {
                    1.0 + f64::from(i) / 50.0
                }
            })
            .collect();
        let bins = fit(&values);
        assert_eq!(bins.points, [0.0, 7.5]);
        assert_eq!(count(&bins, &values)[..3], [0, 300, 300]);
    }

    #[test]
    fn few_distinct_values_have_a_bin_each_and_any_other_value_one_more() {
        let values: Vec<f64> = (0..100).map(|i| f64::from(i % 4)).collect();
        let bins = fit(&values);
        assert_eq!(bins.points, [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(count(&bins, &values), [0, 25, 25, 25, 25, 0]);
        assert_eq!(count(&bins, &[4.0, 1.5, -1.0, f64::NAN]), [1, 0, 0, 0, 0, 3]);
    }

    #[test]
    fn rare_values_are_pooled_with_neighbours_in_the_coarse_bins_only() {
        let values: Vec<f64> = (0..1000)
            .map(|i| {
                if i < 990 {
                    f64::from(i % 2)
                } else {
                    f64::from(i - 988)
                }
            })
            .collect();
        let bins = fit(&values);
        assert_eq!(bins.points.len(), 12);
        let counts = count(&bins, &values);
        assert_eq!(counts, [0, 495, 495, 10, 0]);
        let lonely = fit(&[vec![0.0; 999], vec![1.0]].concat());
        assert_eq!(
            count(&lonely, &[0.0, 1.0]),
            [0, 2, 0],
            "one in a thousand joins its neighbour"
        );
    }

    #[test]
    fn degenerate_columns_are_defined() {
        let constant = fit(&[3.0; 50]);
        assert_eq!(count(&constant, &[3.0, 3.0, 4.0, f64::NAN]), [1, 2, 1]);
        let missing = fit(&[f64::NAN; 50]);
        assert_eq!(count(&missing, &[3.0, f64::NAN]), [1, 1]);
        let nothing = fit(&[]);
        assert_eq!(count(&nothing, &[3.0, f64::NAN]), [1, 1]);
        let infinite = fit(&[f64::INFINITY, f64::NEG_INFINITY]);
        assert_eq!(count(&infinite, &[f64::INFINITY]), [0, 1]);
        let mut two_bits: Vec<f64> = vec![1.0; 600];
        two_bits.extend(vec![1.0_f64.next_up(); 400]);
        assert_eq!(count(&fit(&two_bits), &two_bits), [0, 600, 400, 0]);
    }

    #[test]
    fn infinities_fall_into_the_outermost_bins() {
        let values: Vec<f64> = (0..1000).map(f64::from).collect();
        let bins = fit(&values);
        assert_eq!(bins.bin_of(f64::NEG_INFINITY), bins.bin_of(-1.0));
        assert_eq!(bins.bin_of(f64::INFINITY), bins.bin_of(1e9));
        let beside: Vec<f64> = values.iter().copied().chain([f64::INFINITY]).collect();
        assert_eq!(fit(&beside), bins, "infinities do not move the edges");
    }

    #[test]
    fn the_search_table_agrees_with_the_definition() {
        let values: Vec<f64> = (0..2000)
            .map(|i| {
                if i % 3 == 0 {
                    250.0
                } else {
                    f64::from((i * 7919) % 1009)
                }
            })
            .collect();
        let bins = fit(&values);
        assert_eq!(bins.points, [250.0]);
        for value in values
            .iter()
            .copied()
            .chain([-5.0, 1e6, 250.0_f64.next_up(), 250.0_f64.next_down()])
        {
            let want = if value == 250.0 {
                1
            } else {
                2 + bins.edges.iter().filter(|edge| **edge <= value).count()
            };
            assert_eq!(bins.bin_of(value), want, "{value}");
        }
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
        assert_eq!(bins.unseen_expected(), 30);
        let stored = serde_json::to_string(&FeatureBins::Category(bins.clone())).unwrap();
        assert_eq!(
            serde_json::from_str::<FeatureBins>(&stored).unwrap(),
            FeatureBins::Category(bins)
        );
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
