//! The worker: claims jobs that are due, asks the backend outside any transaction, writes what follows from it.
//!
//! What follows is decided in [`crate::decide`]; this file carries it out. Nothing is kept in memory that a restart
//! would need: another process that claims the row after the lease goes on from there.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use chassis::patience::within;
use chassis::service::Context;
use chassis::{Cause, Tx, outbox, telemetry, trial};
use schemas::events::{ModelTrained, TrainingFailed, TrainingFailure, TrainingStarted};
use schemas::{EventBody, Finite, ModelName};
use tokio::task::JoinSet;
use tracing::Instrument as _;
use uuid::Uuid;

use crate::artifacts::ArtifactStore;
use crate::backend::local::{LoadError, Loader};
use crate::backend::{Backend, BackendError, Observation};
use crate::decide::{self, Move, Policy, Step};
use crate::job::{Candidate, Failure, Job, JobState, Origin};
use crate::metrics::BridgeMetrics;
use crate::registry::{Registering, Registration, Registry, RegistryError};
use crate::store::job::Pause;
use crate::store::{self, TaskRow};

/// Jobs worked on at once, per process.
const AT_ONCE: usize = 4;
/// Pause when nothing is due.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Longest that backend or registry may take for one step of a job: a model is read, sent and looked at again. What takes
/// longer is a transient error, so that a deadline that has passed is acted upon.
const OUTSIDE_MAX: Duration = Duration::from_mins(8);
/// Longest step of a job besides the reading of a source; then its claim is left to run out.
const STEP_MAX: Duration = Duration::from_mins(10);

/// What workers share.
#[derive(Debug)]
pub struct Bridge {
    /// Where trainings run.
    pub backends: Vec<Arc<dyn Backend>>,
    /// Where rows come from.
    pub loader: Arc<dyn Loader>,
    /// Where models are registered.
    pub registry: Arc<dyn Registry>,
    /// Where their bytes are.
    pub artifacts: ArtifactStore,
    /// How patient it is.
    pub policy: Policy,
    /// How long a claim holds unless it is renewed.
    pub lease: Duration,
    /// How long a candidate has to be registered, and a validated one to be promoted.
    pub register_within: Duration,
    /// This process.
    pub owner: Uuid,
    /// Counters.
    pub metrics: BridgeMetrics,
}

impl Bridge {
    fn backend(&self, job: &Job) -> Option<&Arc<dyn Backend>> {
        self.backends.iter().find(|backend| backend.kind() == job.backend)
    }
}

/// Works on jobs until told to stop.
///
/// # Errors
/// Never for a database or a server that is away: it waits and goes on.
pub async fn run(context: Context, bridge: Arc<Bridge>) -> anyhow::Result<()> {
    let mut steps: JoinSet<()> = JoinSet::new();
    while !context.stop.is_cancelled() {
        context.metrics.beat("work");
        let free = AT_ONCE - steps.len().min(AT_ONCE);
        let claiming = store::job::claim(&context.pool, bridge.owner, bridge.lease, free);
        match within(context.answer_timeout, claiming).await {
            Ok(jobs) => {
                for job in jobs {
                    steps.spawn(work_on(context.clone(), Arc::clone(&bridge), job));
                }
            }
            Err(error) => tracing::warn!("training jobs wait: {error:#}"),
        }
        match within(context.answer_timeout, store::job::overdue(&context.pool)).await {
            Ok(count) => drop(bridge.metrics.overdue.set(count)),
            Err(error) => tracing::debug!("overdue jobs were not counted: {error}"),
        }
        tokio::select! {
            // What a step has changed may be due at once.
            Some(ended) = steps.join_next(), if !steps.is_empty() => {
                if let Err(error) = ended {
                    tracing::error!("a step of a training job panicked: {error}");
                }
            }
            () = tokio::time::sleep(LOOK_AGAIN) => {}
            () = context.stop.cancelled() => {}
        }
    }
    // Each step is short or may be broken off: its row says what comes next.
    while steps.join_next().await.is_some() {}
    let releasing = store::job::release(&context.pool, bridge.owner);
    if let Err(error) = within(context.answer_timeout, releasing).await {
        tracing::debug!("leases were not released, others wait for their end: {error}");
    }
    Ok(())
}

async fn work_on(context: Context, bridge: Arc<Bridge>, job: Job) {
    let span = tracing::info_span!(
        "train",
        otel.name = format!("train {}", job.state.as_str()),
        job.id = %job.order.job_id,
        model.name = %job.order.model,
        job.state = job.state.as_str(),
    );
    telemetry::continue_trace(&span, &job.origin.trace);
    trial::boundary("job.claimed");
    let renewing = renewing(bridge.lease, || {
        store::job::renew(&context.pool, &job, bridge.lease)
    });
    let result = async {
        tokio::select! {
            result = within(STEP_MAX + bridge.loader.reading_max(), step(&context, &bridge, &job)) => result,
            // Lost: somebody else works on it, and our result would be dropped anyway.
            () = renewing => Ok(()),
        }
    }
    .instrument(span)
    .await;
    if let Err(error) = result {
        tracing::warn!(job.id = %job.order.job_id, "training of model `{}` is taken up again: {error:#}", job.order.model);
    }
}

/// Renews a claim before its lease ends, until it is lost.
pub(crate) async fn renewing<F>(lease: Duration, renew: impl Fn() -> F)
where
    F: Future<Output = sqlx::Result<bool>>,
{
    loop {
        tokio::time::sleep(lease / 3).await;
        match within(lease / 3, renew()).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => tracing::debug!("lease was not renewed: {error:#}"),
        }
    }
}

async fn step(context: &Context, bridge: &Bridge, job: &Job) -> anyhow::Result<()> {
    match job.state {
        JobState::Accepted => {
            let asking = bridge.loader.oldest(&job.order.model);
            let oldest = tokio::time::timeout(bridge.loader.reading_max(), asking)
                .await
                .unwrap_or_else(|_| {
                    let seconds = bridge.loader.reading_max().as_secs();
                    Err(LoadError::Transient(format!(
                        "the source did not answer within {seconds} s"
                    )))
                });
            apply(
                context,
                bridge,
                job,
                decide::begin(job, oldest, &bridge.policy),
                None,
            )
            .await
        }
        JobState::Submitting => {
            let result = submit(bridge, job).await;
            apply(
                context,
                bridge,
                job,
                decide::submitted(job, result, &bridge.policy),
                None,
            )
            .await
        }
        JobState::Running => observe(context, bridge, job).await,
        JobState::Succeeded => register(context, bridge, job).await,
        JobState::Failed | JobState::Cancelled | JobState::TimedOut => {
            let announcing = announce_failure(context, bridge, job);
            within(context.answer_timeout * 2, announcing).await
        }
        JobState::Reported => Ok(()),
    }
}

fn not_set_up(job: &Job) -> BackendError {
    BackendError::Permanent(format!(
        "backend `{}` is not set up any more in the settings",
        job.backend.as_str()
    ))
}

async fn submit(bridge: &Bridge, job: &Job) -> Result<crate::job::RunRef, BackendError> {
    let backend = bridge.backend(job).ok_or_else(|| not_set_up(job))?;
    let token = job.token.as_deref().unwrap_or_default();
    let time_left = (job.deadline - job.now)
        .to_std()
        .unwrap_or(Duration::from_secs(1));
    let run = in_time(
        backend.submit(&job.order, token, time_left),
        BackendError::transient,
    )
    .await;
    trial::boundary("job.submitted");
    run
}

/// What is outside answers in time, or is a transient error.
async fn in_time<T, E>(
    outside: impl Future<Output = Result<T, E>>,
    transient: impl FnOnce(String) -> E,
) -> Result<T, E> {
    tokio::time::timeout(OUTSIDE_MAX, Box::pin(outside))
        .await
        .unwrap_or_else(|_| {
            Err(transient(format!(
                "no end within {} min",
                OUTSIDE_MAX.as_secs() / 60
            )))
        })
}

async fn observe(context: &Context, bridge: &Bridge, job: &Job) -> anyhow::Result<()> {
    let (Some(backend), Some(run)) = (bridge.backend(job), &job.run) else {
        let failure = Failure {
            kind: TrainingFailure::Refused,
            detail: not_set_up(job).to_string(),
        };
        return apply(context, bridge, job, Step::Move(Move::Fail(failure)), None).await;
    };
    let pace = backend.pace();
    let token = job.token.as_deref().unwrap_or_default();
    let observing = backend.observe(&job.order, token, run, job.now);
    let result = in_time(observing, BackendError::transient).await;
    let progress = match &result {
        Ok(Observation::InProgress { detail }) => Some(detail.clone()),
        _ => None,
    };
    let mut step = decide::observed(job, result, &bridge.policy, pace);
    if step == Step::Abort {
        step = decide::aborted(job, backend.cancel(run).await, &bridge.policy);
    }
    apply(context, bridge, job, step, progress.as_deref()).await
}

/// Carries out what was decided.
async fn apply(
    context: &Context,
    bridge: &Bridge,
    job: &Job,
    step: Step,
    progress: Option<&str>,
) -> anyhow::Result<()> {
    let writing = write(context, bridge, job, step, progress);
    within(context.answer_timeout * 2, writing).await
}

async fn write(
    context: &Context,
    bridge: &Bridge,
    job: &Job,
    step: Step,
    progress: Option<&str>,
) -> anyhow::Result<()> {
    let model = &job.order.model;
    let step = match step {
        Step::Wait { after, error } => {
            if let Some(error) = &error {
                tracing::warn!(model.name = %model, "training of model `{model}` waits {:.1} s: {error}", after.as_secs_f64());
            }
            let sticky = bridge.backend(job).is_some_and(|backend| backend.pace().sticky);
            let keep = (sticky && job.state == JobState::Running).then(|| after + bridge.lease);
            let pause = Pause {
                after: chassis::backoff::jittered(after),
                error: error.as_deref(),
                progress,
                keep,
            };
            store::job::pause(&context.pool, job, &pause)
                .await
                .context("pause the job")?;
            return Ok(());
        }
        Step::Abort => unreachable!("an abort is carried out before it is applied"),
        Step::Move(step) => step,
    };
    let mut tx = context.pool.begin().await?;
    if !store::job::advance(&mut tx, job, &step, bridge.register_within).await? {
        tracing::warn!(model.name = %model, "training of model `{model}` was taken over by another process");
        return Ok(());
    }
    if let Move::Run(run) = &step {
        let body = TrainingStarted {
            job_id: job.order.job_id,
            decision_id: job.order.decision_id,
            as_of: job.order.as_of,
            backend: job.backend.as_str().to_owned(),
            attempt: job.attempt,
            run_id: (job.backend != crate::job::BackendKind::Local).then(|| run.run_id.clone()),
            run_url: run.url.clone(),
        };
        let mut draft = announcement(model, &job.origin, body);
        draft.discriminator = format!("attempt {}", job.attempt);
        outbox::append(&mut tx, context.service, draft).await?;
    }
    trial::boundary("job.moving");
    tx.commit().await?;
    trial::boundary("job.moved");
    match &step {
        Move::Submit { attempt, .. } => {
            tracing::info!(model.name = %model, "submits training of model `{model}`, attempt {attempt}");
        }
        Move::Run(run) => {
            tracing::info!(model.name = %model, "training of model `{model}` runs as {}", run.run_id);
        }
        Move::Succeed(candidate) => {
            tracing::info!(model.name = %model, "trained model `{model}`: {} with sha256 {}", candidate.algorithm, candidate.artifact.sha256);
        }
        Move::Fail(failure) | Move::Cancel(failure) | Move::TimeOut(failure) => {
            tracing::error!(model.name = %model, "training of model `{model}` gave no model: {}", failure.detail);
        }
    }
    Ok(())
}

/// An event that follows from what is kept in a row, and goes on with its trace.
pub(crate) fn announcement(model: &ModelName, origin: &Origin, body: impl EventBody) -> outbox::Draft {
    let cause = Cause::Event {
        id: origin.event_id,
        correlation_id: origin.correlation_id,
    };
    let mut draft = outbox::Draft::new(model, cause, body);
    let current = telemetry::current_trace();
    // Without telemetry there is no current span; the loop's trace must not break off all the same.
    draft.trace = Some(if current.parent.is_some() {
        current
    } else {
        origin.trace.clone()
    });
    draft
}

fn task_name(job: &Job) -> &'static str {
    match job.backend {
        crate::job::BackendKind::Local => "train_local",
        crate::job::BackendKind::Databricks => "train_databricks",
    }
}

/// A candidate becomes a version: registered outside any transaction, then written and announced in one.
async fn register(context: &Context, bridge: &Bridge, job: &Job) -> anyhow::Result<()> {
    let Some(candidate) = &job.candidate else {
        let detail = "the row says succeeded and holds no candidate".to_owned();
        let failure = Failure {
            kind: TrainingFailure::RunFailed,
            detail,
        };
        return apply(context, bridge, job, Step::Move(Move::Fail(failure)), None).await;
    };
    match in_time(enrol(bridge, job, candidate), RegistryError::transient).await {
        Ok(registration) => {
            trial::boundary("register.enrolled");
            let announcing = announce_candidate(context, bridge, job, candidate, &registration);
            within(context.answer_timeout * 2, announcing).await
        }
        Err(error) => {
            apply(
                context,
                bridge,
                job,
                decide::not_registered(job, error, &bridge.policy),
                None,
            )
            .await
        }
    }
}

async fn enrol(bridge: &Bridge, job: &Job, candidate: &Candidate) -> Result<Registration, RegistryError> {
    let (artifacts, artifact) = (bridge.artifacts.clone(), candidate.artifact.clone());
    let bytes = tokio::task::spawn_blocking(move || artifacts.get(&artifact))
        .await
        .map_err(|error| RegistryError::transient(format!("reading the artefact was broken off: {error}")))?
        .map_err(|error| {
            if error.is_transient() {
                RegistryError::transient(error.to_string())
            } else {
                RegistryError::Permanent(error.to_string())
            }
        })?;
    let version = job.order.version();
    let registering = Registering {
        order: &job.order,
        version: &version,
        candidate,
        bytes: &bytes,
        backend: job.backend.as_str(),
        correlation_id: job.origin.correlation_id,
        trace_id: job.origin.trace.trace_id(),
        at: job.since,
    };
    bridge.registry.register(&registering).await
}

async fn announce_candidate(
    context: &Context,
    bridge: &Bridge,
    job: &Job,
    candidate: &Candidate,
    registration: &Registration,
) -> anyhow::Result<()> {
    let (order, version) = (&job.order, job.order.version());
    let mut tx = context.pool.begin().await?;
    if !store::job::report(&mut tx, job, Some(version.as_str())).await? {
        return Ok(());
    }
    store::version::insert(&mut tx, job, candidate, bridge.registry.name(), registration).await?;
    let seconds = candidate.stages.load_seconds.unwrap_or(0.0) + candidate.stages.train_seconds;
    let body = ModelTrained {
        version: version.clone(),
        job_id: order.job_id,
        decision_id: order.decision_id,
        as_of: order.as_of,
        backend: job.backend.as_str().to_owned(),
        algorithm: candidate.algorithm.clone(),
        artifact: candidate.artifact.clone(),
        training_window: order.plan.training,
        threshold_window: order.plan.threshold,
        holdout_window: order.plan.holdout,
        training_rows: candidate.training_rows,
        training_frauds: candidate.training_frauds,
        operating_threshold: candidate.operating_threshold,
        seed: candidate.seed,
        duration_seconds: Finite::new(seconds).unwrap_or(Finite::ZERO),
        reported: candidate.reported.clone(),
        mlflow_run_id: registration.run_id.clone(),
    };
    outbox::append(
        &mut tx,
        context.service,
        announcement(&order.model, &job.origin, body),
    )
    .await?;
    if let Some(seconds) = candidate.stages.load_seconds {
        let records = Some(candidate.training_rows);
        let load = TaskRow {
            task_id: "load_training_data",
            seconds,
            records,
            error: None,
        };
        store::record_task(&mut tx, order, &load).await?;
    }
    let train = TaskRow {
        task_id: task_name(job),
        seconds: candidate.stages.train_seconds,
        records: Some(candidate.training_rows),
        error: None,
    };
    store::record_task(&mut tx, order, &train).await?;
    trial::boundary("register.written");
    tx.commit().await?;
    trial::boundary("register.announced");
    bridge.metrics.ended(job.backend.as_str(), "succeeded", seconds);
    tracing::info!(
        model.name = %order.model,
        "model `{}` has the candidate `{version}` in the {} registry",
        order.model,
        bridge.registry.name(),
    );
    Ok(())
}

async fn announce_failure(context: &Context, bridge: &Bridge, job: &Job) -> anyhow::Result<()> {
    let unknown = || Failure {
        kind: TrainingFailure::Other,
        detail: "the reason was not recorded".to_owned(),
    };
    let failure = job.failure.clone().unwrap_or_else(unknown);
    let mut tx = context.pool.begin().await?;
    if !store::job::report(&mut tx, job, None).await? {
        return Ok(());
    }
    let seconds = record_failure(&mut tx, job, &failure).await?;
    let body = TrainingFailed {
        job_id: job.order.job_id,
        decision_id: job.order.decision_id,
        as_of: job.order.as_of,
        backend: job.backend.as_str().to_owned(),
        attempts: job.attempt.max(1),
        failure: failure.kind,
        detail: failure.detail,
        run_id: job.run.as_ref().map(|run| run.run_id.clone()),
        run_url: job.run.as_ref().and_then(|run| run.url.clone()),
    };
    outbox::append(
        &mut tx,
        context.service,
        announcement(&job.order.model, &job.origin, body),
    )
    .await?;
    trial::boundary("failure.written");
    tx.commit().await.context("announce the failure")?;
    trial::boundary("failure.announced");
    bridge
        .metrics
        .ended(job.backend.as_str(), job.state.as_str(), seconds);
    Ok(())
}

async fn record_failure(tx: &mut Tx, job: &Job, failure: &Failure) -> sqlx::Result<f64> {
    let seconds = store::job::seconds_of_run(tx, job.order.job_id).await?;
    let error = Some(failure.detail.clone());
    let task = TaskRow {
        task_id: task_name(job),
        seconds,
        records: None,
        error,
    };
    store::record_task(tx, &job.order, &task).await?;
    Ok(seconds)
}
