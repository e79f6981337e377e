//! Where the demo's payments come from: our simulator, or a file.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

use super::Options;
use super::settings::DemoModel;
use crate::simulator::{
    DayBatch, Drift, FeatureColumn, LABEL_DELAY, NOT_MONITORED, ReplayColumns, ReplayFile, SimulateOptions,
    Simulator, recommended,
};

/// Which payments to replay.
#[derive(Debug, Clone)]
pub enum Source {
    /// Our own simulator's.
    Simulator(SimulateOptions),
    /// A Parquet file with the columns of the Fraud Detection Handbook, in order of time.
    File(PathBuf),
}

/// What the demo simulates by default: a population that is still warming up, and later a fraud that no model has
/// seen.
///
/// # Errors
/// Days out of range.
pub fn simulated(seed: u64, days: Option<u32>) -> anyhow::Result<SimulateOptions> {
    let default = SimulateOptions::default();
    let days = days.unwrap_or(default.days);
    let planted = ["fraud-pattern:cards=2,day=45"];
    let drifts: Vec<Drift> = planted
        .iter()
        .map(|text| text.parse())
        .collect::<Result<_, _>>()?;
    // A drift after the last day is no mistake here: a short demo ends before it.
    let drifts = drifts.into_iter().filter(|drift| drift.day() < days).collect();
    let options = SimulateOptions {
        seed,
        days,
        drifts,
        ..default
    };
    options.check()?;
    Ok(options)
}

/// Payments day by day, oldest first, and the model over them.
pub struct Days {
    model: DemoModel,
    first: Option<DayBatch>,
    rest: Box<dyn Iterator<Item = anyhow::Result<DayBatch>> + Send>,
    left: u32,
}

/// Columns of the Handbook that say when and whether.
const TIME: &str = "TX_DATETIME";
const LABEL: &str = "TX_FRAUD";
/// Inputs of the Handbook's model, with labels known after one day. The numbers of payments at a terminal are left
/// out: they say nothing about fraud and take four weeks to settle.
const FEATURES: [&str; 14] = [
    "TX_AMOUNT",
    "TX_DURING_WEEKEND",
    "TX_DURING_NIGHT",
    "CUSTOMER_ID_NB_TX_1DAY_WINDOW",
    "CUSTOMER_ID_AVG_AMOUNT_1DAY_WINDOW",
    "CUSTOMER_ID_NB_TX_7DAY_WINDOW",
    "CUSTOMER_ID_AVG_AMOUNT_7DAY_WINDOW",
    "CUSTOMER_ID_NB_TX_30DAY_WINDOW",
    "CUSTOMER_ID_AVG_AMOUNT_30DAY_WINDOW",
    "TERMINAL_ID_RISK_1DAY_DELAY1",
    "TERMINAL_ID_RISK_7DAY_DELAY1",
    "TERMINAL_ID_RISK_28DAY_DELAY1",
    "CUSTOMER_ID_NB_FRAUD_14DAY_DELAY1",
    "TX_AMOUNT_RATIO_30DAY",
];
/// Calendar flags: a day against weeks shows a PSI of 3 to 7 with nothing wrong.
const CALENDAR: [&str; 2] = ["TX_DURING_WEEKEND", "TX_DURING_NIGHT"];
/// The first training is decided after this many days of history, at 02:00.
const HISTORY_DAYS: i64 = 14;

impl Days {
    /// Opens the payments.
    ///
    /// # Errors
    /// Options out of range, or a file that cannot be read; all missing columns are named at once.
    pub fn open(options: &Options) -> anyhow::Result<Self> {
        let mut days = match &options.source {
            Source::Simulator(simulate) => Self::simulated(simulate)?,
            Source::File(path) => Self::of_file(path)?,
        };
        if let Some(left) = options.days {
            days.left = left;
        }
        Ok(days)
    }

    /// Simulated payments and a model over them.
    ///
    /// # Errors
    /// Options out of range.
    pub fn simulated(options: &SimulateOptions) -> anyhow::Result<Self> {
        let days = Simulator::new(options).context("start the simulation")?;
        let features: Vec<String> = recommended().map(str::to_owned).collect();
        Self::new(
            "fraud-cards",
            features,
            NOT_MONITORED.map(str::to_owned).to_vec(),
            days.map(Ok),
        )
    }

    fn of_file(path: &Path) -> anyhow::Result<Self> {
        let columns = ReplayColumns {
            time: TIME.to_owned(),
            label: LABEL.to_owned(),
            label_delay: LABEL_DELAY,
            features: FEATURES.map(str::to_owned).to_vec(),
        };
        let file = ReplayFile::open(path, columns).context(
            "the demo replays files with the columns of the Fraud Detection Handbook; \
             for a table of your own, describe it in vigie.toml and run `vigie dev`",
        )?;
        let days = file.map(|day| {
            day.map(|mut day| {
                for feature in &mut day.features {
                    feature.name = feature.name.to_lowercase();
                }
                day
            })
            .map_err(anyhow::Error::from)
        });
        let lower = |names: &[&str]| names.iter().map(|name| name.to_lowercase()).collect();
        Self::new("handbook-cards", lower(&FEATURES), lower(&CALENDAR), days)
    }

    fn new(
        name: &str,
        features: Vec<String>,
        not_monitored: Vec<String>,
        mut days: impl Iterator<Item = anyhow::Result<DayBatch>> + Send + 'static,
    ) -> anyhow::Result<Self> {
        let first = days.next().context("there are no payments")??;
        let begin = first
            .times
            .first()
            .context("there are no payments on the first day")?
            .date_naive();
        let model = DemoModel {
            name: name.to_owned(),
            features,
            not_monitored,
            label_delay: LABEL_DELAY,
            first_training: first_training(begin),
        };
        Ok(Self {
            model,
            first: Some(first),
            rest: Box::new(days),
            left: u32::MAX,
        })
    }

    /// What the model over them looks like.
    pub fn model(&self) -> &DemoModel {
        &self.model
    }

    /// The features of the first day: names and kinds, in the order of the table.
    pub fn features(&self) -> &[FeatureColumn] {
        self.first.as_ref().map_or(&[], |day| &day.features)
    }

    /// The next day; none at the end.
    ///
    /// # Errors
    /// A file that cannot be read further.
    pub fn next_day(&mut self) -> anyhow::Result<Option<DayBatch>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        match self.first.take() {
            Some(first) => Ok(Some(first)),
            None => self.rest.next().transpose(),
        }
    }
}

/// 02:00 after the days of history that begin with `first_day`.
fn first_training(first_day: NaiveDate) -> DateTime<Utc> {
    first_day.and_time(chrono::NaiveTime::MIN).and_utc() + TimeDelta::days(HISTORY_DAYS) + TimeDelta::hours(2)
}
