//! Kolmogorov–Smirnov and Wasserstein-1 from counts, each with the range that the true value lies in.
//!
//! Counts say exactly how much of a sample lies below an edge, and nothing of where the values of a bin lie. So the largest gap of
//! the distribution functions is known at edges, and elsewhere up to what the bin holds: `low ≤ D ≤ high`. For the distance the
//! values of a bin count as spread evenly over it; each sample is then off by at most half of its share times the bin's width
//! (the farthest that an even spread is from all values at one end), and both together by the sum. The outermost bins end at the
//! smallest and the largest value of both samples, so for the distance all values must be finite. Values with a bin of their own
//! are exact, missing ones take no part.
//!
//! Sources: as in [`crate::samples::kolmogorov_smirnov`] and [`crate::samples::wasserstein`]; the bounds are elementary.

use crate::binning::{MISSING_BIN, NumericBins};
use crate::{Sample, Unusable};

/// A value that counts determine only up to a range.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounded {
    /// The value that counts suggest, within the range.
    pub value: f64,
    /// The true value is at least this.
    pub low: f64,
    /// The true value is at most this.
    pub high: f64,
}

/// The shares of both samples in one bin: an interval, or a value within it.
#[derive(Debug, Clone, Copy, Default)]
struct Mass {
    reference: f64,
    current: f64,
}

impl Mass {
    fn plus(self, other: Self) -> Self {
        Self {
            reference: self.reference + other.reference,
            current: self.current + other.current,
        }
    }

    /// Gap of the distribution functions.
    fn gap(self) -> f64 {
        self.reference - self.current
    }
}

/// An interval between two edges, and the values within it that have bins of their own.
struct Interval {
    mass: Mass,
    /// Value and mass, ascending.
    points: Vec<(f64, Mass)>,
}

/// The intervals from low to high.
fn intervals(bins: &NumericBins, reference: &[u64], current: &[u64]) -> Result<Vec<Interval>, Unusable> {
    let (points, edges) = (bins.points(), bins.edges());
    let first = points.len() + 1;
    if reference.len() != current.len() || reference.len() != first + edges.len() + 1 {
        return Err(Unusable::BinsDiffer);
    }
    let total = |counts: &[u64], sample| match counts.iter().skip(MISSING_BIN + 1).sum::<u64>() {
        0 => Err(Unusable::TooFewValues {
            sample,
            values: 0,
            min: 1,
        }),
        values => Ok(values as f64),
    };
    let n = total(reference, Sample::Reference)?;
    let m = total(current, Sample::Current)?;
    let mass = |at: usize| Mass {
        reference: reference[at] as f64 / n,
        current: current[at] as f64 / m,
    };
    let mut found: Vec<Interval> = (0..=edges.len())
        .map(|at| Interval {
            mass: mass(first + at),
            points: Vec::new(),
        })
        .collect();
    for (at, point) in points.iter().enumerate() {
        let interval = edges.partition_point(|edge| edge <= point);
        found[interval].points.push((*point, mass(at + 1)));
    }
    Ok(found)
}

/// Largest gap of the distribution functions, 0 to 1.
///
/// # Errors
/// [`Unusable`] when the counts are not of these bins, or a sample has no value.
pub fn kolmogorov_smirnov(
    bins: &NumericBins,
    reference: &[u64],
    current: &[u64],
) -> Result<Bounded, Unusable> {
    let mut below = Mass::default();
    let (mut low, mut high) = (0.0_f64, 0.0_f64);
    for interval in intervals(bins, reference, current)? {
        // Of the interval's own mass anything from nothing to all lies left of what is looked at.
        let (mut points, all) = (below, interval.mass);
        let reach = |sure: Mass| {
            let most = (sure.reference + all.reference) - sure.current;
            let least = sure.reference - (sure.current + all.current);
            (least, most)
        };
        low = low.max(below.gap().abs());
        let (least, most) = reach(below);
        high = high.max(most).max(-least);
        for (_, mass) in &interval.points {
            points = points.plus(*mass);
            let (least, most) = reach(points);
            // Whatever the split, the gap at the value is at least this far from 0.
            low = low.max(least).max(-most);
            high = high.max(most).max(-least);
        }
        below = points.plus(all);
    }
    let high = high.min(1.0);
    Ok(Bounded {
        value: low,
        low,
        high: high.max(low),
    })
}

/// How far values must be moved on average, in their own unit, 0 or more. `span` holds the smallest and the largest value of both
/// samples, none of which is infinite.
///
/// # Errors
/// [`Unusable`] when the counts are not of these bins, a sample has no value, or the span is not finite.
pub fn wasserstein(
    bins: &NumericBins,
    reference: &[u64],
    current: &[u64],
    span: (f64, f64),
) -> Result<Bounded, Unusable> {
    if !(span.0.is_finite() && span.1.is_finite() && span.0 <= span.1) {
        return Err(Unusable::NotFinite);
    }
    let edges = bins.edges();
    let (mut before, mut value, mut off) = (Mass::default(), 0.0, 0.0);
    for (at, interval) in intervals(bins, reference, current)?.into_iter().enumerate() {
        let left = at.checked_sub(1).map_or(span.0, |at| edges[at].max(span.0));
        let right = edges.get(at).map_or(span.1, |edge| edge.min(span.1)).max(left);
        let width = right - left;
        // Evenly over the interval, with a step at each value that has a bin of its own.
        let spread = |from: f64, to: f64| if width > 0.0 { (to - from) / width } else { 0.0 };
        let (mut at_x, mut x) = (before, left);
        for (point, mass) in &interval.points {
            let point = point.clamp(left, right);
            let next = at_x.plus(share_of(interval.mass, spread(x, point)));
            value += area(at_x.gap(), next.gap(), point - x);
            (at_x, x) = (next.plus(*mass), point);
        }
        let end = at_x.plus(share_of(interval.mass, spread(x, right)));
        value += area(at_x.gap(), end.gap(), right - x);
        off += width * (interval.mass.reference + interval.mass.current) / 2.0;
        let of_points = interval
            .points
            .iter()
            .fold(Mass::default(), |sum, (_, mass)| sum.plus(*mass));
        before = before.plus(of_points).plus(interval.mass);
    }
    if !(value.is_finite() && off.is_finite()) {
        return Err(Unusable::NotFinite);
    }
    Ok(Bounded {
        value,
        low: (value - off).max(0.0),
        high: value + off,
    })
}

fn share_of(mass: Mass, share: f64) -> Mass {
    Mass {
        reference: mass.reference * share,
        current: mass.current * share,
    }
}

/// Area between a straight line and zero: its ends and its width.
fn area(from: f64, to: f64, width: f64) -> f64 {
    if from * to >= 0.0 {
        return f64::midpoint(from.abs(), to.abs()) * width;
    }
    // Two triangles that meet where the line crosses.
    (from * from + to * to) / (2.0 * (from - to).abs()) * width
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::binning::BinSettings;
    use crate::samples::{Pair, kolmogorov_smirnov as exact_ks, wasserstein as exact_distance};

    fn counts(bins: &NumericBins, values: &[f64]) -> Vec<u64> {
        let mut counts = vec![0; bins.points().len() + bins.edges().len() + 2];
        for value in values {
            counts[bins.bin_of(*value)] += 1;
        }
        counts
    }

    fn span(values: &[&[f64]]) -> (f64, f64) {
        let all = || values.iter().flat_map(|values| values.iter().copied());
        (
            all().fold(f64::INFINITY, f64::min),
            all().fold(f64::NEG_INFINITY, f64::max),
        )
    }

    fn both(reference: &[f64], current: &[f64]) -> (Bounded, Bounded) {
        let bins = NumericBins::fit(reference, &BinSettings::default());
        let (before, now) = (counts(&bins, reference), counts(&bins, current));
        (
            kolmogorov_smirnov(&bins, &before, &now).unwrap(),
            wasserstein(&bins, &before, &now, span(&[reference, current])).unwrap(),
        )
    }

    #[test]
    fn few_distinct_values_are_exact() {
        let reference: Vec<f64> = (0..1_000).map(|n| f64::from(n % 4)).collect();
        let current: Vec<f64> = (0..1_000).map(|n| f64::from(n % 5 % 4)).collect();
        let (ks, distance) = both(&reference, &current);
        let pair = Pair::new(&reference, &current).unwrap();
        let exact = exact_ks::distance(&pair).value;
        assert!(
            (ks.low - exact).abs() < 1e-12 && (ks.high - exact).abs() < 1e-12,
            "{ks:?}"
        );
        let exact = exact_distance::distance(&pair).unwrap();
        assert!((distance.value - exact).abs() < 1e-12 && distance.high - distance.low < 1e-12);
    }

    #[test]
    fn counts_of_other_bins_and_empty_samples_are_refused() {
        let bins = NumericBins::fit(&[1.0, 2.0, 3.0], &BinSettings::default());
        let some = counts(&bins, &[1.0]);
        let empty = counts(&bins, &[f64::NAN]);
        assert_eq!(kolmogorov_smirnov(&bins, &some, &[1]), Err(Unusable::BinsDiffer));
        assert!(matches!(
            kolmogorov_smirnov(&bins, &some, &empty),
            Err(Unusable::TooFewValues {
                sample: Sample::Current,
                ..
            })
        ));
        assert_eq!(
            wasserstein(&bins, &some, &some, (f64::NAN, 1.0)),
            Err(Unusable::NotFinite)
        );
    }

    fn values() -> impl Strategy<Value = Vec<f64>> {
        let value = prop_oneof![
            3 => -50.0..50.0_f64,
            1 => Just(0.0),
            1 => (0..6_i32).prop_map(f64::from),
            1 => -1e6..1e6_f64,
        ];
        prop::collection::vec(value, 1..400)
    }

    proptest! {
        #[test]
        fn the_true_value_lies_in_the_range(reference in values(), current in values()) {
            let (ks, distance) = both(&reference, &current);
            // And no wider than what bins hold.
            let bins = NumericBins::fit(&reference, &BinSettings::default());
            let (before, now) = (counts(&bins, &reference), counts(&bins, &current));
            let found = intervals(&bins, &before, &now).unwrap();
            let largest = found
                .iter()
                .map(|interval| {
                    let of_points = interval.points.iter().map(|(_, mass)| mass.reference.max(mass.current));
                    interval.mass.reference + interval.mass.current + of_points.sum::<f64>()
                })
                .fold(0.0, f64::max);
            prop_assert!(ks.high - ks.low <= largest + 1e-12, "{ks:?} {largest}");
            let (low, high) = span(&[&reference, &current]);
            prop_assert!(distance.high - distance.low <= 2.0 * (high - low) + 1e-9, "{distance:?}");
            let pair = Pair::new(&reference, &current).unwrap();
            let exact = exact_ks::distance(&pair).value;
            prop_assert!(ks.low <= exact + 1e-12 && exact <= ks.high + 1e-12, "{exact} {ks:?}");
            let exact = exact_distance::distance(&pair).unwrap();
            let slack = 1e-9 * exact.max(1.0);
            prop_assert!(
                distance.low <= exact + slack && exact <= distance.high + slack,
                "{exact} {distance:?}"
            );
        }
    }
}
