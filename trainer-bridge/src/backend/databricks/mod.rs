//! Training on Databricks: a job or a notebook, whose result is read from the MLflow run that it logs.
//!
//! * [`client`] – the calls of the Jobs API 2.2.
//! * [`states`] – what a run's states mean; unknown ones never break anything.
//! * [`result`] – what the notebook has to log, and how it becomes a candidate.
//!
//! The token of an attempt makes starting a run safe to repeat: the platform answers the same token with the same
//! run. A missing right while a run is going on is waited for (tokens are renewed), while submitting it is final.

mod client;
mod result;
mod states;

use std::collections::HashMap;
use std::time::Duration;

use chassis::trial::{self, Guard};
use chrono::{DateTime, Utc};
use schemas::ModelName;
use schemas::events::TrainingFailure;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{Answer, Backend, BackendError, Observation, Pace};
use crate::artifacts::ArtifactStore;
use crate::job::{BackendKind, Order, RunRef};
use crate::registry::mlflow_client;

pub use client::{Client, Compute, Output, PARAMETERS_BYTES_MAX, TOKEN_CHARACTERS_MAX, What};
pub use result::{TAG_ARTIFACT, TAG_SHA256, TAG_TOKEN};
pub use states::{
    LifeCycle, ResultState, Run, RunState, RunStatus, StatusState, TaskRun, TerminationDetails,
    TerminationType, Verdict, verdict,
};

/// How long an ended run's MLflow run may take to appear.
const RESULT_PATIENCE: Duration = Duration::from_mins(10);

/// What the backend is made with.
#[derive(Debug)]
pub struct DatabricksSettings {
    /// What to run.
    pub what: What,
    /// MLflow experiment that the notebook logs to.
    pub experiment: String,
    /// How often to look.
    pub pace: Pace,
    /// What the notebook is told of each model's data: table, columns.
    pub sources: HashMap<ModelName, Map<String, Value>>,
}

/// The Databricks backend.
#[derive(Debug)]
pub struct Databricks {
    client: Client,
    tracking: mlflow_client::Client,
    artifacts: ArtifactStore,
    settings: DatabricksSettings,
}

impl Databricks {
    /// A backend on a workspace, with the tracking server that the notebook logs to.
    pub fn new(
        client: Client,
        tracking: mlflow_client::Client,
        artifacts: ArtifactStore,
        settings: DatabricksSettings,
    ) -> Self {
        Self {
            client,
            tracking,
            artifacts,
            settings,
        }
    }

    /// What the notebook is given. A pointer to the data, never the data.
    fn parameters(&self, order: &Order, token: &str) -> Result<Map<String, Value>, BackendError> {
        let plan = &order.plan;
        let instant =
            |at: chrono::DateTime<chrono::Utc>| at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        let texts = [
            ("vigie_token", token.to_owned()),
            ("vigie_job_id", order.job_id.to_string()),
            ("vigie_decision_id", order.decision_id.to_string()),
            ("model", order.model.to_string()),
            ("as_of", instant(order.as_of)),
            ("training_start", instant(plan.training.start())),
            ("training_end", instant(plan.training.end())),
            ("threshold_start", instant(plan.threshold.start())),
            ("threshold_end", instant(plan.threshold.end())),
            ("holdout_start", instant(plan.holdout.start())),
            ("holdout_end", instant(plan.holdout.end())),
            ("seed", plan.seed.to_string()),
            ("mlflow_experiment", self.settings.experiment.clone()),
            ("artifact_format", scoring::FORMAT.to_owned()),
        ];
        let mut parameters: Map<String, Value> = texts
            .into_iter()
            .map(|(key, value)| (key.to_owned(), Value::String(value)))
            .collect();
        if let Some(source) = self.settings.sources.get(&order.model) {
            parameters.extend(source.clone());
        }
        let bytes = Value::Object(parameters.clone()).to_string().len();
        if bytes > PARAMETERS_BYTES_MAX {
            let detail =
                format!("the run's parameters have {bytes} bytes, Databricks takes {PARAMETERS_BYTES_MAX}");
            return Err(BackendError::Permanent(detail));
        }
        Ok(parameters)
    }

    async fn start(&self, order: &Order, token: &str, time_left: Duration) -> Result<RunRef, BackendError> {
        let parameters = self.parameters(order, token)?;
        let name = format!("vigie {} {}", order.model, order.version());
        let without = trial::without(Guard::Token).then(|| Uuid::new_v4().simple().to_string());
        let token = without.as_deref().unwrap_or(token);
        let run_id = self
            .client
            .start(&self.settings.what, &name, &parameters, token, time_left)
            .await?;
        // The page is for people; a run without one is a run all the same.
        let url = match self.client.run(run_id).await {
            Ok(run) => run.and_then(|run| run.run_page_url),
            Err(error) => {
                tracing::debug!("page of run {run_id} is not known yet: {error}");
                None
            }
        };
        Ok(RunRef {
            run_id: run_id.to_string(),
            url,
        })
    }

    async fn look(
        &self,
        order: &Order,
        token: &str,
        run: &RunRef,
        now: DateTime<Utc>,
    ) -> Result<Observation, BackendError> {
        let found = self.client.run(id_of(run)?).await?;
        let Some(found) = found else {
            let detail = format!("run {} does not exist any more on Databricks", run.run_id);
            return Ok(Observation::Failed {
                retryable: false,
                kind: TrainingFailure::RunFailed,
                detail,
            });
        };
        match verdict(&found) {
            Verdict::InProgress { state } => Ok(Observation::InProgress { detail: state }),
            Verdict::Cancelled { detail } => Ok(Observation::Cancelled { detail }),
            Verdict::TimedOut { detail } => Ok(Observation::TimedOut { detail }),
            Verdict::Failed { retryable, detail } => {
                let detail = self.with_error_of_task(&found, detail).await;
                Ok(Observation::Failed {
                    retryable,
                    kind: TrainingFailure::RunFailed,
                    detail,
                })
            }
            Verdict::Succeeded => self.result(order, token, &found, now).await,
        }
    }

    /// The notebook's own last words, when they can be had.
    async fn with_error_of_task(&self, run: &Run, detail: String) -> String {
        let Some(task) = run.tasks.first() else {
            return detail;
        };
        match self.client.output(task.run_id).await {
            Ok(Output { error }) if !error.is_empty() => {
                let error: String = error.chars().take(300).collect();
                format!("{detail} – {error}")
            }
            Ok(_) => detail,
            Err(error) => {
                tracing::debug!("output of task run {} cannot be read: {error}", task.run_id);
                detail
            }
        }
    }

    async fn result(
        &self,
        order: &Order,
        token: &str,
        run: &Run,
        now: DateTime<Utc>,
    ) -> Result<Observation, BackendError> {
        let read = result::read(
            &self.client,
            &self.tracking,
            &self.artifacts,
            &self.settings.experiment,
            order,
            token,
            run,
        );
        match read.await {
            Ok(candidate) => Ok(Observation::Finished(Box::new(candidate))),
            Err(result::ResultError::Call(error)) => match error.into() {
                BackendError::Permanent(detail) => Ok(unusable(detail)),
                waits => Err(waits),
            },
            Err(result::ResultError::NotThere(detail)) => {
                if ended_longer_ago(run, now, RESULT_PATIENCE) {
                    Ok(unusable(detail))
                } else {
                    Err(BackendError::transient(detail))
                }
            }
            Err(result::ResultError::Unusable(detail)) => Ok(unusable(detail)),
            Err(result::ResultError::NotWritten(detail)) => Err(BackendError::transient(detail)),
        }
    }
}

impl Backend for Databricks {
    fn kind(&self) -> BackendKind {
        BackendKind::Databricks
    }

    fn pace(&self) -> Pace {
        self.settings.pace
    }

    fn submit<'a>(&'a self, order: &'a Order, token: &'a str, time_left: Duration) -> Answer<'a, RunRef> {
        Box::pin(self.start(order, token, time_left))
    }

    fn observe<'a>(
        &'a self,
        order: &'a Order,
        token: &'a str,
        run: &'a RunRef,
        now: DateTime<Utc>,
    ) -> Answer<'a, Observation> {
        Box::pin(self.look(order, token, run, now))
    }

    fn cancel<'a>(&'a self, run: &'a RunRef) -> Answer<'a, ()> {
        Box::pin(async move { Ok(self.client.cancel(id_of(run)?).await?) })
    }
}

fn id_of(run: &RunRef) -> Result<u64, BackendError> {
    run.run_id
        .parse()
        .map_err(|_| BackendError::Permanent(format!("`{}` is no run of Databricks", run.run_id)))
}

fn unusable(detail: String) -> Observation {
    Observation::Failed {
        retryable: false,
        kind: TrainingFailure::RunFailed,
        detail,
    }
}

/// By the database's clock, which is nearer to the server's than that of some host.
fn ended_longer_ago(run: &Run, now: DateTime<Utc>, patience: Duration) -> bool {
    let age = now.timestamp_millis() - run.end_time;
    run.end_time > 0 && age > i64::try_from(patience.as_millis()).unwrap_or(i64::MAX)
}
