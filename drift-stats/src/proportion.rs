//! Rates of rare events: tests of two rates, intervals for one rate and for a difference.
//!
//! Sources: Wilson, JASA 22, 1927; Newcombe, Statistics in Medicine 17, 1998 (method 10 for differences);
//! Fisher's exact test, two-sided by doubling the smaller tail.

use crate::special::{ln_choose, normal_critical, normal_tail};
use crate::{Sample, Unusable};

/// So many of so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many have the property; at most `of`.
    pub hits: u64,
    /// Out of how many.
    pub of: u64,
}

impl Rate {
    /// `hits / of`, or `None` when there is nothing to take a rate of.
    pub fn value(self) -> Option<f64> {
        (self.of > 0).then(|| self.hits as f64 / self.of as f64)
    }
}

/// A range that holds the true value at some confidence, `low <= high`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Lower bound.
    pub low: f64,
    /// Upper bound.
    pub high: f64,
}

/// Two-sided: the standard normal value for an interval of this confidence, e.g. 1.96 for 0.95.
pub fn z_of(confidence: f64) -> f64 {
    normal_critical((1.0 - confidence) / 2.0)
}

/// Wilson's score interval for a rate, inside `[0, 1]`; `None` when there is nothing to take a rate of.
pub fn wilson(rate: Rate, confidence: f64) -> Option<Interval> {
    let p = rate.value()?;
    let n = rate.of as f64;
    let z2 = z_of(confidence).powi(2);
    let centre = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = (z2 * (p * (1.0 - p) / n + z2 / (4.0 * n * n))).sqrt() / (1.0 + z2 / n);
    // At the ends the formula gives exactly 0 and 1 but for rounding.
    let low = if rate.hits == 0 {
        0.0
    } else {
        (centre - half).max(0.0)
    };
    let high = if rate.hits == rate.of {
        1.0
    } else {
        (centre + half).min(1.0)
    };
    Some(Interval { low, high })
}

/// A difference `first - second` of two rates and its interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// `first - second`, -1 to 1.
    pub value: f64,
    /// Newcombe's hybrid score interval.
    pub interval: Interval,
}

/// Difference `first - second` with Newcombe's interval; `None` when either rate has no denominator.
pub fn difference(first: Rate, second: Rate, confidence: f64) -> Option<Difference> {
    let (p1, p2) = (first.value()?, second.value()?);
    let (w1, w2) = (wilson(first, confidence)?, wilson(second, confidence)?);
    let value = p1 - p2;
    let down = (p1 - w1.low).hypot(w2.high - p2);
    let up = (w1.high - p1).hypot(p2 - w2.low);
    Some(Difference {
        value,
        interval: Interval {
            low: (value - down).max(-1.0),
            high: (value + up).min(1.0),
        },
    })
}

/// What two rates say about each other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TwoRates {
    /// Pooled two-proportion statistic, positive when the current rate is larger; 0 when nothing or everything hits.
    pub z: f64,
    /// Two-sided p-value of `z`, by the normal law.
    pub p_value: f64,
    /// Two-sided p-value by Fisher's exact test; the one to trust when hits are few.
    pub p_value_exact: f64,
}

/// Tests whether two samples have the same rate.
///
/// # Errors
/// [`Unusable::TooFewValues`] when a sample is empty.
pub fn two_rates(reference: Rate, current: Rate) -> Result<TwoRates, Unusable> {
    for (rate, sample) in [(reference, Sample::Reference), (current, Sample::Current)] {
        if rate.of == 0 {
            return Err(Unusable::TooFewValues {
                sample,
                values: 0,
                min: 1,
            });
        }
    }
    let (n, m) = (reference.of as f64, current.of as f64);
    let pooled = (reference.hits + current.hits) as f64 / (n + m);
    let spread = (pooled * (1.0 - pooled) * (1.0 / n + 1.0 / m)).sqrt();
    let z = if spread > 0.0 {
        (current.hits as f64 / m - reference.hits as f64 / n) / spread
    } else {
        0.0
    };
    Ok(TwoRates {
        z,
        p_value: (2.0 * normal_tail(z.abs())).min(1.0),
        p_value_exact: fisher_two_sided(reference, current),
    })
}

/// `(current - reference) / reference`, dimensionless: 0.5 is half as much again.
///
/// # Errors
/// [`Unusable::ReferenceRateZero`] when the reference has no hits; [`Unusable::TooFewValues`] for an empty sample.
pub fn relative_change(reference: Rate, current: Rate) -> Result<f64, Unusable> {
    let too_few = |sample| Unusable::TooFewValues {
        sample,
        values: 0,
        min: 1,
    };
    let r = reference.value().ok_or(too_few(Sample::Reference))?;
    let c = current.value().ok_or(too_few(Sample::Current))?;
    if reference.hits == 0 {
        Err(Unusable::ReferenceRateZero)
    } else {
        Ok((c - r) / r)
    }
}

/// The largest relative changes of a rate that chance explains; each 0 or more.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RelativeNoise {
    /// Largest rise that is not significant; what no window of this size can exceed when no rise would be.
    pub rise: f64,
    /// Largest fall that is not significant, as a positive number; 1 when even no hit at all would not be.
    pub fall: f64,
}

/// How far the rate of a window of `window` rows may lie from the reference's, relative to it, without being
/// significant at `alpha` by the exact test. `None` when the reference has no hits or the window no rows.
pub fn relative_noise(reference: Rate, window: u64, alpha: f64) -> Option<RelativeNoise> {
    if reference.hits == 0 || window == 0 {
        return None;
    }
    let significant = |hits: u64| fisher_two_sided(reference, Rate { hits, of: window }) < alpha;
    let change = |hits: u64| relative_change(reference, Rate { hits, of: window }).ok();
    // On either side of the expectation the p-value falls with the distance from it.
    let expected = reference.value()? * window as f64;
    let (mut within, mut beyond) = (expected.floor() as u64, window + 1);
    while beyond - within > 1 {
        let middle = within + (beyond - within) / 2;
        if significant(middle) {
            beyond = middle;
        } else {
            within = middle;
        }
    }
    let rise = change(within)?.max(0.0);
    // `below` counts from the left: hits below it are significant.
    let (mut below, mut not_below) = (0, (expected.ceil() as u64).min(window));
    while below < not_below {
        let middle = below + (not_below - below) / 2;
        if significant(middle) {
            below = middle + 1;
        } else {
            not_below = middle;
        }
    }
    Some(RelativeNoise {
        rise,
        fall: (-change(not_below)?).max(0.0),
    })
}

/// Doubles the smaller tail of the hypergeometric law of the current hits given all hits.
fn fisher_two_sided(reference: Rate, current: Rate) -> f64 {
    let hits = reference.hits + current.hits;
    let total = reference.of + current.of;
    let smallest = hits.saturating_sub(reference.of);
    let largest = hits.min(current.of);
    let norm = ln_choose(total, current.of);
    let ln_probability = |x: u64| ln_choose(hits, x) + ln_choose(total - hits, current.of - x) - norm;
    // From the observation outwards each term is the last one times a ratio, so a tail is a short geometric-like sum.
    let tail = |upwards: bool| {
        let mut x = current.hits;
        let mut term = ln_probability(x).exp();
        let mut sum = term;
        loop {
            let end = if upwards { largest } else { smallest };
            if x == end {
                return sum;
            }
            let free = (total - hits + x) as f64 - current.of as f64;
            let ratio = if upwards {
                let next = x + 1;
                (hits - x) as f64 * (current.of - x) as f64 / (next as f64 * (free + 1.0))
            } else {
                x as f64 * free / ((hits - x + 1) as f64 * (current.of - x + 1) as f64)
            };
            term *= ratio;
            sum += term;
            x = if upwards { x + 1 } else { x - 1 };
            // Past the mode the terms only fall, so what is left is below rounding.
            if ratio < 1.0 && term < sum * 1e-17 {
                return sum;
            }
        }
    };
    (2.0 * tail(true).min(tail(false))).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(hits: u64, of: u64) -> Rate {
        Rate { hits, of }
    }

    fn near(got: f64, want: f64, tolerance: f64) {
        assert!((got - want).abs() <= tolerance, "got {got}, want {want}");
    }

    #[test]
    fn wilson_equals_newcombes_printed_examples() {
        // Newcombe 1998 (single proportion), method 3: 81/263, 15/148, 0/20, 1/29.
        let table = [
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0, 0.1611),
            (1, 29, 0.0061, 0.1718),
        ];
        for (hits, of, low, high) in table {
            let interval = wilson(rate(hits, of), 0.95).unwrap();
            near(interval.low, low, 5e-5);
            near(interval.high, high, 5e-5);
        }
        assert_eq!(wilson(rate(0, 0), 0.95), None);
        assert_eq!(wilson(rate(7, 7), 0.95).unwrap().high, 1.0);
    }

    #[test]
    fn newcombe_equals_his_printed_examples() {
        // Newcombe 1998 (differences), method 10: 56/70 - 48/80, 9/10 - 3/10, 10/10 - 0/20.
        let table = [
            (rate(56, 70), rate(48, 80), 0.2, 0.0524, 0.3339),
            (rate(9, 10), rate(3, 10), 0.6, 0.1705, 0.8090),
            (rate(10, 10), rate(0, 20), 1.0, 0.6791, 1.0),
        ];
        for (first, second, value, low, high) in table {
            let found = difference(first, second, 0.95).unwrap();
            near(found.value, value, 1e-12);
            near(found.interval.low, low, 5e-5);
            near(found.interval.high, high, 5e-5);
        }
    }

    #[test]
    fn the_two_proportion_test_equals_a_worked_example() {
        // 15/100 against 30/100: pooled 0.225, z = 0.15 / sqrt(0.225 * 0.775 * 0.02)
        let found = two_rates(rate(15, 100), rate(30, 100)).unwrap();
        near(found.z, 0.15 / f64::sqrt(0.225 * 0.775 * 0.02), 1e-12);
        near(found.p_value, 0.011_085_166_381, 1e-11);
        // The lady tasting tea: 3 of 4 against 1 of 4, one tail 17/70.
        let tea = two_rates(rate(1, 4), rate(3, 4)).unwrap();
        near(tea.p_value_exact, 2.0 * 17.0 / 70.0, 1e-12);
    }

    #[test]
    fn the_exact_test_sums_to_one_and_meets_the_normal_law_when_hits_are_many() {
        let (reference, current) = (rate(5_000, 100_000), rate(5_200, 100_000));
        let found = two_rates(reference, current).unwrap();
        near(found.p_value_exact, found.p_value, 0.002);
        assert!(two_rates(rate(8, 1_000), rate(8, 1_000)).unwrap().p_value_exact > 0.99);
        // The chance of 0 to 8 hits, and of 9 or more, in a window of 10 with 20 hits in 100 + 10 rows.
        let p = |hits: u64| fisher_two_sided(rate(20 - hits, 100), rate(hits, 10));
        assert!(p(9) < p(5));
    }

    #[test]
    fn rare_events_are_not_called_significant_by_a_law_that_does_not_hold_for_them() {
        // Reference 0.8 %, six frauds among 200: the normal law says 5e-4, exactly it is 1e-2.
        let found = two_rates(rate(8_000, 1_000_000), rate(6, 200)).unwrap();
        assert!(found.p_value < 6e-4, "{found:?}");
        assert!(found.p_value_exact > 8e-3, "{found:?}");
    }

    #[test]
    fn no_hits_anywhere_is_no_difference() {
        let found = two_rates(rate(0, 50), rate(0, 70)).unwrap();
        assert_eq!((found.z, found.p_value, found.p_value_exact), (0.0, 1.0, 1.0));
        let all = two_rates(rate(50, 50), rate(70, 70)).unwrap();
        assert_eq!((all.z, all.p_value, all.p_value_exact), (0.0, 1.0, 1.0));
        assert!(two_rates(rate(0, 0), rate(0, 70)).is_err());
    }

    #[test]
    fn a_change_from_zero_is_a_reason_and_not_infinite() {
        assert_eq!(
            relative_change(rate(0, 1000), rate(20, 1000)),
            Err(Unusable::ReferenceRateZero)
        );
        near(
            relative_change(rate(10, 1000), rate(15, 1000)).unwrap(),
            0.5,
            1e-12,
        );
        near(
            relative_change(rate(10, 1000), rate(0, 1000)).unwrap(),
            -1.0,
            1e-12,
        );
    }

    #[test]
    fn the_noise_of_a_rate_is_the_largest_change_that_is_not_significant() {
        let reference = rate(8_000, 1_000_000);
        let noise = relative_noise(reference, 9_600, 0.001).unwrap();
        let p = |hits: u64| two_rates(reference, rate(hits, 9_600)).unwrap().p_value_exact;
        let most = (0.008 * (1.0 + noise.rise) * 9_600.0).round() as u64;
        assert!(p(most) >= 0.001 && p(most + 1) < 0.001);
        let least = (0.008 * (1.0 - noise.fall) * 9_600.0).round() as u64;
        assert!(p(least) >= 0.001 && p(least - 1) < 0.001);
        assert!(
            relative_noise(reference, 100, 0.001).unwrap().rise > noise.rise,
            "fewer rows explain more"
        );
    }

    #[test]
    fn where_no_change_could_be_significant_no_change_exceeds_the_noise() {
        // 100 rows with 0.8 expected: none at all says nothing.
        assert_eq!(
            relative_noise(rate(8_000, 1_000_000), 100, 0.001).unwrap().fall,
            1.0
        );
        let one_row = relative_noise(rate(9, 10), 1, 0.001).unwrap();
        assert!(one_row.rise >= relative_change(rate(9, 10), rate(1, 1)).unwrap());
        assert_eq!(relative_noise(rate(0, 10), 100, 0.001), None);
        assert_eq!(relative_noise(rate(9, 10), 0, 0.001), None);
    }
}
