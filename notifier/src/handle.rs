//! The shell around `decide`: an event becomes rows, in the transaction that records its receipt.

use chassis::{HandleError, Handler, Tx};
use schemas::{EventKind, Received};

use crate::alert::Alert;
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
    /// What to tell; none when nobody is told.
    type Prepared = Option<Box<Alert>>;

    async fn prepare(&self, received: &Received) -> Result<Self::Prepared, HandleError> {
        let model = &received.attributes.model;
        Ok(match decide(&received.event, &received.attributes) {
            Decision::Silent(silence) => {
                tracing::debug!(model.name = %model, "nobody is told of {}: {}", received.attributes.kind, silence.as_str());
                None
            }
            Decision::Tell(alert) if self.recipients.is_empty() => {
                tracing::warn!(model.name = %model, "nobody to tell: {}", alert.subject());
                None
            }
            Decision::Tell(alert) => Some(alert),
        })
    }

    fn writes(alert: &Self::Prepared) -> bool {
        alert.is_some()
    }

    async fn handle(
        &self,
        tx: &mut Tx,
        received: &Received,
        alert: &Self::Prepared,
    ) -> Result<(), HandleError> {
        let Some(alert) = alert else { return Ok(()) };
        let added = store::enqueue(tx, alert, &self.recipients, received).await?;
        tracing::info!(
            model.name = %received.attributes.model,
            "{added} of {} recipients will be told: {}", self.recipients.len(), alert.subject()
        );
        Ok(())
    }
}
