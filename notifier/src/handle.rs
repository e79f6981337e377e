//! The shell around `decide`: an event becomes rows, in the transaction that records its receipt.

use chassis::{HandleError, Handler, Tx};
use schemas::{EventKind, Received};

use crate::decide::{Decision, decide};
use crate::recipient::Recipient;
use crate::store;

/// What the notifier listens to.
pub const KINDS: &[EventKind] = &[
    EventKind::DriftChecked,
    EventKind::DriftDetected,
    EventKind::RetrainRequested,
    EventKind::RetrainDeclined,
    EventKind::TrainingFailed,
    EventKind::ModelValidated,
    EventKind::ModelPromoted,
    EventKind::PromotionRefused,
];

/// Writes down who is to be told what.
#[derive(Debug)]
pub struct NotifyHandler {
    /// Everyone who is told.
    pub recipients: Vec<Recipient>,
}

impl Handler for NotifyHandler {
    type Prepared = ();

    async fn handle(&self, tx: &mut Tx, received: &Received, (): &()) -> Result<(), HandleError> {
        let model = &received.attributes.model;
        match decide(&received.event, &received.attributes) {
            Decision::Silent(silence) => {
                tracing::debug!(model.name = %model, "nobody is told of {}: {}", received.attributes.kind, silence.as_str());
            }
            Decision::Tell(alert) if self.recipients.is_empty() => {
                tracing::warn!(model.name = %model, "nobody to tell: {}", alert.subject());
            }
            Decision::Tell(alert) => {
                let added = store::enqueue(tx, &alert, &self.recipients, received).await?;
                tracing::info!(model.name = %model, "{added} of {} recipients will be told: {}", self.recipients.len(), alert.subject());
            }
        }
        Ok(())
    }
}
