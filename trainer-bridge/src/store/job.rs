//! The table `training_job`.

use std::time::Duration;

use chassis::Tx;
use chassis::text::{storable, storable_json};
use chassis::trial::{self, Guard};
use chrono::{DateTime, Utc};
use schemas::events::{Priority, TrainingFailure};
use schemas::{JobId, ModelName, Received};
use sqlx::PgPool;
use sqlx::types::Json;
use uuid::Uuid;

use super::{trace_of, unreadable};
use crate::decide::Move;
use crate::job::{BackendKind, Candidate, Failure, Job, JobState, Order, Origin, Plan, RunRef, token_of};

/// A job that was asked for.
#[derive(Debug)]
pub struct Accepted<'a> {
    /// What is asked for.
    pub order: &'a Order,
    /// How urgent.
    pub priority: Priority,
    /// Where it will run.
    pub backend: BackendKind,
    /// Ends after this long, whatever happens.
    pub deadline: Duration,
    /// The event that asks.
    pub received: &'a Received,
}

/// Writes a job in state `accepted`, once per decision; `false` when the decision has one.
///
/// # Errors
/// Database errors.
pub async fn accept(tx: &mut Tx, job: &Accepted<'_>) -> sqlx::Result<bool> {
    let order = job.order;
    // Locks the model's row: jobs of one model get their fences one after the other. The decider asks for the next
    // training of a model only when the one before has ended, so this is the order of the decisions.
    let (fence,): (i64,) = sqlx::query_as(
        "insert into model (model, last_fence) values ($1, 1) \
         on conflict (model) do update set last_fence = model.last_fence + 1 returning last_fence",
    )
    .bind(order.model.as_str())
    .fetch_one(&mut **tx)
    .await?;
    let attributes = &job.received.attributes;
    let inserted = sqlx::query(
        "insert into training_job (job_id, model, decision_id, as_of, priority, plan, backend, fence, deadline, \
         cause_event_id, correlation_id, trace_parent, trace_state) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, clock_timestamp() + make_interval(secs => $9), $10, $11, $12, $13) \
         on conflict do nothing",
    )
    .bind(order.job_id.uuid())
    .bind(order.model.as_str())
    .bind(order.decision_id.uuid())
    .bind(order.as_of)
    .bind(job.priority.as_str())
    .bind(Json(order.plan))
    .bind(job.backend.as_str())
    .bind(fence)
    .bind(job.deadline.as_secs_f64())
    .bind(attributes.id.uuid())
    .bind(attributes.correlation_id.uuid())
    .bind(&attributes.trace.parent)
    .bind(&attributes.trace.state)
    .execute(&mut **tx)
    .await?;
    Ok(inserted.rows_affected() == 1)
}

#[derive(sqlx::FromRow)]
struct Row {
    job_id: Uuid,
    model: String,
    decision_id: Uuid,
    as_of: DateTime<Utc>,
    plan: Json<Plan>,
    backend: String,
    fence: i64,
    state: String,
    revision: i64,
    attempt: i32,
    token: Option<String>,
    run_id: Option<String>,
    run_url: Option<String>,
    failure: Option<String>,
    failure_detail: Option<String>,
    candidate: Option<Json<Candidate>>,
    deadline: DateTime<Utc>,
    since: DateTime<Utc>,
    retries: i32,
    asks: i32,
    cause_event_id: Uuid,
    correlation_id: Uuid,
    trace_parent: Option<String>,
    trace_state: Option<String>,
    now: DateTime<Utc>,
}

impl Row {
    fn job(self) -> sqlx::Result<Job> {
        let model = ModelName::new(self.model).map_err(|error| unreadable("training_job.model", error))?;
        let backend = BackendKind::from_word(&self.backend)
            .ok_or_else(|| unreadable("training_job.backend", &self.backend))?;
        let state =
            JobState::from_word(&self.state).ok_or_else(|| unreadable("training_job.state", &self.state))?;
        let run_url = self.run_url;
        Ok(Job {
            order: Order {
                job_id: self.job_id.into(),
                model,
                decision_id: self.decision_id.into(),
                as_of: self.as_of,
                plan: self.plan.0,
            },
            backend,
            state,
            revision: self.revision,
            attempt: self.attempt.unsigned_abs(),
            token: self.token,
            run: self.run_id.map(|run_id| RunRef { run_id, url: run_url }),
            failure: self.failure.map(|word| Failure {
                kind: failure_of(&word),
                detail: self.failure_detail.unwrap_or_default(),
            }),
            candidate: self.candidate.map(|candidate| candidate.0),
            deadline: self.deadline,
            retries: self.retries.unsigned_abs(),
            asks: self.asks.unsigned_abs(),
            fence: self.fence,
            origin: Origin {
                event_id: self.cause_event_id.into(),
                correlation_id: self.correlation_id.into(),
                trace: trace_of(self.trace_parent, self.trace_state),
            },
            since: self.since,
            now: self.now,
        })
    }
}

const FAILURES: [TrainingFailure; 5] = [
    TrainingFailure::RunFailed,
    TrainingFailure::TimedOut,
    TrainingFailure::Cancelled,
    TrainingFailure::DataInsufficient,
    TrainingFailure::Refused,
];

fn failure_of(word: &str) -> TrainingFailure {
    FAILURES
        .into_iter()
        .find(|kind| kind.as_str() == word)
        .unwrap_or(TrainingFailure::Other)
}

/// Takes the jobs that are due, at most `limit`, for at most `lease`. A job that another process works on is left to
/// it until its lease ends. Jobs of one model go one after the other, whatever the decider's timers say: each ends by its
/// own deadline, so none waits for ever.
///
/// # Errors
/// Database errors.
pub async fn claim(pool: &PgPool, owner: Uuid, lease: Duration, limit: usize) -> sqlx::Result<Vec<Job>> {
    let rows: Vec<Row> = sqlx::query_as(
        "update training_job set owner = $1, revision = revision + 1, \
         asks = case when state = 'submitting' then asks + 1 else asks end, lease_until = clock_timestamp() + make_interval(secs => $2), \
         next_poll_at = clock_timestamp() + make_interval(secs => $2) \
         where job_id in (select job_id from training_job \
           where state <> 'reported' and next_poll_at <= clock_timestamp() \
           and (owner = $1 or lease_until is null or lease_until <= clock_timestamp()) \
           and not exists (select from training_job earlier where earlier.model = training_job.model \
             and earlier.fence < training_job.fence and earlier.state <> 'reported') \
           order by next_poll_at limit $3 for update skip locked) \
         returning *, clock_timestamp() as now",
    )
    .bind(owner)
    .bind(lease.as_secs_f64())
    .bind(limit as i64)
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(Row::job).collect()
}

/// Renews a claim; `false` when it was lost.
///
/// # Errors
/// Database errors.
pub async fn renew(pool: &PgPool, job: &Job, lease: Duration) -> sqlx::Result<bool> {
    let renewed = sqlx::query(
        "update training_job set lease_until = clock_timestamp() + make_interval(secs => $3), \
         next_poll_at = clock_timestamp() + make_interval(secs => $3) where job_id = $1 and (revision = $2 or $4)",
    )
    .bind(job.order.job_id.uuid())
    .bind(job.revision)
    .bind(lease.as_secs_f64())
    .bind(trial::without(Guard::State))
    .execute(pool)
    .await?;
    Ok(renewed.rows_affected() == 1)
}

/// Lets go of every job of this process, so that others need not wait for its leases.
///
/// # Errors
/// Database errors.
pub async fn release(pool: &PgPool, owner: Uuid) -> sqlx::Result<()> {
    sqlx::query(
        "update training_job set lease_until = null, next_poll_at = least(next_poll_at, clock_timestamp()) \
         where owner = $1 and state <> 'reported'",
    )
    .bind(owner)
    .execute(pool)
    .await?;
    Ok(())
}

/// Why and how long a job waits.
#[derive(Debug, Clone, PartialEq)]
pub struct Pause<'a> {
    /// Until the next look.
    pub after: Duration,
    /// The transient error; none when all is well.
    pub error: Option<&'a str>,
    /// What the backend says.
    pub progress: Option<&'a str>,
    /// Keeps the job with this process for this long; none lets anyone look next.
    pub keep: Option<Duration>,
}

/// Ends a claim without a transition.
///
/// # Errors
/// Database errors.
pub async fn pause(pool: &PgPool, job: &Job, pause: &Pause<'_>) -> sqlx::Result<bool> {
    let changed = sqlx::query(
        "update training_job set next_poll_at = clock_timestamp() + make_interval(secs => $4), \
         lease_until = clock_timestamp() + make_interval(secs => $5), \
         retries = case when $6::text is null then 0 else retries + 1 end, \
         last_error = coalesce($6, last_error), progress = coalesce($7, progress) \
         where job_id = $1 and revision = $2 and state = $3",
    )
    .bind(job.order.job_id.uuid())
    .bind(job.revision)
    .bind(job.state.as_str())
    .bind(pause.after.as_secs_f64())
    .bind(pause.keep.map(|keep| keep.as_secs_f64()))
    .bind(pause.error.map(storable))
    .bind(pause.progress.map(storable))
    .execute(pool)
    .await?;
    Ok(changed.rows_affected() == 1)
}

/// Makes a transition; `false` when the job is no longer ours or not in this state any more, so that nothing may be
/// announced. `register_within`: a candidate has this long to be registered, even when the training used its time up.
///
/// # Errors
/// Database errors.
pub async fn advance(tx: &mut Tx, job: &Job, step: &Move, register_within: Duration) -> sqlx::Result<bool> {
    let (state, failure) = match step {
        Move::Submit { .. } => (JobState::Submitting, None),
        Move::Run(_) => (JobState::Running, None),
        Move::Succeed(_) => (JobState::Succeeded, None),
        Move::Fail(failure) => (JobState::Failed, Some(failure)),
        Move::Cancel(failure) => (JobState::Cancelled, Some(failure)),
        Move::TimeOut(failure) => (JobState::TimedOut, Some(failure)),
    };
    let attempt = match step {
        Move::Submit { attempt, .. } => *attempt,
        _ => job.attempt,
    };
    let token = match step {
        Move::Submit { attempt, .. } => Some(token_of(job.order.job_id, *attempt)),
        _ => job.token.clone(),
    };
    let plan = match step {
        Move::Submit { plan, .. } => *plan,
        _ => job.order.plan,
    };
    let run = match step {
        Move::Submit { .. } => None,
        Move::Run(run) => Some(run),
        _ => job.run.as_ref(),
    };
    let candidate = match step {
        Move::Succeed(candidate) => Some(
            serde_json::to_value(candidate)
                .map(storable_json)
                .map_err(|error| sqlx::Error::Encode(error.into()))?,
        ),
        _ => None,
    };
    let ended = !matches!(state, JobState::Submitting | JobState::Running);
    let changed = sqlx::query(
        "update training_job set state = $4, revision = revision + 1, attempt = $5, token = $6, run_id = $7, \
         run_url = $8, candidate = coalesce($9, candidate), failure = $10, failure_detail = $11, retries = 0, \
         asks = 0, since = clock_timestamp(), next_poll_at = clock_timestamp(), lease_until = null, \
         outcome = case when $12 then $4 end, \
         started_at = case when $4 = 'running' then coalesce(started_at, clock_timestamp()) else started_at end, \
         ended_at = case when $12 then coalesce(ended_at, clock_timestamp()) end, \
         deadline = case when $4 = 'succeeded' \
           then greatest(deadline, clock_timestamp() + make_interval(secs => $13)) else deadline end, plan = $14 \
         where job_id = $1 and (revision = $2 and state = $3 or $15)",
    )
    .bind(job.order.job_id.uuid())
    .bind(job.revision)
    .bind(job.state.as_str())
    .bind(state.as_str())
    .bind(i32::try_from(attempt).unwrap_or(i32::MAX))
    .bind(token)
    .bind(run.map(|run| run.run_id.as_str()))
    .bind(run.and_then(|run| run.url.as_deref()).map(storable))
    .bind(candidate)
    .bind(failure.map(|failure| failure.kind.as_str()))
    .bind(failure.map(|failure| storable(&failure.detail)))
    .bind(ended)
    .bind(register_within.as_secs_f64())
    .bind(Json(plan))
    .bind(trial::without(Guard::State))
    .execute(&mut **tx)
    .await?;
    Ok(changed.rows_affected() == 1)
}

/// Marks a job as announced; `false` when it is no longer ours.
///
/// # Errors
/// Database errors.
pub async fn report(tx: &mut Tx, job: &Job, version: Option<&str>) -> sqlx::Result<bool> {
    let changed = sqlx::query(
        "update training_job set state = 'reported', revision = revision + 1, version = $4, \
         since = clock_timestamp(), reported_at = clock_timestamp(), lease_until = null, owner = null \
         where job_id = $1 and revision = $2 and state = $3",
    )
    .bind(job.order.job_id.uuid())
    .bind(job.revision)
    .bind(job.state.as_str())
    .bind(version)
    .execute(&mut **tx)
    .await?;
    Ok(changed.rows_affected() == 1)
}

/// Seconds from the beginning of the run to its end, as far as they are known.
///
/// # Errors
/// Database errors.
pub async fn seconds_of_run(tx: &mut Tx, job: JobId) -> sqlx::Result<f64> {
    let (seconds,): (Option<f64>,) = sqlx::query_as(
        "select extract(epoch from coalesce(ended_at, clock_timestamp()) - coalesce(started_at, accepted_at))::float8 \
         from training_job where job_id = $1",
    )
    .bind(job.uuid())
    .fetch_one(&mut **tx)
    .await?;
    Ok(seconds.unwrap_or(0.0))
}

/// Jobs that have not ended although their deadline has passed: the number that must stay 0.
///
/// # Errors
/// Database errors.
pub async fn overdue(pool: &PgPool) -> sqlx::Result<i64> {
    let (count,): (i64,) = sqlx::query_as(
        "select count(*) from training_job where state <> 'reported' and deadline < clock_timestamp()",
    )
    .fetch_one(pool)
    .await?;
    Ok(count)
}
