//! The AsyncAPI 3.0 document: one for the whole loop, each operation naming the service it belongs to.
//!
//! The NATS binding knows only `queue`; what it cannot say (stream, durable consumer) is in `x-nats-…` fields.

use serde_json::{Map, Value, json};

use crate::attributes::{CONTENT_TYPE_JSON, SPEC_VERSION};
use crate::decode::{DATA_BYTES_MAX, DEPTH_MAX};
use crate::flow::{PARTIES, STREAM};
use crate::{EventKind, RECORDED_TIME, SOURCE_PREFIX};

/// A header of an event message.
#[derive(Debug, Clone, Copy)]
pub struct Header {
    /// Name as written; readers compare without regard to case.
    pub name: &'static str,
    /// Whether every message has it.
    pub required: bool,
    /// A pattern of the decoded value.
    pub pattern: Option<&'static str>,
    /// What it says.
    pub description: &'static str,
}

const UUID: Option<&str> = Some("^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$");
const TRACE_PARENT: Option<&str> = Some("^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$");

const fn header(
    name: &'static str,
    required: bool,
    pattern: Option<&'static str>,
    description: &'static str,
) -> Header {
    Header {
        name,
        required,
        pattern,
        description,
    }
}

/// Every header that an event of ours may carry.
pub const HEADERS: &[Header] = &[
    header(
        "ce-specversion",
        true,
        Some("^1\\.0$"),
        "CloudEvents version; any other is refused.",
    ),
    header(
        "ce-id",
        true,
        UUID,
        "The event, globally unique. UUIDv7 for what begins spontaneously, UUIDv5 of cause and type for what follows from another event: the same thing said twice has the same id.",
    ),
    header(
        "ce-source",
        true,
        Some("^/vigie/[a-z-]+$"),
        "The service that says it, not the instance.",
    ),
    header("ce-type", true, None, "What is said, with its major version."),
    header(
        "ce-time",
        true,
        None,
        "When it was said by the clock of the service's host, RFC 3339, UTC, milliseconds. That clock may be wrong, and nothing is decided or ordered by it. The instant that was judged is `as_of` in the body.",
    ),
    header(
        RECORDED_TIME,
        false,
        None,
        "When it was recorded by PostgreSQL's clock, which all services share, RFC 3339, UTC, milliseconds: the one to compare events by. The relay adds it (CloudEvents' recordedtime extension).",
    ),
    header(
        "ce-subject",
        true,
        None,
        "The model it is about, percent-encoded; 1 to 128 characters when decoded.",
    ),
    header(
        "ce-datacontenttype",
        true,
        Some("^application/json$"),
        "Media type of the body.",
    ),
    header(
        "ce-dataschema",
        true,
        None,
        "`$id` of the JSON Schema of the body.",
    ),
    header(
        "ce-correlationid",
        true,
        UUID,
        "Id of the event that began the loop.",
    ),
    header(
        "ce-causationid",
        false,
        UUID,
        "Id of the direct cause; absent for what began spontaneously.",
    ),
    header(
        "ce-traceparent",
        false,
        TRACE_PARENT,
        "W3C trace context of the span that recorded the event.",
    ),
    header(
        "ce-tracestate",
        false,
        None,
        "W3C trace state of that span, percent-encoded.",
    ),
    header(
        "traceparent",
        false,
        TRACE_PARENT,
        "As `ce-traceparent`; a hop may rewrite it.",
    ),
    header(
        "tracestate",
        false,
        None,
        "As `ce-tracestate`, not encoded; a hop may rewrite it.",
    ),
    header(
        "content-type",
        true,
        Some("^application/json$"),
        "Binary mode. Readers also accept `application/cloudevents+json` (structured mode).",
    ),
    header(
        "Nats-Msg-Id",
        false,
        None,
        "What the broker de-duplicates by: `ce-id`, with `#r<n>` when offered again.",
    ),
    header(
        "Nats-Expected-Stream",
        false,
        None,
        "The stream that must take the message; a wrongly bound subject fails loudly.",
    ),
];

macro_rules! golden {
    ($($stem:literal,)*) => {
        /// A sample of every released event, as its producer wrote it: file stem and text.
        pub const GOLDEN: &[(&str, &str)] =
            &[$(($stem, include_str!(concat!("../../golden/", $stem, ".json"))),)*];
    };
}

golden! {
    "drift.check.requested.v1",
    "drift.checked.v1",
    "drift.detected.v1",
    "retrain.asked.v1",
    "retrain.requested.v1",
    "retrain.declined.v1",
    "training.started.v1",
    "training.failed.v1",
    "model.trained.v1",
    "model.validated.v1",
    "model.promoted.v1",
    "promotion.refused.v1",
    "alert.sent.v1",
    "alert.failed.v1",
}

/// The whole document.
pub(super) fn document() -> Value {
    let mut channels: Map<String, Value> = EventKind::ALL
        .iter()
        .map(|kind| (kind.subject().to_owned(), channel(*kind)))
        .collect();
    channels.insert("dead".to_owned(), dead_channel());
    let mut messages: Map<String, Value> = EventKind::ALL
        .iter()
        .map(|kind| (kind.file_stem().to_owned(), message(*kind)))
        .collect();
    messages.insert("dead".to_owned(), dead_message());
    json!({
        "asyncapi": "3.0.0",
        "id": "urn:vigie:events",
        "info": {
            "title": "Vigie: the events of the drift, retrain, validate, promote loop",
            "version": env!("CARGO_PKG_VERSION"),
            "description": description(),
            "license": { "name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0" },
        },
        "defaultContentType": CONTENT_TYPE_JSON,
        "servers": {
            "nats": {
                "host": "127.0.0.1:4222",
                "protocol": "nats",
                "description": "nats-server 2.12 or newer with JetStream; the address is the setting `nats.url`.",
            },
        },
        "channels": channels,
        "operations": operations(),
        "components": {
            "messages": messages,
            "schemas": { "headers": common_headers() },
            "correlationIds": {
                "loop": {
                    "description": "Id of the event that began the loop: the same from the check to the promotion.",
                    "location": "$message.header#/ce-correlationid",
                },
            },
        },
        "x-nats-streams": {
            STREAM: {
                "subjects": roots(),
                "storage": "file",
                "retention": "limits",
                "discard": "new",
                "duplicate_window_seconds": 1200,
                "max_age": "setting `nats.stream_age_max`",
                "max_bytes": "setting `nats.stream_bytes_max`",
            },
            "VIGIE_DEAD": { "subjects": ["dead.>"], "storage": "file", "retention": "limits", "discard": "new" },
        },
    })
}

fn description() -> String {
    let parties: Vec<String> = PARTIES
        .iter()
        .map(|(name, about)| format!("* `{name}`: {about}"))
        .collect();
    let parties = parties.join("\n");
    format!(
        "Every event is a CloudEvent {SPEC_VERSION} in the NATS binding, binary mode: attributes are `ce-…` headers, the body is JSON. \
         Subscribe with any client, e.g. `nats sub drift.detected`. The subject names the event, never the model; \
         the model is the header `ce-subject`.\n\n\
         Delivery is at least once and in no promised order: tell events apart by `ce-id`. \
         Ignore fields you do not know; the major version is part of `ce-type`, and a new major is a new type. \
         Bodies hold aggregates, ids and references, never transaction rows; they have at most {DATA_BYTES_MAX} bytes, \
         nested at most {DEPTH_MAX} deep. Header values are percent-encoded once.\n\n\
         One document for the whole loop; `x-vigie-service` says whose operation it is:\n\n{parties}"
    )
}

fn reference(path: &str) -> Value {
    json!({ "$ref": path })
}

fn roots() -> Vec<String> {
    let mut roots: Vec<String> = EventKind::ALL
        .iter()
        .filter_map(|kind| kind.subject().split('.').next())
        .map(|root| format!("{root}.>"))
        .collect();
    roots.sort();
    roots.dedup();
    roots
}

fn channel(kind: EventKind) -> Value {
    let stem = kind.file_stem();
    json!({
        "address": kind.subject(),
        "title": kind.subject(),
        "summary": kind.summary(),
        "servers": [reference("#/servers/nats")],
        "messages": { stem: reference(&format!("#/components/messages/{stem}")) },
        "x-nats-stream": STREAM,
        "x-public-contract": kind.is_public_contract(),
    })
}

fn message(kind: EventKind) -> Value {
    let stem = kind.file_stem();
    json!({
        "name": kind.ce_type(),
        "title": stem,
        "summary": kind.summary(),
        "contentType": CONTENT_TYPE_JSON,
        "headers": {
            "allOf": [
                reference("#/components/schemas/headers"),
                {
                    "type": "object",
                    "properties": {
                        "ce-type": { "const": kind.ce_type() },
                        "ce-dataschema": { "const": kind.schema_uri() },
                        "ce-source": {
                            "enum": kind.publishers().iter().map(|name| format!("{SOURCE_PREFIX}{name}")).collect::<Vec<_>>(),
                        },
                    },
                },
            ],
        },
        "payload": reference(&format!("./{}", super::json_schema_path(kind))),
        "correlationId": reference("#/components/correlationIds/loop"),
        "examples": [example(stem)],
    })
}

fn example(stem: &str) -> Value {
    let text = GOLDEN
        .iter()
        .find(|(known, _)| *known == stem)
        .map(|(_, text)| *text);
    let sample: Value = serde_json::from_str(text.unwrap_or_else(|| panic!("no golden sample of {stem}")))
        .unwrap_or_else(|error| panic!("golden sample of {stem}: {error}"));
    json!({ "name": "golden", "headers": sample["headers"], "payload": sample["data"] })
}

fn common_headers() -> Value {
    let property = |header: &Header| {
        let mut schema = json!({ "type": "string", "description": header.description });
        if let Some(pattern) = header.pattern {
            schema["pattern"] = pattern.into();
        }
        (header.name.to_owned(), schema)
    };
    json!({
        "type": "object",
        "description": "CloudEvents attributes and trace context. Values outside U+0021 to U+007E, and space, `\"` and `%`, are percent-encoded, exactly once.",
        "required": HEADERS.iter().filter(|header| header.required).map(|header| header.name).collect::<Vec<_>>(),
        "properties": HEADERS.iter().map(property).collect::<Map<_, _>>(),
    })
}

fn operations() -> Map<String, Value> {
    let mut operations = Map::new();
    for kind in EventKind::ALL {
        let (subject, stem) = (kind.subject(), kind.file_stem());
        let base = |action: &str, service: &str| {
            json!({
                "action": action,
                "channel": reference(&format!("#/channels/{subject}")),
                "messages": [reference(&format!("#/channels/{subject}/messages/{stem}"))],
                "x-vigie-service": service,
            })
        };
        for service in kind.publishers() {
            let mut operation = base("send", service);
            operation["summary"] = format!("{service} publishes {subject}.").into();
            operations.insert(format!("{service}.send.{subject}"), operation);
        }
        for service in kind.readers() {
            let mut operation = base("receive", service);
            operation["summary"] = format!("{service} reads {subject}; replicas share the work.").into();
            operation["bindings"] = json!({ "nats": { "queue": service, "bindingVersion": "0.1.0" } });
            operation["x-nats-consumer"] = json!({
                "durable": service,
                "stream": STREAM,
                "kind": "pull",
                "ack_policy": "explicit",
                "deliver_policy": "all",
                "max_deliver": -1,
                "ack_wait": "setting `nats.ack_wait`",
                "max_ack_pending": "setting `nats.ack_pending_max`",
            });
            operations.insert(format!("{service}.receive.{subject}"), operation);
        }
    }
    operations
}

fn dead_channel() -> Value {
    json!({
        "address": "dead.{reader}.{class}",
        "title": "dead",
        "summary": "A message that no retry can help was parked: its body and headers as they came, and why.",
        "servers": [reference("#/servers/nats")],
        "parameters": {
            "reader": { "description": "The service that gave up on it." },
            "class": {
                "description": "Why, as a class.",
                "enum": [
                    "undecodable", "schema_invalid", "unsupported_major", "too_large", "unauthorized_source",
                    "handler_permanent", "deliveries_exhausted", "unknown_model",
                ],
            },
        },
        "messages": { "dead": reference("#/components/messages/dead") },
        "x-nats-stream": "VIGIE_DEAD",
        "x-public-contract": false,
    })
}

fn dead_message() -> Value {
    let text = |about: &str| json!({ "type": "string", "description": about });
    json!({
        "name": "dead",
        "title": "dead",
        "summary": "A parked message: its headers as they came, and these.",
        "headers": {
            "type": "object",
            "required": ["vigie-dead-consumer", "vigie-dead-class", "vigie-dead-subject", "vigie-dead-reason"],
            "properties": {
                "vigie-dead-consumer": text("The service that gave up on it."),
                "vigie-dead-class": text("Why, as a class."),
                "vigie-dead-subject": text("The subject it came on."),
                "vigie-dead-reason": text("Why, in words; printable ASCII, at most 400 characters."),
            },
        },
        "payload": { "description": "The body as it came, cut after 262144 bytes." },
    })
}
