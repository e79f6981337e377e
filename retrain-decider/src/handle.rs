//! The shell: load, decide, save, append to the outbox, in one transaction. Dull on purpose.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chassis::clock::Clock;
use chassis::db::while_reading;
use chassis::outbox::{self, Draft};
use chassis::slots::{self, Job};
use chassis::tasks::{DAG_TRAINING, TaskEnd, TaskTimer};
use chassis::{Cause, Context, HandleError, Handler, Tasks, Tx};
use chrono::{DateTime, TimeDelta, Utc};
use schemas::events::{
    DriftDetected, DriftKind, ModelPromoted, ModelValidated, PromotionRefused, RetrainAsked, RetrainDeclined,
    RetrainRequested, ValidationVerdict,
};
use schemas::{DecisionId, Event, EventId, ModelName, ModelVersion, Received, Window};
use transactions::{ModelDefinition, Readers, SourceError, SourceSettings, TransactionSource};

use crate::config::Config;
use crate::decide::{Decision, Drift, Policy, Running, Trigger, Verdict, decide};
use crate::metrics::{DeciderMetrics, DecisionLabels};
use crate::store::{self, Move, Pending, Record, State};

/// Spawns the consumer and the daily slot of every model.
///
/// # Errors
/// When the address of the source cannot be used.
pub fn start(config: Config, context: &Context, tasks: &mut Tasks) -> anyhow::Result<()> {
    let decider = Arc::new(Decider {
        service: context.service,
        clock: context.clock,
        readers: config.access.readers(&context.pool)?,
        policy: config.policy,
        models: config
            .models
            .iter()
            .map(|model| (model.model.clone(), model.clone()))
            .collect(),
        sources: config.sources,
        metrics: DeciderMetrics::register(&context.metrics),
    });
    tasks.spawn(
        "consume",
        chassis::consume::run(context.clone(), crate::SUBSCRIPTION, Arc::clone(&decider)),
    );
    for model in config.models {
        let job = Job {
            name: format!("training-decision/{}", model.model),
            schedule: config.schedule.clone(),
            catch_up: config.schedule_catch_up,
            reading_max: decider.sources.reading_max(),
        };
        let decider = Arc::clone(&decider);
        let name = model.model;
        tasks.spawn(
            "daily",
            slots::run(context.clone(), job, move |mut tx, slot| {
                let decider = Arc::clone(&decider);
                let name = name.clone();
                async move {
                    decider.daily(&mut tx, &name, slot).await?;
                    Ok(tx)
                }
            }),
        );
    }
    Ok(())
}

/// How far the asker's clock may be ahead of ours.
const CLOCK_SKEW: TimeDelta = TimeDelta::minutes(5);

struct Decider {
    service: &'static str,
    clock: Clock,
    /// Connections of their own: a decision holds a transaction while it counts rows, and must not wait for others
    /// that do the same.
    readers: Readers,
    policy: Policy,
    models: BTreeMap<ModelName, ModelDefinition>,
    sources: SourceSettings,
    metrics: DeciderMetrics,
}

/// A trigger with what it follows from.
struct Asked {
    trigger: Trigger,
    as_of: DateTime<Utc>,
    cause: Cause,
    /// Unique per model: the event's id or the slot.
    cause_text: String,
}

impl Handler for Decider {
    type Prepared = ();

    fn reading_max(&self) -> Duration {
        self.sources.reading_max()
    }

    async fn handle(&self, tx: &mut Tx, received: &Received, (): &()) -> Result<(), HandleError> {
        let model = &received.attributes.model;
        if !self.models.contains_key(model) {
            return Err(HandleError::unknown_model(model));
        }
        match &received.event {
            Event::DriftDetected(drift) => self.drift(tx, received, drift).await,
            Event::RetrainAsked(asked) => self.operator(tx, received, asked).await,
            Event::TrainingStarted(started) => {
                let next = Move::Running {
                    run_id: started.run_id.as_deref(),
                };
                store::move_trigger(tx, started.decision_id, started.as_of, &next).await?;
                Ok(())
            }
            Event::ModelTrained(trained) => {
                // The cooldown counts from here, whatever validation says of the candidate.
                let mut state = store::load_for_update(tx, model).await?;
                state.facts.last_completed_at = state.facts.last_completed_at.max(Some(trained.as_of));
                Ok(store::save(tx, model, &state).await?)
            }
            Event::TrainingFailed(failed) => {
                let next = Move::Failed {
                    error: &failed.detail,
                    version: None,
                };
                let moved = store::move_trigger(tx, failed.decision_id, failed.as_of, &next).await?;
                let mut state = store::load_for_update(tx, model).await?;
                if moved {
                    state.facts.last_failed_at = state.facts.last_failed_at.max(Some(failed.as_of));
                }
                self.ended(tx, received, state, failed.decision_id, failed.as_of)
                    .await
            }
            Event::ModelValidated(validated) => self.validated(tx, received, validated).await,
            Event::ModelPromoted(promoted) => Box::pin(self.promoted(tx, received, promoted)).await,
            Event::PromotionRefused(refused) => self.refused(tx, received, refused).await,
            Event::DriftCheckRequested(_)
            | Event::DriftChecked(_)
            | Event::RetrainRequested(_)
            | Event::RetrainDeclined(_)
            | Event::AlertSent(_)
            | Event::AlertFailed(_) => Err(HandleError::permanent(format!(
                "{} is not for {}",
                received.attributes.kind, self.service
            ))),
        }
    }
}

impl Decider {
    async fn drift(
        &self,
        tx: &mut Tx,
        received: &Received,
        detected: &DriftDetected,
    ) -> Result<(), HandleError> {
        let drift = summarise(detected);
        let asked = Asked {
            trigger: Trigger::Drift(drift.clone()),
            as_of: detected.as_of,
            cause: Cause::event(received),
            cause_text: received.attributes.id.to_string(),
        };
        let model = &received.attributes.model;
        let mut state = store::load_for_update(tx, model).await?;
        let before = state.clone();
        let was_running = state.facts.running.is_some();
        let decision = self.decide(tx, model, &mut state, &asked).await?;
        let held_back = was_running && matches!(decision.verdict, Verdict::Decline { .. });
        if held_back {
            // Looked at again when the training ends; the latest drift says the most.
            let newer = state
                .pending
                .as_ref()
                .is_none_or(|pending| pending.drift.as_of <= drift.as_of);
            if newer {
                let correlation = received.attributes.correlation_id;
                state.pending = Some(Pending {
                    drift,
                    event: received.attributes.id,
                    correlation,
                });
            }
        }
        // Most drifts are declined and change nothing.
        if state != before {
            store::save(tx, model, &state).await?;
        }
        Ok(())
    }

    async fn operator(
        &self,
        tx: &mut Tx,
        received: &Received,
        asked: &RetrainAsked,
    ) -> Result<(), HandleError> {
        let model = &received.attributes.model;
        let now = match self.clock {
            Clock::Database => self.clock.now(&mut **tx).await?,
            // Whoever replays may ask about any instant.
            Clock::Replay => None,
        };
        if let Some(now) = now.filter(|now| asked.as_of > *now + CLOCK_SKEW) {
            // Cooldowns would count from an instant that has not come.
            let reason = format!("the instant {} lies in the future; it is {now}", asked.as_of);
            return Err(HandleError::permanent(reason));
        }
        let asked = Asked {
            trigger: Trigger::Operator {
                requested_by: asked.requested_by.clone(),
                reason: asked.reason.clone(),
                force: asked.force,
            },
            as_of: asked.as_of,
            cause: Cause::event(received),
            cause_text: received.attributes.id.to_string(),
        };
        let mut state = store::load_for_update(tx, model).await?;
        let _recorded: Decision = self.decide(tx, model, &mut state, &asked).await?;
        Ok(store::save(tx, model, &state).await?)
    }

    async fn daily(&self, tx: &mut Tx, model: &ModelName, slot: DateTime<Utc>) -> anyhow::Result<()> {
        let key = format!("retrain-decider/daily/{model}/{}", slot.to_rfc3339());
        let asked = Asked {
            trigger: Trigger::Schedule,
            as_of: slot,
            cause: Cause::Key(key.clone()),
            cause_text: key,
        };
        let mut state = store::load_for_update(tx, model).await?;
        let _recorded: Decision = self.decide(tx, model, &mut state, &asked).await?;
        store::save(tx, model, &state).await
    }

    async fn validated(
        &self,
        tx: &mut Tx,
        received: &Received,
        validated: &ModelValidated,
    ) -> Result<(), HandleError> {
        match validated.verdict {
            // Not over yet: promotion follows.
            ValidationVerdict::Passed => Ok(()),
            ValidationVerdict::Failed => {
                let error = format!("validation failed: {}", validated.failures.join("; "));
                let next = Move::Failed {
                    error: &error,
                    version: Some(&validated.version),
                };
                store::move_trigger(tx, validated.decision_id, validated.as_of, &next).await?;
                let mut state = store::load_for_update(tx, &received.attributes.model).await?;
                // Delivered before `model.trained`? The training did complete.
                state.facts.last_completed_at = state.facts.last_completed_at.max(Some(validated.as_of));
                self.ended(tx, received, state, validated.decision_id, validated.as_of)
                    .await
            }
        }
    }

    async fn promoted(
        &self,
        tx: &mut Tx,
        received: &Received,
        promoted: &ModelPromoted,
    ) -> Result<(), HandleError> {
        let next = Move::Completed {
            version: &promoted.version,
        };
        store::move_trigger(tx, promoted.decision_id, promoted.as_of, &next).await?;
        let mut state = store::load_for_update(tx, &received.attributes.model).await?;
        if promoted.fence > state.champion_fence {
            state.champion_fence = promoted.fence;
            state.facts.champion = Some(promoted.version.clone());
        }
        state.facts.last_completed_at = state.facts.last_completed_at.max(Some(promoted.as_of));
        self.ended(tx, received, state, promoted.decision_id, promoted.as_of)
            .await
    }

    async fn refused(
        &self,
        tx: &mut Tx,
        received: &Received,
        refused: &PromotionRefused,
    ) -> Result<(), HandleError> {
        let error = format!("promotion refused: {}", refused.detail);
        let next = Move::Failed {
            error: &error,
            version: Some(&refused.version),
        };
        store::move_trigger(tx, refused.decision_id, refused.as_of, &next).await?;
        let mut state = store::load_for_update(tx, &received.attributes.model).await?;
        // As after a failed validation: the training itself did complete.
        state.facts.last_completed_at = state.facts.last_completed_at.max(Some(refused.as_of));
        self.ended(tx, received, state, refused.decision_id, refused.as_of)
            .await
    }

    /// A training ended: the model is free again, and a drift that waited is looked at.
    async fn ended(
        &self,
        tx: &mut Tx,
        received: &Received,
        mut state: State,
        decision_id: DecisionId,
        as_of: DateTime<Utc>,
    ) -> Result<(), HandleError> {
        let model = &received.attributes.model;
        if state
            .facts
            .running
            .is_some_and(|running| running.decision_id == decision_id)
        {
            state.facts.running = None;
            if let Some(pending) = state.pending.take() {
                let asked = Asked {
                    as_of: pending.drift.as_of.max(as_of),
                    trigger: Trigger::TrainingEnded(pending.drift),
                    // The loop is the drift's; the occasion is this event.
                    cause: Cause::Event {
                        id: received.attributes.id,
                        correlation_id: pending.correlation,
                    },
                    cause_text: format!("{}/{}", received.attributes.id, pending.event),
                };
                let _recorded: Decision = self.decide(tx, model, &mut state, &asked).await?;
            }
        }
        Ok(store::save(tx, model, &state).await?)
    }

    /// Completes the facts, decides, records the trigger, says so, and notes a training that begins.
    async fn decide(
        &self,
        tx: &mut Tx,
        model: &ModelName,
        state: &mut State,
        asked: &Asked,
    ) -> anyhow::Result<Decision> {
        let decision_id = decision_id(model, &asked.cause_text);
        let check = TaskTimer::start(
            DAG_TRAINING,
            "check_should_retrain",
            asked.as_of,
            decision_id.to_string(),
        );
        let mut facts = state.facts.clone();
        facts.new_rows = self.new_rows(tx, model, facts.last_completed_at, asked).await?;
        facts.immediate_trainings =
            store::immediate_trainings(tx, model, asked.as_of - self.policy.breaker_span).await?;
        let decision = decide(&self.policy, &facts, &asked.trigger, asked.as_of);
        let check = check.stop(TaskEnd::Success, facts.new_rows.unwrap_or(0), 0);
        let branch = TaskTimer::start(
            DAG_TRAINING,
            "decide_training_branch",
            asked.as_of,
            decision_id.to_string(),
        );
        let said = self
            .say(
                tx,
                model,
                facts.champion.as_ref(),
                facts.new_rows,
                asked,
                decision_id,
                &decision,
            )
            .await?;
        let record = Record {
            decision_id,
            model,
            as_of: asked.as_of,
            trigger: &asked.trigger,
            decision: &decision,
            policy: &self.policy,
            cause: &asked.cause_text,
            correlation_id: said,
        };
        store::insert_trigger(tx, &record).await?;
        let mut tasks = vec![check, branch.stop(TaskEnd::Success, 1, 0)];
        let outcome = match &decision.verdict {
            Verdict::Train { .. } => {
                state.facts.running = Some(Running {
                    decision_id,
                    since: asked.as_of,
                });
                "requested"
            }
            Verdict::Decline { reason, .. } => {
                let skip = TaskTimer::start(
                    DAG_TRAINING,
                    "skip_training",
                    asked.as_of,
                    decision_id.to_string(),
                );
                tasks.push(skip.stop(TaskEnd::Success, 0, 0));
                reason.as_str()
            }
        };
        chassis::tasks::record(&mut **tx, tasks).await?;
        let labels = DecisionLabels {
            model: model.to_string(),
            trigger: asked.trigger.kind().to_string(),
            outcome: outcome.to_owned(),
        };
        self.metrics.decisions.get_or_create(&labels).inc();
        Ok(decision)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of one event, each already at hand"
    )]
    async fn say(
        &self,
        tx: &mut Tx,
        model: &ModelName,
        champion: Option<&ModelVersion>,
        new_rows: Option<u64>,
        asked: &Asked,
        decision_id: DecisionId,
        decision: &Decision,
    ) -> anyhow::Result<EventId> {
        let trigger = asked.trigger.kind();
        let draft = match &decision.verdict {
            Verdict::Train { priority, reason } => {
                tracing::info!(model.name = %model, "model `{model}` is to be retrained ({priority}): {reason}");
                let body = RetrainRequested {
                    decision_id,
                    as_of: asked.as_of,
                    trigger,
                    priority: *priority,
                    reason: reason.clone(),
                    champion: champion.cloned(),
                    new_rows,
                    rules: decision.rules.clone(),
                };
                Draft::new(model, asked.cause.clone(), body)
            }
            Verdict::Decline { reason, detail } => {
                tracing::info!(model.name = %model, "kept model `{model}`: {detail}");
                let body = RetrainDeclined {
                    decision_id,
                    as_of: asked.as_of,
                    trigger,
                    reason: *reason,
                    detail: detail.clone(),
                    rules: decision.rules.clone(),
                    counterfactuals: decision.counterfactuals.clone(),
                };
                Draft::new(model, asked.cause.clone(), body)
            }
        };
        Ok(outbox::append(tx, self.service, draft).await?.correlation_id)
    }

    /// Transactions in `[last completed training, as_of)`; none when never trained, or when the source has
    /// lost the columns. A source that is merely away is an error, and the trigger is tried again; but the news that a training
    /// ended is never kept back by it.
    async fn new_rows(
        &self,
        tx: &mut Tx,
        model: &ModelName,
        since: Option<DateTime<Utc>>,
        asked: &Asked,
    ) -> anyhow::Result<Option<u64>> {
        let as_of = asked.as_of;
        let Some(since) = since else { return Ok(None) };
        let Ok(window) = Window::new(since, as_of) else {
            return Ok(Some(0));
        };
        let Some(definition) = self.models.get(model) else {
            return Ok(None);
        };
        let counting = async {
            TransactionSource::open(definition, &self.readers, self.sources)
                .await?
                .count(window, as_of)
                .await
        };
        match while_reading(tx, self.sources.reading_max(), counting).await? {
            Ok(rows) => Ok(Some(rows)),
            // Too slow now is too slow in a minute, and a drift must not wait for it: the rules go without the number.
            Err(error)
                if error.is_transient()
                    && !matches!(error, SourceError::TooSlow { .. })
                    && !matches!(asked.trigger, Trigger::TrainingEnded(_)) =>
            {
                Err(error.into())
            }
            Err(error) => {
                tracing::warn!(model.name = %model, "new transactions of model `{model}` cannot be counted: {error}");
                Ok(None)
            }
        }
    }
}

/// One decision per model and cause, under the same name however often it is made.
fn decision_id(model: &ModelName, cause: &str) -> DecisionId {
    DecisionId::of_key(&format!("decision/{model}/{cause}"))
}

/// The part of a drift that decisions look at, with one sentence for people.
fn summarise(detected: &DriftDetected) -> Drift {
    let mut parts = Vec::new();
    if let Some(concept) = &detected.concept {
        // Precision is the other way to decay; recall is named when its drop is beyond doubt.
        match (concept.validated_precision, concept.realised_precision) {
            (Some(validated), Some(realised)) if concept.drop_low.get() <= 0.0 => parts.push(format!(
                "precision fell from {:.2} to {:.2} ({} flagged)",
                validated.get(),
                realised.get(),
                concept.flagged.unwrap_or(0)
            )),
            _ => parts.push(format!(
                "recall fell from {:.2} to {:.2} ({} frauds)",
                concept.validated_recall.get(),
                concept.realised_recall.get(),
                concept.frauds
            )),
        }
    }
    if let (true, Some(value)) = (detected.kinds.contains(&DriftKind::Data), detected.data_drift) {
        let worst = detected
            .features
            .first()
            .map(|feature| format!(" ({})", feature.feature))
            .unwrap_or_default();
        parts.push(format!("data drift: PSI {:.2}{worst}", value.get()));
    }
    if let Some(target) = &detected.target {
        parts.push(format!(
            "fraud rate went from {:.2} % to {:.2} %",
            target.reference_rate.get() * 100.0,
            target.current_rate.get() * 100.0
        ));
    }
    Drift {
        check_id: detected.check_id,
        as_of: detected.as_of,
        champion: detected.champion.clone(),
        kinds: detected.kinds.clone(),
        severity: detected.severity,
        summary: parts.join("; "),
    }
}
