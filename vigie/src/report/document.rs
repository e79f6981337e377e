//! What a report says, as data. The JSON document is this; text and page show no more.

use chrono::{DateTime, Utc};
use drift_monitor::judge;
use drift_monitor::segments::SegmentShift;
use schemars::JsonSchema;
use schemas::events::{DriftKind, DriftSeverity, NotMeasured};
use serde::Serialize;
use transactions::table::Table;

/// Name and version of the document; a field is added, and never changed or taken away, without a new one.
pub const SCHEMA: &str = "vigie.report.v1";

/// The verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// Nothing moved farther than thresholds and the number of rows allow.
    Stable,
    /// Something did.
    Drifted,
    /// The data changed in form; whether the world did cannot be said.
    Broken,
    /// It could not be looked at.
    Unknown,
}

impl Word {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Drifted => "drifted",
            Self::Broken => "broken",
            Self::Unknown => "unknown",
        }
    }
}

/// The whole report.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// The verdict.
    pub verdict: Word,
    /// What drifted.
    pub drifted: Vec<DriftKind>,
    /// How urgent, when drifted.
    pub severity: Option<DriftSeverity>,
    /// The data-drift value, by the aggregate of the settings.
    pub data_drift: Option<f64>,
    /// What was compared with.
    pub reference: Side,
    /// What was looked at.
    pub current: Side,
    /// The rules that were applied.
    pub limits: Limits,
    /// What broke.
    pub breakage: Vec<Breakage>,
    /// Every feature, the farthest first.
    pub features: Vec<FeatureReport>,
    /// The fraud rate.
    pub target: Option<RateReport>,
    /// Realised recall and precision.
    pub performance: Vec<RateReport>,
    /// Whether rows of the two files can be told apart by all features together; only when that was asked for.
    pub together: Option<Together>,
    /// What could not be measured.
    pub not_measured: Vec<NotMeasured>,
    /// Columns that were not compared.
    pub left_out: Vec<LeftOut>,
}

/// One of the two files.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Side {
    /// The file.
    pub path: String,
    /// Its rows.
    pub rows: u64,
    /// Its columns, count.
    pub columns: usize,
    /// When the file was written last.
    pub modified: Option<DateTime<Utc>>,
}

impl Side {
    /// A table.
    pub fn of(table: &Table) -> Self {
        let modified = std::fs::metadata(table.path()).and_then(|metadata| metadata.modified());
        Self {
            path: table.path().display().to_string(),
            rows: table.rows(),
            columns: table.columns().len(),
            modified: modified.ok().map(DateTime::from),
        }
    }
}

/// The rules that were applied.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Limits {
    /// PSI from which a feature that moved farther than chance explains is told of.
    pub data_tell: f64,
    /// PSI from which a feature drifts so far that it is a reason to retrain.
    pub data_threshold: f64,
    /// PSI from which that is severe.
    pub data_threshold_high: f64,
    /// Relative change of the fraud rate.
    pub target_threshold: f64,
    /// Drop of recall.
    pub concept_threshold: f64,
    /// Drop of precision.
    pub precision_threshold: f64,
    /// Rows that the current file needs.
    pub rows_min: u64,
    /// Probability of a false alarm over all features together.
    pub false_alarm_rate: f64,
    /// Features that share it.
    pub features: usize,
}

impl Limits {
    /// The judge's, for so many features.
    pub fn of(limits: &judge::Limits, features: usize) -> Self {
        Self {
            data_tell: limits.data_tell,
            data_threshold: limits.data_threshold,
            data_threshold_high: limits.data_threshold_high,
            target_threshold: limits.target_threshold,
            concept_threshold: limits.recall_threshold,
            precision_threshold: limits.precision_threshold,
            rows_min: limits.rows_min,
            false_alarm_rate: limits.evidence.data,
            features,
        }
    }
}

/// Data that changed in form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Breakage {
    /// The column.
    pub column: String,
    /// `missing_column`, `type_changed`, `all_missing` or `unit_changed`.
    pub kind: &'static str,
    /// What was found.
    pub detail: String,
}

/// A column that was not compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LeftOut {
    /// The column.
    pub column: String,
    /// Why.
    pub reason: String,
}

/// One feature.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, as readers of the document ask for them"
)]
pub struct FeatureReport {
    /// Its name.
    pub name: String,
    /// `number` or `category`.
    pub kind: &'static str,
    /// Whether it is the model's score.
    pub is_score: bool,
    /// Whether it exceeds threshold and noise.
    pub exceeded: bool,
    /// Whether it is told of: it exceeds the noise, and by more than anybody minds, be it less than the threshold.
    pub told: bool,
    /// Whether it broke, and so was not judged.
    pub broken: bool,
    /// Population stability index.
    pub psi: Option<f64>,
    /// What the number of rows, and the unrest of the reference itself, explain of it.
    pub noise: Option<f64>,
    /// How far parts of the reference, in the order of its rows, differ by more than chance, in units of the index; 0 when not at all.
    pub unrest: f64,
    /// Probability of an index at least this large without drift.
    pub p_value: Option<f64>,
    /// Every further number, by name.
    pub metrics: Vec<Number>,
    /// Share of missing values: reference, current.
    pub missing: [f64; 2],
    /// Share of current values whose level the reference never had.
    pub unseen: Option<f64>,
    /// Numbers of the values: reference, current.
    pub summary: Option<[Summary; 2]>,
    /// The bins of the index.
    pub bins: Vec<Bin>,
    /// The bins that moved most, by their part of the index.
    pub moved: Vec<Moved>,
    /// The segments in which it moved most, when segments were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub segments: Vec<SegmentMove>,
}

/// A segment in which a feature moved.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct SegmentMove {
    /// The column that rows are told apart by.
    pub column: String,
    /// Its level.
    pub level: String,
    /// Rows of the segment: reference, current.
    pub rows: [u64; 2],
    /// Population stability index within it.
    pub psi: f64,
    /// What its number of rows, all segments and features together, and the unrest of the reference explain of it.
    pub noise: f64,
}

impl From<SegmentShift> for SegmentMove {
    fn from(shift: SegmentShift) -> Self {
        Self {
            column: shift.column,
            level: shift.level,
            rows: shift.rows,
            psi: shift.psi,
            noise: shift.noise,
        }
    }
}

/// How well a classifier tells rows of the two files apart.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Together {
    /// Rows that it learnt from: reference, current.
    pub rows: [u64; 2],
    /// Area under the ROC curve on rows that it did not learn from; 0.5 when they look alike.
    pub auc: f64,
    /// Its interval of 95 %; above 0.5 the files differ.
    pub interval: [f64; 2],
    /// The features that tell most.
    pub features: Vec<Part>,
    /// How badly numbers fit the correlations of the reference; none with fewer than two numeric columns that vary.
    pub reconstruction: Option<Reconstruction>,
}

/// Reconstruction error of principal components (65 % of the variance), fitted to one half of the reference's rows.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Reconstruction {
    /// Components that were kept.
    pub components: usize,
    /// Mean error of the other half of the reference, in standard deviations.
    pub reference: f64,
    /// Mean error of the current file.
    pub current: f64,
    /// Two-sided p-value of Mann and Whitney's test of the errors.
    pub p_value: f64,
}

/// A feature's part in an answer.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Part {
    /// The feature.
    pub feature: String,
    /// Its part, 0 to 1.
    pub part: f64,
}

/// A number with its name.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Number {
    /// Its name, e.g. `jensen_shannon`.
    pub name: &'static str,
    /// Its value.
    pub value: f64,
    /// The range that the true value lies in, where counts do not tell it exactly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range: Option<[f64; 2]>,
}

/// Mean and spread of the finite values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct Summary {
    /// Arithmetic mean.
    pub mean: f64,
    /// Standard deviation.
    pub deviation: f64,
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
}

/// A bin and its shares.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Bin {
    /// What it holds.
    pub label: String,
    /// Share of the reference.
    pub reference: f64,
    /// Share of the current values.
    pub current: f64,
}

/// A bin that moved.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Moved {
    /// What it holds.
    pub label: String,
    /// Share before.
    pub from: f64,
    /// Share now.
    pub to: f64,
    /// Its part of the index, 0 to 1.
    pub part: f64,
}

/// A rate in both files.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct RateReport {
    /// `fraud_rate`, `recall` or `precision`.
    pub name: &'static str,
    /// Before.
    pub reference: RateOf,
    /// Now.
    pub current: RateOf,
    /// Whether the change exceeds threshold and noise.
    pub exceeded: bool,
}

/// A rate, what it was counted on, and its interval of 95 %.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct RateOf {
    /// Count.
    pub hits: u64,
    /// Of so many.
    pub of: u64,
    /// Share; none of none.
    pub value: Option<f64>,
    /// Wilson's interval.
    pub interval: Option<[f64; 2]>,
}
