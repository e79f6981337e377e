//! The calls of the Jobs API 2.2 that a training needs.

use std::time::Duration;

use chassis::rest::{CallError, Credentials, Endpoint};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use url::Url;

use super::states::Run;

/// Largest `idempotency_token` the API accepts, in characters.
pub const TOKEN_CHARACTERS_MAX: usize = 64;
/// Largest parameters of a run as JSON, in bytes.
pub const PARAMETERS_BYTES_MAX: usize = 10_000;
/// Largest file read from a volume, in bytes.
const FILE_BYTES_MAX: usize = scoring::ARTIFACT_BYTES_MAX;

/// What is to be run.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// A job that exists: `run-now` with job parameters.
    Job {
        /// Its id.
        job_id: u64,
    },
    /// A notebook, as a one-time run: `runs/submit`.
    Notebook {
        /// Path in the workspace.
        path: String,
        /// Where it runs.
        compute: Compute,
    },
}

/// Where a notebook runs.
#[derive(Debug, Clone, PartialEq)]
pub enum Compute {
    /// On serverless compute.
    Serverless,
    /// On a cluster that exists.
    Existing(String),
    /// On a cluster made for it, in the API's own JSON.
    New(Value),
}

/// A Databricks workspace.
#[derive(Debug, Clone)]
pub struct Client {
    endpoint: Endpoint,
}

#[derive(Debug, Deserialize)]
struct Submitted {
    run_id: u64,
}

#[derive(Debug, Deserialize)]
struct Nothing {}

/// What a task printed or broke on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Output {
    /// Why it failed, one line.
    #[serde(default)]
    pub error: String,
}

impl Client {
    /// A client for the workspace at `host`.
    ///
    /// # Errors
    /// When the HTTP client cannot be built.
    pub fn new(host: Url, credentials: Credentials, timeout: Duration) -> Result<Self, reqwest::Error> {
        Ok(Self {
            endpoint: Endpoint::new(host, credentials, timeout)?,
        })
    }

    /// Starts a run and returns its id. The same token gives the same run, so this may be repeated when an
    /// answer was lost; a token whose run was deleted is refused.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn start(
        &self,
        what: &What,
        name: &str,
        parameters: &Map<String, Value>,
        token: &str,
        timeout: Duration,
    ) -> Result<u64, CallError> {
        let (path, body) = match what {
            What::Job { job_id } => (
                "/api/2.2/jobs/run-now",
                json!({
                    "job_id": job_id,
                    "idempotency_token": token,
                    "job_parameters": parameters,
                    "queue": { "enabled": true },
                }),
            ),
            What::Notebook { path, compute } => {
                let mut task = json!({
                    "task_key": "train",
                    "notebook_task": { "notebook_path": path, "base_parameters": parameters },
                });
                match compute {
                    Compute::Serverless => {}
                    Compute::Existing(cluster) => task["existing_cluster_id"] = json!(cluster),
                    Compute::New(cluster) => task["new_cluster"] = cluster.clone(),
                }
                (
                    "/api/2.2/jobs/runs/submit",
                    json!({
                        "run_name": name,
                        "idempotency_token": token,
                        "timeout_seconds": timeout.as_secs(),
                        "queue": { "enabled": true },
                        "tasks": [task],
                    }),
                )
            }
        };
        let submitted: Submitted = self.endpoint.post(path, &body).await?;
        Ok(submitted.run_id)
    }

    /// The run, or `None` when the workspace does not know it (the API says so with 400
    /// `INVALID_PARAMETER_VALUE` "Run … does not exist").
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn run(&self, run_id: u64) -> Result<Option<Run>, CallError> {
        let id = run_id.to_string();
        match self
            .endpoint
            .get("/api/2.2/jobs/runs/get", &[("run_id", &id)])
            .await
        {
            Ok(run) => Ok(Some(run)),
            Err(CallError::Refused {
                status: 400 | 404,
                code,
                message,
                ..
            }) if code == "RESOURCE_DOES_NOT_EXIST"
                || code == "INVALID_PARAMETER_VALUE" && message.contains("does not exist") =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Asks for the run to be cancelled; it ends some time later.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn cancel(&self, run_id: u64) -> Result<(), CallError> {
        let _: Nothing = self
            .endpoint
            .post("/api/2.2/jobs/runs/cancel", &json!({ "run_id": run_id }))
            .await?;
        Ok(())
    }

    /// The output of a task's run.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn output(&self, task_run_id: u64) -> Result<Output, CallError> {
        self.endpoint
            .get(
                "/api/2.2/jobs/runs/get-output",
                &[("run_id", &task_run_id.to_string())],
            )
            .await
    }

    /// The bytes of a file in a Unity Catalog volume; `path` begins with `/Volumes/`.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn volume_file(&self, path: &str) -> Result<Vec<u8>, CallError> {
        self.endpoint
            .get_bytes(&format!("/api/2.0/fs/files{path}"), FILE_BYTES_MAX)
            .await
    }
}
