//! The CloudEvents envelope: what is written is read back, and headers can carry nothing but headers.

use chrono::{DateTime, Utc};
use proptest::prelude::*;
use schemas::generate::HEADERS;
use schemas::{Attributes, EventId, EventKind, ModelName, Received, SOURCE_PREFIX, TraceContext, decode};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::golden;

fn instant(text: &str) -> DateTime<Utc> {
    text.parse().expect("an instant")
}

fn attributes(model: ModelName) -> Attributes {
    Attributes {
        id: EventId::from(Uuid::from_u128(7)),
        source: format!("{SOURCE_PREFIX}vigie"),
        kind: EventKind::RetrainAsked,
        time: instant("2026-03-14T15:00:00.500Z"),
        model,
        correlation_id: EventId::from(Uuid::from_u128(7)),
        causation_id: None,
        trace: TraceContext::default(),
    }
}

fn body() -> Vec<u8> {
    json!({ "as_of": "2026-03-14T15:00:00Z", "requested_by": "cli:alice", "reason": "a test", "force": false })
        .to_string()
        .into_bytes()
}

fn read(attributes: &Attributes) -> Received {
    let headers = attributes.to_headers();
    let pairs = headers.iter().map(|(name, value)| (*name, value.as_str()));
    decode(pairs, &body()).unwrap_or_else(|refusal| panic!("{refusal}"))
}

/// The structured form of the same event.
fn structured(golden: &golden::Golden) -> Value {
    let received = golden.received();
    let attributes = &received.attributes;
    let mut fields: Map<String, Value> = Map::new();
    let mut put = |name: &str, value: String| fields.insert(name.to_owned(), Value::String(value));
    put("specversion", "1.0".to_owned());
    put("id", attributes.id.to_string());
    put("source", attributes.source.clone());
    put("type", attributes.kind.ce_type().to_owned());
    put("time", attributes.time.to_rfc3339());
    put("subject", attributes.model.to_string());
    put("correlationid", attributes.correlation_id.to_string());
    if let Some(cause) = attributes.causation_id {
        put("causationid", cause.to_string());
    }
    if let Some(parent) = &attributes.trace.parent {
        put("traceparent", parent.clone());
    }
    if let Some(state) = &attributes.trace.state {
        put("tracestate", state.clone());
    }
    fields.insert("data".to_owned(), golden.sample["data"].clone());
    Value::Object(fields)
}

#[test]
fn structured_mode_says_the_same_as_binary_mode() {
    for golden in golden::all() {
        for content_type in [
            "application/cloudevents+json",
            "application/cloudevents+json; charset=UTF-8",
            "Application/CloudEvents+JSON",
        ] {
            let body = structured(&golden).to_string();
            let read = decode([("Content-Type", content_type)], body.as_bytes());
            assert_eq!(
                read.as_ref(),
                Ok(&golden.received()),
                "{} as {content_type}",
                golden.name
            );
        }
    }
}

#[test]
fn names_of_headers_are_read_without_regard_to_case() {
    let expected = read(&attributes(ModelName::new("fraud-cards").unwrap()));
    let headers = expected.attributes.to_headers();
    let spellings: [fn(&str) -> String; 2] = [str::to_ascii_uppercase, |name| {
        name.split('-')
            .map(|word| word[..1].to_ascii_uppercase() + &word[1..])
            .collect::<Vec<_>>()
            .join("-")
    }];
    for spell in spellings {
        let spelled: Vec<(String, &str)> = headers
            .iter()
            .map(|(name, value)| (spell(name), value.as_str()))
            .collect();
        let pairs = spelled.iter().map(|(name, value)| (name.as_str(), *value));
        assert_eq!(decode(pairs, &body()).as_ref(), Ok(&expected), "{spelled:?}");
    }
}

#[test]
fn values_are_decoded_exactly_once() {
    // What looks encoded is a name like any other: it must not be decoded a second time.
    let odd = attributes(ModelName::new("100%25 %41%2541").unwrap());
    let written = odd
        .to_headers()
        .into_iter()
        .find(|(name, _)| *name == "ce-subject")
        .unwrap()
        .1;
    assert_eq!(written, "100%2525%20%2541%252541");
    assert_eq!(read(&odd).attributes.model.as_str(), "100%25 %41%2541");
}

#[test]
fn the_spans_of_origin_and_hop_are_told_apart() {
    let (origin, hop) = (
        "00-11111111111111111111111111111111-2222222222222222-01",
        "00-33333333333333333333333333333333-4444444444444444-01",
    );
    let mut with_origin = attributes(ModelName::new("m").unwrap());
    with_origin.trace.parent = Some(origin.to_owned());
    let mut headers = with_origin.to_headers();
    headers
        .iter_mut()
        .filter(|(name, _)| *name == "traceparent")
        .for_each(|(_, value)| hop.clone_into(value));
    let pairs = || headers.iter().map(|(name, value)| (*name, value.as_str()));
    let parent = |pairs: Vec<(&str, &str)>| decode(pairs, &body()).unwrap().attributes.trace.parent.unwrap();
    assert_eq!(
        parent(pairs().collect()),
        origin,
        "the origin wins over a hop that rewrote its header"
    );
    let without_origin = pairs().filter(|(name, _)| *name != "ce-traceparent").collect();
    assert_eq!(
        parent(without_origin),
        hop,
        "the hop stands in for a producer that knows no extension"
    );
}

#[test]
fn a_foreign_trace_state_is_neither_decoded_nor_encoded_on_the_plain_header() {
    let mut kept = attributes(ModelName::new("m").unwrap());
    kept.trace.state = Some("vendor=a%20b".to_owned());
    let value = |name: &str| {
        kept.to_headers()
            .into_iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value)
    };
    assert_eq!(value("tracestate").as_deref(), Some("vendor=a%20b"));
    assert_eq!(value("ce-tracestate").as_deref(), Some("vendor=a%2520b"));
    assert_eq!(
        read(&kept).attributes.trace.state.as_deref(),
        Some("vendor=a%20b")
    );
    kept.trace.state = Some("one=1, two=2\r\nBcc: x".to_owned());
    let names: Vec<&str> = kept.to_headers().into_iter().map(|(name, _)| name).collect();
    assert!(
        !names.contains(&"tracestate"),
        "what fits no header is left out of the plain one"
    );
}

#[test]
fn every_header_that_is_written_is_documented_and_fits_its_pattern() {
    let documented: Vec<&str> = HEADERS.iter().map(|header| header.name).collect();
    for golden in golden::all() {
        let headers = golden.received().attributes.to_headers();
        for (name, _) in &headers {
            assert!(documented.contains(name), "header {name} is not in HEADERS");
        }
        for header in HEADERS.iter().filter(|header| header.required) {
            assert!(
                headers.iter().any(|(name, _)| *name == header.name),
                "{} is not written",
                header.name
            );
        }
    }
}

#[test]
fn a_first_event_is_its_own_loop() {
    let first = attributes(ModelName::new("m").unwrap());
    let headers = first.to_headers();
    let without = headers
        .iter()
        .filter(|(name, _)| *name != "ce-correlationid")
        .map(|(name, value)| (*name, value.as_str()));
    assert_eq!(
        decode(without, &body()).unwrap().attributes.correlation_id,
        first.id
    );
}

proptest! {
    #[test]
    fn any_model_name_survives_the_journey(name in "\\PC{1,128}") {
        let Ok(model) = ModelName::new(name) else { return Ok(()) };
        prop_assert_eq!(&read(&attributes(model.clone())).attributes.model, &model);
    }

    #[test]
    fn no_header_can_break_out_of_its_line(
        model in any::<String>(),
        source in any::<String>(),
        parent in any::<String>(),
        state in any::<String>(),
    ) {
        let model = ModelName::new(model).unwrap_or_else(|_| ModelName::new("m").unwrap());
        let mut hostile = attributes(model);
        hostile.source = source;
        hostile.trace = TraceContext { parent: Some(parent), state: Some(state) };
        for (name, value) in hostile.to_headers() {
            prop_assert!(value.bytes().all(|byte| byte.is_ascii_graphic()), "{}: {:?}", name, value);
        }
    }

    #[test]
    fn any_attribute_text_survives_the_journey(source in "(?s).{1,60}", parent in "(?s).{0,60}", state in "(?s).{0,60}") {
        let mut odd = attributes(ModelName::new("m").unwrap());
        odd.source = source;
        odd.trace = TraceContext { parent: Some(parent), state: Some(state) };
        prop_assert_eq!(read(&odd).attributes, odd);
    }
}
