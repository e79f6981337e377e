//! The calls: who may, what is refused, what is done, what is answered.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, Query, State as Shared};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::run::Run;
use super::statements;
use super::wire::{self, error, invalid};
use super::{Call, Fault, Request, State, Workspace};
use crate::peers::http::Wire;

const TOKEN_MAX: usize = 64;
const PARAMETERS_BYTES_MAX: usize = 10_000;
const TASKS_MAX: usize = 100;
/// Run ids are of this size, far beyond 32 bits.
const FIRST_RUN_ID: i64 = 459_312_000_000_001;

pub(super) fn router(workspace: Arc<Workspace>) -> Router {
    Router::new().fallback(take).with_state(workspace)
}

async fn take(
    Shared(workspace): Shared<Arc<Workspace>>,
    ConnectInfo(wire): ConnectInfo<Wire>,
    method: Method,
    uri: Uri,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let call = call_of(&method, uri.path());
    let body: Option<Value> = serde_json::from_slice(&body).ok();
    let (fault, entry) = {
        let mut state = workspace.lock();
        let fault = call
            .and_then(|call| state.faults.get_mut(&call)?.pop_front())
            .unwrap_or(Fault::None);
        state.requests.push(Request {
            call,
            uri: uri.to_string(),
            body: body.clone(),
            status: None,
        });
        (fault, state.requests.len() - 1)
    };
    if let Fault::Slow(time) = fault {
        tokio::time::sleep(time).await;
    }
    let response = match fault {
        Fault::None | Fault::AnswerLost | Fault::Slow(_) => {
            let statement = statements::call_of(method == Method::POST, uri.path());
            let refusal = match call {
                Some(Call::Download) => statements::refuse_download(&headers, &query),
                _ => refuse(&workspace.lock(), &headers),
            };
            match (refusal, statement) {
                (Some(refusal), _) => refusal,
                (None, Some(call)) => statements::serve(&workspace, call, uri.path(), body.as_ref()).await,
                (None, None) => serve(&mut workspace.lock(), call, &query, body),
            }
        }
        Fault::TooManyRequests { ref retry_after } => {
            let mut answer = error(
                StatusCode::TOO_MANY_REQUESTS,
                "REQUEST_LIMIT_EXCEEDED",
                "Too many requests; try again later.",
            );
            if let Some(value) = retry_after.as_deref().and_then(|text| text.parse().ok()) {
                answer.headers_mut().insert(header::RETRY_AFTER, value);
            }
            answer
        }
        Fault::ServerError => error(
            StatusCode::INTERNAL_SERVER_ERROR,
            "INTERNAL_ERROR",
            "Unexpected error.",
        ),
        Fault::Unavailable => error(
            StatusCode::SERVICE_UNAVAILABLE,
            "TEMPORARILY_UNAVAILABLE",
            "The service is taking too long.",
        ),
        Fault::RequestLost => StatusCode::OK.into_response(),
        Fault::Instead { status, ref body } => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            (status, body.clone()).into_response()
        }
    };
    if fault == Fault::RequestLost {
        wire.cut();
        return response;
    }
    workspace.lock().requests[entry].status = Some(response.status().as_u16());
    if fault == Fault::AnswerLost {
        wire.cut();
    }
    response
}

fn call_of(method: &Method, path: &str) -> Option<Call> {
    let statement = statements::call_of(*method == Method::POST, path);
    if statement.is_some() {
        return statement;
    }
    let path = path
        .strip_prefix("/api/2.2/jobs/")
        .or_else(|| path.strip_prefix("/api/2.1/jobs/"))?;
    match (method, path) {
        (&Method::POST, "runs/submit") => Some(Call::Submit),
        (&Method::POST, "run-now") => Some(Call::RunNow),
        (&Method::GET, "runs/get") => Some(Call::Get),
        (&Method::GET, "runs/get-output") => Some(Call::GetOutput),
        (&Method::POST, "runs/cancel") => Some(Call::Cancel),
        _ => None,
    }
}

fn refuse(state: &State, headers: &HeaderMap) -> Option<Response> {
    let given = headers
        .get(header::AUTHORIZATION)
        .map(|value| value.to_str().unwrap_or_default());
    match given {
        None => Some(error(
            StatusCode::UNAUTHORIZED,
            "UNAUTHENTICATED",
            "Credential was not sent.",
        )),
        Some(given) if given != format!("Bearer {}", state.token) => {
            Some(error(StatusCode::FORBIDDEN, "403", "Invalid access token."))
        }
        Some(_) => None,
    }
}

fn serve(
    state: &mut State,
    call: Option<Call>,
    query: &HashMap<String, String>,
    body: Option<Value>,
) -> Response {
    let Some(call) = call else {
        return error(
            StatusCode::NOT_FOUND,
            "ENDPOINT_NOT_FOUND",
            "No API found for this request.",
        );
    };
    let asked = query.get("run_id").map(String::as_str);
    match call {
        Call::Submit | Call::RunNow => match body {
            Some(body) if body.is_object() => create(state, call, body),
            _ => error(
                StatusCode::BAD_REQUEST,
                "MALFORMED_REQUEST",
                "Could not parse request object.",
            ),
        },
        Call::Get => get(state, asked),
        Call::GetOutput => get_output(state, asked),
        Call::Cancel => cancel(state, body.as_ref().and_then(|body| body["run_id"].as_i64())),
        Call::SubmitStatement
        | Call::GetStatement
        | Call::GetChunk
        | Call::CancelStatement
        | Call::Download => unreachable!("statements are served elsewhere"),
    }
}

fn create(state: &mut State, call: Call, body: Value) -> Response {
    let token = body["idempotency_token"]
        .as_str()
        .filter(|token| !token.is_empty());
    if let Some(token) = token {
        if token.chars().count() > TOKEN_MAX {
            return invalid(&format!(
                "idempotency_token must be at most {TOKEN_MAX} characters."
            ));
        }
        if state.deleted_tokens.contains(token) {
            return invalid(&format!("The run of idempotency_token {token} was deleted."));
        }
        if let Some(run) = state.runs.iter().find(|run| run.token.as_deref() == Some(token)) {
            return created(run, call);
        }
    }
    let (job_id, tasks) = match call {
        Call::RunNow => match body["job_id"].as_i64() {
            None => return invalid("Missing required field: job_id"),
            Some(id) if !state.jobs.contains(&id) => return invalid(&format!("Job {id} does not exist.")),
            Some(id) => (Some(id), 1),
        },
        _ => match check_tasks(&body["tasks"]) {
            Ok(count) => (None, count),
            Err(reason) => return invalid(&reason),
        },
    };
    for key in ["job_parameters", "notebook_params", "python_named_params"] {
        if body[key].to_string().len() > PARAMETERS_BYTES_MAX {
            return invalid(&format!("{key} exceeds {PARAMETERS_BYTES_MAX} bytes."));
        }
    }
    let plan = state
        .plans
        .pop_front()
        .unwrap_or_else(|| state.plan_otherwise.clone());
    // A thousand between runs leaves room for the ids of their tasks.
    let last = state.runs.iter().map(|run| run.id).max();
    let id = last.map_or(FIRST_RUN_ID, |last| last + 1_000);
    let task_ids = (1..=tasks as i64).map(|number| id + number).collect();
    let now = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0, |elapsed| elapsed.as_millis() as u64);
    state.runs.push(Run::new((id, task_ids), job_id, body, now, plan));
    created(&state.runs[state.runs.len() - 1], call)
}

fn created(run: &Run, call: Call) -> Response {
    match call {
        Call::RunNow => Json(json!({ "run_id": run.id, "number_in_job": run.id })).into_response(),
        _ => Json(json!({ "run_id": run.id })).into_response(),
    }
}

/// How many tasks there are, or what is wrong with them.
fn check_tasks(tasks: &Value) -> Result<usize, String> {
    let tasks = tasks
        .as_array()
        .filter(|tasks| !tasks.is_empty())
        .ok_or("One of tasks must be set.")?;
    if tasks.len() > TASKS_MAX {
        return Err(format!("At most {TASKS_MAX} tasks."));
    }
    let kinds = [
        "notebook_task",
        "spark_python_task",
        "python_wheel_task",
        "sql_task",
        "spark_jar_task",
        "run_job_task",
    ];
    let mut keys = std::collections::HashSet::new();
    for task in tasks {
        let key = task["task_key"]
            .as_str()
            .filter(|key| !key.is_empty())
            .ok_or("Missing required field: task_key")?;
        if !keys.insert(key) {
            return Err(format!("Duplicate task_key {key}."));
        }
        if kinds.iter().filter(|kind| task[**kind].is_object()).count() != 1 {
            return Err(format!("Task {key} must have exactly one kind of task."));
        }
    }
    Ok(tasks.len())
}

fn get(state: &mut State, asked: Option<&str>) -> Response {
    let State { runs, url, .. } = state;
    match asked.map(str::parse::<i64>) {
        Some(Ok(id)) => match runs.iter_mut().find(|run| run.id == id) {
            Some(run) => {
                let seen = run.poll();
                Json(wire::run(run, &seen, url)).into_response()
            }
            None => invalid(&format!("Run {id} does not exist.")),
        },
        _ => invalid("Missing required field: run_id"),
    }
}

fn get_output(state: &State, asked: Option<&str>) -> Response {
    let Some(Ok(id)) = asked.map(str::parse::<i64>) else {
        return invalid("Missing required field: run_id");
    };
    if state.runs.iter().any(|run| run.id == id) {
        return invalid(
            "Retrieving the output of runs with multiple tasks is not supported. \
             Retrieve the output of each individual task run instead.",
        );
    }
    match state.runs.iter().find(|run| run.task_ids.contains(&id)) {
        Some(run) => Json(wire::output(run, id, &state.url)).into_response(),
        None => invalid(&format!("Run {id} does not exist.")),
    }
}

fn cancel(state: &mut State, id: Option<i64>) -> Response {
    let Some(id) = id else {
        return invalid("Missing required field: run_id");
    };
    match state.runs.iter_mut().find(|run| run.id == id) {
        Some(run) => {
            run.cancel();
            Json(json!({})).into_response()
        }
        None => invalid(&format!("Run {id} does not exist.")),
    }
}
