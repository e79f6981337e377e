//! JSON Schemas and the AsyncAPI document, made from the event types.
//!
//! `cargo xtask schemas` writes what [`generated_files`] returns; a test and `cargo xtask schemas --check`
//! compare. The output depends on nothing but the types: same source, same bytes.

mod asyncapi;
mod json_schema;
mod print;

use serde_json::Value;

use crate::EventKind;

pub use asyncapi::{GOLDEN, HEADERS, Header};

/// One generated file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GeneratedFile {
    /// Path relative to the folder of this crate, with `/`.
    pub path: String,
    /// The whole text, with a newline at the end.
    pub contents: String,
}

/// Every generated file: a JSON Schema per event and the AsyncAPI document.
pub fn generated_files() -> Vec<GeneratedFile> {
    let schemas = EventKind::ALL.iter().map(|kind| GeneratedFile {
        path: json_schema_path(*kind),
        contents: print::to_text(&json_schema(*kind)),
    });
    let asyncapi = GeneratedFile {
        path: "asyncapi.json".to_owned(),
        contents: print::to_text(&asyncapi()),
    };
    schemas.chain(std::iter::once(asyncapi)).collect()
}

/// Where the JSON Schema of an event lies, relative to the folder of this crate.
pub fn json_schema_path(kind: EventKind) -> String {
    format!("json/{}.json", kind.file_stem())
}

/// The JSON Schema (2020-12) of an event's body, open to fields that a later release adds.
pub fn json_schema(kind: EventKind) -> Value {
    json_schema::of(kind)
}

/// The AsyncAPI 3.0 document: channels, messages, headers, who sends and who receives.
pub fn asyncapi() -> Value {
    asyncapi::document()
}
