//! JSON Schemas and the AsyncAPI document, made from the event types.
