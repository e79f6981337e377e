//! Everything that reads what others wrote, under broken input.

mod artefact;
mod events;
mod headers;
mod identifiers;
mod settings;
