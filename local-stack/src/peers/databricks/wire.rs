//! The JSON that runs and errors take on the wire.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Map, Value, json};

use super::run::{Dialect, Run, RunState};

pub(super) fn error(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!({ "error_code": code, "message": message }))).into_response()
}

pub(super) fn invalid(message: &str) -> Response {
    error(StatusCode::BAD_REQUEST, "INVALID_PARAMETER_VALUE", message)
}

/// The answer of `runs/get`.
pub(super) fn run(run: &Run, state: &RunState, workspace_url: &str) -> Value {
    let mut body = json!({
        // One-time runs get a job id of their own, which is not in the workspace.
        "job_id": run.job_id.unwrap_or(run.id + 500),
        "run_id": run.id,
        "number_in_job": run.id,
        "original_attempt_run_id": run.id,
        "creator_user_name": "vigie@example.com",
        "run_name": run.request["run_name"].as_str().unwrap_or("Untitled"),
        "run_type": if run.job_id.is_some() { "JOB_RUN" } else { "SUBMIT_RUN" },
        "trigger": "ONE_TIME",
        "format": "MULTI_TASK",
        "start_time": run.started_ms,
        "end_time": if state.is_final() { run.started_ms + 1_000 * u64::from(run.polls) } else { 0 },
        "setup_duration": 0,
        "execution_duration": 0,
        "cleanup_duration": 0,
        "run_duration": 1_000 * u64::from(run.polls),
        "run_page_url": format!("{workspace_url}/?o=0#job/{}/run/{}", run.job_id.unwrap_or(run.id + 500), run.id),
        "job_parameters": parameters(&run.request["job_parameters"]),
    });
    let tasks = run.task_ids.iter().zip(task_keys(run)).map(|(id, key)| {
        let mut task =
            json!({ "run_id": id, "task_key": key, "attempt_number": 0, "start_time": run.started_ms });
        tell(&mut task, state, run.dialect);
        task
    });
    body["tasks"] = tasks.collect();
    tell(&mut body, state, run.dialect);
    body
}

/// The answer of `runs/get-output` for a task.
pub(super) fn output(run: &Run, task_run_id: i64, workspace_url: &str) -> Value {
    let mut metadata = self::run(run, run.state(), workspace_url);
    metadata["run_id"] = task_run_id.into();
    let mut body = json!({ "metadata": metadata });
    match &run.error {
        Some(error) => {
            body["error"] = error.as_str().into();
            body["error_trace"] = format!("Traceback (most recent call last):\n{error}").into();
        }
        None => body["notebook_output"] = json!({ "result": run.output, "truncated": false }),
    }
    body
}

fn task_keys(run: &Run) -> Vec<String> {
    match run.request["tasks"].as_array() {
        Some(tasks) => tasks
            .iter()
            .map(|task| task["task_key"].as_str().unwrap_or_default().to_owned())
            .collect(),
        None => vec!["main".to_owned()],
    }
}

/// `{"a": "b"}` comes back as `[{"name": "a", "value": "b"}]`.
fn parameters(given: &Value) -> Value {
    let empty = Map::new();
    given
        .as_object()
        .unwrap_or(&empty)
        .iter()
        .map(|(name, value)| json!({ "name": name, "value": value }))
        .collect()
}

fn tell(body: &mut Value, state: &RunState, dialect: Dialect) {
    if dialect != Dialect::NewOnly {
        body["state"] = old(state);
    }
    if dialect != Dialect::OldOnly {
        body["status"] = new(state);
    }
}

fn old(state: &RunState) -> Value {
    let (life_cycle, result, message) = match state {
        RunState::Blocked => ("BLOCKED", None, ""),
        RunState::Pending => ("PENDING", None, "Waiting for cluster"),
        RunState::Queued => ("QUEUED", None, "Queued due to reaching maximum concurrent runs"),
        RunState::Running => ("RUNNING", None, "In run"),
        RunState::Terminating => ("TERMINATING", None, ""),
        RunState::WaitingForRetry => ("WAITING_FOR_RETRY", None, ""),
        RunState::Terminated(outcome) => ("TERMINATED", Some(&outcome.result_state), &*outcome.message),
        RunState::Skipped => ("SKIPPED", None, "An active run for the same job already exists."),
        RunState::InternalError(message) => ("INTERNAL_ERROR", None, &**message),
        RunState::Unheard(name) => (&**name, None, ""),
    };
    let mut told = json!({
        "life_cycle_state": life_cycle,
        "state_message": message,
        "user_cancelled_or_timedout": result.is_some_and(|result| result == "CANCELED" || result == "TIMEDOUT"),
    });
    if let Some(result) = result {
        told["result_state"] = result.as_str().into();
    }
    told
}

fn new(state: &RunState) -> Value {
    let details =
        |code: &str, kind: &str, message: &str| json!({ "code": code, "type": kind, "message": message });
    match state {
        RunState::Blocked => json!({ "state": "BLOCKED" }),
        RunState::Pending => json!({ "state": "PENDING" }),
        RunState::Queued => json!({
            "state": "QUEUED",
            "queue_details": { "code": "MAX_CONCURRENT_RUNS_REACHED", "message": "Queued due to reaching maximum concurrent runs" },
        }),
        RunState::Running => json!({ "state": "RUNNING" }),
        RunState::Terminating => json!({ "state": "TERMINATING" }),
        RunState::WaitingForRetry => json!({ "state": "WAITING" }),
        RunState::Terminated(outcome) => json!({
            "state": "TERMINATED",
            "termination_details": details(&outcome.code, &outcome.kind, &outcome.message),
        }),
        RunState::Skipped => json!({
            "state": "TERMINATED",
            "termination_details": details("SKIPPED", "CLIENT_ERROR", "An active run for the same job already exists."),
        }),
        RunState::InternalError(message) => json!({
            "state": "TERMINATED",
            "termination_details": details("INTERNAL_ERROR", "INTERNAL_ERROR", message),
        }),
        RunState::Unheard(name) => json!({ "state": name }),
    }
}
