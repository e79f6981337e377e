//! The Statement Execution API: a statement is submitted, looked at until it ends, and its answer fetched chunk by chunk.
//!
//! Answers come as Arrow at addresses that are signed for a few minutes (disposition `EXTERNAL_LINKS`), whatever their size: there is one
//! way to read, and no limit of 25 MiB. A statement that failed is an answer like any other (HTTP 200, state `FAILED`). Whoever does
//! not wait any longer cancels what runs.
//!
//! Source: Databricks REST API, "Statement Execution", version 2.0.

use std::io::Cursor;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::ipc::reader::StreamReader;
use chassis::rest::{CallError, Endpoint};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;
use url::Url;

const STATEMENTS: &str = "/api/2.0/sql/statements";
/// The submission does not wait for the answer: from then on the statement has a name, under which it can be cancelled.
const WAIT: &str = "0s";
/// Pauses between looks at a statement.
const POLL_FIRST: Duration = Duration::from_millis(100);
const POLL_LONGEST: Duration = Duration::from_secs(5);
/// How often a call is tried that may work later.
const TRIES: u32 = 6;
/// Pause before a second try, doubled each time.
const RETRY_FIRST: Duration = Duration::from_millis(250);
/// Largest chunk that is taken, in bytes; they are made of about 20 MB.
const CHUNK_BYTES_MAX: usize = 512 * 1024 * 1024;

/// A SQL warehouse.
#[derive(Debug, Clone)]
pub struct Client {
    endpoint: Endpoint,
    warehouse: String,
}

/// Why a statement gave nothing.
#[derive(Debug)]
pub enum Failure {
    /// It may work later.
    Unreachable(String),
    /// Nobody waits any longer; it was cancelled.
    TooSlow,
    /// The workspace does not let us, or does not know the warehouse.
    Refused(String),
    /// The statement failed.
    Statement {
        /// Class of the error as in SQL, e.g. `42P01`; empty when none was given.
        sql_state: String,
        /// What the warehouse said, one line.
        message: String,
    },
    /// The answer breaks its format.
    Corrupt(String),
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        if error.is_transient() {
            Self::Unreachable(error.to_string())
        } else {
            Self::Refused(error.to_string())
        }
    }
}

/// A column of an answer.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct AnswerColumn {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Its type as in SQL, e.g. `DECIMAL(12,2)`.
    #[serde(default)]
    pub type_text: String,
}

#[derive(Debug, Deserialize)]
struct Answer {
    statement_id: String,
    #[serde(default)]
    status: Status,
    #[serde(default)]
    manifest: Manifest,
    #[serde(default)]
    result: Chunk,
}

#[derive(Debug, Default, Deserialize)]
struct Status {
    #[serde(default)]
    state: String,
    #[serde(default)]
    error: StatementError,
    #[serde(default)]
    sql_state: String,
}

#[derive(Debug, Default, Deserialize)]
struct StatementError {
    #[serde(default)]
    error_code: String,
    #[serde(default)]
    message: String,
}

#[derive(Debug, Default, Deserialize)]
struct Manifest {
    #[serde(default)]
    schema: Schema,
    #[serde(default)]
    total_row_count: u64,
    #[serde(default)]
    truncated: bool,
}

#[derive(Debug, Default, Deserialize)]
struct Schema {
    #[serde(default)]
    columns: Vec<AnswerColumn>,
}

/// Where the answer, or a part of it, is.
#[derive(Debug, Default, Deserialize)]
struct Chunk {
    #[serde(default)]
    external_links: Vec<Link>,
}

#[derive(Debug, Deserialize)]
struct Link {
    #[serde(rename = "external_link")]
    address: String,
    #[serde(default)]
    chunk_index: u64,
    next_chunk_index: Option<u64>,
}

impl Client {
    /// A client of this warehouse.
    pub const fn new(endpoint: Endpoint, warehouse: String) -> Self {
        Self { endpoint, warehouse }
    }

    /// Runs a statement until `deadline` at the latest, and hands out its answer in record batches, in order; says which columns it has.
    pub async fn run<E: From<Failure>>(
        &self,
        statement: &str,
        deadline: Instant,
        mut each: impl FnMut(&RecordBatch) -> Result<(), E>,
    ) -> Result<Vec<AnswerColumn>, E> {
        let (mut running, first) = self.submit(statement, deadline).await?;
        let answer = self.ended(&mut running, first, deadline).await?;
        if answer.manifest.truncated {
            return Err(Failure::Corrupt("the answer was cut short".to_owned()).into());
        }
        let mut rows = 0_u64;
        let mut next = answer.result.external_links.into_iter().next();
        while let Some(link) = next {
            let bytes = self.chunk(&running.id, &link, deadline).await?;
            let reader =
                StreamReader::try_new(Cursor::new(bytes), None).map_err(|error| unreadable(&error))?;
            for batch in reader {
                let batch = batch.map_err(|error| unreadable(&error))?;
                rows += batch.num_rows() as u64;
                each(&batch)?;
            }
            next = match link.next_chunk_index {
                // The answer itself promises that chunks have an end.
                Some(index) if index > link.chunk_index => {
                    Some(self.link(&running.id, index, deadline).await?)
                }
                _ => None,
            };
        }
        if rows == answer.manifest.total_row_count {
            Ok(answer.manifest.schema.columns)
        } else {
            let told = answer.manifest.total_row_count;
            Err(Failure::Corrupt(format!("{rows} of {told} rows were in the answer")).into())
        }
    }

    async fn submit(&self, statement: &str, deadline: Instant) -> Result<(Running, Answer), Failure> {
        let body = json!({
            "warehouse_id": self.warehouse,
            "statement": statement,
            "wait_timeout": WAIT,
            "on_wait_timeout": "CONTINUE",
            "disposition": "EXTERNAL_LINKS",
            "format": "ARROW_STREAM",
        });
        // An answer that was lost leaves a statement behind that reads and ends.
        let first: Answer = self
            .patiently(deadline, || self.endpoint.post(STATEMENTS, &body))
            .await?;
        let running = Running {
            endpoint: self.endpoint.clone(),
            id: first.statement_id.clone(),
            is_over: false,
        };
        Ok((running, first))
    }

    /// The answer once the statement has ended well.
    async fn ended(
        &self,
        running: &mut Running,
        first: Answer,
        deadline: Instant,
    ) -> Result<Answer, Failure> {
        let mut answer = first;
        let mut pause = POLL_FIRST;
        let path = format!("{STATEMENTS}/{}", running.id);
        loop {
            match answer.status.state.as_str() {
                "SUCCEEDED" => {
                    running.is_over = true;
                    return Ok(answer);
                }
                "FAILED" | "CANCELED" | "CLOSED" => {
                    running.is_over = true;
                    return Err(failure_of(answer.status));
                }
                // PENDING, RUNNING, and whatever is added.
                _ => {}
            }
            if Instant::now() + pause >= deadline {
                return Err(Failure::TooSlow);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(POLL_LONGEST);
            answer = self.patiently(deadline, || self.endpoint.get(&path, &[])).await?;
        }
    }

    /// The bytes of a chunk; an address that is no longer good is asked for once more.
    async fn chunk(&self, statement: &str, link: &Link, deadline: Instant) -> Result<Vec<u8>, Failure> {
        match self.download(link, deadline).await {
            Err(Failure::Refused(_)) => {
                let again = self.link(statement, link.chunk_index, deadline).await?;
                self.download(&again, deadline).await
            }
            other => other,
        }
    }

    async fn download(&self, link: &Link, deadline: Instant) -> Result<Vec<u8>, Failure> {
        let address: Url = link.address.parse().map_err(|error| {
            Failure::Corrupt(format!("chunk {} has no address: {error}", link.chunk_index))
        })?;
        self.patiently(deadline, || self.endpoint.download(&address, CHUNK_BYTES_MAX))
            .await
    }

    async fn link(&self, statement: &str, index: u64, deadline: Instant) -> Result<Link, Failure> {
        let path = format!("{STATEMENTS}/{statement}/result/chunks/{index}");
        let chunk: Chunk = self.patiently(deadline, || self.endpoint.get(&path, &[])).await?;
        let mut links = chunk.external_links.into_iter();
        links
            .find(|link| link.chunk_index == index)
            .ok_or_else(|| Failure::Corrupt(format!("there is no address of chunk {index}")))
    }

    /// Tries a call again that may work later: not for ever, and not beyond the deadline.
    async fn patiently<T, F: Future<Output = Result<T, CallError>>>(
        &self,
        deadline: Instant,
        call: impl Fn() -> F,
    ) -> Result<T, Failure> {
        let mut pause = RETRY_FIRST;
        for tried in 1.. {
            let Ok(answered) = tokio::time::timeout_at(deadline, call()).await else {
                return Err(Failure::TooSlow);
            };
            let error = match answered {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let wait = error.retry_after().unwrap_or(pause);
            if tried >= TRIES || !error.is_transient() || Instant::now() + wait >= deadline {
                return Err(error.into());
            }
            tracing::debug!("a call to the warehouse is tried again in {wait:?}: {error}");
            tokio::time::sleep(wait).await;
            pause *= 2;
        }
        unreachable!("tries are counted")
    }
}

/// A statement that was submitted. Unless it has ended, it is cancelled: nobody wants it any more.
struct Running {
    endpoint: Endpoint,
    id: String,
    is_over: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        if self.is_over {
            return;
        }
        let endpoint = self.endpoint.clone();
        let path = format!("{STATEMENTS}/{}/cancel", self.id);
        runtime.spawn(async move {
            if let Err(error) = endpoint.post::<Value>(&path, &json!({})).await {
                tracing::warn!("a statement that nobody waits for was not cancelled: {error}");
            }
        });
    }
}

fn failure_of(status: Status) -> Failure {
    let message = status
        .error
        .message
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    let Status {
        state,
        sql_state,
        error,
    } = status;
    if state != "FAILED" {
        // Somebody else ended it, or the warehouse was stopped.
        return Failure::Unreachable(format!("the statement was ended ({state})"));
    }
    match error.error_code.as_str() {
        "TEMPORARILY_UNAVAILABLE"
        | "SERVICE_UNDER_MAINTENANCE"
        | "RESOURCE_EXHAUSTED"
        | "INTERNAL_ERROR"
        | "DEADLINE_EXCEEDED"
        | "WORKSPACE_TEMPORARILY_UNAVAILABLE" => {
            Failure::Unreachable(format!("{}: {message}", error.error_code))
        }
        _ => Failure::Statement { sql_state, message },
    }
}

fn unreadable(error: &arrow::error::ArrowError) -> Failure {
    Failure::Corrupt(error.to_string())
}
