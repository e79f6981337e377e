//! A Databricks workspace: the Jobs API 2.2, as far as one-time runs and job runs go, and a SQL warehouse.
//!
//! Written from `databricks-sdk` 0.156 and the API's documentation. A test scripts how runs go ([`RunPlan`]) and how
//! calls fail ([`Fault`]), and reads back which calls arrived and which runs really came to be.

mod api;
mod dialect;
mod run;
mod spark;
mod statements;
mod wire;

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::ensure;
use serde_json::Value;

pub use run::{Dialect, Outcome, RunPlan, RunState, Step};
pub use statements::{StatementRecord, StatementState};

use super::http::HttpServer;
use run::Run;

/// The calls that are served, under `/api/2.2/jobs` and `/api/2.1/jobs`, and `/api/2.0/sql/statements`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    /// POST `runs/submit`
    Submit,
    /// POST `run-now`
    RunNow,
    /// GET `runs/get`
    Get,
    /// GET `runs/get-output`
    GetOutput,
    /// POST `runs/cancel`
    Cancel,
    /// POST `/api/2.0/sql/statements`
    SubmitStatement,
    /// GET of a statement
    GetStatement,
    /// GET of a chunk's address
    GetChunk,
    /// POST of a statement's `cancel`
    CancelStatement,
    /// GET of a chunk at its signed address
    Download,
}

/// What goes wrong with one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: the call is served.
    None,
    /// 429 `REQUEST_LIMIT_EXCEEDED`; not executed.
    TooManyRequests {
        /// The value of `Retry-After` as it is sent (seconds); `None` sends no such header.
        retry_after: Option<String>,
    },
    /// 500 `INTERNAL_ERROR`; not executed.
    ServerError,
    /// 503 `TEMPORARILY_UNAVAILABLE`; not executed.
    Unavailable,
    /// Executed, and then the connection is closed without an answer.
    AnswerLost,
    /// The connection is closed; not executed.
    RequestLost,
    /// Executed after this long.
    Slow(Duration),
    /// This answer; not executed.
    Instead {
        /// HTTP status.
        status: u16,
        /// Body as it is sent.
        body: String,
    },
}

/// One request that arrived, in order of arrival.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Request {
    /// `None` for a path that is not served.
    pub call: Option<Call>,
    /// Path and query.
    pub uri: String,
    /// The body, if it is JSON.
    pub body: Option<Value>,
    /// HTTP status of the answer; also of a lost one, `None` if not executed.
    pub status: Option<u16>,
}

/// One run that really came to be, in order of creation.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RunRecord {
    /// Its id.
    pub run_id: i64,
    /// The id of its (first) task's run, which has the output.
    pub task_run_id: i64,
    /// The job, for `run-now`.
    pub job_id: Option<i64>,
    /// The `idempotency_token` it was created with.
    pub token: Option<String>,
    /// The body it was created with.
    pub request: Value,
    /// How often `runs/get` asked for it.
    pub polls: u32,
    /// Whether a cancel was taken.
    pub cancelled: bool,
    /// Where it stood at the last poll.
    pub state: RunState,
}

impl RunRecord {
    /// Whether it ended otherwise than well, or was cancelled before it could.
    pub fn failed(&self) -> bool {
        self.cancelled
            || match &self.state {
                RunState::Terminated(outcome) => *outcome != Outcome::success(),
                other => other.is_final(),
            }
    }
}

/// A running workspace. Dropping it ends it.
#[derive(Debug)]
pub struct Databricks {
    server: HttpServer,
    workspace: Arc<Workspace>,
}

#[derive(Debug)]
struct Workspace(Mutex<State>);

#[derive(Debug)]
struct State {
    url: String,
    token: String,
    faults: HashMap<Call, VecDeque<Fault>>,
    plans: VecDeque<RunPlan>,
    plan_otherwise: RunPlan,
    jobs: HashSet<i64>,
    runs: Vec<Run>,
    deleted_tokens: HashSet<String>,
    requests: Vec<Request>,
    warehouse: Option<statements::Warehouse>,
}

impl Workspace {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Databricks {
    /// Starts on a free loopback port, on the current tokio runtime. Runs succeed at the third poll unless planned
    /// otherwise.
    pub async fn start() -> anyhow::Result<Self> {
        let state = State {
            url: String::new(),
            token: "dapi00000000000000000000000000000000".to_owned(),
            faults: HashMap::new(),
            plans: VecDeque::new(),
            plan_otherwise: RunPlan::succeeds(""),
            jobs: HashSet::new(),
            runs: Vec::new(),
            deleted_tokens: HashSet::new(),
            requests: Vec::new(),
            warehouse: None,
        };
        let workspace = Arc::new(Workspace(Mutex::new(state)));
        let server = HttpServer::start(api::router(workspace.clone())).await?;
        workspace.lock().url = server.url();
        Ok(Self { server, workspace })
    }

    /// `http://127.0.0.1:PORT`, for `DATABRICKS_HOST`.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// The only token it takes, for `DATABRICKS_TOKEN`.
    pub fn token(&self) -> String {
        self.workspace.lock().token.clone()
    }

    /// Lets `run-now` find this job.
    pub fn add_job(&self, job_id: i64) {
        self.workspace.lock().jobs.insert(job_id);
    }

    /// Gives the workspace a SQL warehouse. The tables of this database are those of its catalogue `main`.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn add_warehouse(&self, id: &str, database_url: &str) -> anyhow::Result<()> {
        let warehouse = statements::Warehouse::open(id, database_url).await?;
        self.workspace.lock().warehouse = Some(warehouse);
        Ok(())
    }

    /// Gives the workspace a SQL warehouse on Apache Spark, with a Python that has PySpark 4 and PyArrow: the rows of a Parquet file are
    /// its table `bank.payment`, whose instants have a zone or not.
    ///
    /// # Errors
    /// When Spark does not start.
    pub async fn add_spark_warehouse(
        &self,
        id: &str,
        python: &Path,
        file: &Path,
        zone: bool,
    ) -> anyhow::Result<()> {
        let spark = spark::Spark::start(python, file, zone).await?;
        self.workspace.lock().warehouse = Some(statements::Warehouse::on_spark(id, spark));
        Ok(())
    }

    /// How long the warehouse starts before each statement, from now on.
    pub fn warehouse_starts_within(&self, time: Duration) {
        if let Some(warehouse) = &mut self.workspace.lock().warehouse {
            warehouse.starts_within = time;
        }
    }

    /// Rows of a chunk, from now on.
    pub fn chunk_rows(&self, rows: usize) {
        if let Some(warehouse) = &mut self.workspace.lock().warehouse {
            warehouse.chunk_rows = rows.max(1);
        }
    }

    /// Every statement that was submitted, in order.
    pub fn statements(&self) -> Vec<StatementRecord> {
        let state = self.workspace.lock();
        state
            .warehouse
            .as_ref()
            .map(statements::Warehouse::records)
            .unwrap_or_default()
    }

    /// How the next runs go, in order of their creation; after them comes what [`Databricks::otherwise`] set.
    pub fn plan(&self, plans: impl IntoIterator<Item = RunPlan>) {
        self.workspace.lock().plans.extend(plans);
    }

    /// How every run goes that has no plan of its own.
    pub fn otherwise(&self, plan: RunPlan) {
        self.workspace.lock().plan_otherwise = plan;
    }

    /// What goes wrong with the next calls of this kind, in order.
    pub fn fail(&self, call: Call, faults: impl IntoIterator<Item = Fault>) {
        self.workspace
            .lock()
            .faults
            .entry(call)
            .or_default()
            .extend(faults);
    }

    /// Forgets faults that no call has met; says how many.
    pub fn heal(&self) -> usize {
        let mut state = self.workspace.lock();
        let left = state.faults.values().map(VecDeque::len).sum();
        state.faults.clear();
        left
    }

    /// Puts an existing run into this state, where it stays.
    ///
    /// # Errors
    /// When there is no such run.
    pub fn set_state(&self, run_id: i64, state: RunState) -> anyhow::Result<()> {
        let mut workspace = self.workspace.lock();
        let run = workspace.runs.iter_mut().find(|run| run.id == run_id);
        ensure!(run.is_some(), "there is no run {run_id}");
        if let Some(run) = run {
            run.go_on_with([Step {
                state,
                polls: u32::MAX,
            }]);
        }
        Ok(())
    }

    /// Deletes a run: it is not found any more, and its idempotency token is refused.
    pub fn delete_run(&self, run_id: i64) {
        let mut state = self.workspace.lock();
        if let Some(position) = state.runs.iter().position(|run| run.id == run_id) {
            let run = state.runs.remove(position);
            state.deleted_tokens.extend(run.token);
        }
    }

    /// Every request that arrived.
    pub fn requests(&self) -> Vec<Request> {
        self.workspace.lock().requests.clone()
    }

    /// How many requests of this kind arrived.
    pub fn calls(&self, call: Call) -> usize {
        self.workspace
            .lock()
            .requests
            .iter()
            .filter(|request| request.call == Some(call))
            .count()
    }

    /// Every run that came to be (and was not deleted).
    pub fn runs(&self) -> Vec<RunRecord> {
        self.workspace.lock().runs.iter().map(Run::record).collect()
    }
}
