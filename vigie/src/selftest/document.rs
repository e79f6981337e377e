//! What was counted, as data.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::plant::Change;
use super::sample::Sample;
use crate::report::document::LeftOut;

/// Name and version of the document.
pub const SCHEMA: &str = "vigie.selftest.v1";

/// The rules that are compared: thresholds without evidence, evidence without thresholds, and the two that a report and a check have.
pub const RULES: [&str; 5] = ["psi > 0.1", "psi > 0.2", "evidence", "told", "retrain"];

/// The whole answer.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct SelfTest {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// The file.
    pub path: String,
    /// Its rows.
    pub rows: u64,
    /// Divisions into what made the bins and what windows were drawn from.
    pub divisions: usize,
    /// Features that were looked at.
    pub features: Vec<String>,
    /// PSI that the rule `told` demands besides evidence.
    pub tell_from: f64,
    /// `drift.data_threshold`: PSI that the rule `retrain` demands besides evidence.
    pub threshold: f64,
    /// `drift.false_alarm_rate`: what the rule `evidence` allows itself, over all features of a window.
    pub false_alarm_rate: f64,
    /// The seed.
    pub seed: u64,
    /// What rules say when nothing moves.
    pub false_alarms: Vec<FalseAlarms>,
    /// What they say of the changed feature when something was planted.
    pub power: Vec<Power>,
    /// Columns that were not looked at.
    pub left_out: Vec<LeftOut>,
}

/// How often a rule spoke.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Rate {
    /// The rule, of [`RULES`].
    pub rule: &'static str,
    /// Share of the windows, 0 to 1.
    pub share: f64,
}

/// False alarms of windows of one size.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct FalseAlarms {
    /// Rows of a window.
    pub rows: usize,
    /// Windows drawn.
    pub windows: usize,
    /// Windows in which a rule spoke of any feature.
    pub rates: Vec<Rate>,
}

/// Power on windows of one size.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Power {
    /// Rows of a window.
    pub rows: usize,
    /// Windows drawn.
    pub windows: usize,
    /// The feature that was changed.
    pub feature: String,
    /// How.
    pub change: String,
    /// Windows in which a rule spoke of it.
    pub rates: Vec<Rate>,
}

fn rates(windows: usize, counts: &[usize]) -> Vec<Rate> {
    RULES
        .iter()
        .zip(counts)
        .map(|(rule, count)| Rate {
            rule,
            share: *count as f64 / windows.max(1) as f64,
        })
        .collect()
}

/// Counts while windows are judged.
#[derive(Debug, Default)]
pub struct Tally {
    false_alarms: BTreeMap<usize, Count>,
    power: BTreeMap<(usize, usize, String), Count>,
}

#[derive(Debug, Default)]
struct Count {
    windows: usize,
    spoke: [usize; RULES.len()],
}

impl Count {
    fn add(&mut self, said: [bool; RULES.len()]) {
        self.windows += 1;
        for (spoke, said) in self.spoke.iter_mut().zip(said) {
            *spoke += usize::from(said);
        }
    }
}

impl Tally {
    /// What each rule said of a window of this size in which nothing moved.
    pub fn false_alarm(&mut self, rows: usize, said: [bool; RULES.len()]) {
        self.false_alarms.entry(rows).or_default().add(said);
    }

    /// What each rule said of the feature that was changed.
    pub fn power(&mut self, rows: usize, change: &Change, said: [bool; RULES.len()]) {
        let key = (rows, change.feature, change.kind.words());
        self.power.entry(key).or_default().add(said);
    }

    /// The shares.
    pub fn finish(self, sample: &Sample) -> (Vec<FalseAlarms>, Vec<Power>) {
        let alarms = self.false_alarms.into_iter().map(|(rows, count)| FalseAlarms {
            rows,
            windows: count.windows,
            rates: rates(count.windows, &count.spoke),
        });
        let power = self
            .power
            .into_iter()
            .map(|((rows, feature, change), count)| Power {
                rows,
                windows: count.windows,
                feature: sample.names().nth(feature).unwrap_or_default().to_owned(),
                change,
                rates: rates(count.windows, &count.spoke),
            });
        (alarms.collect(), power.collect())
    }
}
