//! Training in this process, on the cores of this machine.
//!
//! A run lives in memory and nowhere else; what survives a crash is the job's row. Whoever takes the job over finds no
//! run under its id and trains again: the rows, the plan and the seed are the same, so the model is too, byte for
//! byte. Looking at a run is its heartbeat: one that nobody looks at any more stops by itself.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use schemas::events::{ReportedMetric, TrainingFailure};
use schemas::{Finite, ModelName, Share};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::{Answer, Backend, BackendError, Observation, Pace};
use crate::artifacts::ArtifactStore;
use crate::job::{BackendKind, Candidate, Order, RunRef, Stages};
use crate::training::{Identity, Parameters, Slice, Stage, Trained, TrainingError, Watch, train};

/// The rows of a training.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// To fit on.
    pub training: Slice,
    /// To choose on.
    pub threshold: Slice,
}

/// Why rows cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The source may answer later.
    #[error("{0}")]
    Transient(String),
    /// Asking again cannot help.
    #[error("{detail}")]
    Permanent {
        /// What kind.
        kind: TrainingFailure,
        /// One sentence.
        detail: String,
    },
}

/// Rows on their way.
pub type Loading<'a> = Pin<Box<dyn Future<Output = Result<Loaded, LoadError>> + Send + 'a>>;

/// An instant on its way.
pub type Asking<'a> = Pin<Box<dyn Future<Output = Result<Option<DateTime<Utc>>, LoadError>> + Send + 'a>>;

/// Where the rows of a model come from.
pub trait Loader: Send + Sync + std::fmt::Debug {
    /// When the model's first row happened; `None` without any row.
    fn oldest<'a>(&'a self, model: &'a ModelName) -> Asking<'a>;

    /// Longest that one such question may take.
    fn reading_max(&self) -> Duration {
        Duration::from_secs(30)
    }

    /// The labelled rows of the order's training and threshold spans, as they were known at its `as_of`.
    fn load<'a>(&'a self, order: &'a Order) -> Loading<'a>;
}

/// The local backend.
#[derive(Debug)]
pub struct Local {
    loader: Arc<dyn Loader>,
    parameters: Parameters,
    artifacts: ArtifactStore,
    pace: Pace,
    /// One training at a time: each uses every core.
    turn: Arc<Semaphore>,
    runs: Mutex<HashMap<String, Arc<Run>>>,
    unobserved_max: Duration,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Run {
    cancelled: AtomicBool,
    stop: CancellationToken,
    seen: Mutex<Instant>,
    unobserved_max: Duration,
    phase: Mutex<Phase>,
}

#[derive(Debug, Clone)]
enum Phase {
    Working(String),
    Ended(Observation),
    /// The source did not answer; whoever looks next begins anew.
    Stumbled(String),
}

impl Local {
    /// A backend that is looked at as `pace` says. A run that nobody looked at for `unobserved_max` stops, and all do
    /// when the process is to `stop`: the row remembers what is to be trained.
    pub fn new(
        loader: Arc<dyn Loader>,
        parameters: Parameters,
        artifacts: ArtifactStore,
        pace: Pace,
        unobserved_max: Duration,
        stop: CancellationToken,
    ) -> Self {
        let (turn, runs) = (Arc::new(Semaphore::new(1)), Mutex::default());
        Self {
            loader,
            parameters,
            artifacts,
            pace,
            turn,
            runs,
            unobserved_max,
            stop,
        }
    }

    /// The run of this id, begun now when there is none.
    fn run(&self, order: &Order, run_id: &str) -> Arc<Run> {
        let mut runs = lock(&self.runs);
        if let Some(run) = runs.get(run_id) {
            *lock(&run.seen) = Instant::now();
            return Arc::clone(run);
        }
        let run = Arc::new(Run {
            cancelled: AtomicBool::new(false),
            stop: self.stop.clone(),
            seen: Mutex::new(Instant::now()),
            unobserved_max: self.unobserved_max,
            phase: Mutex::new(Phase::Working("waiting for its turn".to_owned())),
        });
        runs.insert(run_id.to_owned(), Arc::clone(&run));
        let work = work(
            Arc::clone(&run),
            Arc::clone(&self.loader),
            Arc::clone(&self.turn),
            self.artifacts.clone(),
            Parameters {
                seed: order.plan.seed,
                ..self.parameters.clone()
            },
            order.clone(),
        );
        tokio::spawn(work.in_current_span());
        run
    }

    fn forget(&self, run_id: &str) {
        lock(&self.runs).remove(run_id);
    }
}

impl Backend for Local {
    fn kind(&self) -> BackendKind {
        BackendKind::Local
    }

    fn pace(&self) -> Pace {
        self.pace
    }

    fn submit<'a>(&'a self, _: &'a Order, token: &'a str, _: Duration) -> Answer<'a, RunRef> {
        // Nothing to call: the run begins when it is looked at.
        Box::pin(async move {
            Ok(RunRef {
                run_id: format!("local-{}", &token[..token.len().min(16)]),
                url: None,
            })
        })
    }

    fn observe<'a>(
        &'a self,
        order: &'a Order,
        _: &'a str,
        run: &'a RunRef,
        _: DateTime<Utc>,
    ) -> Answer<'a, Observation> {
        Box::pin(async move {
            let found = self.run(order, &run.run_id);
            let phase = lock(&found.phase).clone();
            match phase {
                Phase::Working(detail) => Ok(Observation::InProgress { detail }),
                Phase::Ended(observation) => {
                    // Kept until the row says so too: the answer may be lost before it is written. Bounded by pruning.
                    self.prune(&run.run_id);
                    Ok(observation)
                }
                Phase::Stumbled(detail) => {
                    self.forget(&run.run_id);
                    Err(BackendError::transient(detail))
                }
            }
        })
    }

    fn cancel<'a>(&'a self, run: &'a RunRef) -> Answer<'a, ()> {
        Box::pin(async move {
            if let Some(run) = lock(&self.runs).get(&run.run_id) {
                run.cancelled.store(true, Ordering::Relaxed);
            }
            Ok(())
        })
    }
}

impl Local {
    /// Drops other runs that have ended and are not looked at any more.
    fn prune(&self, keep: &str) {
        lock(&self.runs).retain(|id, run| {
            let ended = !matches!(*lock(&run.phase), Phase::Working(_));
            id == keep || !ended || lock(&run.seen).elapsed() < self.unobserved_max
        });
    }
}

/// A mutex whose holder panicked still guards plain values.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn work(
    run: Arc<Run>,
    loader: Arc<dyn Loader>,
    turn: Arc<Semaphore>,
    artifacts: ArtifactStore,
    parameters: Parameters,
    order: Order,
) {
    let Ok(_turn) = turn.acquire().await else { return };
    let phase = match attempt(&run, &*loader, artifacts, parameters, &order).await {
        Ok(candidate) => Phase::Ended(Observation::Finished(Box::new(candidate))),
        Err(LoadError::Transient(detail)) => Phase::Stumbled(detail),
        Err(LoadError::Permanent {
            kind: TrainingFailure::Cancelled,
            detail,
        }) => {
            if run.cancelled.load(Ordering::Relaxed) {
                Phase::Ended(Observation::Cancelled { detail })
            } else {
                Phase::Stumbled("the run was left: this process stops, or lost the job".to_owned())
            }
        }
        Err(LoadError::Permanent { kind, detail }) => Phase::Ended(Observation::Failed {
            retryable: false,
            kind,
            detail,
        }),
    };
    *lock(&run.phase) = phase;
}

async fn attempt(
    run: &Arc<Run>,
    loader: &dyn Loader,
    artifacts: ArtifactStore,
    parameters: Parameters,
    order: &Order,
) -> Result<Candidate, LoadError> {
    if run.cancelled() {
        return Err(failure(&TrainingError::Cancelled));
    }
    *lock(&run.phase) = Phase::Working("loading rows".to_owned());
    let begun = Instant::now();
    let loaded = loader.load(order).await?;
    let load_seconds = begun.elapsed().as_secs_f64();
    tracing::info!(
        model.name = %order.model,
        "training model `{}` on {} rows with {} frauds, threshold slice {} rows with {} frauds",
        order.model,
        loaded.training.len(),
        loaded.training.frauds(),
        loaded.threshold.len(),
        loaded.threshold.frauds(),
    );
    let identity = Identity {
        model: order.model.clone(),
        created: order.as_of,
        training_window: order.plan.training,
    };
    let begun = Instant::now();
    let watcher = Meter {
        run: Arc::clone(run),
        begun: Mutex::new(None),
        model: order.model.to_string(),
    };
    let seed = parameters.seed;
    let span = tracing::Span::current();
    let work = move || {
        let _entered = span.enter();
        let trained = train(
            &parameters,
            &identity,
            loaded.training,
            &loaded.threshold,
            &watcher,
        )?;
        let bytes = trained
            .artifact
            .to_bytes()
            .map_err(|error| TrainingError::Library(format!("the model cannot be written: {error}")))?;
        Ok::<_, TrainingError>((trained, bytes))
    };
    let (trained, bytes) = match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|error| failure(&error))?,
        Err(error) => {
            let detail = format!("the training panicked: {error}");
            return Err(LoadError::Permanent {
                kind: TrainingFailure::RunFailed,
                detail,
            });
        }
    };
    let train_seconds = begun.elapsed().as_secs_f64();
    let artifact = match tokio::task::spawn_blocking(move || artifacts.put(&bytes)).await {
        Ok(Ok(artifact)) => artifact,
        Ok(Err(error)) => return Err(LoadError::Transient(error.to_string())),
        Err(error) => {
            return Err(LoadError::Transient(format!(
                "writing the artefact was broken off: {error}"
            )));
        }
    };
    Ok(candidate(
        trained,
        artifact,
        seed,
        Stages {
            load_seconds: Some(load_seconds),
            train_seconds,
        },
    ))
}

fn candidate(trained: Trained, artifact: schemas::events::Artifact, seed: u64, stages: Stages) -> Candidate {
    let threshold = Share::new(trained.artifact.operating_threshold);
    let confusion = trained.confusion;
    let mut reported: Vec<(String, f64)> = Vec::new();
    for report in &trained.candidates {
        reported.push((
            format!("{}.average_precision", report.algorithm),
            report.average_precision,
        ));
        reported.push((format!("{}.roc_auc", report.algorithm), report.roc_auc));
        if report.algorithm == trained.artifact.algorithm {
            reported.push(("average_precision".to_owned(), report.average_precision));
            reported.push(("roc_auc".to_owned(), report.roc_auc));
        }
    }
    let at_threshold = [
        ("recall", confusion.recall().value()),
        ("precision", confusion.precision().value()),
        ("f1", confusion.f1()),
    ];
    reported.extend(
        at_threshold
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?))),
    );
    let on_threshold_slice = |(name, value): (String, f64)| {
        Some(ReportedMetric {
            name,
            slice: "threshold".to_owned(),
            value: Finite::new(value).ok()?,
        })
    };
    let mut notes: BTreeMap<String, String> = trained.artifact.notes;
    notes.insert("threshold_rows".to_owned(), trained.threshold_rows.to_string());
    Candidate {
        algorithm: trained.artifact.algorithm,
        artifact,
        training_rows: trained.training_rows as u64,
        training_frauds: trained.training_frauds as u64,
        operating_threshold: threshold
            .unwrap_or_else(|error| unreachable!("validated to be a share: {error}")),
        seed,
        stages,
        reported: reported.into_iter().filter_map(on_threshold_slice).collect(),
        notes,
        mlflow_run_id: None,
    }
}

fn failure(error: &TrainingError) -> LoadError {
    let kind = match error {
        TrainingError::TooLittle(_) | TrainingError::Ranking(_) => TrainingFailure::DataInsufficient,
        TrainingError::Cancelled => TrainingFailure::Cancelled,
        TrainingError::NoCandidate
        | TrainingError::Rows(_)
        | TrainingError::Library(_)
        | TrainingError::Invalid(_) => TrainingFailure::RunFailed,
    };
    LoadError::Permanent {
        kind,
        detail: error.to_string(),
    }
}

impl Run {
    fn cancelled(&self) -> bool {
        // Nobody looks: this process lost the job, and someone else has it.
        self.cancelled.load(Ordering::Relaxed)
            || self.stop.is_cancelled()
            || lock(&self.seen).elapsed() > self.unobserved_max
    }
}

/// Progress with an estimate of what is left of the stage, for the log and whoever looks.
struct Meter {
    run: Arc<Run>,
    begun: Mutex<Option<(Stage, Instant)>>,
    model: String,
}

impl Watch for Meter {
    fn progress(&self, stage: Stage, done: f64) {
        let mut begun = lock(&self.begun);
        let since = match *begun {
            Some((known, since)) if known == stage => since,
            _ => {
                let now = Instant::now();
                *begun = Some((stage, now));
                now
            }
        };
        let elapsed = since.elapsed().as_secs_f64();
        let left = (done > 0.0 && done < 1.0).then(|| elapsed / done * (1.0 - done));
        let left = left
            .map(|seconds| format!(", about {seconds:.0} s left"))
            .unwrap_or_default();
        let said = format!("{}: {:.0} %{left}", stage.as_str(), done * 100.0);
        tracing::debug!(model.name = self.model, "training model `{}`: {said}", self.model);
        *lock(&self.run.phase) = Phase::Working(said);
    }

    fn cancelled(&self) -> bool {
        self.run.cancelled()
    }
}

#[cfg(test)]
mod tests;
