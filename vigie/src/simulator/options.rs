//! What to simulate.

use anyhow::{Context as _, ensure};
use chrono::NaiveDate;

use super::PlantedDrift;

/// What to simulate. The default is the demo's stream without its drifts ([`demo_drifts`]).
#[derive(Debug, Clone, PartialEq)]
pub struct SimulateOptions {
    /// Days of payments, 1 to 3,650.
    pub days: u32,
    /// Cardholders, 1 to 50,000; each pays about twice a day.
    pub customers: u32,
    /// Terminals, 1 to 20,000.
    pub terminals: u32,
    /// The same seed gives the same payments, for ever.
    pub seed: u64,
    /// The first day, UTC; 1971 to 2200.
    pub start: NaiveDate,
    /// Changes planted into the stream; each within the days.
    pub drifts: Vec<PlantedDrift>,
}

impl Default for SimulateOptions {
    fn default() -> Self {
        Self {
            days: 75,
            customers: 1_800,
            terminals: 3_600,
            seed: 42,
            start: NaiveDate::from_ymd_opt(2026, 1, 1).unwrap_or_default(),
            drifts: Vec::new(),
        }
    }
}

/// The drifts of the demo: prices rise, and later a new fraud pattern appears.
pub fn demo_drifts() -> Vec<PlantedDrift> {
    vec![
        PlantedDrift::AmountShift { factor: 1.6, day: 40 },
        PlantedDrift::NewFraud { cards: 3, day: 47 },
    ]
}

impl SimulateOptions {
    /// The demo's stream: the default with this seed and, as far as its days reach, [`demo_drifts`].
    pub fn demo(seed: u64, days: Option<u32>) -> Self {
        let standard = Self::default();
        let days = days.unwrap_or(standard.days);
        let drifts = demo_drifts()
            .into_iter()
            .filter(|drift| drift.day() < days)
            .collect();
        Self {
            days,
            seed,
            drifts,
            ..standard
        }
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// An option out of its range; the message names both.
    pub fn check(&self) -> anyhow::Result<()> {
        let range = |name: &str, value: u32, allowed: std::ops::RangeInclusive<u32>| {
            let (low, high) = (allowed.start(), allowed.end());
            ensure!(
                allowed.contains(&value),
                "{name} is {value}, allowed are {low} to {high}"
            );
            Ok(())
        };
        range("days", self.days, 1..=3_650)?;
        range("customers", self.customers, 1..=50_000)?;
        range("terminals", self.terminals, 1..=20_000)?;
        let year = chrono::Datelike::year(&self.start);
        ensure!(
            (1971..=2200).contains(&year),
            "start is {}, allowed are the years 1971 to 2200",
            self.start
        );
        ensure!(
            self.drifts.len() <= 100,
            "{} drifts are planted, allowed are up to 100",
            self.drifts.len()
        );
        for drift in &self.drifts {
            drift.check().with_context(|| format!("drift `{drift}`"))?;
            let last = self.days - 1;
            ensure!(
                drift.day() <= last,
                "drift `{drift}` would begin after the last day; with {} days, allowed are the days 0 to {last}",
                self.days
            );
        }
        Ok(())
    }
}
