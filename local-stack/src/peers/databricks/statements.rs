//! The Statement Execution API 2.0 of a SQL warehouse whose tables are those of a PostgreSQL database, or of Apache Spark.
//!
//! For PostgreSQL, what is asked in the warehouse's dialect is put into its own ([`super::dialect`]). Answers are those of disposition
//! `EXTERNAL_LINKS` in format `ARROW_STREAM`: chunks at signed addresses, which take no `Authorization` header. A statement that fails is
//! answered with HTTP 200.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::ipc::writer::StreamWriter;
use axum::Json;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgPool, PgRow};
use sqlx::{
    AssertSqlSafe, Column as _, Executor as _, Row as _, SqlSafeStr as _, Statement as _, TypeInfo as _,
};
use tokio::task::AbortHandle;

use super::spark::Spark;
use super::wire::{error, invalid};
use super::{Call, Workspace, dialect};

/// Rows of a chunk, unless a test wants otherwise: few, so that most answers have several.
const CHUNK_ROWS: usize = 1_000;
/// Bytes of a statement at most.
const STATEMENT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A SQL warehouse.
#[derive(Debug)]
pub(super) struct Warehouse {
    id: String,
    engine: Engine,
    pub(super) starts_within: Duration,
    pub(super) chunk_rows: usize,
    statements: Vec<Execution>,
}

/// What runs the statements.
#[derive(Debug, Clone)]
enum Engine {
    Postgres(PgPool),
    Spark(Arc<tokio::sync::Mutex<Spark>>),
}

/// A statement that was submitted.
#[derive(Debug)]
struct Execution {
    record: StatementRecord,
    answer: Option<Answer>,
    task: Option<AbortHandle>,
}

/// Where a statement stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatementState {
    /// The warehouse starts.
    Pending,
    /// It runs.
    Running,
    /// Its answer is there.
    Succeeded,
    /// It failed, with this class of error.
    Failed(String),
    /// It was cancelled.
    Canceled,
}

/// One statement that was submitted, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StatementRecord {
    /// Its id.
    pub id: String,
    /// As it was sent.
    pub text: String,
    /// Where it stands.
    pub state: StatementState,
    /// Rows of its answer.
    pub rows: usize,
}

/// What a statement gave.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// As the API describes them.
    pub(super) columns: Vec<Value>,
    /// Rows, and the stream of Arrow that holds them.
    pub(super) chunks: Vec<(usize, Vec<u8>)>,
    /// What went wrong.
    pub(super) message: String,
}

impl Warehouse {
    pub(super) async fn open(id: &str, database_url: &str) -> anyhow::Result<Self> {
        // Tables change between statements.
        let options: PgConnectOptions = database_url.parse()?;
        let pool = PgPool::connect_with(options.statement_cache_capacity(0))
            .await
            .context("connect the warehouse to its database")?;
        pool.execute(dialect::FUNCTIONS)
            .await
            .context("give PostgreSQL the functions of the warehouse")?;
        Ok(Self::on(id, Engine::Postgres(pool)))
    }

    pub(super) fn on_spark(id: &str, spark: Spark) -> Self {
        Self::on(id, Engine::Spark(Arc::new(tokio::sync::Mutex::new(spark))))
    }

    fn on(id: &str, engine: Engine) -> Self {
        Self {
            id: id.to_owned(),
            engine,
            starts_within: Duration::ZERO,
            chunk_rows: CHUNK_ROWS,
            statements: Vec::new(),
        }
    }

    pub(super) fn records(&self) -> Vec<StatementRecord> {
        self.statements.iter().map(|one| one.record.clone()).collect()
    }

    fn find(&mut self, id: &str) -> Option<&mut Execution> {
        self.statements.iter_mut().find(|one| one.record.id == id)
    }
}

impl Drop for Warehouse {
    fn drop(&mut self) {
        for task in self.statements.iter().filter_map(|one| one.task.as_ref()) {
            task.abort();
        }
    }
}

/// Which call a path is.
pub(super) fn call_of(is_post: bool, path: &str) -> Option<Call> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match (is_post, parts.as_slice()) {
        (true, ["api", "2.0", "sql", "statements"]) => Some(Call::SubmitStatement),
        (false, ["api", "2.0", "sql", "statements", _]) => Some(Call::GetStatement),
        (true, ["api", "2.0", "sql", "statements", _, "cancel"]) => Some(Call::CancelStatement),
        (false, ["api", "2.0", "sql", "statements", _, "result", "chunks", _]) => Some(Call::GetChunk),
        (false, ["signed", _, _]) => Some(Call::Download),
        _ => None,
    }
}

/// Answers one of these calls.
pub(super) async fn serve(
    workspace: &Arc<Workspace>,
    call: Call,
    path: &str,
    body: Option<&Value>,
) -> Response {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (id, number) = match parts.as_slice() {
        ["signed", id, number] | [_, _, _, _, id, .., number] => (*id, *number),
        [_, _, _, _, id] => (*id, ""),
        _ => ("", ""),
    };
    match call {
        Call::SubmitStatement => submit(workspace, body).await,
        Call::CancelStatement => cancel(workspace, id),
        Call::Download => download(workspace, id, number),
        Call::GetChunk => told(workspace, id, Some(number)),
        _ => told(workspace, id, None),
    }
}

async fn submit(workspace: &Arc<Workspace>, body: Option<&Value>) -> Response {
    let Some(body) = body else {
        return error(
            StatusCode::BAD_REQUEST,
            "MALFORMED_REQUEST",
            "Could not parse request object.",
        );
    };
    let text = |key: &str| body[key].as_str().unwrap_or_default();
    let statement = text("statement").to_owned();
    if statement.is_empty() || statement.len() > STATEMENT_BYTES_MAX {
        return invalid("statement must have 1 to 16777216 bytes.");
    }
    if text("disposition") != "EXTERNAL_LINKS" || text("format") != "ARROW_STREAM" {
        return invalid("this workspace only has EXTERNAL_LINKS with ARROW_STREAM.");
    }
    let wait = text("wait_timeout")
        .strip_suffix('s')
        .and_then(|seconds| seconds.parse::<u64>().ok());
    let Some(wait @ (0 | 5..=50)) = wait else {
        return invalid("wait_timeout must be 0s, or between 5s and 50s.");
    };
    let (id, task) = {
        let mut state = workspace.lock();
        let wanted = text("warehouse_id");
        let Some(warehouse) = state
            .warehouse
            .as_mut()
            .filter(|warehouse| warehouse.id == wanted)
        else {
            return error(
                StatusCode::NOT_FOUND,
                "RESOURCE_DOES_NOT_EXIST",
                &format!("The warehouse {wanted} was not found."),
            );
        };
        let id = format!("01f0-{:04}", warehouse.statements.len());
        let record = StatementRecord {
            id: id.clone(),
            text: statement.clone(),
            state: StatementState::Pending,
            rows: 0,
        };
        let running = execute(
            workspace.clone(),
            id.clone(),
            statement,
            warehouse.engine.clone(),
            warehouse.starts_within,
            warehouse.chunk_rows,
        );
        let task = tokio::spawn(running);
        warehouse.statements.push(Execution {
            record,
            answer: None,
            task: Some(task.abort_handle()),
        });
        (id, task)
    };
    // Whether it ended or the wait did: both are told below.
    let _ = tokio::time::timeout(Duration::from_secs(wait), task).await;
    told(workspace, &id, None)
}

async fn execute(
    workspace: Arc<Workspace>,
    id: String,
    statement: String,
    engine: Engine,
    starts_within: Duration,
    chunk_rows: usize,
) {
    tokio::time::sleep(starts_within).await;
    let set = |state: StatementState, answer: Option<Answer>, rows: usize| {
        if let Some(one) = workspace.lock().warehouse.as_mut().and_then(|all| all.find(&id))
            && one.record.state != StatementState::Canceled
        {
            one.record.state = state;
            one.record.rows = rows;
            one.answer = answer;
        }
    };
    set(StatementState::Running, None, 0);
    let answered = match engine {
        Engine::Postgres(pool) => of_postgres(&pool, &statement, chunk_rows).await,
        Engine::Spark(spark) => match spark.lock().await.run(&statement, chunk_rows).await {
            Ok(answered) => answered,
            Err(error) => Err((String::new(), format!("{error:#}"))),
        },
    };
    match answered {
        Ok(answer) => {
            let rows = answer.chunks.iter().map(|(rows, _)| rows).sum();
            set(StatementState::Succeeded, Some(answer), rows);
        }
        Err((sql_state, message)) => {
            let answer = Answer {
                message,
                ..Answer::default()
            };
            set(StatementState::Failed(sql_state), Some(answer), 0);
        }
    }
}

async fn of_postgres(pool: &PgPool, statement: &str, chunk_rows: usize) -> Result<Answer, (String, String)> {
    answer_of(pool, statement, chunk_rows).await.map_err(|error| {
        let sql_state = error
            .downcast_ref::<sqlx::Error>()
            .and_then(sqlx::Error::as_database_error)
            .and_then(|error| error.code().map(Cow::into_owned));
        // What cannot even be put into PostgreSQL's words is a mistake of syntax.
        (
            sql_state.unwrap_or_else(|| "42601".to_owned()),
            format!("{error:#}"),
        )
    })
}

async fn answer_of(pool: &PgPool, statement: &str, chunk_rows: usize) -> anyhow::Result<Answer> {
    let sql = dialect::to_postgres(statement)?;
    let prepared = pool.prepare(AssertSqlSafe(sql.clone()).into_sql_str()).await?;
    let columns: Vec<(String, String)> = prepared
        .columns()
        .iter()
        .map(|column| (column.name().to_owned(), column.type_info().name().to_owned()))
        .collect();
    let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(pool).await?;
    let described = columns.iter().enumerate().map(|(position, (name, kind))| {
        json!({ "name": name, "type_text": dialect::type_text(kind), "position": position })
    });
    let mut answer = Answer {
        columns: described.collect(),
        ..Answer::default()
    };
    for chunk in rows.chunks(chunk_rows) {
        answer.chunks.push((chunk.len(), arrow_stream(&columns, chunk)?));
    }
    Ok(answer)
}

/// Rows as a stream of Arrow.
fn arrow_stream(columns: &[(String, String)], rows: &[PgRow]) -> anyhow::Result<Vec<u8>> {
    let arrays = columns.iter().enumerate().map(|(at, (name, kind))| {
        let array: ArrayRef = match kind.as_str() {
            "INT4" => Arc::new(column::<i32, Int32Array>(rows, at)?),
            "INT8" => Arc::new(column::<i64, Int64Array>(rows, at)?),
            "FLOAT8" => Arc::new(column::<f64, Float64Array>(rows, at)?),
            "BOOL" => Arc::new(column::<bool, BooleanArray>(rows, at)?),
            "TEXT" => Arc::new(column::<String, StringArray>(rows, at)?),
            other => anyhow::bail!("column `{name}` is {other}, which is no BIGINT, DOUBLE or STRING"),
        };
        Ok((name.clone(), array))
    });
    let batch = RecordBatch::try_from_iter_with_nullable(
        arrays
            .collect::<anyhow::Result<Vec<_>>>()?
            .into_iter()
            .map(|(name, array)| (name, array, true)),
    )?;
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, &batch.schema())?;
    writer.write(&batch)?;
    writer.finish()?;
    drop(writer);
    Ok(bytes)
}

fn column<'r, T, A>(rows: &'r [PgRow], at: usize) -> sqlx::Result<A>
where
    T: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    A: FromIterator<Option<T>>,
{
    rows.iter().map(|row| row.try_get::<Option<T>, _>(at)).collect()
}

/// What is told of a statement, or of one of its chunks.
fn told(workspace: &Workspace, id: &str, chunk: Option<&str>) -> Response {
    let mut state = workspace.lock();
    let url = state.url.clone();
    let Some(one) = state.warehouse.as_mut().and_then(|all| all.find(id)) else {
        return error(
            StatusCode::NOT_FOUND,
            "RESOURCE_DOES_NOT_EXIST",
            &format!("The statement {id} was not found."),
        );
    };
    let nothing = Answer::default();
    let answer = one.answer.as_ref().unwrap_or(&nothing);
    let links = |number: usize| {
        let rows_before: usize = answer.chunks.iter().take(number).map(|(rows, _)| rows).sum();
        let link = answer.chunks.get(number).map(|(rows, bytes)| {
            let mut link = json!({
                "chunk_index": number,
                "row_offset": rows_before,
                "row_count": rows,
                "byte_count": bytes.len(),
                "external_link": format!("{url}/signed/{id}/{number}?X-Amz-Signature=5a1e"),
                "expiration": "2099-01-01T00:00:00.000Z",
            });
            if number + 1 < answer.chunks.len() {
                link["next_chunk_index"] = json!(number + 1);
                link["next_chunk_internal_link"] = json!(format!(
                    "/api/2.0/sql/statements/{id}/result/chunks/{}",
                    number + 1
                ));
            }
            link
        });
        Value::Array(link.into_iter().collect())
    };
    if let Some(number) = chunk {
        return match number.parse::<usize>() {
            Ok(number) if number < answer.chunks.len() => {
                Json(json!({ "external_links": links(number) })).into_response()
            }
            _ => invalid(&format!("There is no chunk {number}.")),
        };
    }
    let status = match &one.record.state {
        StatementState::Pending => json!({ "state": "PENDING" }),
        StatementState::Running => json!({ "state": "RUNNING" }),
        StatementState::Canceled => json!({ "state": "CANCELED" }),
        StatementState::Failed(sql_state) => json!({
            "state": "FAILED",
            "error": { "error_code": "BAD_REQUEST", "message": answer.message },
            "sql_state": sql_state,
        }),
        StatementState::Succeeded => json!({ "state": "SUCCEEDED" }),
    };
    let mut body = json!({ "statement_id": id, "status": status });
    if one.record.state == StatementState::Succeeded {
        body["manifest"] = json!({
            "format": "ARROW_STREAM",
            "schema": { "column_count": answer.columns.len(), "columns": answer.columns },
            "total_chunk_count": answer.chunks.len(),
            "total_row_count": one.record.rows,
            "truncated": false,
        });
        body["result"] = if answer.chunks.is_empty() {
            json!({})
        } else {
            json!({ "external_links": links(0) })
        };
    }
    Json(body).into_response()
}

fn cancel(workspace: &Workspace, id: &str) -> Response {
    if let Some(one) = workspace.lock().warehouse.as_mut().and_then(|all| all.find(id))
        && matches!(
            one.record.state,
            StatementState::Pending | StatementState::Running
        )
    {
        one.record.state = StatementState::Canceled;
        if let Some(task) = &one.task {
            task.abort();
        }
    }
    Json(json!({})).into_response()
}

fn download(workspace: &Workspace, id: &str, number: &str) -> Response {
    let mut state = workspace.lock();
    let one = state.warehouse.as_mut().and_then(|all| all.find(id));
    let chunk = one
        .and_then(|one| one.answer.as_ref())
        .zip(number.parse::<usize>().ok())
        .and_then(|(answer, number)| answer.chunks.get(number));
    match chunk {
        Some((_, bytes)) => bytes.clone().into_response(),
        None => (StatusCode::NOT_FOUND, "<Error><Code>NoSuchKey</Code></Error>").into_response(),
    }
}

/// What the place that keeps chunks says to somebody who shows a token besides.
pub(super) fn refuse_download(headers: &HeaderMap, query: &HashMap<String, String>) -> Option<Response> {
    if headers.contains_key(header::AUTHORIZATION) {
        let text =
            "<Error><Code>InvalidArgument</Code><Message>Only one auth mechanism allowed</Message></Error>";
        return Some((StatusCode::BAD_REQUEST, text).into_response());
    }
    (!query.contains_key("X-Amz-Signature"))
        .then(|| (StatusCode::FORBIDDEN, "<Error><Code>AccessDenied</Code></Error>").into_response())
}
