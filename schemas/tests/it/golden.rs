//! What a released producer wrote is read for ever, and written back as it was.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemas::{Event, EventKind, Received, decode};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

/// A golden file: its name without `.json`, what the producer wrote, and what is written back.
pub struct Golden {
    pub name: String,
    pub sample: Value,
    pub expected: Value,
}

impl Golden {
    pub fn received(&self) -> Received {
        let fields = self.sample["headers"].as_object().expect("headers");
        let headers = fields
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str().expect("text")));
        decode(headers, self.sample["data"].to_string().as_bytes())
            .unwrap_or_else(|refusal| panic!("golden {}: {refusal}", self.name))
    }
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden")
}

fn file_names() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .expect("golden folder")
        .map(|entry| {
            entry
                .expect("entry")
                .file_name()
                .into_string()
                .expect("UTF-8 name")
        })
        .collect();
    names.sort();
    names
}

fn read(file: &str) -> Value {
    let text = std::fs::read_to_string(folder().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"))
}

pub fn all() -> Vec<Golden> {
    file_names()
        .iter()
        .filter_map(|file| file.strip_suffix(".json"))
        .filter(|name| !name.ends_with(".expected"))
        .map(|name| Golden {
            name: name.to_owned(),
            sample: read(&format!("{name}.json")),
            expected: read(&format!("{name}.expected.json")),
        })
        .collect()
}

/// What a producer of this release writes for an event.
pub fn written(received: &Received) -> Value {
    let headers: Map<String, Value> = received
        .attributes
        .to_headers()
        .into_iter()
        .map(|(name, value)| (name.to_owned(), Value::String(value)))
        .collect();
    let data: Value = serde_json::from_slice(&received.event.to_json().expect("body")).expect("JSON");
    json!({ "headers": headers, "data": data })
}

#[test]
fn every_golden_is_read_and_written_back_as_expected() {
    for golden in all() {
        let received = golden.received();
        assert!(
            golden.name.starts_with(received.event.kind().file_stem()),
            "{} holds {}",
            golden.name,
            received.event.kind()
        );
        assert_eq!(written(&received), golden.expected, "{}", golden.name);
    }
}

#[test]
fn every_event_has_a_golden_of_its_name() {
    let goldens: Vec<String> = all().into_iter().map(|golden| golden.name).collect();
    for kind in EventKind::ALL {
        assert!(
            goldens.iter().any(|name| name == kind.file_stem()),
            "no golden/{}.json",
            kind.file_stem()
        );
    }
}

#[test]
fn reading_twice_gives_the_same_event() {
    for golden in all() {
        let first = golden.received();
        let again =
            Event::from_json(first.event.kind(), &first.event.to_json().expect("body")).expect("read again");
        assert_eq!(again, first.event, "{}", golden.name);
    }
}

#[test]
fn goldens_are_only_ever_added() {
    let manifest = std::fs::read_to_string(folder().join("RELEASED.sha256")).expect("golden/RELEASED.sha256");
    let released: BTreeMap<String, String> = manifest
        .lines()
        .map(|line| {
            let (digest, name) = line
                .split_once("  ")
                .unwrap_or_else(|| panic!("not a line of sha256sum: {line}"));
            (name.to_owned(), digest.to_owned())
        })
        .collect();
    let found: BTreeMap<String, String> = file_names()
        .into_iter()
        .filter(|name| name != "RELEASED.sha256")
        .map(|name| {
            let bytes = std::fs::read(folder().join(&name)).expect("golden file");
            let digest = hex::encode(Sha256::digest(&bytes));
            (name, digest)
        })
        .collect();
    for (name, digest) in &released {
        let now = found.get(name);
        assert!(
            now == Some(digest),
            "golden/{name} was {}: a released sample stays as it is; a compatible change adds an optional field \
             that is left out when absent, anything else is a new major with goldens of its own",
            if now.is_none() { "removed" } else { "edited" }
        );
    }
    for name in found.keys() {
        assert!(
            released.contains_key(name),
            "golden/{name} is not in golden/RELEASED.sha256; append it: cd schemas/golden && sha256sum {name} >> RELEASED.sha256"
        );
    }
}
