//! Bins of numbers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::lookup::Lookup;
use super::{BinSettings, pool_neighbours, share_min};

/// Bins of numbers. Fine bins in this order: missing, one per point, then the intervals from low to high.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "NumericParts", into = "NumericParts")]
pub struct NumericBins {
    pub(super) points: Vec<f64>,
    pub(super) edges: Vec<f64>,
    pub(super) coarse: Vec<u16>,
    lookup: Lookup,
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

impl NumericBins {
    /// Bins for these reference values; NaN is missing.
    pub fn fit(values: &[f64], settings: &BinSettings) -> Self {
        // Adding zero turns -0 into 0, so that a point's bits are always those of its value.
        let sorted = sorted(values.iter().filter(|v| v.is_finite()).map(|v| v + 0.0));
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

    /// Builds the table that values are looked up in: a point is the interval from itself to the next larger number.
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
        let lookup = Lookup::new(bounds, first_interval as u16, |bound| bin_of(bound) as u16);
        Self {
            points,
            edges,
            coarse,
            lookup,
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
        self.lookup.bin_of(value)
    }

    /// Adds one to the count of each value's fine bin, as [`bin_of`](Self::bin_of) says.
    ///
    /// # Panics
    /// When there are fewer counts than fine bins.
    pub(crate) fn count(&self, values: &[f64], counts: &mut [u64]) {
        self.lookup.count(values, counts);
    }

    pub(super) fn coarse_labels(&self, written: &dyn Fn(f64) -> String) -> Vec<String> {
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

/// Ascending, by the total order. Whole numbers that are ordered as the values are sort in half of the time.
fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut keys: Vec<i64> = values
        .map(|value| turned(value.to_bits().cast_signed()))
        .collect();
    keys.sort_unstable();
    keys.into_iter()
        .map(|key| f64::from_bits(turned(key).cast_unsigned()))
        .collect()
}

/// The bits of a double as a number that is ordered as the doubles are, and back: those of negative ones are counted down.
const fn turned(bits: i64) -> i64 {
    bits ^ ((bits >> 63) & i64::MAX)
}

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

#[cfg(test)]
mod tests {
    use crate::binning::MISSING_BIN;
    use crate::binning::tests::{count, fit};

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
}
