//! `retrain.asked.v1`, published by the command line and the console; read by retrain-decider.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// An operator asks for a retraining. The decider still decides, and says why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "generate", derive(schemars::JsonSchema))]
pub struct RetrainAsked {
    /// The instant to decide as of, UTC.
    pub as_of: DateTime<Utc>,
    /// Who asked, as shown in the audit, e.g. `cli:alice`.
    pub requested_by: String,
    /// Why, in the asker's words; never empty.
    #[cfg_attr(feature = "generate", schemars(length(min = 1)))]
    pub reason: String,
    /// Skip the cooldown and the minimum of new rows, as `immediate` drift does.
    pub force: bool,
}
