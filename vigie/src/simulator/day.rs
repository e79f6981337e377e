//! The stream: one day after the other.

use anyhow::Context as _;
use chrono::{DateTime, Datelike as _, NaiveDate, NaiveTime, Utc, Weekday};
use rand::Rng as _;

use super::columns::{CATEGORY, COLUMNS, ColumnKind, Values};
use super::drift::PlantedDrift;
use super::features::{NUMBER_FEATURES, Windows};
use super::population::NEW_CATEGORIES;
use super::process::{Payment, Process, WARM_UP_DAYS, drift_day};
use super::{DAY, Purpose, SimulateOptions, generator};

/// A day's payments in order of time; all vectors have one entry per payment.
#[derive(Debug, Clone, PartialEq)]
pub struct Day {
    /// The day, UTC.
    pub date: NaiveDate,
    /// When each payment was made, whole seconds.
    pub time: Vec<DateTime<Utc>>,
    /// Whether it was fraud.
    pub fraud: Vec<bool>,
    /// 0 genuine, 1 large amount, 2 terminal taken over, 3 leaked card, 4 planted pattern. It tells the label:
    /// never an input of a model.
    pub scenario: Vec<u8>,
    /// Who paid, from 0.
    pub customer: Vec<u32>,
    /// Where, from 0.
    pub terminal: Vec<u32>,
    /// The features, in the order of [`Simulation::columns`].
    pub columns: Vec<Values>,
}

/// The stream of days.
#[derive(Debug, Clone)]
pub struct Simulation {
    options: SimulateOptions,
    process: Process,
    windows: Windows,
    payments: Vec<Payment>,
    next_day: u32,
}

impl Simulation {
    /// Sets the stream up: draws the population and lives through the warm-up, 58 days that nobody sees.
    ///
    /// # Errors
    /// What [`SimulateOptions::check`] finds.
    pub fn new(options: &SimulateOptions) -> anyhow::Result<Self> {
        options.check()?;
        let midnight = options.start.and_time(NaiveTime::MIN).and_utc().timestamp();
        let mut simulation = Self {
            process: Process::new(options, midnight),
            windows: Windows::new(options.customers as usize, options.terminals as usize),
            payments: Vec::new(),
            next_day: 0,
            options: options.clone(),
        };
        for _ in 0..WARM_UP_DAYS {
            simulation.process.next_day(&mut simulation.payments);
            for payment in &simulation.payments {
                simulation.windows.add(payment, false);
            }
            simulation.windows.close_day();
        }
        let last = i64::from(options.days) * DAY + midnight;
        DateTime::from_timestamp(last, 0).context("the last day is beyond the calendar")?;
        Ok(simulation)
    }

    /// The features: names and kinds, in the order of a day's columns.
    pub fn columns() -> &'static [(&'static str, ColumnKind)] {
        &COLUMNS
    }

    /// Terminals change their category on the morning of a planted day.
    fn change_categories(&mut self, today: u32) {
        let mut changes_before = 0;
        for (place, drift) in self.options.drifts.iter().enumerate() {
            let PlantedDrift::CategoryChange { share, day } = drift else {
                continue;
            };
            if *day == today {
                let mut random = generator(self.options.seed, Purpose::DriftChoice, place as u32);
                let fresh = NEW_CATEGORIES[changes_before % NEW_CATEGORIES.len()];
                for category in &mut self.process.population.category {
                    if random.random_bool(*share) {
                        *category = fresh;
                    }
                }
            }
            changes_before += 1;
        }
    }

    /// Values go missing, as planted.
    fn drop_values(&self, today: u32, columns: &mut [Values]) {
        for (place, drift) in self.options.drifts.iter().enumerate() {
            let PlantedDrift::MissingColumn { feature, share, day } = drift else {
                continue;
            };
            if today < *day {
                continue;
            }
            let mut random = drift_day(self.options.seed, place, today);
            for ((name, _), column) in COLUMNS.iter().zip(&mut *columns) {
                if name != feature {
                    continue;
                }
                match column {
                    Values::Number(values) => {
                        for value in values {
                            if random.random_bool(*share) {
                                *value = f64::NAN;
                            }
                        }
                    }
                    Values::Text(values) => {
                        for value in values {
                            if random.random_bool(*share) {
                                *value = None;
                            }
                        }
                    }
                }
            }
        }
    }
}

impl Iterator for Simulation {
    type Item = Day;

    fn next(&mut self) -> Option<Day> {
        if self.next_day >= self.options.days {
            return None;
        }
        let today = self.next_day;
        self.next_day += 1;
        let date = self.options.start + chrono::Days::new(u64::from(today));
        let weekend = matches!(date.weekday(), Weekday::Sat | Weekday::Sun);
        self.change_categories(today);
        self.process.next_day(&mut self.payments);
        let count = self.payments.len();
        let mut numbers: [Vec<f64>; NUMBER_FEATURES] = std::array::from_fn(|_| Vec::with_capacity(count));
        for payment in &self.payments {
            let row = self.windows.add(payment, weekend);
            for (column, value) in numbers.iter_mut().zip(row) {
                column.push(value);
            }
        }
        self.windows.close_day();
        let payments = &self.payments;
        let category = &self.process.population.category;
        let categories = payments
            .iter()
            .map(|payment| Some(category[payment.terminal as usize].to_owned()));
        let mut columns: Vec<Values> = numbers.into_iter().map(Values::Number).collect();
        debug_assert_eq!(COLUMNS[columns.len()].0, CATEGORY);
        columns.push(Values::Text(categories.collect()));
        self.drop_values(today, &mut columns);
        Some(Day {
            date,
            // The calendar reaches far beyond every time that `check` allows.
            time: payments
                .iter()
                .map(|payment| DateTime::from_timestamp(payment.time, 0).unwrap_or_default())
                .collect(),
            fraud: payments.iter().map(Payment::is_fraud).collect(),
            scenario: payments.iter().map(|payment| payment.scenario).collect(),
            customer: payments.iter().map(|payment| payment.customer).collect(),
            terminal: payments.iter().map(|payment| payment.terminal).collect(),
            columns,
        })
    }
}
