//! Days of payments, one after the other.

use chrono::{DateTime, TimeDelta, Utc};

use super::batch::{DayBatch, FeatureColumn, FeatureValues, Origins};
use super::columns::{CATEGORY, COLUMNS};
use super::draw::{Draws, Stream};
use super::drift::Drift;
use super::features::{Features, NUMBERS};
use super::options::{InvalidOptions, LABEL_DELAY, SimulateOptions};
use super::payments::{Payment, Payments, Scenario};
use super::population::Population;

/// The category of planted changes; no merchant has it before.
pub(super) const NEW_CATEGORY: &str = "digital_goods";

/// Simulates day by day; an iterator of [`DayBatch`], one for each day, also for days without payments.
#[derive(Debug)]
pub struct Simulator {
    options: SimulateOptions,
    population: Population,
    payments: Payments,
    features: Features,
    /// Midnight at which everything began.
    midnight: DateTime<Utc>,
    /// Days handed out.
    day: u32,
    transactions: i64,
}

impl Simulator {
    /// Brings the population into being and lets the days of the warm-up pass.
    ///
    /// # Errors
    /// [`InvalidOptions`], naming the option and what is allowed.
    pub fn new(options: &SimulateOptions) -> Result<Self, InvalidOptions> {
        options.check()?;
        let mut simulator = Self {
            population: Population::new(options.seed, options.customers, options.terminals),
            payments: Payments::new(options),
            features: Features::new(options),
            midnight: options.begin().and_time(chrono::NaiveTime::MIN).and_utc(),
            options: options.clone(),
            day: 0,
            transactions: 0,
        };
        for day in 0..options.warm_up_days {
            for payment in simulator.payments.of_day(day, &simulator.population) {
                simulator.features.of(&payment);
            }
        }
        Ok(simulator)
    }

    /// What is simulated.
    pub const fn options(&self) -> &SimulateOptions {
        &self.options
    }

    fn batch(&mut self, payments: &[Payment]) -> DayBatch {
        let mut numbers: Vec<Vec<f64>> = (0..NUMBERS).map(|_| Vec::with_capacity(payments.len())).collect();
        for payment in payments {
            for (column, value) in numbers.iter_mut().zip(self.features.of(payment)) {
                column.push(value);
            }
        }
        let mut features: Vec<FeatureColumn> = COLUMNS
            .iter()
            .zip(numbers)
            .map(|(column, values)| FeatureColumn {
                name: column.name.to_owned(),
                values: FeatureValues::Number(values),
            })
            .collect();
        let words = payments
            .iter()
            .map(|payment| Some(self.population.categories[payment.terminal as usize].to_owned()));
        let words = FeatureValues::Text(words.collect());
        features.push(FeatureColumn {
            name: COLUMNS[CATEGORY].name.to_owned(),
            values: words,
        });
        self.lose_values(&mut features);

        let times: Vec<DateTime<Utc>> = payments
            .iter()
            .map(|payment| self.midnight + TimeDelta::seconds(payment.second))
            .collect();
        let first = self.transactions;
        self.transactions += payments.len() as i64;
        DayBatch {
            label_times: times.iter().map(|time| *time + LABEL_DELAY).collect(),
            times,
            labels: payments
                .iter()
                .map(|payment| Some(payment.scenario != Scenario::Genuine))
                .collect(),
            features,
            origins: Some(Origins {
                transactions: (first..self.transactions).collect(),
                customers: payments.iter().map(|payment| payment.customer).collect(),
                terminals: payments.iter().map(|payment| payment.terminal).collect(),
                scenarios: payments.iter().map(|payment| payment.scenario).collect(),
            }),
        }
    }

    /// Moves merchants on the first day of a planted change of categories.
    fn move_merchants(&mut self) {
        for (at, drift) in (0_u32..).zip(&self.options.drifts) {
            if let Drift::CategoryChange { day, share } = drift
                && *day == self.day
            {
                let mut draws = Draws::new(self.options.seed, Stream::Drift { drift: at, day: *day });
                for category in &mut self.population.categories {
                    if draws.chance(*share) {
                        *category = NEW_CATEGORY;
                    }
                }
            }
        }
    }

    /// Takes away the values that planted drifts say are missing.
    fn lose_values(&self, features: &mut [FeatureColumn]) {
        for (at, drift) in (0_u32..).zip(&self.options.drifts) {
            if let Drift::MissingColumn { day, column, share } = drift
                && self.day >= *day
                && let Some(feature) = features.iter_mut().find(|feature| feature.name == *column)
            {
                let mut draws = Draws::new(
                    self.options.seed,
                    Stream::Drift {
                        drift: at,
                        day: self.day,
                    },
                );
                match &mut feature.values {
                    FeatureValues::Number(values) => {
                        values
                            .iter_mut()
                            .filter(|_| draws.chance(*share))
                            .for_each(|value| *value = f64::NAN);
                    }
                    FeatureValues::Text(values) => {
                        values
                            .iter_mut()
                            .filter(|_| draws.chance(*share))
                            .for_each(|value| *value = None);
                    }
                }
            }
        }
    }
}

impl Iterator for Simulator {
    type Item = DayBatch;

    fn next(&mut self) -> Option<DayBatch> {
        if self.day == self.options.days {
            return None;
        }
        self.move_merchants();
        let payments = self
            .payments
            .of_day(self.options.warm_up_days + self.day, &self.population);
        let batch = self.batch(&payments);
        self.day += 1;
        Some(batch)
    }
}
