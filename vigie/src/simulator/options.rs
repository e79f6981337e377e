//! What to simulate.

use std::fmt::Display;
use std::ops::RangeInclusive;

use chrono::{NaiveDate, TimeDelta};

use super::drift::{Drift, InvalidDrift};

/// How long after a payment its label is known.
pub const LABEL_DELAY: TimeDelta = TimeDelta::days(1);

/// What to simulate. The same options give the same payments, for ever.
#[derive(Debug, Clone, PartialEq)]
pub struct SimulateOptions {
    /// Seed of everything random.
    pub seed: u64,
    /// First day, UTC, 1970 to 2200.
    pub start: NaiveDate,
    /// Days, 1 to 3650.
    pub days: u32,
    /// Days that pass before the first one and are not handed out, 0 to 365. Windows fill and frauds become common
    /// in the first five weeks: after 0 days everything begins from nothing, after 60 the stream is steady.
    pub warm_up_days: u32,
    /// Cardholders, 10 to 200,000; each pays about twice a day.
    pub customers: u32,
    /// Terminals, 10 to 200,000; as many as cardholders gives each about two payments a day. Two of them are compromised
    /// each day, and three cards leak, however many there are.
    pub terminals: u32,
    /// Changes to plant, each beginning on one of the days.
    pub drifts: Vec<Drift>,
}

impl Default for SimulateOptions {
    /// 75 days of about 3,700 payments, a week after everything began, without a planted drift.
    fn default() -> Self {
        Self {
            seed: 42,
            start: NaiveDate::from_ymd_opt(2025, 9, 1).unwrap_or_default(),
            days: 75,
            warm_up_days: 7,
            customers: 1_900,
            terminals: 1_900,
            drifts: Vec::new(),
        }
    }
}

/// Options that cannot be simulated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOptions {
    /// A number or a date out of range.
    #[error("`{option}` is {found}; expected {range}")]
    Range {
        /// The option.
        option: &'static str,
        /// Its value.
        found: String,
        /// What is allowed.
        range: String,
    },
    /// A drift that would begin after the last day: a mistake, not a wish.
    #[error("drift `{drift}` begins after the last day; with {days} days `day` is 0 to {}", days - 1)]
    Late {
        /// The drift.
        drift: String,
        /// Days simulated.
        days: u32,
    },
    /// A drift with a setting out of range.
    #[error(transparent)]
    Drift(#[from] InvalidDrift),
}

impl SimulateOptions {
    /// The day on which everything began.
    pub(super) fn begin(&self) -> NaiveDate {
        self.start - TimeDelta::days(i64::from(self.warm_up_days))
    }

    /// Checks every value.
    ///
    /// # Errors
    /// [`InvalidOptions`], naming the option and what is allowed.
    pub fn check(&self) -> Result<(), InvalidOptions> {
        within("days", self.days, &(1..=3_650))?;
        within("warm_up_days", self.warm_up_days, &(0..=365))?;
        within("customers", self.customers, &(10..=200_000))?;
        within("terminals", self.terminals, &(10..=200_000))?;
        let new_year = |year| NaiveDate::from_ymd_opt(year, 1, 1).unwrap_or_default();
        within("start", self.start, &(new_year(1970)..=new_year(2200)))?;
        self.drifts.iter().try_for_each(|drift| {
            drift.check()?;
            if drift.day() >= self.days {
                return Err(InvalidOptions::Late {
                    drift: drift.to_string(),
                    days: self.days,
                });
            }
            Ok(())
        })
    }
}

fn within<T: PartialOrd + Display + Copy>(
    option: &'static str,
    value: T,
    range: &RangeInclusive<T>,
) -> Result<(), InvalidOptions> {
    if range.contains(&value) {
        return Ok(());
    }
    let range = format!("{} to {}", range.start(), range.end());
    Err(InvalidOptions::Range {
        option,
        found: value.to_string(),
        range,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_out_of_range_are_named() {
        let good = SimulateOptions::default();
        assert_eq!(good.check(), Ok(()));
        let planted = |drift| SimulateOptions {
            drifts: vec![drift],
            ..good.clone()
        };
        let cases = [
            (
                SimulateOptions {
                    days: 0,
                    ..good.clone()
                },
                "`days` is 0; expected 1 to 3650",
            ),
            (
                SimulateOptions {
                    warm_up_days: 366,
                    ..good.clone()
                },
                "`warm_up_days` is 366; expected 0 to 365",
            ),
            (
                SimulateOptions {
                    customers: 9,
                    ..good.clone()
                },
                "`customers` is 9; expected 10 to 200000",
            ),
            (
                SimulateOptions {
                    terminals: 200_001,
                    ..good.clone()
                },
                "`terminals` is 200001",
            ),
            (
                SimulateOptions {
                    start: NaiveDate::MIN,
                    ..good.clone()
                },
                "`start`",
            ),
            (
                planted(Drift::AmountShift { day: 75, factor: 2.0 }),
                "drift `amount-shift:factor=2,day=75` begins after the last day; with 75 days `day` is 0 to 74",
            ),
            (
                planted(Drift::CategoryChange { day: 1, share: 2.0 }),
                "`share` is `2`; expected a number from 0 to 1",
            ),
        ];
        for (options, expected) in cases {
            let error = options.check().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
