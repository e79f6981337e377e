//! `alert.sent.v1` and `alert.failed.v1`, published by notifier; read by whoever audits.

use serde::{Deserialize, Serialize};

use crate::{AlertId, EventId};

/// A person was told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "generate", derive(schemars::JsonSchema))]
pub struct AlertSent {
    /// The alert; shown in the message itself.
    pub alert_id: AlertId,
    /// The event it is about.
    pub about_event: EventId,
    /// That event's CloudEvents type.
    pub about_type: String,
    /// Through which channel.
    pub channel: Channel,
    /// To whom, masked (`a***@example.org`) or a channel's label; never a secret URL.
    pub recipient: String,
    /// Severity word of the subject line: `LOW`, `MEDIUM`, `HIGH` or `CRITICAL`.
    pub severity: String,
    /// The subject line.
    pub subject: String,
    /// Attempts made, 1 or more.
    #[cfg_attr(feature = "generate", schemars(range(min = 1)))]
    pub attempts: u32,
}

/// A person could not be told, for good.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "generate", derive(schemars::JsonSchema))]
pub struct AlertFailed {
    /// The alert.
    pub alert_id: AlertId,
    /// The event it is about.
    pub about_event: EventId,
    /// That event's CloudEvents type.
    pub about_type: String,
    /// Through which channel.
    pub channel: Channel,
    /// To whom, masked.
    pub recipient: String,
    /// Severity word of the subject line.
    pub severity: String,
    /// The subject line.
    pub subject: String,
    /// Attempts made, 1 or more.
    #[cfg_attr(feature = "generate", schemars(range(min = 1)))]
    pub attempts: u32,
    /// Why, without secrets.
    pub reason: String,
}

/// A way to reach people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "generate", derive(schemars::JsonSchema))]
pub enum Channel {
    /// E-mail.
    Email,
    /// A Slack incoming webhook.
    Slack,
    /// A way that a later release added.
    #[serde(other)]
    Other,
}

impl Channel {
    /// The word used in tables and texts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Slack => "slack",
            Self::Other => "other",
        }
    }
}
