//! The folder of model artefacts, addressed by content: a file's name is the SHA-256 of its bytes.
//!
//! Written whole or not at all (temporary file, fsync, rename, fsync of the folder); read with the digest checked.
//! All replicas of trainer-bridge and validator see the same folder.

use std::io::{self, Read as _, Write as _};
use std::path::{Component, Path, PathBuf};

use schemas::Sha256Digest;
use schemas::events::Artifact;
use scoring::{ARTIFACT_BYTES_MAX, FORMAT, digest_of};
use url::Url;

/// The folder.
#[derive(Debug, Clone)]
pub struct ArtifactStore {
    folder: PathBuf,
}

/// Why an artefact cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// The folder or file cannot be used now.
    #[error("artefact `{path}`: {source}")]
    Io {
        /// Where.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The address is none of this folder's.
    #[error("artefact address `{uri}` is not inside `artifacts.dir` ({folder})")]
    Elsewhere {
        /// The address.
        uri: String,
        /// The folder.
        folder: String,
    },
    /// The bytes are not the ones that were meant.
    #[error(
        "artefact `{uri}` has sha256 `{found}`, expected `{expected}`: these are not the bytes that were meant"
    )]
    Digest {
        /// The address.
        uri: String,
        /// Meant.
        expected: Sha256Digest,
        /// Found.
        found: Sha256Digest,
    },
    /// More bytes than an artefact may have.
    #[error("artefact `{uri}` has more than {ARTIFACT_BYTES_MAX} bytes")]
    TooLarge {
        /// The address.
        uri: String,
    },
}

impl ArtifactError {
    /// Whether trying again may help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() != io::ErrorKind::NotFound)
    }
}

impl ArtifactStore {
    /// A store in `folder`, which is created when the first artefact is written.
    ///
    /// # Errors
    /// When the working directory, which a relative folder begins at, cannot be found out.
    pub fn new(folder: &Path) -> io::Result<Self> {
        Ok(Self {
            folder: std::path::absolute(folder)?,
        })
    }

    /// The folder, absolute.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where bytes of a digest lie: `ab/abcd….json`.
    fn path_of(&self, digest: &Sha256Digest) -> PathBuf {
        self.folder
            .join(&digest.as_str()[..2])
            .join(format!("{digest}.json"))
    }

    /// Writes bytes; they are on disk when this returns. The same bytes again change nothing.
    ///
    /// # Errors
    /// [`ArtifactError::Io`].
    pub fn put(&self, bytes: &[u8]) -> Result<Artifact, ArtifactError> {
        let digest = digest_of(bytes);
        let path = self.path_of(&digest);
        let fail = |source| ArtifactError::Io {
            path: path.display().to_string(),
            source,
        };
        let uri = Url::from_file_path(&path).map_err(|()| {
            fail(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not an absolute path",
            ))
        })?;
        let artifact = Artifact {
            uri: uri.into(),
            sha256: digest,
            bytes: bytes.len() as u64,
            format: FORMAT.to_owned(),
        };
        if self.get(&artifact).is_err() {
            write_whole(&path, bytes).map_err(fail)?;
        }
        Ok(artifact)
    }

    /// The bytes of an artefact, whose digest is computed anew.
    ///
    /// # Errors
    /// [`ArtifactError`]; other bytes than meant are [`ArtifactError::Digest`].
    pub fn get(&self, artifact: &Artifact) -> Result<Vec<u8>, ArtifactError> {
        let elsewhere = || ArtifactError::Elsewhere {
            uri: artifact.uri.clone(),
            folder: self.folder.display().to_string(),
        };
        let path = Url::parse(&artifact.uri)
            .ok()
            .filter(|url| url.scheme() == "file");
        let path = path
            .and_then(|url| url.to_file_path().ok())
            .ok_or_else(elsewhere)?;
        // A `..` whose slashes were `%2f` comes through a URL; links are made only by whoever owns the folder.
        let climbs = path.components().any(|part| part == Component::ParentDir);
        if climbs || !path.starts_with(&self.folder) {
            return Err(elsewhere());
        }
        let fail = |source| ArtifactError::Io {
            path: path.display().to_string(),
            source,
        };
        let file = std::fs::File::open(&path).map_err(fail)?;
        let mut bytes = Vec::new();
        file.take(ARTIFACT_BYTES_MAX as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(fail)?;
        if bytes.len() > ARTIFACT_BYTES_MAX {
            return Err(ArtifactError::TooLarge {
                uri: artifact.uri.clone(),
            });
        }
        let found = digest_of(&bytes);
        if found == artifact.sha256 {
            Ok(bytes)
        } else {
            Err(ArtifactError::Digest {
                uri: artifact.uri.clone(),
                expected: artifact.sha256.clone(),
                found,
            })
        }
    }
}

fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path
        .parent()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no folder"))?;
    std::fs::create_dir_all(folder)?;
    // Two writers of the same bytes must not share a temporary file.
    let temporary = folder.join(format!(".{}.tmp", uuid::Uuid::new_v4().simple()));
    let written = (|| {
        let mut file = std::fs::File::create_new(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    })();
    if written.is_err() {
        // Best effort: the error that matters is the first one.
        drop(std::fs::remove_file(&temporary));
    }
    written?;
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_lies_under_its_digest() {
        let folder = tempfile::tempdir().unwrap();
        let store = ArtifactStore::new(folder.path()).unwrap();
        let artifact = store.put(b"abc").unwrap();
        assert_eq!(artifact, store.put(b"abc").unwrap());
        assert!(
            artifact.uri.ends_with(&format!("/ba/{}.json", artifact.sha256)),
            "{}",
            artifact.uri
        );
        assert_eq!(store.get(&artifact).unwrap(), b"abc");
        let left: Vec<_> = std::fs::read_dir(folder.path().join("ba")).unwrap().collect();
        assert_eq!(left.len(), 1, "no temporary file is left: {left:?}");
    }

    #[test]
    fn a_swapped_byte_is_refused_and_written_anew_only_by_a_new_training() {
        let folder = tempfile::tempdir().unwrap();
        let store = ArtifactStore::new(folder.path()).unwrap();
        let artifact = store.put(b"abc").unwrap();
        let path = Url::parse(&artifact.uri).unwrap().to_file_path().unwrap();
        std::fs::write(&path, b"abd").unwrap();
        let error = store.get(&artifact).unwrap_err();
        assert!(
            matches!(&error, ArtifactError::Digest { .. }) && !error.is_transient(),
            "{error}"
        );
        assert_eq!(store.put(b"abc").unwrap(), artifact);
        assert_eq!(store.get(&artifact).unwrap(), b"abc");
    }

    #[test]
    fn other_places_are_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let store = ArtifactStore::new(&folder.path().join("in")).unwrap();
        let artifact = ArtifactStore::new(outside.path()).unwrap().put(b"abc").unwrap();
        assert!(matches!(
            store.get(&artifact),
            Err(ArtifactError::Elsewhere { .. })
        ));
        let climbing = |up: &str| format!("file://{}/in/{up}", folder.path().display());
        std::fs::write(folder.path().join("secret"), b"abc").unwrap();
        for uri in [
            &climbing("../secret"),
            &climbing("..%2fsecret"),
            &climbing("%2e%2e%2Fsecret"),
            "https://example.org/x",
            "file:///etc/passwd",
            "s3://x/y",
            "",
            "file:relative",
        ] {
            let artifact = Artifact {
                uri: uri.to_owned(),
                ..artifact.clone()
            };
            assert!(
                matches!(store.get(&artifact), Err(ArtifactError::Elsewhere { .. })),
                "{uri}"
            );
        }
    }
}
