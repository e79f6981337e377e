//! What decisions say about their reasons; shared by `retrain.requested` and `retrain.declined`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One rule, what it looked at, and what it said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "generate", derive(schemars::JsonSchema))]
pub struct RuleOutcome {
    /// Stable name, e.g. `cooldown`, `new_rows`, `training_in_progress`, `breaker`, `severity`.
    pub rule: String,
    /// What it said.
    pub result: RuleResult,
    /// The numbers it looked at, by name with unit, e.g. `hours_since_last_training`, `rows_min`.
    pub inputs: BTreeMap<String, Value>,
    /// One sentence for people.
    pub detail: String,
}

/// What a rule said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "generate", derive(schemars::JsonSchema))]
pub enum RuleResult {
    /// In favour, or nothing against.
    Passed,
    /// Against; one is enough to decline.
    Blocked,
    /// Would have been against, but the priority is exempt from it.
    Bypassed,
    /// Had nothing to look at.
    NotApplicable,
}

/// A smallest change that would have turned a declined trigger into a training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "generate", derive(schemars::JsonSchema))]
pub struct Counterfactual {
    /// The rules that would have to say otherwise, all of them together.
    pub rules: Vec<String>,
    /// One sentence for people, e.g. `17 h pass and 1588 rows arrive`.
    pub change: String,
}
