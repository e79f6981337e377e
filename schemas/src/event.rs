//! Every event of this release, and how its name, type, subject and schema hang together.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Refusal;
use crate::events::{
    AlertFailed, AlertSent, DriftCheckRequested, DriftChecked, DriftDetected, ModelPromoted, ModelTrained,
    ModelValidated, PromotionRefused, RetrainAsked, RetrainDeclined, RetrainRequested, TrainingFailed,
    TrainingStarted,
};

/// The body of one event type.
pub trait EventBody: Serialize + DeserializeOwned + Into<Event> {
    /// Which event this is.
    const KIND: EventKind;
}

macro_rules! events {
    ($($variant:ident, $subject:literal, $major:literal, $summary:literal;)*) => {
        /// The name of an event together with its major version.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum EventKind {
            $(#[doc = $summary] $variant,)*
        }

        impl EventKind {
            /// Every kind, in the order of the loop.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The NATS subject, e.g. `drift.detected`; it names the event, never the model.
            pub const fn subject(self) -> &'static str {
                match self { $(Self::$variant => $subject,)* }
            }

            /// The CloudEvents type, e.g. `vigie.drift.detected.v1`.
            pub const fn ce_type(self) -> &'static str {
                match self { $(Self::$variant => concat!("vigie.", $subject, ".v", $major),)* }
            }

            /// Subject and major, e.g. `drift.detected.v1`: the name of schema and golden files.
            pub const fn file_stem(self) -> &'static str {
                match self { $(Self::$variant => concat!($subject, ".v", $major),)* }
            }

            /// One sentence that says what the event means.
            pub const fn summary(self) -> &'static str {
                match self { $(Self::$variant => $summary,)* }
            }

            /// The kind of a CloudEvents type, `None` for what this release does not know.
            pub fn from_ce_type(ce_type: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|kind| kind.ce_type() == ce_type)
            }

            /// Identifies the JSON Schema of the body.
            pub fn schema_uri(self) -> String {
                format!("urn:vigie:schema:{}", self.file_stem())
            }
        }

        impl std::fmt::Display for EventKind {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.subject())
            }
        }

        /// One event of this release.
        #[expect(
            clippy::large_enum_variant,
            reason = "events are few and do not live long; a box would be in the way of everybody who writes one"
        )]
        #[derive(Debug, Clone, PartialEq)]
        pub enum Event {
            $(#[doc = $summary] $variant($variant),)*
        }

        impl Event {
            /// Which event this is.
            pub const fn kind(&self) -> EventKind {
                match self { $(Self::$variant(_) => EventKind::$variant,)* }
            }

            /// The body as JSON.
            ///
            /// # Errors
            /// Fails only if a body cannot be expressed as JSON, which would be a defect of its type.
            pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
                match self { $(Self::$variant(body) => serde_json::to_vec(body),)* }
            }

            /// Reads the body of a known kind.
            ///
            /// # Errors
            /// [`Refusal::SchemaInvalid`] when the bytes break the schema or name a field twice.
            pub fn from_json(kind: EventKind, body: &[u8]) -> Result<Self, Refusal> {
                let read = crate::unique::check_unique(body).and_then(|()| match kind {
                    $(EventKind::$variant => serde_json::from_slice(body).map(Self::$variant),)*
                });
                read.map_err(|error| Refusal::SchemaInvalid { ce_type: kind.ce_type(), reason: crate::attributes::told(&error) })
            }
        }

        $(
            impl EventBody for $variant {
                const KIND: EventKind = EventKind::$variant;
            }
            impl From<$variant> for Event {
                fn from(body: $variant) -> Self {
                    Self::$variant(body)
                }
            }
        )*

        /// Calls the macro once for every event body type.
        #[cfg(feature = "generate")]
        macro_rules! for_each_event {
            ($call:ident) => { $($call!($variant);)* };
        }
        #[cfg(feature = "generate")]
        pub(crate) use for_each_event;
    };
}

events! {
    DriftCheckRequested, "drift.check.requested", "1", "Someone asks for a drift check of a model as of an instant.";
    DriftChecked, "drift.checked", "1", "A drift check finished: every metric, and a verdict.";
    DriftDetected, "drift.detected", "1", "The verdict was `drifted`: kinds, severity, the features that moved, how sure.";
    RetrainAsked, "retrain.asked", "1", "An operator asks for a retraining.";
    RetrainRequested, "retrain.requested", "1", "Train this model: priority, reason, data window, decision.";
    RetrainDeclined, "retrain.declined", "1", "A trigger did not lead to training: every rule's outcome, and what would have changed it.";
    TrainingStarted, "training.started", "1", "The training run of a decision began.";
    TrainingFailed, "training.failed", "1", "The training run ended without a model.";
    ModelTrained, "model.trained", "1", "A candidate exists: artefact, digest, windows, reported metrics.";
    ModelValidated, "model.validated", "1", "The candidate passed or failed validation, with the whole report.";
    ModelPromoted, "model.promoted", "1", "The candidate is champion now.";
    PromotionRefused, "promotion.refused", "1", "A validated candidate was not promoted, for good; the champion stays.";
    AlertSent, "alert.sent", "1", "A person was told.";
    AlertFailed, "alert.failed", "1", "A person could not be told, for good.";
}
