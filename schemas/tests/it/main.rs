//! The contract: goldens, schemas, the AsyncAPI document, and what the envelope refuses.

mod asyncapi;
mod envelope;
mod golden;
mod json_schema;
mod refusals;
