//! The events that Vigie's services exchange, and nothing else: no I/O, no runtime.
//!
//! * [`events`] – one file per event: the facts it carries, with unit, range, publisher and readers.
//! * [`Event`] – every event this release understands, told apart by its `ce-type`.
//! * [`Attributes`] – the CloudEvents 1.0 context (who, when, why) that travels beside the facts.
//! * [`decode`] – headers and body of a message become a [`Received`] event or a [`Refusal`].
//! * [`ModelName`], [`EventId`], … – identifiers are newtypes; [`Finite`] and [`Share`] are numbers that
//!   cannot be NaN or infinite; [`Window`] is a half-open span of time.
//! * [`flow`] – who publishes an event and who must receive it; [`rights`] – what each may do at the broker.
//! * `generate` (feature) – JSON Schemas and the AsyncAPI document made from these types.
//!
//! A released version of an event is frozen: a compatible change adds an optional field, anything else is
//! a `.v2` published beside `.v1`. Readers ignore unknown fields and refuse unknown majors.

mod attributes;
mod decode;
mod event;
pub mod events;
pub mod flow;
mod ids;
mod numbers;
pub mod rights;
mod unique;
mod window;

#[cfg(feature = "generate")]
pub mod generate;

pub use attributes::{
    Attributes, CONTENT_TYPE_JSON, HeaderError, RECORDED_TIME, SOURCE_PREFIX, SPEC_VERSION, TraceContext,
    told,
};
pub use decode::{DATA_BYTES_MAX, DEPTH_MAX, Received, Refusal, decode};
pub use event::{Event, EventBody, EventKind};
pub use ids::{
    AlertId, CheckId, DecisionId, EventId, InvalidName, JobId, ModelName, ModelVersion, Sha256Digest,
};
pub use numbers::{Finite, NotInRange, Share};
pub use window::{EmptyWindow, Window};
