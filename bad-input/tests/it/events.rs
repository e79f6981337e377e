//! The envelope and the bodies of all kinds.

use bad_input::{Target, Verdict};
use chrono::SubsecRound as _;
use schemas::{DATA_BYTES_MAX, Event, EventKind, Received, Refusal, decode};
use serde_json::Value;

const CLASSES: [&str; 4] = ["undecodable", "schema_invalid", "unsupported_major", "too_large"];
/// Longest reason, in characters: it is logged and shown.
const REASON_MAX: usize = 1_200;

const WORDS: &[&str] = &[
    "ce-id: ",
    "ce-type: ",
    "ce-subject: ",
    "ce-time: ",
    "ce-source: ",
    "ce-specversion: 1.0\n",
    "content-type: application/cloudevents+json\n",
    "application/cloudevents",
    "ce-traceparent: ",
    "traceparent: ",
    "tracestate: ",
    "vigie.drift.detected.v1",
    ".v2",
    "%0d%0a",
    "\n\n",
    "2026-01-01T00:00:00Z",
    "00000000-0000-0000-0000-000000000000",
    "\"as_of\":",
    "\"data\":{",
    "[[[[[[[[",
    "{\"a\":",
];

/// The released samples: headers and body of each.
fn samples() -> Vec<(Vec<(String, String)>, Value)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../schemas/golden");
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    let samples = paths.iter().filter_map(|path| {
        let name = path.to_str()?;
        let stem = name.strip_suffix(".json")?;
        if stem.ends_with(".expected") {
            return None;
        }
        let sample: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let headers = sample["headers"].as_object()?.iter();
        let headers = headers.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()));
        Some((headers.collect(), sample["data"].clone()))
    });
    samples.collect()
}

/// Refused under a class, with a reason that fits into a line.
fn refused(refusal: &Refusal) -> Verdict {
    let (class, reason) = (refusal.class(), refusal.to_string());
    assert!(CLASSES.contains(&class), "{class}");
    assert!(
        !reason.is_empty() && reason.chars().count() <= REASON_MAX,
        "{} characters: {reason}",
        reason.chars().count()
    );
    assert!(!reason.chars().any(char::is_control), "{reason:?}");
    Err(class.to_owned())
}

/// What was read is written back, and read again as it was.
fn survives(received: &Received) {
    let mut expected = received.clone();
    // Headers carry milliseconds.
    expected.attributes.time = expected.attributes.time.trunc_subsecs(3);
    let headers = received.attributes.to_headers();
    for (name, value) in &headers {
        assert!(
            value.bytes().all(|byte| byte.is_ascii_graphic()),
            "{name}: {value:?}"
        );
    }
    let body = received.event.to_json().unwrap();
    let again = decode(headers.iter().map(|(name, value)| (*name, value.as_str())), &body);
    assert_eq!(again.as_ref(), Ok(&expected));
}

fn read_envelope(input: &[u8]) -> Verdict {
    let split = input.windows(2).position(|two| two == b"\n\n");
    let (head, body) = split.map_or((input, &b""[..]), |at| (&input[..at], &input[at + 2..]));
    let Ok(head) = std::str::from_utf8(head) else {
        return Err("not_text".to_owned());
    };
    let headers = head.lines().filter_map(|line| line.split_once(": "));
    match decode(headers, body) {
        Ok(received) => {
            survives(&received);
            Ok(())
        }
        Err(refusal) => refused(&refusal),
    }
}

fn read_body(input: &[u8]) -> Verdict {
    let split = input.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let name = String::from_utf8_lossy(&input[..split]);
    let Some(kind) = EventKind::ALL.iter().find(|kind| kind.file_stem() == name) else {
        return Err("no_kind".to_owned());
    };
    let body = &input[(split + 1).min(input.len())..];
    match Event::from_json(*kind, body) {
        Ok(event) => {
            let written = event.to_json().unwrap();
            // Nothing grows beyond measure on its way.
            assert!(
                written.len() <= body.len() * 8 + 4_096,
                "{} from {}",
                written.len(),
                body.len()
            );
            let again = Event::from_json(*kind, &written);
            assert_eq!(again.as_ref(), Ok(&event));
            assert_eq!(again.unwrap().to_json().unwrap(), written);
            Ok(())
        }
        Err(refusal) => refused(&refusal),
    }
}

#[test]
fn any_envelope_is_read_and_survives_or_is_refused_under_a_class() {
    let text = |headers: &[(String, String)]| -> String {
        headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\n"))
            .collect()
    };
    let samples = samples();
    let samples = samples
        .iter()
        .map(|(headers, data)| format!("{}\n{data}", text(headers)).into_bytes());
    let target = Target {
        name: "envelope",
        words: WORDS,
        samples: samples.collect(),
        bytes_max: DATA_BYTES_MAX + 4_096,
        slow: false,
        read: &read_envelope,
    };
    target.run();
}

#[test]
fn any_body_is_read_and_survives_or_is_refused_under_a_class() {
    let stem = |headers: &[(String, String)]| {
        let kind = headers
            .iter()
            .find(|(name, _)| name == "ce-type")
            .and_then(|(_, value)| EventKind::from_ce_type(value));
        kind.unwrap().file_stem()
    };
    let samples: Vec<Vec<u8>> = samples()
        .iter()
        .map(|(headers, data)| format!("{}\n{data}", stem(headers)).into_bytes())
        .collect();
    for kind in EventKind::ALL {
        let there = samples
            .iter()
            .any(|sample| sample.starts_with(kind.file_stem().as_bytes()));
        assert!(there, "no sample of {kind}");
    }
    let target = Target {
        name: "body",
        words: WORDS,
        samples,
        bytes_max: DATA_BYTES_MAX,
        slow: false,
        read: &read_body,
    };
    target.run();
}
