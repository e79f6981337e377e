//! Bytes become a model, or a refusal: first the digest, then the size, then the format's rules.

use schemas::Sha256Digest;
use sha2::{Digest, Sha256};

use crate::artifact::ModelArtifact;
use crate::model::Model;
use crate::validate::InvalidArtifact;

/// Largest accepted document, in bytes (64 MiB).
pub const ARTIFACT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Why bytes are not the model that was meant.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The bytes are not the ones that were trained or validated.
    #[error(
        "the artefact's sha256 is `{found}`, expected `{expected}`: these are not the bytes that were meant"
    )]
    Digest {
        /// What was expected.
        expected: Sha256Digest,
        /// What the bytes have.
        found: Sha256Digest,
    },
    /// More than [`ARTIFACT_BYTES_MAX`] bytes.
    #[error("the artefact has {bytes} bytes, more than the {ARTIFACT_BYTES_MAX} allowed")]
    TooLarge {
        /// Size found.
        bytes: usize,
    },
    /// Not a document of the format.
    #[error("the artefact is not a model document: {}", schemas::told(.0))]
    Malformed(#[from] serde_json::Error),
    /// A document that breaks a rule.
    #[error("the artefact breaks the format: {}", schemas::told(.0))]
    Invalid(#[from] InvalidArtifact),
}

/// SHA-256 of exactly these bytes.
pub fn digest_of(bytes: &[u8]) -> Sha256Digest {
    match Sha256Digest::new(hex::encode(Sha256::digest(bytes))) {
        Ok(digest) => digest,
        Err(error) => unreachable!("a SHA-256 in lower-case hex is a digest: {error}"),
    }
}

/// Reads a model whose bytes have the expected digest.
///
/// # Errors
/// [`LoadError`]; a wrong digest names both digests.
pub fn load(bytes: &[u8], expected: &Sha256Digest) -> Result<Model, LoadError> {
    if bytes.len() > ARTIFACT_BYTES_MAX {
        return Err(LoadError::TooLarge { bytes: bytes.len() });
    }
    let found = digest_of(bytes);
    if found != *expected {
        return Err(LoadError::Digest {
            expected: expected.clone(),
            found,
        });
    }
    let artifact: ModelArtifact = serde_json::from_slice(bytes)?;
    Ok(Model::new(artifact)?)
}
