//! `drift.detected.v1`, published by drift-monitor; read by retrain-decider, notifier and anyone who subscribes.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{DriftKind, EstimatedPerformance, Interval, PredictionDrift};
use crate::{CheckId, Finite, ModelVersion, Share, Window};

/// The verdict of a check was `drifted`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "generate", derive(schemars::JsonSchema))]
pub struct DriftDetected {
    /// The check that found it.
    pub check_id: CheckId,
    /// The instant of the check, UTC.
    pub as_of: DateTime<Utc>,
    /// The champion that is drifting away from its reference.
    pub champion: ModelVersion,
    /// The current rows of data and target drift.
    pub window: Window,
    /// Rows in `window`, count.
    pub rows: u64,
    /// What moved; at least one kind.
    #[cfg_attr(feature = "generate", schemars(length(min = 1)))]
    pub kinds: Vec<DriftKind>,
    /// How urgent.
    pub severity: DriftSeverity,
    /// The first check of this unbroken run of drifted checks, UTC.
    pub since: DateTime<Utc>,
    /// Length of that run in checks, this one included; 1 or more.
    #[cfg_attr(feature = "generate", schemars(range(min = 1)))]
    pub consecutive: u32,
    /// The model's data-drift value (by default the largest PSI of its monitored features), dimensionless.
    pub data_drift: Option<Finite>,
    /// The features that moved, largest first.
    pub features: Vec<FeatureDrift>,
    /// The fraud rate, when it moved.
    pub target: Option<TargetDrift>,
    /// The recall, when it dropped.
    pub concept: Option<ConceptDrift>,
    /// How well the champion does on the newest rows by their scores alone, before their labels are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated: Option<EstimatedPerformance>,
    /// How the scores of the newest rows lie beside those of the champion's validation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prediction: Option<PredictionDrift>,
}

/// How urgent a drift is; ordered from least to most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "generate", derive(schemars::JsonSchema))]
pub enum DriftSeverity {
    /// Tell people, do not retrain: only the fraud rate moved, or features by less than their threshold.
    AlertOnly,
    /// Data drift above the threshold (default PSI 0.3).
    Medium,
    /// Strong data drift (default PSI above 0.5).
    High,
    /// Concept drift: the model misses fraud it used to find.
    Immediate,
}

impl DriftSeverity {
    /// The word used in tables and texts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AlertOnly => "alert_only",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Immediate => "immediate",
        }
    }
}

impl std::fmt::Display for DriftSeverity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// One feature that moved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "generate", derive(schemars::JsonSchema))]
pub struct FeatureDrift {
    /// The feature's name.
    pub feature: String,
    /// Population stability index against the reference, dimensionless, 0 or more.
    #[cfg_attr(feature = "generate", schemars(extend("minimum" = 0)))]
    pub psi: Finite,
    /// Threshold in force, same scale.
    pub threshold: Finite,
    /// What the sample size alone explains, same scale.
    #[cfg_attr(feature = "generate", schemars(extend("minimum" = 0)))]
    pub noise: Finite,
    /// Bins or levels whose share moved most, the largest part of the index first; at most three.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moved: Vec<LevelShift>,
    /// The hour from which its values are those of the window rather than those of the reference; none when that was so in every hour
    /// that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<DateTime<Utc>>,
    /// Segments in which it moved farther than in all rows together, the farthest first; at most three, and none unless the model has
    /// columns of segments. Levels that the reference has not, and segments with few rows, are not compared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub segments: Vec<SegmentDrift>,
}

/// A segment of the rows in which a feature moved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "generate", derive(schemars::JsonSchema))]
pub struct SegmentDrift {
    /// The column that rows are told apart by.
    pub column: String,
    /// Its level, shortened to 60 characters; `missing` for rows without one.
    pub level: String,
    /// Rows of the segment in the reference, count.
    pub reference_rows: u64,
    /// Rows of the segment in the window, count.
    pub rows: u64,
    /// Population stability index within the segment, dimensionless, 0 or more.
    #[cfg_attr(feature = "generate", schemars(extend("minimum" = 0)))]
    pub psi: Finite,
    /// What the segment's rows, all segments and features together, and the unrest of the reference explain of it, same scale.
    #[cfg_attr(feature = "generate", schemars(extend("minimum" = 0)))]
    pub noise: Finite,
}

/// A bin or level whose share moved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "generate", derive(schemars::JsonSchema))]
pub struct LevelShift {
    /// Its name: a range of numbers, or a level of a categorical feature (those that are common in the reference have names of their own),
    /// shortened to 60 characters.
    pub level: String,
    /// Its share of the reference.
    pub reference: Share,
    /// Its share of the window.
    pub current: Share,
}

/// How the fraud rate moved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "generate", derive(schemars::JsonSchema))]
pub struct TargetDrift {
    /// Fraud rate of the reference.
    pub reference_rate: Share,
    /// Fraud rate of the window, among rows whose label is known.
    pub current_rate: Share,
    /// `(current - reference) / reference`; none when the reference had no fraud.
    pub relative_change: Option<Finite>,
    /// Two-sided p-value of the two-proportion test.
    pub p_value: Share,
}

/// How far the recall dropped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "generate", derive(schemars::JsonSchema))]
pub struct ConceptDrift {
    /// Rows judged: those whose labels have ripened and whose score is the champion's.
    pub window: Window,
    /// Recall at validation.
    pub validated_recall: Share,
    /// Recall on the ripened labels of `window`.
    pub realised_recall: Share,
    /// `validated - realised`; positive is worse.
    pub drop: Finite,
    /// Lower bound of the drop at the configured confidence.
    pub drop_low: Finite,
    /// Upper bound of the drop.
    pub drop_high: Finite,
    /// Frauds that the realised recall stands on, count.
    pub frauds: u64,
    /// Precision at validation; with `realised_precision`, the other way in which a model decays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validated_precision: Option<Share>,
    /// Precision on the ripened labels of `window`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub realised_precision: Option<Share>,
    /// Rows of `window` that the model flagged, count: what the realised precision stands on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flagged: Option<u64>,
    /// Recall of the same rows as their scores let estimate it (see `EstimatedPerformance`). Where the scores explain less than the drop,
    /// that is consistent with scores that mean something else now; where they explain it, with transactions that moved to where the
    /// model is weak, or with fraud that became rarer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_recall: Option<Share>,
    /// Predictive interval of `estimated_recall`: a realised recall below it is what the scores do not explain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_recall_interval: Option<Interval>,
    /// Precision of the same rows as their scores let estimate it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_precision: Option<Share>,
    /// Predictive interval of `estimated_precision`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_precision_interval: Option<Interval>,
}
