//! The candidate's bytes, from a file or from the tracking server; their digest is computed anew.

use std::time::Duration;

use schemas::events::Artifact;
use scoring::{ARTIFACT_BYTES_MAX, LoadError, Model};

use crate::config::Mlflow;

/// Why there is no candidate to judge.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// The world may recover.
    #[error("artefact `{uri}` cannot be read now: {cause}")]
    Unreachable {
        /// Where it should be.
        uri: String,
        /// Why not.
        cause: String,
    },
    /// It is not there, or its address cannot be used.
    #[error("artefact `{uri}` cannot be had: {cause}")]
    Missing {
        /// Where it should be.
        uri: String,
        /// Why not.
        cause: String,
    },
    /// The bytes are not the ones that were trained, or no model.
    #[error("artefact is refused: {0}")]
    Refused(#[from] LoadError),
}

/// Reads, checks and prepares a candidate.
pub async fn load(artifact: &Artifact, mlflow: Option<&Mlflow>) -> Result<Model, ArtifactError> {
    let bytes = if let Some(path) = artifact.uri.strip_prefix("mlflow-artifacts:/") {
        let mlflow = mlflow.ok_or_else(|| missing(artifact, "MLFLOW_TRACKING_URI is not set"))?;
        from_mlflow(artifact, mlflow, path).await?
    } else {
        from_file(artifact).await?
    };
    Ok(scoring::load(&bytes, &artifact.sha256)?)
}

async fn from_file(artifact: &Artifact) -> Result<Vec<u8>, ArtifactError> {
    let url = url::Url::parse(&artifact.uri).map_err(|error| missing(artifact, &error.to_string()))?;
    if url.scheme() != "file" {
        return Err(missing(artifact, "only `file://` and `mlflow-artifacts:/` are read"));
    }
    let path = url.to_file_path().map_err(|()| missing(artifact, "it is no path on this machine"))?;
    let size = tokio::fs::metadata(&path).await.map_err(|error| of_io(artifact, &error))?.len();
    if size > ARTIFACT_BYTES_MAX as u64 {
        return Err(missing(artifact, &format!("it has {size} bytes, more than {ARTIFACT_BYTES_MAX}")));
    }
    tokio::fs::read(&path).await.map_err(|error| of_io(artifact, &error))
}

fn of_io(artifact: &Artifact, error: &std::io::Error) -> ArtifactError {
    if error.kind() == std::io::ErrorKind::NotFound {
        missing(artifact, &error.to_string())
    } else {
        unreachable(artifact, &error.to_string())
    }
}

async fn from_mlflow(artifact: &Artifact, mlflow: &Mlflow, path: &str) -> Result<Vec<u8>, ArtifactError> {
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(60))
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| unreachable(artifact, &error.to_string()))?;
    let base = mlflow.uri.as_str().trim_end_matches('/');
    let mut request =
        client.get(format!("{base}/api/2.0/mlflow-artifacts/artifacts/{}", path.trim_start_matches('/')));
    if let Some(token) = &mlflow.token {
        request = request.bearer_auth(token.expose());
    }
    let mut response = request.send().await.map_err(|error| unreachable(artifact, &error.to_string()))?;
    let status = response.status();
    if status.is_server_error() || status.as_u16() == 429 {
        return Err(unreachable(artifact, &format!("the tracking server answers {status}")));
    }
    if !status.is_success() {
        return Err(missing(artifact, &format!("the tracking server answers {status}")));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| unreachable(artifact, &error.to_string()))? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > ARTIFACT_BYTES_MAX {
            return Err(missing(artifact, &format!("it has more than {ARTIFACT_BYTES_MAX} bytes")));
        }
    }
    Ok(bytes)
}

fn missing(artifact: &Artifact, cause: &str) -> ArtifactError {
    ArtifactError::Missing { uri: artifact.uri.clone(), cause: cause.to_owned() }
}

fn unreachable(artifact: &Artifact, cause: &str) -> ArtifactError {
    ArtifactError::Unreachable { uri: artifact.uri.clone(), cause: cause.to_owned() }
}
