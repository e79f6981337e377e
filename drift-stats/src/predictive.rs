//! Predictive intervals of recall and precision: where they come to lie once rows are labelled, if a score means what it meant.
//!
//! Two things are open: which of the rows are fraud, and how often rows of their scores are, which so many labelled rows taught. The rows
//! of a side of the threshold have frauds as a beta-binomial: a binomial of the rows, its probability a beta whose mean is the weighted
//! mean of the cells' rates and whose variance is theirs. Rates are those that were seen, with one row's weight of the calibrated
//! probability: a cell that nobody saw may be anything. Half a fraud and half a genuine row more (Jeffreys) keep a side without
//! a fraud from being sure to have none. Precision is the share of one such count; recall that of two, by summing over both.
//!
//! Limits: rows of one side are taken for alike, which makes intervals a little too wide where their scores say much; and what
//! is not in the rows is not in the interval (scores that mean something else, fraud that is more or less frequent).
//!
//! Sources: weighted sums of counts as one count of the same mean and variance: Fay and Feuer, Statistics in Medicine 16, 1997; the beta-binomial
//! predictive law: Gelman and others, *Bayesian Data Analysis*, 2013, §2 and §5.

use crate::proportion::{Interval, Rate};

/// Standard deviations above this are counted in coarser steps.
const SPREAD_MAX: f64 = 5_000.0;
/// Parts of a law that are less likely than this, beside the most likely one, are left out.
const NEGLIGIBLE: f64 = 1e-12;

/// Rows of one cell of scores.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cell {
    /// How many there are now, labels unknown.
    pub rows: u64,
    /// Frauds among the labelled rows that taught.
    pub seen: Rate,
    /// The calibrated probability of fraud, above 0 and below 1 as far as so few rows can tell.
    pub probability: f64,
}

/// Where recall comes to lie; `None` when there is no row, or hardly a fraud to be expected at all.
pub(crate) fn recall(flagged: &[Cell], others: &[Cell], confidence: f64) -> Option<Interval> {
    let (found, missed) = (Frauds::among(flagged)?, Frauds::among(others)?);
    let neither = found.none() * missed.none();
    if neither > 1.0 - 1e-9 {
        return None;
    }
    let tail = (1.0 - confidence) / 2.0 * (1.0 - neither);
    // Recall below r: more are missed than found × (1 − r) / r.
    let limit = |r: f64| if r > 0.0 { (1.0 - r) / r } else { f64::MAX };
    let below = |r: f64| found.sum(|count| missed.above(count * limit(r)));
    let above = |r: f64| found.sum(|count| missed.below(count * limit(r)));
    Some(Interval {
        low: last(|r| below(r) <= tail),
        high: 1.0 - last(|r| above(1.0 - r) <= tail),
    })
}

/// Where precision comes to lie; `None` when no row is flagged.
pub(crate) fn precision(flagged: &[Cell], confidence: f64) -> Option<Interval> {
    let rows: f64 = flagged.iter().map(|cell| cell.rows as f64).sum();
    if rows == 0.0 {
        return None;
    }
    let found = Frauds::among(flagged)?;
    let tail = (1.0 - confidence) / 2.0;
    Some(Interval {
        low: last(|share| found.below(share * rows) <= tail),
        high: 1.0 - last(|share| found.above((1.0 - share) * rows) <= tail),
    })
}

/// The largest number of 0 to 1 for which something holds that holds up to some number.
fn last(holds: impl Fn(f64) -> bool) -> f64 {
    if holds(1.0) {
        return 1.0;
    }
    let (mut yes, mut no) = (0.0, 1.0);
    for _ in 0..50 {
        let middle = f64::midpoint(yes, no);
        if holds(middle) {
            yes = middle;
        } else {
            no = middle;
        }
    }
    yes
}

/// How many frauds there may be: probabilities of counts in equal steps.
#[derive(Debug)]
struct Frauds {
    /// The count that the first probability is of, in steps.
    first: u64,
    step: f64,
    mass: Vec<f64>,
    /// Probability of at least the count at each place, and 0 after the last.
    from: Vec<f64>,
}

impl Frauds {
    /// Among rows that are told apart by their cells; `None` when a number is not finite.
    fn among(cells: &[Cell]) -> Option<Self> {
        let rows: f64 = cells.iter().map(|cell| cell.rows as f64).sum();
        if rows == 0.0 {
            return Some(Self::law(0, 1.0, 1.0, 1.0));
        }
        let (mut mean, mut smoothed, mut variance) = (0.0, 0.0, 0.0);
        for cell in cells {
            let (weight, p) = (cell.rows as f64 / rows, cell.probability);
            let seen = cell.seen.of as f64 + 1.0;
            mean += weight * (cell.seen.hits as f64 + p) / seen;
            smoothed += weight * p;
            variance += weight * weight * p * (1.0 - p) / seen;
        }
        // So many labelled rows would leave as much open.
        let seen = smoothed * (1.0 - smoothed) / variance - 1.0;
        let seen = seen.max(1.0);
        let (a, b) = (mean * seen + 0.5, (1.0 - mean) * seen + 0.5);
        if !(a.is_finite() && b.is_finite()) {
            return None;
        }
        let share = a / (a + b);
        let spread = rows * (share * (1.0 - share) / (a + b + 1.0)).sqrt();
        let step = (spread / SPREAD_MAX).max(1.0);
        Some(Self::law((rows / step).round() as u64, a, b, step))
    }

    /// The beta-binomial of so many rows, each of which stands for `step` rows; `a` or `b` is 1 or more.
    fn law(rows: u64, a: f64, b: f64, step: f64) -> Self {
        let n = rows as f64;
        // Where it is largest, or at one of its ends.
        let peak = if a < 1.0 {
            0.0
        } else if b < 1.0 {
            n
        } else if a + b > 2.0 {
            ((n + 1.0) * (a - 1.0) / (a + b - 2.0)).floor().clamp(0.0, n)
        } else {
            0.0
        };
        let next = |k: f64| (n - k) / (k + 1.0) * (k + a) / (n - k - 1.0 + b);
        let mut down = Vec::new();
        let (mut k, mut mass) = (peak, 1.0);
        while k > 0.0 {
            mass /= next(k - 1.0);
            if mass < NEGLIGIBLE {
                break;
            }
            k -= 1.0;
            down.push(mass);
        }
        let first = k as u64;
        down.reverse();
        let mut masses = down;
        masses.push(1.0);
        let (mut k, mut mass) = (peak, 1.0);
        while k < n {
            mass *= next(k);
            if mass < NEGLIGIBLE {
                break;
            }
            k += 1.0;
            masses.push(mass);
        }
        let whole: f64 = masses.iter().sum();
        for mass in &mut masses {
            *mass /= whole;
        }
        let mut from = vec![0.0; masses.len() + 1];
        for at in (0..masses.len()).rev() {
            from[at] = from[at + 1] + masses[at];
        }
        Self {
            first,
            step,
            mass: masses,
            from,
        }
    }

    /// Probability that there is none.
    fn none(&self) -> f64 {
        1.0 - self.above(0.0)
    }

    /// The place of a count, 0 or less for those before the first.
    fn place(&self, count: f64) -> f64 {
        count / self.step - self.first as f64
    }

    /// Probability of at least the count at a place.
    fn from(&self, place: f64) -> f64 {
        let place = place.clamp(0.0, self.mass.len() as f64) as usize;
        self.from[place]
    }

    /// Probability of more.
    fn above(&self, count: f64) -> f64 {
        self.from(self.place(count).floor() + 1.0)
    }

    /// Probability of fewer.
    fn below(&self, count: f64) -> f64 {
        1.0 - self.from(self.place(count).ceil())
    }

    /// Mean of something that depends on the count.
    fn sum(&self, of: impl Fn(f64) -> f64) -> f64 {
        let counts = (self.first..).map(|place| place as f64 * self.step);
        self.mass
            .iter()
            .zip(counts)
            .map(|(mass, count)| mass * of(count))
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cbpe::Calibration;
    use crate::outcome::{Known, Outcome};

    /// Numbers of 0 to 1, always the same.
    fn dice() -> impl FnMut() -> f64 {
        let mut state = 11_u64;
        move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1_u64 << 53) as f64
        }
    }

    /// Scores of a fraud model: those of fraud lie near 1, those of genuine rows near 0.
    struct Stream {
        /// Share of fraud where the model was validated.
        frauds: f64,
        /// How many times more often scores are those of fraud now; a score means what it meant.
        shifted: f64,
    }

    impl Stream {
        fn draw(&self, dice: &mut impl FnMut() -> f64, rows: usize, shifted: f64) -> Outcome {
            let mut outcome = Outcome::empty(0.5);
            for _ in 0..rows {
                let score = if dice() < self.frauds * shifted {
                    1.0 - dice().powi(3)
                } else {
                    0.8 * dice().powi(12)
                };
                let is_fraud = dice() < self.means(score);
                outcome.add(score, if is_fraud { Known::Fraud } else { Known::Genuine });
            }
            outcome
        }

        /// Probability of fraud at a score, by Bayes' theorem.
        fn means(&self, score: f64) -> f64 {
            if score >= 0.8 {
                return 1.0;
            }
            let fraud = self.frauds * (1.0 - score).powf(-2.0 / 3.0) / 3.0;
            let genuine = (1.0 - self.frauds) * (score / 0.8).powf(1.0 / 12.0 - 1.0) / (12.0 * 0.8);
            fraud / (fraud + genuine)
        }
    }

    fn calibration(outcome: &Outcome) -> Calibration {
        let [genuine, frauds] = [Known::Genuine, Known::Fraud].map(|label| outcome.score_counts(label));
        Calibration::fit(outcome.threshold(), genuine, frauds).unwrap()
    }

    fn unlabelled(outcome: &Outcome) -> Vec<u64> {
        let [genuine, frauds] = [Known::Genuine, Known::Fraud].map(|label| outcome.score_counts(label));
        genuine.iter().zip(frauds).map(|(a, b)| a + b).collect()
    }

    /// How often realised recall and precision lie below, within and above their intervals of 95 %; the mean width.
    fn held(stream: &Stream, learnt_from: usize, window: usize, draws: u32) -> [([u32; 3], f64); 2] {
        let mut dice = dice();
        let mut found = [([0_u32; 3], 0.0); 2];
        for _ in 0..draws {
            let learnt = calibration(&stream.draw(&mut dice, learnt_from, 1.0));
            let realised = stream.draw(&mut dice, window, stream.shifted);
            let intervals = learnt.intervals(&unlabelled(&realised), 0.95).unwrap();
            let was = realised.confusion();
            let both = [
                (intervals.recall, was.recall()),
                (intervals.precision, was.precision()),
            ];
            for ((place, width), (interval, was)) in found.iter_mut().zip(both) {
                let (Some(interval), Some(was)) = (interval, was.value()) else {
                    // No fraud came, or no alarm.
                    place[1] += 1;
                    continue;
                };
                assert!(0.0 <= interval.low && interval.low <= interval.high && interval.high <= 1.0);
                // Bisection ends this close to where a count lies.
                let at = usize::from(was >= interval.low - 1e-9) + usize::from(was > interval.high + 1e-9);
                place[at] += 1;
                *width += (interval.high - interval.low) / f64::from(draws);
            }
        }
        found
    }

    /// `cargo xtask test -p drift-stats intervals_hold --no-capture` prints the table of `docs/statistics.md`.
    #[test]
    fn intervals_hold_what_is_realised() {
        let draws = 400_u32;
        println!(
            "| fraud | scores of fraud | validated | window | recall below, above | width | precision below, above | width |"
        );
        println!("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
        for frauds in [0.005, 0.01, 0.1] {
            for shifted in [1.0, 3.0] {
                for (learnt_from, window) in
                    [(2_000, 1_440), (10_000, 1_440), (10_000, 20_000), (1_000, 20_000)]
                {
                    let stream = Stream { frauds, shifted };
                    let found = held(&stream, learnt_from, window, draws);
                    let percent = |count: u32| 100.0 * f64::from(count) / f64::from(draws);
                    let told = found.map(|([below, _, above], width)| {
                        format!("{:.1} %, {:.1} % | {width:.2}", percent(below), percent(above))
                    });
                    println!(
                        "| {} % | × {shifted} | {learnt_from} | {window} | {} | {} |",
                        100.0 * frauds,
                        told[0],
                        told[1]
                    );
                    // Fewer than ten frauds teach little of the flagged rows.
                    let known = frauds * learnt_from as f64 >= 9.5;
                    for ([below, _, above], width) in found {
                        assert!(percent(below) <= 4.5, "{told:?}");
                        assert!(percent(above) <= if known { 9.0 } else { 15.0 }, "{told:?}");
                        assert!(width > 0.0, "{told:?}");
                    }
                    // Wide enough for anything is of no use.
                    let frauds_there = frauds * shifted * window as f64;
                    if known && learnt_from >= 10_000 && frauds_there > 100.0 {
                        assert!(found[0].1 < 0.3 && found[1].1 < 0.2, "{told:?}");
                    }
                }
            }
        }
    }

    /// Recall and precision of so many rows at 0.9 and at 0.1, by found and missed frauds and genuine rows at each.
    fn of(found: u64, alarms: u64, missed: u64, genuine: u64, window: [u64; 2]) -> [Interval; 2] {
        let mut learnt = Outcome::empty(0.5);
        learnt.add_rows(0.9, Known::Fraud, found);
        learnt.add_rows(0.9, Known::Genuine, alarms);
        learnt.add_rows(0.1, Known::Fraud, missed);
        learnt.add_rows(0.1, Known::Genuine, genuine);
        let mut rows = Outcome::empty(0.5);
        rows.add_rows(0.9, Known::Unknown, window[0]);
        rows.add_rows(0.1, Known::Unknown, window[1]);
        let intervals = calibration(&learnt)
            .intervals(rows.score_counts(Known::Unknown), 0.95)
            .unwrap();
        [intervals.recall.unwrap(), intervals.precision.unwrap()]
    }

    fn width(interval: Interval) -> f64 {
        interval.high - interval.low
    }

    #[test]
    fn more_that_is_known_says_more_and_larger_windows_say_no_less() {
        let window = [1_000, 100_000];
        let [few, many] = [of(18, 2, 2, 2_000, window), of(1_800, 200, 200, 200_000, window)];
        for (few, many) in few.into_iter().zip(many) {
            assert!(width(few) > 3.0 * width(many), "{few:?} {many:?}");
        }
        let mut before = [0.0; 2];
        for times in [1, 10, 100, 10_000] {
            let found = of(50, 8, 0, 2_000, [58 * times, 2_000 * times]);
            for (found, before) in found.into_iter().zip(&mut before) {
                assert!(found.low >= *before, "{found:?} after {before} at {times}");
                *before = found.low;
            }
        }
        assert!(before[0] > 0.9 && before[1] > 0.7, "{before:?}");
    }

    #[test]
    fn no_fraud_seen_is_not_surely_none() {
        let [recall, precision] = of(18, 2, 0, 2_000, [1_000, 100_000]);
        assert!((0.5..0.95).contains(&recall.low), "{recall:?}");
        assert_eq!(recall.high, 1.0);
        let [_, all] = of(20, 0, 2, 2_000, [100, 10_000]);
        assert!((0.7..0.95).contains(&all.low) && all.high == 1.0, "{all:?}");
        assert!(width(precision) > 0.1, "{precision:?}");
    }

    #[test]
    fn where_nobody_saw_a_row_anything_may_be() {
        let mut learnt = Outcome::empty(0.5);
        learnt.add_rows(0.1, Known::Genuine, 2_000);
        learnt.add_rows(0.1, Known::Fraud, 4);
        learnt.add_rows(0.9, Known::Fraud, 18);
        learnt.add_rows(0.9, Known::Genuine, 2);
        let learnt = calibration(&learnt);
        let interval = |score| {
            let mut rows = Outcome::empty(0.5);
            rows.add_rows(score, Known::Unknown, 1_000);
            rows.add_rows(0.1, Known::Unknown, 1_000);
            learnt.intervals(rows.score_counts(Known::Unknown), 0.95).unwrap()
        };
        assert!(width(interval(0.55).precision.unwrap()) > 0.8);
        assert!(width(interval(0.9).precision.unwrap()) < 0.5);
    }

    #[test]
    fn what_is_sure_has_no_width() {
        let point = |value: f64| Interval {
            low: value,
            high: value,
        };
        let learnt = {
            let mut outcome = Outcome::empty(0.5);
            outcome.add_rows(0.9, Known::Fraud, 9);
            outcome.add_rows(0.9, Known::Genuine, 1);
            outcome.add_rows(0.1, Known::Fraud, 1);
            outcome.add_rows(0.1, Known::Genuine, 99);
            calibration(&outcome)
        };
        let of = |score| {
            let mut rows = Outcome::empty(0.5);
            rows.add_rows(score, Known::Unknown, 1_000);
            learnt.intervals(rows.score_counts(Known::Unknown), 0.95).unwrap()
        };
        // Every row is flagged, or none.
        assert_eq!(of(0.9).recall, Some(point(1.0)));
        assert_eq!((of(0.1).recall, of(0.1).precision), (Some(point(0.0)), None));
        let none = learnt.intervals(&[0; 51], 0.95).unwrap();
        assert_eq!((none.recall, none.precision), (None, None));
    }

    #[test]
    fn the_law_is_the_beta_binomial() {
        // Equally likely counts; and the first two of a hand-computed one: B(2 + k, 3 + 4 − k) C(4, k) / B(2, 3).
        let even = Frauds::law(9, 1.0, 1.0, 1.0);
        assert!(
            even.mass.iter().all(|mass| (mass - 0.1).abs() < 1e-12),
            "{even:?}"
        );
        let law = Frauds::law(4, 2.0, 3.0, 1.0);
        for (mass, wanted) in law
            .mass
            .iter()
            .zip([3.0 / 14.0, 2.0 / 7.0, 9.0 / 35.0, 6.0 / 35.0, 1.0 / 14.0])
        {
            assert!((mass - wanted).abs() < 1e-12, "{law:?}");
        }
        // Coarse steps keep mean and spread.
        for (rows, a, b) in [
            (10_000_000_u64, 3.0_f64, 300.0_f64),
            (50_000_000, 0.5, 2.5),
            (1_000_000_000, 1.0, 1.0),
        ] {
            let spread = rows as f64 * (a * b / ((a + b).powi(2) * (a + b + 1.0))).sqrt();
            let step = (spread / SPREAD_MAX).max(1.0);
            let law = Frauds::law((rows as f64 / step).round() as u64, a, b, step);
            let mean = law.sum(|count| count);
            let wanted = rows as f64 * a / (a + b);
            assert!((mean / wanted - 1.0).abs() < 1e-3, "{mean} {wanted}");
            let variance = law.sum(|count| (count - mean).powi(2));
            assert!(
                (variance.sqrt() / spread - 1.0).abs() < 0.01,
                "{variance} {spread}"
            );
            assert!((law.from[0] - 1.0).abs() < 1e-9);
        }
    }
}
