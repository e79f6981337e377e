//! `retrain.requested.v1`, published by retrain-decider; read by trainer-bridge, notifier and anyone who subscribes.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::RuleOutcome;
use crate::{DecisionId, ModelVersion};

/// Train this model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "generate", derive(schemars::JsonSchema))]
pub struct RetrainRequested {
    /// The decision; one training follows from it at most.
    pub decision_id: DecisionId,
    /// The instant decided as of, UTC: training may use rows before it and labels known at it.
    pub as_of: DateTime<Utc>,
    /// What led to the decision.
    pub trigger: TriggerKind,
    /// How urgent.
    pub priority: Priority,
    /// One sentence for people.
    pub reason: String,
    /// The champion to be replaced; none for a first training.
    pub champion: Option<ModelVersion>,
    /// Rows that arrived since the last completed training, count; none if never trained.
    pub new_rows: Option<u64>,
    /// Every rule with its inputs and outcome.
    pub rules: Vec<RuleOutcome>,
}

/// What led to a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "generate", derive(schemars::JsonSchema))]
pub enum TriggerKind {
    /// A `drift.detected` event.
    Drift,
    /// The daily slot.
    Schedule,
    /// An operator.
    Operator,
    /// A training ended, and a drift that was held back meanwhile is looked at again.
    TrainingEnded,
}

impl TriggerKind {
    /// The word used in tables and texts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Drift => "drift",
            Self::Schedule => "schedule",
            Self::Operator => "operator",
            Self::TrainingEnded => "training_ended",
        }
    }
}

impl std::fmt::Display for TriggerKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// How urgent a training is; ordered from least to most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "generate", derive(schemars::JsonSchema))]
pub enum Priority {
    /// The daily training: nothing is wrong.
    Scheduled,
    /// Data drift above the threshold.
    Medium,
    /// Strong data drift, a first training, or an operator's wish.
    High,
    /// Concept drift: bypasses the cooldown and the minimum of new rows.
    Immediate,
}

impl Priority {
    /// The word used in tables and texts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Immediate => "immediate",
        }
    }
}

impl std::fmt::Display for Priority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}
