//! The only file with SQL.

use chassis::Tx;
use chrono::{DateTime, Utc};
use schemas::{DecisionId, EventId, ModelName, ModelVersion};
use serde_json::Value;
use uuid::Uuid;

use crate::decide::{Decision, Drift, Facts, Policy, Running, Trigger, Verdict};

/// A model's row, locked for this transaction.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// What decisions look at; `new_rows` and `immediate_trainings` are filled by the caller.
    pub facts: Facts,
    /// Largest fence seen; an older promotion is ignored.
    pub champion_fence: u64,
    /// A drift held back by a running training.
    pub pending: Option<Pending>,
    revision: i64,
}

const LOCKED: &str = "select training_decision, training_since, last_completed_at, last_failed_at, champion, champion_fence, \
                      pending_drift, pending_event, pending_correlation, revision from model_state where model = $1 for update";

/// A drift held back, with the event that told of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Pending {
    /// What it says.
    pub drift: Drift,
    /// The event.
    pub event: EventId,
    /// Its loop.
    pub correlation: EventId,
}

type StateRow = (
    Option<Uuid>,
    Option<DateTime<Utc>>,
    Option<DateTime<Utc>>,
    Option<DateTime<Utc>>,
    Option<String>,
    i64,
    Option<Value>,
    Option<Uuid>,
    Option<Uuid>,
    i64,
);

/// Loads and locks a model's row, creating it when the model is new.
pub async fn load_for_update(tx: &mut Tx, model: &ModelName) -> anyhow::Result<State> {
    let known: Option<StateRow> = sqlx::query_as(LOCKED)
        .bind(model.as_str())
        .fetch_optional(&mut **tx)
        .await?;
    let row = match known {
        Some(row) => row,
        None => {
            sqlx::query("insert into model_state (model) values ($1) on conflict do nothing")
                .bind(model.as_str())
                .execute(&mut **tx)
                .await?;
            sqlx::query_as(LOCKED)
                .bind(model.as_str())
                .fetch_one(&mut **tx)
                .await?
        }
    };
    let (
        training_decision,
        training_since,
        completed,
        failed,
        champion,
        fence,
        drift,
        event,
        correlation,
        revision,
    ) = row;
    let running = training_decision
        .zip(training_since)
        .map(|(decision, since)| Running {
            decision_id: DecisionId::from(decision),
            since,
        });
    let pending = match (drift, event, correlation) {
        (Some(drift), Some(event), Some(correlation)) => Some(Pending {
            drift: serde_json::from_value(drift)?,
            event: EventId::from(event),
            correlation: EventId::from(correlation),
        }),
        _ => None,
    };
    Ok(State {
        facts: Facts {
            running,
            last_completed_at: completed,
            last_failed_at: failed,
            new_rows: None,
            champion: champion.map(ModelVersion::new).transpose()?,
            immediate_trainings: Vec::new(),
        },
        champion_fence: fence.unsigned_abs(),
        pending,
        revision,
    })
}

/// Saves a model's row; a lost update is an error, not a surprise.
pub async fn save(tx: &mut Tx, model: &ModelName, state: &State) -> anyhow::Result<()> {
    let pending_drift = state
        .pending
        .as_ref()
        .map(|pending| serde_json::to_value(&pending.drift))
        .transpose()?;
    let saved = sqlx::query(
        "update model_state set training_decision = $3, training_since = $4, last_completed_at = $5, \
         last_failed_at = $6, champion = $7, champion_fence = $8, pending_drift = $9, pending_event = $10, \
         pending_correlation = $11, revision = revision + 1 where model = $1 and revision = $2",
    )
    .bind(model.as_str())
    .bind(state.revision)
    .bind(state.facts.running.map(|running| running.decision_id.uuid()))
    .bind(state.facts.running.map(|running| running.since))
    .bind(state.facts.last_completed_at)
    .bind(state.facts.last_failed_at)
    .bind(state.facts.champion.as_ref().map(ModelVersion::as_str))
    .bind(state.champion_fence.cast_signed())
    .bind(pending_drift)
    .bind(state.pending.as_ref().map(|pending| pending.event.uuid()))
    .bind(state.pending.as_ref().map(|pending| pending.correlation.uuid()))
    .execute(&mut **tx)
    .await?;
    anyhow::ensure!(
        saved.rows_affected() == 1,
        "the state of model `{model}` changed underneath this decision"
    );
    Ok(())
}

/// `as_of` of the model's immediate trainings after an instant, oldest first.
pub async fn immediate_trainings(
    tx: &mut Tx,
    model: &ModelName,
    after: DateTime<Utc>,
) -> sqlx::Result<Vec<DateTime<Utc>>> {
    let rows: Vec<(DateTime<Utc>,)> = sqlx::query_as(
        "select triggered_at from trigger where model = $1 and priority = 'immediate' and status <> 'declined' \
         and triggered_at > $2 order by triggered_at",
    )
    .bind(model.as_str())
    .bind(after)
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.into_iter().map(|(at,)| at).collect())
}

/// A decision about to be recorded.
pub struct Record<'a> {
    /// The decision's id.
    pub decision_id: DecisionId,
    /// The model.
    pub model: &'a ModelName,
    /// The instant decided as of.
    pub as_of: DateTime<Utc>,
    /// What asked.
    pub trigger: &'a Trigger,
    /// What was decided.
    pub decision: &'a Decision,
    /// By which policy.
    pub policy: &'a Policy,
    /// The event or slot that asked, unique per model.
    pub cause: &'a str,
    /// The loop.
    pub correlation_id: EventId,
}

/// Records a trigger and its decision: `pending` when it leads to training, `declined` when not.
pub async fn insert_trigger(tx: &mut Tx, record: &Record<'_>) -> anyhow::Result<()> {
    let (status, priority, reason, declined) = match &record.decision.verdict {
        Verdict::Train { priority, reason } => ("pending", Some(priority.as_str()), reason.clone(), None),
        Verdict::Decline { reason, detail } => {
            let asked = record
                .trigger
                .drift()
                .map_or_else(|| record.trigger.kind().to_string(), |d| d.summary.clone());
            (
                "declined",
                None,
                format!("{asked}; declined: {detail}"),
                Some(reason.as_str()),
            )
        }
    };
    let drift = record.trigger.drift();
    let kinds = drift.map(|drift| {
        drift
            .kinds
            .iter()
            .map(|kind| kind.metric_type())
            .collect::<Vec<_>>()
            .join(",")
    });
    sqlx::query(
        "insert into trigger (decision_id, model, triggered_at, trigger_kind, trigger_reason, drift_type, \
         drift_severity, check_id, priority, status, declined_reason, completed_at, rules, counterfactuals, policy, \
         cause, correlation_id) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, case when $10 = 'declined' then $3 end, $12, $13, $14, $15, $16)",
    )
    .bind(record.decision_id.uuid())
    .bind(record.model.as_str())
    .bind(record.as_of)
    .bind(record.trigger.kind().as_str())
    .bind(&reason)
    .bind(kinds)
    .bind(drift.map(|drift| drift.severity.as_str()))
    .bind(drift.map(|drift| drift.check_id.uuid()))
    .bind(priority)
    .bind(status)
    .bind(declined)
    .bind(serde_json::to_value(&record.decision.rules)?)
    .bind(serde_json::to_value(&record.decision.counterfactuals)?)
    .bind(serde_json::to_value(record.policy)?)
    .bind(record.cause)
    .bind(record.correlation_id.uuid())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// How a trigger moves on. Each move names the states it may come from, so that late news changes nothing.
#[derive(Debug, Clone, PartialEq)]
pub enum Move<'a> {
    /// The training run began.
    Running {
        /// The backend's run.
        run_id: Option<&'a str>,
    },
    /// The candidate is champion.
    Completed {
        /// Its version.
        version: &'a ModelVersion,
    },
    /// No model, or not a good enough one.
    Failed {
        /// Why.
        error: &'a str,
        /// The candidate that was not good enough.
        version: Option<&'a ModelVersion>,
    },
}

/// Moves a trigger on; `false` when it was not in a state to do so.
pub async fn move_trigger(
    tx: &mut Tx,
    decision_id: DecisionId,
    at: DateTime<Utc>,
    next: &Move<'_>,
) -> sqlx::Result<bool> {
    let query = match next {
        Move::Running { run_id } => {
            sqlx::query("update trigger set status = 'running', run_id = $2 where decision_id = $1 and status = 'pending'")
                .bind(decision_id.uuid())
                .bind(*run_id)
        }
        Move::Completed { version } => sqlx::query(
            "update trigger set status = 'completed', completed_at = $2, new_model_version = $3 \
             where decision_id = $1 and status in ('pending', 'running')",
        )
        .bind(decision_id.uuid())
        .bind(at)
        .bind(version.as_str()),
        Move::Failed { error, version } => sqlx::query(
            "update trigger set status = 'failed', completed_at = $2, error_message = $3, new_model_version = $4 \
             where decision_id = $1 and status in ('pending', 'running')",
        )
        .bind(decision_id.uuid())
        .bind(at)
        .bind(*error)
        .bind(version.map(ModelVersion::as_str)),
    };
    Ok(query.execute(&mut **tx).await?.rows_affected() == 1)
}
