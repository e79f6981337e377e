//! Events become rows; the workers do the rest.

use std::collections::HashMap;
use std::time::Duration;

use chassis::consume::{HandleError, Handler};
use chassis::outbox::{self, Draft};
use chassis::{Cause, Tx};
use chrono::TimeDelta;
use schemas::events::{
    ModelValidated, PromotionRefusal, PromotionRefused, RetrainRequested, TrainingFailed, TrainingFailure,
    ValidationVerdict,
};
use schemas::{DecisionId, Event, EventKind, JobId, ModelName, Received};

use crate::job::{BackendKind, Order, Plan, SplitLengths};
use crate::store;

/// The events this service reads.
pub const KINDS: &[EventKind] = &[EventKind::RetrainRequested, EventKind::ModelValidated];

/// Turns requests and validations into jobs and promotions.
#[derive(Debug)]
pub struct BridgeHandler {
    /// The service's name, under which it speaks.
    pub service: &'static str,
    /// Where new jobs run.
    pub backend: BackendKind,
    /// How long labels take to ripen, by model; models that are not here are unknown.
    pub label_delays: HashMap<ModelName, TimeDelta>,
    /// How long the spans of a training are.
    pub lengths: SplitLengths,
    /// Seed of trainings.
    pub seed: u64,
    /// Longest time from acceptance to the end of a job.
    pub deadline: Duration,
    /// Longest time from validation to promotion.
    pub promote_within: Duration,
}

impl Handler for BridgeHandler {
    type Prepared = ();

    async fn handle(&self, tx: &mut Tx, received: &Received, (): &()) -> Result<(), HandleError> {
        match &received.event {
            Event::RetrainRequested(request) => self.accept(tx, received, request).await,
            Event::ModelValidated(validated) => self.validated(tx, received, validated).await,
            // The consumer is bound to the two subjects above.
            other => Err(HandleError::permanent(format!(
                "`{}` is not read by trainer-bridge",
                other.kind()
            ))),
        }
    }

    /// A request that no job will follow has failed, and a candidate that is not promoted was refused: the decider's
    /// trigger ends, and people are told.
    async fn given_up(&self, tx: &mut Tx, received: &Received, reason: &str) -> anyhow::Result<()> {
        let mut draft = match &received.event {
            Event::RetrainRequested(request) => {
                let body = TrainingFailed {
                    job_id: job_of(request.decision_id),
                    decision_id: request.decision_id,
                    as_of: request.as_of,
                    backend: self.backend.as_str().to_owned(),
                    attempts: 1,
                    failure: TrainingFailure::Refused,
                    detail: reason.to_owned(),
                    run_id: None,
                    run_url: None,
                };
                Draft::new(&received.attributes.model, Cause::event(received), body)
            }
            Event::ModelValidated(validated) if validated.verdict == ValidationVerdict::Passed => {
                let body = PromotionRefused {
                    version: validated.version.clone(),
                    champion: None,
                    decision_id: validated.decision_id,
                    as_of: validated.as_of,
                    reason: PromotionRefusal::Other,
                    detail: reason.to_owned(),
                };
                Draft::new(&received.attributes.model, Cause::event(received), body)
            }
            _ => return Ok(()),
        };
        // A person may have the event offered again, and what then comes of it is another event.
        GIVEN_UP.clone_into(&mut draft.discriminator);
        outbox::append(tx, self.service, draft).await?;
        Ok(())
    }
}

/// Tells what is said of an event that was given up from what is said once it is handled after all.
const GIVEN_UP: &str = "given up";

/// Derived from the decision: asked twice, it is the same job.
fn job_of(decision: DecisionId) -> JobId {
    JobId::derived(decision.uuid(), "training job")
}

impl BridgeHandler {
    async fn accept(
        &self,
        tx: &mut Tx,
        received: &Received,
        request: &RetrainRequested,
    ) -> Result<(), HandleError> {
        let model = &received.attributes.model;
        let label_delay = *self
            .label_delays
            .get(model)
            .ok_or_else(|| HandleError::unknown_model(model))?;
        let plan = Plan::new(request.as_of, label_delay, self.lengths, self.seed).ok_or_else(|| {
            HandleError::permanent("the spans of a training cannot be laid out before `as_of`")
        })?;
        let order = Order {
            job_id: job_of(request.decision_id),
            model: model.clone(),
            decision_id: request.decision_id,
            as_of: request.as_of,
            plan,
        };
        let accepted = store::job::Accepted {
            order: &order,
            priority: request.priority,
            backend: self.backend,
            deadline: self.deadline,
            received,
        };
        if store::job::accept(tx, &accepted).await? {
            tracing::info!(
                model.name = %model,
                "accepted training of model `{model}` on rows of {}: {}",
                order.plan.training,
                request.reason
            );
        } else {
            tracing::info!(model.name = %model, "decision {} has its training already", request.decision_id);
        }
        Ok(())
    }

    async fn validated(
        &self,
        tx: &mut Tx,
        received: &Received,
        validated: &ModelValidated,
    ) -> Result<(), HandleError> {
        let name = &validated.version;
        let version = store::version::lock(tx, name.as_str())
            .await?
            .filter(|version| version.model == received.attributes.model)
            .ok_or_else(|| {
                HandleError::permanent(format!("no version `{name}` of this model was trained here"))
            })?;
        store::version::measured(tx, validated).await?;
        match validated.verdict {
            ValidationVerdict::Failed => {
                let notes = validated.failures.join("; ");
                store::version::retire(tx, name.as_str(), version.as_of, &notes).await?;
                tracing::info!(model.name = %version.model, "candidate `{name}` failed validation: {notes}");
            }
            ValidationVerdict::Passed => {
                if store::promotion::intend(tx, &version, validated, self.promote_within, received).await? {
                    store::version::stage(tx, name.as_str()).await?;
                    tracing::info!(model.name = %version.model, "candidate `{name}` passed validation and is to be promoted");
                }
            }
        }
        Ok(())
    }
}
