//! The model artefact `vigie.model.v1`: an open JSON format, its digest, and the scoring of rows.
//!
//! * [`ModelArtifact`] – the document itself: what was trained, on what, how inputs are encoded, and the model.
//! * [`digest_of`], [`load`] – SHA-256 of the exact bytes; bytes that are not the expected ones are refused.
//! * [`ModelArtifact::validate`] – every rule a document has to keep, so that no artefact can panic or loop.
//! * [`Model`] – a validated artefact made ready to score; [`Model::score_rows`] turns columns into scores.
//!
//! Pure: no files, no network, no clock. `README.md` documents the format for writers outside this workspace.

mod artifact;
mod columns;
mod load;
mod model;
mod validate;

pub use artifact::{
    Body, Encoding, FORMAT, Feature, Forest, LEAF, Logistic, ModelArtifact, Standardisation, Tree,
};
pub use columns::{Column, MISSING, Rows, ScoreError};
pub use load::{ARTIFACT_BYTES_MAX, LoadError, digest_of, load};
pub use model::{Model, encode_rows};
pub use validate::{FEATURES_MAX, INPUTS_MAX, InvalidArtifact, TREES_MAX};
