//! What is no event of ours is refused with the right class, and nothing makes the reader panic.

use proptest::prelude::*;
use schemas::{DATA_BYTES_MAX, DEPTH_MAX, EventKind, Finite, Received, Refusal, decode};
use serde_json::{Value, json};

use crate::golden;

/// Headers and body of a message that is fine.
struct Message {
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Message {
    fn of(kind: EventKind) -> Self {
        let golden = golden::all()
            .into_iter()
            .find(|golden| golden.name == kind.file_stem())
            .expect("golden");
        let fields = golden.sample["headers"].as_object().expect("headers");
        Self {
            headers: fields
                .iter()
                .map(|(name, value)| (name.clone(), value.as_str().expect("text").to_owned()))
                .collect(),
            body: golden.sample["data"].to_string().into_bytes(),
        }
    }

    fn asked() -> Self {
        Self::of(EventKind::RetrainAsked)
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self
    }

    fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    fn decode(&self) -> Result<Received, Refusal> {
        decode(
            self.headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str())),
            &self.body,
        )
    }

    fn class(&self) -> &'static str {
        self.decode()
            .map_or_else(|refusal| refusal.class(), |_| "accepted")
    }

    fn reason(&self) -> String {
        self.decode().expect_err("a refusal").to_string()
    }
}

/// The body of `retrain.asked` with `reason` replaced by raw JSON.
fn asked_with_reason(raw: &str) -> String {
    format!(r#"{{"as_of":"2026-03-14T15:00:00Z","requested_by":"cli:alice","force":false,"reason":{raw}}}"#)
}

/// The same with a field that this release does not know.
fn asked_with_extra(raw: &str) -> String {
    format!(
        r#"{{"as_of":"2026-03-14T15:00:00Z","requested_by":"cli:alice","force":false,"reason":"r","extra":{raw}}}"#
    )
}

#[test]
fn required_attributes_are_required_and_named() {
    for name in [
        "ce-specversion",
        "ce-id",
        "ce-source",
        "ce-type",
        "ce-time",
        "ce-subject",
    ] {
        let message = Message::asked().without(name);
        assert_eq!(message.class(), "undecodable", "{name}");
        let attribute = name.trim_start_matches("ce-");
        assert!(
            message.reason().contains(&format!("`{attribute}` is missing")),
            "{}",
            message.reason()
        );
    }
    for name in [
        "ce-correlationid",
        "ce-causationid",
        "ce-traceparent",
        "traceparent",
        "ce-dataschema",
        "ce-datacontenttype",
    ] {
        assert_eq!(Message::asked().without(name).class(), "accepted", "{name}");
    }
}

#[test]
fn malformed_attributes_are_refused_with_what_was_found() {
    let cases = [
        ("ce-id", "4711"),
        ("ce-id", ""),
        ("ce-correlationid", "x"),
        ("ce-causationid", "x"),
        ("ce-time", "yesterday"),
        ("ce-time", "2026-03-14"),
        ("ce-source", ""),
        ("ce-subject", ""),
        ("ce-subject", "a%0D%0ABcc:%20x"),
        ("ce-subject", "a%00"),
        // Overlong UTF-8: not a space, not anything.
        ("ce-subject", "%C0%A0"),
        ("ce-source", "%C0%A0"),
        ("ce-traceparent", "%FF"),
    ];
    for (name, value) in cases {
        let message = Message::asked().with(name, value);
        assert_eq!(message.class(), "undecodable", "{name}: {value:?}");
        assert!(
            message.reason().contains(name.trim_start_matches("ce-")),
            "{}",
            message.reason()
        );
    }
    let long = Message::asked().with("ce-id", &"x".repeat(10_000));
    assert!(
        long.reason().len() < 300,
        "a reason quotes little of what it refuses"
    );
}

#[test]
fn only_cloudevents_1_0_is_accepted() {
    for version in ["0.3", "1.1", "2.0", "1", ""] {
        let message = Message::asked().with("ce-specversion", version);
        assert_eq!(message.class(), "undecodable", "{version}");
        assert!(message.reason().contains("only 1.0"), "{}", message.reason());
    }
}

#[test]
fn what_this_release_does_not_know_is_refused_as_such_whatever_its_body() {
    for ce_type in [
        "vigie.retrain.asked.v2",
        "vigie.retrain.asked",
        "vigie.retrain.asked.v1.1",
        "VIGIE.RETRAIN.ASKED.V1",
        "com.example.other.v1",
        "",
    ] {
        for body in ["{}", "not json"] {
            let message = Message::asked().with("ce-type", ce_type).body(body);
            let found = message.decode();
            assert_eq!(
                found,
                Err(Refusal::UnsupportedMajor(ce_type.to_owned())),
                "{ce_type}"
            );
        }
    }
}

#[test]
fn a_body_that_breaks_its_schema_is_refused_with_the_place() {
    for body in [
        "",
        "null",
        "[]",
        "{}",
        "{",
        "not json",
        "\u{feff}{}",
        &asked_with_reason("null"),
        &asked_with_reason("7"),
        &asked_with_reason("\"r\"} trailing"),
    ] {
        let message = Message::asked().body(body);
        assert_eq!(message.class(), "schema_invalid", "{body:?}");
        assert!(
            message.reason().contains("line 1 column"),
            "{body:?}: {}",
            message.reason()
        );
    }
    assert_eq!(
        Message::asked().body(b"{\"as_of\":\"\xff\"}".as_slice()).class(),
        "schema_invalid",
        "invalid UTF-8"
    );
}

#[test]
fn a_field_that_appears_twice_is_refused_wherever_it_is() {
    let twice_known =
        r#"{"as_of":"2026-03-14T15:00:00Z","requested_by":"a","reason":"r","force":false,"force":true}"#;
    let bodies = [
        twice_known.to_owned(),
        asked_with_extra(r#"{"a":1,"a":2}"#),
        asked_with_extra(r#"[{"deep":[{"a":1,"a":1}]}]"#),
        // The same name, spelled with an escape.
        asked_with_extra(r#"{"a":1,"\u0061":2}"#),
    ];
    for body in &bodies {
        let message = Message::asked().body(body.as_str());
        assert_eq!(message.class(), "schema_invalid", "{body}");
        assert!(
            message.reason().contains("duplicate field"),
            "{}",
            message.reason()
        );
    }
    // A map of the writer's own names (`inputs` of a rule) is no exception.
    let mut requested = Message::of(EventKind::RetrainRequested);
    let text =
        String::from_utf8(requested.body)
            .unwrap()
            .replacen(r#""inputs":{"#, r#""inputs":{"x":1,"x":2,"#, 1);
    requested.body = text.into_bytes();
    assert_eq!(requested.class(), "schema_invalid");
}

#[test]
fn structured_mode_refuses_twice_named_fields_too() {
    let structured = |data: &str, more: &str| {
        format!(
            r#"{{"specversion":"1.0","id":"00000000-0000-0000-0000-000000000007","source":"/vigie/vigie","type":"vigie.retrain.asked.v1",
                "time":"2026-03-14T15:00:00Z","subject":"m"{more},"data":{data}}}"#
        )
    };
    let class = |text: &str| {
        let read = decode(
            [("content-type", "application/cloudevents+json")],
            text.as_bytes(),
        );
        read.map_or_else(|refusal| refusal.class(), |_| "accepted")
    };
    let data = asked_with_reason("\"r\"");
    assert_eq!(class(&structured(&data, "")), "accepted");
    assert_eq!(class(&structured(&data, r#","subject":"n""#)), "undecodable");
    let twice = data.replace("\"force\":false", "\"force\":false,\"force\":true");
    assert_eq!(class(&structured(&twice, "")), "undecodable");
    assert_eq!(class(&structured("{}", "")), "schema_invalid");
    assert_eq!(class(&structured(&data, r#","correlationid":7"#)), "undecodable");
    assert_eq!(
        class(&structured(&data, "").replace("asked.v1", "asked.v9")),
        "unsupported_major"
    );
    assert_eq!(
        class(&structured(&data, "").replace(r#""data":"#, r#""daten":"#)),
        "undecodable"
    );
    for text in ["", "[]", "7", "{", "{}"] {
        assert_eq!(class(text), "undecodable", "{text:?}");
    }
}

#[test]
fn nesting_is_bounded_before_any_parser_recurses() {
    // The body itself is one level.
    let nested =
        |levels: usize| asked_with_extra(&format!("{}{}", "[".repeat(levels - 1), "]".repeat(levels - 1)));
    assert_eq!(Message::asked().body(nested(DEPTH_MAX)).class(), "accepted");
    let deeper = Message::asked().body(nested(DEPTH_MAX + 1));
    assert_eq!(deeper.class(), "undecodable");
    assert!(deeper.reason().contains("32 levels"), "{}", deeper.reason());
    let hostile = Message::asked().body("[".repeat(DATA_BYTES_MAX));
    assert_eq!(hostile.class(), "undecodable");
    // Brackets inside text are text.
    let text = Message::asked().body(asked_with_reason(&json!("[{\"\\".repeat(100)).to_string()));
    assert_eq!(text.class(), "accepted");
}

#[test]
fn bodies_are_bounded_to_the_byte() {
    let sized = |bytes: usize| {
        let padding = bytes - asked_with_reason("\"\"").len();
        Message::asked().body(asked_with_reason(&format!("\"{}\"", "x".repeat(padding))))
    };
    assert_eq!(sized(262_144).class(), "accepted");
    assert_eq!(sized(262_145).decode(), Err(Refusal::TooLarge { bytes: 262_145 }));
    assert_eq!(sized(262_145).class(), "too_large");
}

#[test]
fn no_spelling_of_nan_or_infinity_is_read() {
    for raw in [
        "NaN",
        "Infinity",
        "-Infinity",
        "1e999",
        "-1e999",
        "\"NaN\"",
        "null",
        "nan",
        "1.#QNAN",
    ] {
        let mut message = Message::of(EventKind::DriftDetected);
        let text = String::from_utf8(message.body).unwrap();
        assert!(text.contains("\"psi\":0.612"));
        message.body = text
            .replace("\"psi\":0.612", &format!("\"psi\":{raw}"))
            .into_bytes();
        assert_eq!(message.class(), "schema_invalid", "{raw}");
    }
}

proptest! {
    #[test]
    fn every_finite_number_survives_the_journey(value in prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL | prop::num::f64::ZERO) {
        let text = serde_json::to_string(&Finite::new(value).unwrap()).unwrap();
        let read: Finite = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(read.get().to_bits(), value.to_bits(), "{}", text);
    }

    #[test]
    fn arbitrary_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..400), kind in 0..EventKind::ALL.len()) {
        let message = Message::of(EventKind::ALL[kind]).body(body.clone());
        let _refused_or_read = message.decode();
        let _refused_or_read = decode([("content-type", "application/cloudevents+json")], &body);
        let _refused_or_read = decode([], &body);
    }

    #[test]
    fn arbitrary_headers_never_panic(
        name in prop::sample::select(vec!["ce-id", "ce-type", "ce-time", "ce-source", "ce-subject", "ce-specversion", "ce-correlationid", "ce-traceparent", "content-type"]),
        value in any::<String>(),
    ) {
        let _refused_or_read = Message::asked().with(name, &value).decode();
    }

    #[test]
    fn a_damaged_body_is_refused_or_read_but_never_panics(
        kind in 0..EventKind::ALL.len(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut message = Message::of(EventKind::ALL[kind]);
        for (place, byte) in damage {
            let at = place.index(message.body.len());
            message.body[at] = byte;
        }
        if let Ok(received) = message.decode() {
            // What was read can be written and read again.
            let written: Value = serde_json::from_slice(&received.event.to_json().unwrap()).unwrap();
            let again = message.body(written.to_string()).decode();
            prop_assert_eq!(again, Ok(received));
        }
    }
}
