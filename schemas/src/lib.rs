//! The events as Rust types, their JSON Schemas, the AsyncAPI document and golden samples.
