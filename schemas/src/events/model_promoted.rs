//! `model.promoted.v1`, published by trainer-bridge; read by drift-monitor, retrain-decider, notifier and whoever audits.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Artifact, ScoreCounts};
use crate::{DecisionId, ModelVersion, Share, Window};

/// A version is champion now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "generate", derive(schemars::JsonSchema))]
pub struct ModelPromoted {
    /// The champion.
    pub version: ModelVersion,
    /// The champion before it; none for the first.
    pub previous: Option<ModelVersion>,
    /// The decision it serves.
    pub decision_id: DecisionId,
    /// The decision's instant, UTC.
    pub as_of: DateTime<Utc>,
    /// When it came into force, UTC; never before `as_of`. Checks as of this instant or later compare with it, and rows
    /// before it were scored by its predecessor.
    pub effective_from: DateTime<Utc>,
    /// Promotion or roll-back.
    pub kind: PromotionKind,
    /// Strictly increasing per model; a promotion with a smaller fence is refused.
    pub fence: u64,
    /// The bytes that were validated and promoted.
    pub artifact: Artifact,
    /// Rows the model was fitted on: the new reference of drift checks.
    pub training_window: Window,
    /// A row counts as predicted fraud when its score is at least this.
    pub operating_threshold: Share,
    /// Recall at validation: what concept drift is measured against.
    pub validated_recall: Share,
    /// Frauds that recall stands on, count.
    pub validated_frauds: u64,
    /// Precision at validation.
    pub validated_precision: Share,
    /// The rows of the validation by their scores: what a score of this version stands for, where that was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score_counts: Option<ScoreCounts>,
    /// `embedded` or `mlflow`.
    pub registry: String,
    /// The registry's own version number, e.g. MLflow's `7`.
    pub registry_version: Option<String>,
}

/// How a version became champion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "generate", derive(schemars::JsonSchema))]
pub enum PromotionKind {
    /// A validated candidate took over.
    Promotion,
    /// An earlier champion was put back.
    Rollback,
}
