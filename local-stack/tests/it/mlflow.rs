//! A real MLflow server comes up, keeps its store over a restart, and goes without a trace.

use local_stack::peers::mlflow::{Mlflow, VERSION};
use serde_json::{Value, json};

use crate::support::{http_client, runs_below};

async fn create_experiment(url: &str, name: &str) -> (u16, Value) {
    let url = format!("{url}/api/2.0/mlflow/experiments/create");
    let response = http_client()
        .post(url)
        .json(&json!({ "name": name }))
        .send()
        .await
        .unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

#[tokio::test]
async fn a_real_mlflow_serves_restarts_and_goes() {
    let mlflow = Mlflow::start().await.unwrap();
    let version = http_client()
        .get(format!("{}/version", mlflow.url()))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert_eq!(version, VERSION);
    assert_eq!(
        create_experiment(&mlflow.url(), "fraud-cards").await,
        (200, json!({ "experiment_id": "1" }))
    );

    // Artefacts go through the server: no S3, no shared folder.
    let artefact = format!(
        "{}/api/2.0/mlflow-artifacts/artifacts/1/run/artifacts/model.json",
        mlflow.url()
    );
    let put = http_client().put(&artefact).body("{}").send().await.unwrap();
    assert!(put.status().is_success(), "{put:?}");

    let (pid, url) = (mlflow.pid().unwrap(), mlflow.url());
    mlflow.kill().await.unwrap();
    assert!(http_client().get(format!("{url}/health")).send().await.is_err());
    mlflow.restart().await.unwrap();
    assert_ne!(mlflow.pid().unwrap(), pid);
    assert_eq!(mlflow.url(), url);
    let (status, refusal) = create_experiment(&url, "fraud-cards").await;
    assert_eq!(
        (status, &refusal["error_code"]),
        (400, &json!("RESOURCE_ALREADY_EXISTS"))
    );
    assert_eq!(
        http_client()
            .get(&artefact)
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap(),
        "{}"
    );

    let folder = mlflow.folder().to_owned();
    assert!(runs_below(&folder), "the check below can tell");
    drop(mlflow);
    assert!(!runs_below(&folder));
    assert!(!folder.exists());
    assert!(
        http_client().get(format!("{url}/health")).send().await.is_err(),
        "the workers are gone, too"
    );
}
