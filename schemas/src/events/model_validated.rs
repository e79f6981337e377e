//! `model.validated.v1`, published by validator; read by trainer-bridge, retrain-decider, notifier and anyone who subscribes.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::Artifact;
use crate::{DecisionId, ModelVersion, Share, Window};

/// The candidate passed or failed validation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "generate", derive(schemars::JsonSchema))]
pub struct ModelValidated {
    /// The candidate.
    pub version: ModelVersion,
    /// The decision it serves.
    pub decision_id: DecisionId,
    /// The decision's instant, UTC.
    pub as_of: DateTime<Utc>,
    /// The conclusion.
    pub verdict: ValidationVerdict,
    /// Why it failed, one sentence each; empty when it passed.
    pub failures: Vec<String>,
    /// The bytes that were validated; only these may be promoted.
    pub artifact: Artifact,
    /// Rows the model was fitted on.
    pub training_window: Window,
    /// Rows it was judged on.
    pub holdout_window: Window,
    /// Rows judged, count: those of the window whose label was known.
    pub rows: u64,
    /// Frauds among them, count.
    pub frauds: u64,
    /// A row counts as predicted fraud when its score is at least this.
    pub operating_threshold: Share,
    /// Counts at that threshold.
    pub confusion: Confusion,
    /// Recall, precision, f1, roc_auc, average_precision, false_positive_rate, by name.
    pub metrics: Vec<MetricEstimate>,
    /// The limits in force.
    pub gates: Vec<ValidationGate>,
    /// The rows judged by their scores: what a score stands for; none when nothing was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score_counts: Option<ScoreCounts>,
}

/// Labelled rows by the cell that their score lies in: fiftieths of 0 to 1, of which the one with the operating threshold is cut in two
/// there; 51 cells, ascending.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "generate", derive(schemars::JsonSchema))]
pub struct ScoreCounts {
    /// Genuine rows per cell, count.
    #[cfg_attr(feature = "generate", schemars(length(min = 51, max = 51)))]
    pub genuine: Vec<u64>,
    /// Frauds per cell, count.
    #[cfg_attr(feature = "generate", schemars(length(min = 51, max = 51)))]
    pub frauds: Vec<u64>,
}

/// The conclusion of a validation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "generate", derive(schemars::JsonSchema))]
pub enum ValidationVerdict {
    /// Fit to be champion.
    Passed,
    /// Not fit, or could not be judged.
    Failed,
}

/// Counts at the operating threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "generate", derive(schemars::JsonSchema))]
pub struct Confusion {
    /// Frauds found.
    pub true_positives: u64,
    /// Genuine payments flagged.
    pub false_positives: u64,
    /// Frauds missed.
    pub false_negatives: u64,
    /// Genuine payments passed.
    pub true_negatives: u64,
}

/// A metric with its interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "generate", derive(schemars::JsonSchema))]
pub struct MetricEstimate {
    /// E.g. `recall`.
    pub name: String,
    /// The value; none when it is undefined on these rows, e.g. recall without a fraud.
    pub value: Option<Share>,
    /// How sure; none when the value is.
    pub interval: Option<Interval>,
}

/// An interval that holds a number with some probability: a confidence interval of what is estimated, or a predictive interval of what
/// will be realised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "generate", derive(schemars::JsonSchema))]
pub struct Interval {
    /// Lower bound.
    pub low: Share,
    /// Upper bound.
    pub high: Share,
    /// Confidence level, e.g. 0.95.
    pub level: Share,
}

/// A limit that the candidate had to reach.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "generate", derive(schemars::JsonSchema))]
pub struct ValidationGate {
    /// The metric, e.g. `recall`.
    pub metric: String,
    /// Smallest value that passes.
    pub min: Share,
    /// Whether it was reached.
    pub passed: bool,
}
