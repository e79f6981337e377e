//! The model artefact: an open JSON format, its digest, and the scoring of rows.
