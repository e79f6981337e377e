//! Who says what to whom: the publishers and the required readers of every event.
//!
//! Anyone else may read any event too; a *required* reader is one whose receipt the loop depends on.

use crate::EventKind;

/// The JetStream stream that holds every event.
pub const STREAM: &str = "VIGIE";
/// The stream of parked messages.
pub const STREAM_DEAD: &str = "VIGIE_DEAD";
/// The tripwire: any message in it is a bug.
pub const STREAM_ADVISORY: &str = "VIGIE_ADVISORY";

/// Watches the data and the results of a model.
pub const DRIFT_MONITOR: &str = "drift-monitor";
/// Decides whether to retrain.
pub const RETRAIN_DECIDER: &str = "retrain-decider";
/// Has models trained, registers and promotes them.
pub const TRAINER_BRIDGE: &str = "trainer-bridge";
/// Judges candidates.
pub const VALIDATOR: &str = "validator";
/// Tells people.
pub const NOTIFIER: &str = "notifier";
/// The operator's command.
pub const VIGIE: &str = "vigie";

/// Every service that reads or publishes events, with one sentence each.
pub const PARTIES: &[(&str, &str)] = &[
    (DRIFT_MONITOR, "Watches the data and the results of a model."),
    (RETRAIN_DECIDER, "Decides whether to retrain."),
    (TRAINER_BRIDGE, "Has models trained, registers and promotes them."),
    (VALIDATOR, "Judges candidates on rows that training did not see."),
    (NOTIFIER, "Tells people, each alert once."),
    (VIGIE, "The operator's command."),
];

impl EventKind {
    /// Who publishes it, by the last part of `ce-source`.
    pub const fn publishers(self) -> &'static [&'static str] {
        match self {
            Self::DriftCheckRequested | Self::RetrainAsked => &[VIGIE],
            Self::DriftChecked | Self::DriftDetected => &[DRIFT_MONITOR],
            Self::RetrainRequested | Self::RetrainDeclined => &[RETRAIN_DECIDER],
            Self::TrainingStarted
            | Self::TrainingFailed
            | Self::ModelTrained
            | Self::ModelPromoted
            | Self::PromotionRefused => &[TRAINER_BRIDGE],
            Self::ModelValidated => &[VALIDATOR],
            Self::AlertSent | Self::AlertFailed => &[NOTIFIER],
        }
    }

    /// Whether it may come from there: a `ce-source` such as `/vigie/drift-monitor`.
    pub fn is_said_by(self, source: &str) -> bool {
        let name = source.strip_prefix(crate::SOURCE_PREFIX);
        name.is_some_and(|name| self.publishers().contains(&name))
    }

    /// The services that must receive it, by the name of their durable consumer.
    pub const fn readers(self) -> &'static [&'static str] {
        match self {
            Self::DriftCheckRequested => &[DRIFT_MONITOR],
            Self::DriftChecked | Self::RetrainDeclined => &[NOTIFIER],
            Self::DriftDetected | Self::TrainingFailed | Self::PromotionRefused => {
                &[RETRAIN_DECIDER, NOTIFIER]
            }
            Self::RetrainAsked | Self::TrainingStarted => &[RETRAIN_DECIDER],
            Self::RetrainRequested => &[TRAINER_BRIDGE, NOTIFIER],
            Self::ModelTrained => &[VALIDATOR, RETRAIN_DECIDER],
            Self::ModelValidated => &[TRAINER_BRIDGE, RETRAIN_DECIDER, NOTIFIER],
            Self::ModelPromoted => &[DRIFT_MONITOR, RETRAIN_DECIDER, NOTIFIER],
            Self::AlertSent | Self::AlertFailed => &[],
        }
    }

    /// Whether anyone may build on it: subject and body of these stay as they are.
    pub const fn is_public_contract(self) -> bool {
        matches!(
            self,
            Self::DriftDetected | Self::RetrainRequested | Self::ModelValidated
        )
    }

    /// The kinds that a service must receive, in the order of [`EventKind::ALL`].
    pub fn read_by(service: &str) -> Vec<Self> {
        Self::ALL
            .iter()
            .copied()
            .filter(|kind| kind.readers().contains(&service))
            .collect()
    }
}
