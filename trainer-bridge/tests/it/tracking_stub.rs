//! The few answers of a tracking server that a finished Databricks run needs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

/// What the notebook logged.
#[derive(Debug, Clone, Default)]
pub struct Logged {
    /// Tags besides the token.
    pub tags: HashMap<String, String>,
    /// Metrics.
    pub metrics: HashMap<String, f64>,
    /// Files by path.
    pub files: HashMap<String, Vec<u8>>,
    /// Searches that find nothing before one finds the run.
    pub late: usize,
}

/// A tracking server on loopback that has one run, whatever token is asked for.
pub struct TrackingStub {
    pub url: String,
    task: tokio::task::JoinHandle<()>,
}

type Shared = Arc<Mutex<Logged>>;

impl TrackingStub {
    pub async fn start(logged: Logged) -> Self {
        let router = Router::new()
            .route("/api/2.0/mlflow/experiments/get-by-name", get(experiment))
            .route("/api/2.0/mlflow/runs/search", post(search))
            .route("/api/2.0/mlflow-artifacts/artifacts/{*path}", get(file))
            .with_state(Arc::new(Mutex::new(logged)));
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.expect("serve") });
        Self { url, task }
    }
}

impl Drop for TrackingStub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn experiment(Query(query): Query<HashMap<String, String>>) -> Response {
    if query.get("experiment_name").map(String::as_str) == Some("/Shared/vigie-training") {
        Json(json!({ "experiment": { "experiment_id": "7", "lifecycle_stage": "active" } })).into_response()
    } else {
        let body = json!({ "error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such experiment" });
        (StatusCode::NOT_FOUND, Json(body)).into_response()
    }
}

async fn search(State(logged): State<Shared>, Json(asked): Json<Value>) -> Json<Value> {
    let mut logged = logged.lock().expect("no panic");
    if logged.late > 0 {
        logged.late -= 1;
        return Json(json!({}));
    }
    let filter = asked["filter"].as_str().unwrap_or_default();
    let token = filter
        .strip_prefix("tags.`vigie.token` = '")
        .and_then(|rest| rest.strip_suffix('\''));
    let token = token.expect("a search by token");
    let mut tags: Vec<Value> = logged
        .tags
        .iter()
        .map(|(key, value)| json!({ "key": key, "value": value }))
        .collect();
    tags.push(json!({ "key": "vigie.token", "value": token }));
    let metrics: Vec<Value> = logged
        .metrics
        .iter()
        .map(|(key, value)| json!({ "key": key, "value": value, "timestamp": 1, "step": 0 }))
        .collect();
    let info = json!({
        "run_id": "abc123", "experiment_id": "7", "status": "FINISHED",
        "artifact_uri": "mlflow-artifacts:/7/abc123/artifacts",
    });
    Json(json!({ "runs": [{ "info": info, "data": { "tags": tags, "metrics": metrics } }] }))
}

async fn file(State(logged): State<Shared>, Path(path): Path<String>) -> Response {
    let logged = logged.lock().expect("no panic");
    match path
        .strip_prefix("7/abc123/artifacts/")
        .and_then(|path| logged.files.get(path))
    {
        Some(bytes) => bytes.clone().into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
