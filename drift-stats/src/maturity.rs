//! How long labels take: of the rows of an age, which share has its label by now.
//!
//! A chargeback arrives weeks after the payment. Rates taken on labels that are there say too little about young rows; this curve says
//! how much is still to come. It is the product-limit estimate of arrival times, in which rows without a label count as long as they
//! have been watched and no longer (Kaplan and Meier, JASA 53, 1958), with Greenwood's variance on the log(−log) scale (Kalbfleisch and
//! Prentice, *The Statistical Analysis of Failure Time Data*, 1980). Age: whole steps, 0 for the first; the caller says how long a step is.
//! Range: shares of 0 to 1, never falling with age. Curves merge by addition.
//!
//! Limits: it takes rows of every age for alike. When investigators become faster, older rows tell of a past that is gone: build it from the
//! recent past. Rows that never get a label keep the curve below 1.

use serde::{Deserialize, Serialize};

use crate::proportion::{Interval, z_of};

/// What became of labels, by age.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Maturity {
    /// Labels that arrived in a step of age.
    arrived: Vec<u64>,
    /// Rows still without a label when they were last looked at, in a step of age.
    waiting: Vec<u64>,
}

/// The curve at one age.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ripe {
    /// Age in steps, counted from 0: at its end.
    pub age: usize,
    /// Share of rows that have their label by then, 0 to 1.
    pub share: f64,
    /// Its interval.
    pub interval: Interval,
    /// Rows that were watched so long and had no label when the step began.
    pub watched: u64,
}

fn add_at(counts: &mut Vec<u64>, age: usize, rows: u64) {
    if counts.len() <= age {
        counts.resize(age + 1, 0);
    }
    counts[age] += rows;
}

impl Maturity {
    /// Nothing was seen.
    pub const fn new() -> Self {
        Self {
            arrived: Vec::new(),
            waiting: Vec::new(),
        }
    }

    /// So many labels arrived at this age.
    pub fn arrived(&mut self, age: usize, rows: u64) {
        add_at(&mut self.arrived, age, rows);
    }

    /// So many rows have this age now and no label.
    pub fn waiting(&mut self, age: usize, rows: u64) {
        add_at(&mut self.waiting, age, rows);
    }

    /// Adds what was seen of other rows.
    pub fn merge(&mut self, other: &Self) {
        for (age, rows) in other.arrived.iter().enumerate() {
            self.arrived(age, *rows);
        }
        for (age, rows) in other.waiting.iter().enumerate() {
            self.waiting(age, *rows);
        }
    }

    /// Rows seen.
    pub fn rows(&self) -> u64 {
        self.arrived.iter().chain(&self.waiting).sum()
    }

    /// The curve, as far as rows were watched. Empty when there are none.
    pub fn curve(&self, confidence: f64) -> Vec<Ripe> {
        let z = z_of(confidence);
        let (mut watched, mut unknown, mut variance) = (self.rows(), 1.0_f64, 0.0_f64);
        let count = |counts: &[u64], age: usize| counts.get(age).copied().unwrap_or(0);
        let mut curve = Vec::new();
        for age in 0..self.arrived.len().max(self.waiting.len()) {
            if watched == 0 {
                break;
            }
            let (labels, at_risk) = (count(&self.arrived, age), watched as f64);
            let rest = at_risk - labels as f64;
            unknown *= rest / at_risk;
            if rest > 0.0 {
                variance += labels as f64 / (at_risk * rest);
            }
            curve.push(Ripe {
                age,
                share: 1.0 - unknown,
                interval: interval(unknown, variance, z),
                watched,
            });
            watched -= labels + count(&self.waiting, age);
        }
        curve
    }

    /// The first age at whose end surely so many rows have their label: the whole interval lies at `share` or above.
    pub fn ripe_from(&self, share: f64, confidence: f64) -> Option<usize> {
        let curve = self.curve(confidence);
        let ripe = curve.iter().find(|ripe| ripe.interval.low >= share)?;
        Some(ripe.age)
    }
}

/// Of the share with a label, when this share has none.
fn interval(unknown: f64, variance: f64, z: f64) -> Interval {
    if unknown <= 0.0 || unknown >= 1.0 || variance <= 0.0 {
        let share = 1.0 - unknown.clamp(0.0, 1.0);
        return Interval {
            low: share,
            high: share,
        };
    }
    let stretch = (z * variance.sqrt() / unknown.ln().abs()).exp();
    Interval {
        low: 1.0 - unknown.powf(1.0 / stretch),
        high: 1.0 - unknown.powf(stretch),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_curve_of_a_textbook() {
        // Times of remission of 21 patients (Freireich and others, 1963): 6, 6, 6, 6+, 7, 9+, 10, 10+, 11+, 13, 16, 17+, 19+, 20+, 22, 23, 25+,
        // 32+, 32+, 34+, 35+ weeks; the estimates are Kalbfleisch and Prentice's.
        let mut seen = Maturity::new();
        for (week, rows) in [(6, 3), (7, 1), (10, 1), (13, 1), (16, 1), (22, 1), (23, 1)] {
            seen.arrived(week, rows);
        }
        for week in [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35] {
            seen.waiting(week, 1);
        }
        let curve = seen.curve(0.95);
        for (week, unknown) in [
            (6, 0.857),
            (7, 0.807),
            (10, 0.753),
            (13, 0.690),
            (16, 0.627),
            (22, 0.538),
            (23, 0.448),
        ] {
            assert!(
                (1.0 - curve[week].share - unknown).abs() < 5e-4,
                "{week}: {:?}",
                curve[week]
            );
        }
        assert_eq!(curve[5].interval, Interval { low: 0.0, high: 0.0 });
        // Greenwood's standard error at 10 weeks is 0.0963 on the plain scale.
        // With Greenwood's standard error of 0.0963: 0.7529 to the powers of exp(±0.883).
        let Interval { low, high } = curve[10].interval;
        assert!(
            (1.0 - low - 0.889).abs() < 1e-3 && (1.0 - high - 0.503).abs() < 1e-3,
            "{low} {high}"
        );
        assert_eq!(curve[10].watched, 15);
    }

    #[test]
    fn rows_that_were_not_watched_long_do_not_bend_the_curve() {
        // Half of the labels arrive on each day; every day brings a thousand rows more.
        let mut seen = Maturity::new();
        for watched in 0..10_u32 {
            for age in 0..=watched {
                seen.arrived(age as usize, 1_024 >> (age + 1));
            }
            seen.waiting(watched as usize, 1_024 >> (watched + 1));
        }
        let curve = seen.curve(0.95);
        for ripe in &curve[..9] {
            let share = 1.0 - 0.5_f64.powi(ripe.age as i32 + 1);
            assert!((ripe.share - share).abs() < 1e-9, "{ripe:?}");
        }
        assert_eq!(seen.ripe_from(0.9, 0.95), Some(3));
        assert_eq!(seen.ripe_from(0.999_99, 0.95), None);
        assert_eq!(Maturity::new().curve(0.95), []);
    }

    proptest! {
        #[test]
        fn shares_grow_with_age_and_parts_add_up(
            arrived in proptest::collection::vec(0_u64..50, 1..20), waiting in proptest::collection::vec(0_u64..50, 1..20), at in 0_usize..20
        ) {
            let fill = |range: std::ops::Range<usize>| {
                let mut seen = Maturity::new();
                for age in range {
                    seen.arrived(age, arrived.get(age).copied().unwrap_or(0));
                    seen.waiting(age, waiting.get(age).copied().unwrap_or(0));
                }
                seen
            };
            let whole = fill(0..20);
            let mut merged = fill(0..at);
            merged.merge(&fill(at..20));
            prop_assert_eq!(&merged, &whole);
            let curve = whole.curve(0.9);
            for pair in curve.windows(2) {
                prop_assert!(pair[0].share <= pair[1].share);
            }
            for ripe in curve {
                prop_assert!((0.0..=1.0).contains(&ripe.share));
                prop_assert!(ripe.interval.low <= ripe.share + 1e-12 && ripe.share <= ripe.interval.high + 1e-12);
            }
        }
    }
}
