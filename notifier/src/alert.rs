//! What a person is told, before anyone knows through which channel.

use chrono::{DateTime, Utc};
use schemas::{EventId, ModelName};
use serde::{Deserialize, Serialize};

use crate::text::line;

/// Longest shown name of a model or feature, characters.
pub const NAME_CHARS_MAX: usize = 60;
/// Longest shown value or sentence, characters.
pub const SENTENCE_CHARS_MAX: usize = 300;
/// Most features listed in one message; the rest is counted.
pub const MOVEMENTS_MAX: usize = 15;
/// Most lines of facts in one message.
pub const FACTS_MAX: usize = 10;

/// How much it matters, in the words that the replaced pipelines used; ordered from least to most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Severity {
    /// For information.
    Low,
    /// Someone should look within days.
    Medium,
    /// Someone should look today.
    High,
    /// Fraud is being missed now.
    Critical,
}

impl Severity {
    /// The word of the subject line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Low => "LOW",
            Self::Medium => "MEDIUM",
            Self::High => "HIGH",
            Self::Critical => "CRITICAL",
        }
    }
}

/// One alert about one event. All text is single-line and bounded; it is still data, not markup.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// How much it matters.
    pub severity: Severity,
    /// What it is, a few words: the subject after `Fraud Detection Alert:`.
    pub title: String,
    /// What happened, one or two sentences.
    pub what: String,
    /// The model it is about.
    pub model: ModelName,
    /// The instant that was judged, UTC; in a replay this is history.
    pub as_of: DateTime<Utc>,
    /// The numbers behind it, most telling first, at most [`FACTS_MAX`].
    pub facts: Vec<Fact>,
    /// The features that moved, largest first, at most [`MOVEMENTS_MAX`].
    pub moved: Vec<Movement>,
    /// Features that moved and are not listed, count.
    pub moved_unlisted: usize,
    /// What happens next and what the reader can do, one sentence or command each.
    pub next: Vec<Step>,
    /// A page that shows more, `http` or `https`.
    pub link: Option<String>,
    /// The event it is about.
    pub about: About,
    /// Names the occasion: a second alert of the same occasion is not sent to the same person.
    pub occasion: String,
}

/// A name and its value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fact {
    /// What it is, ours.
    pub name: String,
    /// How much, with unit.
    pub value: String,
}

impl Fact {
    /// A fact whose value may come from anywhere.
    pub fn new(name: &str, value: impl AsRef<str>) -> Self {
        Self {
            name: name.to_owned(),
            value: line(value.as_ref(), SENTENCE_CHARS_MAX),
        }
    }
}

/// How far one feature moved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Movement {
    /// The feature's name, cleaned.
    pub feature: String,
    /// Population stability index, dimensionless, 0 or more.
    pub psi: f64,
    /// Threshold in force, same scale.
    pub threshold: f64,
    /// What the sample size alone explains, same scale.
    pub noise: f64,
    /// What moved within it and since when, cleaned; empty when that is not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// What the reader can expect or do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// A sentence.
    Say(String),
    /// A command to copy, already quoted for a shell.
    Run(String),
}

impl Step {
    /// The sentence or the command.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Say(text) | Self::Run(text) => text,
        }
    }
}

/// Where an alert came from, for whoever follows it up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// `ce-id` of the event.
    pub event_id: EventId,
    /// `ce-type` of the event.
    pub event_type: String,
    /// `ce-correlationid`: the loop it belongs to.
    pub correlation_id: EventId,
    /// The trace of the loop, 32 hexadecimal digits.
    pub trace_id: Option<String>,
}

impl Alert {
    /// The subject line, in the shape that the replaced pipelines used.
    pub fn subject(&self) -> String {
        format!("[{}] Fraud Detection Alert: {}", self.severity.word(), self.title)
    }

    /// The model's name as people may see it.
    pub fn model_shown(&self) -> String {
        line(self.model.as_str(), NAME_CHARS_MAX)
    }
}
