//! `promotion.refused.v1`, published by trainer-bridge; read by retrain-decider, notifier and whoever audits.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{DecisionId, ModelVersion};

/// A candidate that passed validation was not promoted, for good; the champion stays.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "generate", derive(schemars::JsonSchema))]
pub struct PromotionRefused {
    /// The candidate.
    pub version: ModelVersion,
    /// The champion that stays in force; none before the first promotion.
    pub champion: Option<ModelVersion>,
    /// The decision that asked for the candidate.
    pub decision_id: DecisionId,
    /// The decision's instant, UTC.
    pub as_of: DateTime<Utc>,
    /// Why it was refused.
    pub reason: PromotionRefusal,
    /// One sentence for people.
    pub detail: String,
}

/// Why a promotion was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "generate", derive(schemars::JsonSchema))]
pub enum PromotionRefusal {
    /// The bytes are not those that were trained and validated, or are gone.
    Artifact,
    /// A newer decision's model is champion, or the version was retired meanwhile.
    Superseded,
    /// The validation lacks a figure that drift is measured against.
    ReportIncomplete,
    /// The registry refused, or could not be reached before the deadline.
    Registry,
    /// A reason that a later release added.
    #[serde(other)]
    Other,
}

impl PromotionRefusal {
    /// The word used in tables and texts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Artifact => "artifact",
            Self::Superseded => "superseded",
            Self::ReportIncomplete => "report_incomplete",
            Self::Registry => "registry",
            Self::Other => "other",
        }
    }
}
