//! `drift.check.requested.v1`, published by the console and the command line; read by drift-monitor.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Check this model as of this instant, outside the hourly rhythm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "generate", derive(schemars::JsonSchema))]
pub struct DriftCheckRequested {
    /// The instant of the check, UTC: only rows before it and labels known at it count.
    pub as_of: DateTime<Utc>,
    /// Who asked, as shown in the audit, e.g. `cli:alice`.
    pub requested_by: String,
    /// Why, in the asker's words; may be empty.
    pub reason: String,
}
