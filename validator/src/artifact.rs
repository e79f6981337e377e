//! The candidate's bytes, from a file or from the tracking server; their digest is computed anew.

use std::future::Future;
use std::path::{Component, Path, PathBuf};

use anyhow::Context as _;
use schemas::events::Artifact;
use scoring::{ARTIFACT_BYTES_MAX, LoadError, Model};
use url::Url;

use crate::config::{Login, Mlflow};

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

/// A place where candidates lie.
trait Store {
    /// The bytes at an address; at most [`ARTIFACT_BYTES_MAX`].
    fn fetch(&self, uri: &str) -> impl Future<Output = Result<Vec<u8>, ArtifactError>> + Send;
}

/// Every place where candidates may lie.
#[derive(Debug)]
pub struct Artifacts {
    files: Files,
    tracking: Option<Tracking>,
}

impl Artifacts {
    /// Files in `folder`, and a tracking server if there is one.
    ///
    /// # Errors
    /// When the client for it cannot be made, or the working directory, which a relative folder begins at, not found out.
    pub fn new(folder: &Path, mlflow: Option<&Mlflow>) -> anyhow::Result<Self> {
        Ok(Self {
            files: Files {
                folder: std::path::absolute(folder).context("use the folder of `artifacts.dir`")?,
            },
            tracking: mlflow.map(Tracking::new).transpose()?,
        })
    }

    /// Reads, checks and prepares a candidate.
    pub async fn load(&self, artifact: &Artifact) -> Result<Model, ArtifactError> {
        let uri = artifact.uri.as_str();
        let bytes = match (
            uri.split_once(':').map_or("", |(scheme, _)| scheme),
            &self.tracking,
        ) {
            ("file", _) => self.files.fetch(uri).await?,
            ("mlflow-artifacts", Some(tracking)) => tracking.fetch(uri).await?,
            ("mlflow-artifacts", None) => {
                return Err(missing(
                    uri,
                    "`mlflow.tracking_uri` (MLFLOW_TRACKING_URI) is not set",
                ));
            }
            _ => {
                return Err(missing(
                    uri,
                    "only `file:///…` and `mlflow-artifacts:/…` are read",
                ));
            }
        };
        Ok(scoring::load(&bytes, &artifact.sha256)?)
    }
}

/// `file:///…`: a folder that trainer and validator share. An event names the file, so nothing outside of it is looked at.
#[derive(Debug)]
struct Files {
    folder: PathBuf,
}

impl Store for Files {
    async fn fetch(&self, uri: &str) -> Result<Vec<u8>, ArtifactError> {
        let url = Url::parse(uri).map_err(|error| missing(uri, error))?;
        let path = url
            .to_file_path()
            .map_err(|()| missing(uri, "it is no path on this machine"))?;
        let of_io = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => missing(uri, error),
            _ => unreachable(uri, error),
        };
        // Before anything is asked of the file system: whether a file exists elsewhere is nobody's business.
        let elsewhere = || missing(uri, "it is not inside `artifacts.dir`");
        let climbs = path.components().any(|part| part == Component::ParentDir);
        if climbs || !path.starts_with(&self.folder) {
            return Err(elsewhere());
        }
        let folder = tokio::fs::canonicalize(&self.folder).await.map_err(of_io)?;
        let path = tokio::fs::canonicalize(&path).await.map_err(of_io)?;
        if !path.starts_with(&folder) {
            return Err(elsewhere());
        }
        let found = tokio::fs::metadata(&path).await.map_err(of_io)?;
        // A pipe or device could be read for ever.
        if !found.is_file() {
            return Err(missing(uri, "it is no file"));
        }
        if found.len() > ARTIFACT_BYTES_MAX as u64 {
            return Err(missing(
                uri,
                format!("it has {} bytes, more than {ARTIFACT_BYTES_MAX}", found.len()),
            ));
        }
        tokio::fs::read(&path).await.map_err(of_io)
    }
}

/// `mlflow-artifacts:/…`: what the tracking server keeps.
#[derive(Debug)]
struct Tracking {
    client: reqwest::Client,
    base: Url,
    login: Login,
}

impl Tracking {
    fn new(mlflow: &Mlflow) -> anyhow::Result<Self> {
        chassis::outgoing::warn_http("mlflow.tracking_uri", &mlflow.uri);
        let client = chassis::outgoing::client(mlflow.timeout)
            .build()
            .context("make a client for the tracking server")?;
        Ok(Self {
            client,
            base: mlflow.uri.clone(),
            login: mlflow.login.clone(),
        })
    }

    /// The address of an artefact below the tracking server; `..` does not lead out of it.
    fn address(&self, uri: &str) -> Option<Url> {
        let path = uri
            .strip_prefix("mlflow-artifacts:/")
            .filter(|path| !path.starts_with('/'))?;
        let mut url = self.base.clone();
        url.set_query(None);
        url.set_fragment(None);
        let mut segments = url.path_segments_mut().ok()?;
        segments
            .pop_if_empty()
            .extend(["api", "2.0", "mlflow-artifacts", "artifacts"]);
        for segment in path.split('/') {
            if ["", ".", ".."].contains(&segment) {
                return None;
            }
            segments.push(segment);
        }
        drop(segments);
        Some(url)
    }
}

impl Store for Tracking {
    async fn fetch(&self, uri: &str) -> Result<Vec<u8>, ArtifactError> {
        let address = self
            .address(uri)
            .ok_or_else(|| missing(uri, "it is no path below the tracking server"))?;
        let request = match &self.login {
            Login::None => self.client.get(address),
            Login::Token(token) => self.client.get(address).bearer_auth(token.expose()),
            Login::Basic(name, password) => {
                self.client.get(address).basic_auth(name, Some(password.expose()))
            }
        };
        let mut response = request
            .send()
            .await
            .map_err(|error| unreachable(uri, error.without_url()))?;
        let status = response.status();
        if !status.is_success() {
            let cause = format!("the tracking server answers {status}");
            // The model is not there; every other answer may be about rights, load or a proxy, which people can mend.
            let final_answer = [400, 404, 410].contains(&status.as_u16());
            return Err(if final_answer {
                missing(uri, cause)
            } else {
                unreachable(uri, cause)
            });
        }
        // A login page would pass for the bytes of a model.
        let kind = response.headers().get(reqwest::header::CONTENT_TYPE);
        if kind.is_some_and(|kind| kind.as_bytes().to_ascii_lowercase().starts_with(b"text/html")) {
            return Err(unreachable(uri, "a page for people came instead of the artefact"));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| unreachable(uri, error.without_url()))?
        {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > ARTIFACT_BYTES_MAX {
                return Err(missing(
                    uri,
                    format!("it has more than {ARTIFACT_BYTES_MAX} bytes"),
                ));
            }
        }
        Ok(bytes)
    }
}

fn missing(uri: &str, cause: impl std::fmt::Display) -> ArtifactError {
    ArtifactError::Missing {
        uri: uri.to_owned(),
        cause: cause.to_string(),
    }
}

fn unreachable(uri: &str, cause: impl std::fmt::Display) -> ArtifactError {
    ArtifactError::Unreachable {
        uri: uri.to_owned(),
        cause: cause.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn tracking(base: &str) -> Tracking {
        chassis::install_crypto();
        let mlflow = Mlflow {
            uri: base.parse().unwrap(),
            login: Login::None,
            timeout: Duration::from_secs(1),
        };
        Tracking::new(&mlflow).unwrap()
    }

    #[test]
    fn addresses_stay_below_the_tracking_server() {
        let at_root = tracking("http://127.0.0.1:5000");
        let below = tracking("https://ml.example.org/mlflow/");
        let path = "mlflow-artifacts:/1/abc/artifacts/model/model.json";
        let shown = |tracking: &Tracking, uri: &str| tracking.address(uri).map(|url| url.to_string());
        assert_eq!(
            shown(&at_root, path).as_deref(),
            Some("http://127.0.0.1:5000/api/2.0/mlflow-artifacts/artifacts/1/abc/artifacts/model/model.json")
        );
        assert_eq!(
            shown(&below, path).as_deref(),
            Some(
                "https://ml.example.org/mlflow/api/2.0/mlflow-artifacts/artifacts/1/abc/artifacts/model/model.json"
            )
        );
        for bad in [
            "../../../../admin",
            "a/../../b",
            "/127.0.0.1:9/x",
            "//elsewhere/x",
            "a//b",
            "",
            "a/./b",
        ] {
            assert_eq!(
                shown(&at_root, &format!("mlflow-artifacts:/{bad}")),
                None,
                "{bad}"
            );
        }
        assert_eq!(
            shown(&at_root, "mlflow-artifacts:/1/a?b#c").as_deref(),
            Some("http://127.0.0.1:5000/api/2.0/mlflow-artifacts/artifacts/1/a%3Fb%23c")
        );
    }
}
