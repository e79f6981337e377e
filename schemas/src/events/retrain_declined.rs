//! `retrain.declined.v1`, published by retrain-decider; read by notifier (an open breaker) and whoever audits.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Counterfactual, RuleOutcome, TriggerKind};
use crate::DecisionId;

/// A trigger did not lead to training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "generate", derive(schemars::JsonSchema))]
pub struct RetrainDeclined {
    /// The decision.
    pub decision_id: DecisionId,
    /// The instant decided as of, UTC.
    pub as_of: DateTime<Utc>,
    /// What asked for a decision.
    pub trigger: TriggerKind,
    /// The first rule that blocked.
    pub reason: DeclineReason,
    /// One sentence for people.
    pub detail: String,
    /// Every rule with its inputs and outcome.
    pub rules: Vec<RuleOutcome>,
    /// What would have changed it; empty when nothing smaller than another policy would.
    pub counterfactuals: Vec<Counterfactual>,
}

/// Why a trigger was declined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "generate", derive(schemars::JsonSchema))]
pub enum DeclineReason {
    /// Another training of this model has not ended.
    TrainingInProgress,
    /// The last completed training is too young.
    Cooldown,
    /// Too few rows arrived since the last completed training.
    NotEnoughNewRows,
    /// Too many immediate trainings in the breaker's span.
    BreakerOpen,
    /// Only the fraud rate moved: people are told, nothing is trained.
    AlertOnly,
    /// The drift was measured against a champion that has been replaced since.
    Superseded,
    /// A reason that a later release added.
    #[serde(other)]
    Other,
}

impl DeclineReason {
    /// The word used in tables and texts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TrainingInProgress => "training_in_progress",
            Self::Cooldown => "cooldown",
            Self::NotEnoughNewRows => "not_enough_new_rows",
            Self::BreakerOpen => "breaker_open",
            Self::AlertOnly => "alert_only",
            Self::Superseded => "superseded",
            Self::Other => "other",
        }
    }
}

impl std::fmt::Display for DeclineReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}
