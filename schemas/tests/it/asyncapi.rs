//! The AsyncAPI document: structure by the rules of version 3.0, and the same facts as the code.

use std::collections::BTreeSet;
use std::path::Path;

use schemas::generate::{asyncapi, generated_files};
use schemas::{EventKind, flow};
use serde_json::{Map, Value, json};

use crate::golden;

fn object<'a>(value: &'a Value, at: &str) -> &'a Map<String, Value> {
    value
        .as_object()
        .unwrap_or_else(|| panic!("{at} is not an object: {value}"))
}

fn only_known(fields: &Map<String, Value>, known: &[&str], required: &[&str], at: &str) {
    for name in fields.keys() {
        assert!(
            known.contains(&name.as_str()) || name.starts_with("x-"),
            "{at} has no field `{name}` in AsyncAPI 3.0"
        );
    }
    for name in required {
        assert!(fields.contains_key(*name), "{at} needs `{name}`");
    }
}

/// Follows a reference inside the document.
fn resolve<'a>(document: &'a Value, reference: &Value) -> &'a Value {
    let path = reference["$ref"]
        .as_str()
        .unwrap_or_else(|| panic!("not a reference: {reference}"));
    let pointer = path
        .strip_prefix('#')
        .unwrap_or_else(|| panic!("not inside the document: {path}"));
    document
        .pointer(pointer)
        .unwrap_or_else(|| panic!("{path} leads nowhere"))
}

#[test]
fn the_document_follows_the_structure_of_asyncapi_3_0() {
    let document = asyncapi();
    let root = object(&document, "the document");
    let fields = [
        "asyncapi",
        "id",
        "info",
        "servers",
        "defaultContentType",
        "channels",
        "operations",
        "components",
    ];
    only_known(root, &fields, &["asyncapi", "info"], "the document");
    assert_eq!(document["asyncapi"], "3.0.0");
    let info = [
        "title",
        "version",
        "description",
        "termsOfService",
        "contact",
        "license",
        "tags",
        "externalDocs",
    ];
    only_known(
        object(&document["info"], "info"),
        &info,
        &["title", "version"],
        "info",
    );
    for (name, server) in object(&document["servers"], "servers") {
        let known = [
            "host",
            "protocol",
            "protocolVersion",
            "pathname",
            "description",
            "title",
            "summary",
            "variables",
            "security",
            "tags",
            "externalDocs",
            "bindings",
        ];
        only_known(object(server, name), &known, &["host", "protocol"], name);
    }
    let mut addresses = BTreeSet::new();
    for (name, channel) in object(&document["channels"], "channels") {
        let known = [
            "address",
            "messages",
            "title",
            "summary",
            "description",
            "servers",
            "parameters",
            "tags",
            "externalDocs",
            "bindings",
        ];
        only_known(object(channel, name), &known, &[], name);
        assert!(
            addresses.insert(channel["address"].as_str().expect("address")),
            "address of {name} is taken"
        );
        for message in object(&channel["messages"], name).values() {
            resolve(&document, message);
        }
        for server in channel["servers"].as_array().expect("servers") {
            resolve(&document, server);
        }
        let placeholders: BTreeSet<&str> = channel["address"]
            .as_str()
            .expect("address")
            .split('.')
            .filter_map(|word| word.strip_prefix('{')?.strip_suffix('}'))
            .collect();
        let parameters: BTreeSet<&str> = channel["parameters"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(placeholders, parameters, "parameters of {name}");
    }
    for (name, message) in object(&document["components"]["messages"], "messages") {
        let known = [
            "headers",
            "payload",
            "correlationId",
            "contentType",
            "name",
            "title",
            "summary",
            "description",
            "tags",
            "externalDocs",
            "bindings",
            "examples",
            "traits",
        ];
        only_known(object(message, name), &known, &[], name);
        for example in message["examples"].as_array().into_iter().flatten() {
            only_known(
                object(example, name),
                &["headers", "payload", "name", "summary"],
                &[],
                name,
            );
        }
    }
    for (name, operation) in object(&document["operations"], "operations") {
        let known = [
            "action",
            "channel",
            "title",
            "summary",
            "description",
            "security",
            "tags",
            "externalDocs",
            "bindings",
            "traits",
            "messages",
            "reply",
        ];
        only_known(object(operation, name), &known, &["action", "channel"], name);
        assert!(
            ["send", "receive"].contains(&operation["action"].as_str().expect("action")),
            "{name}"
        );
        let channel = resolve(&document, &operation["channel"]);
        for message in operation["messages"].as_array().expect("messages") {
            // An operation's message is one of its channel's, by reference through that channel.
            let entry = resolve(&document, message);
            assert!(
                object(&channel["messages"], name)
                    .values()
                    .any(|known| known == entry),
                "{name}: {message}"
            );
        }
        for (protocol, binding) in operation["bindings"].as_object().into_iter().flatten() {
            assert_eq!(protocol, "nats", "{name}");
            only_known(object(binding, name), &["queue", "bindingVersion"], &[], name);
            assert!(binding["queue"].as_str().expect("queue").len() <= 255, "{name}");
        }
    }
    let allowed = |key: &str| {
        key.chars()
            .all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c))
    };
    for (kind, components) in object(&document["components"], "components") {
        assert!(
            ["schemas", "messages", "correlationIds"].contains(&kind.as_str()),
            "{kind}"
        );
        assert!(object(components, kind).keys().all(|key| allowed(key)), "{kind}");
    }
}

#[test]
fn every_reference_inside_and_outside_leads_somewhere() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let generated: Vec<String> = generated_files().into_iter().map(|file| file.path).collect();
    let document = asyncapi();
    let mut references = Vec::new();
    collect_references(&document, &mut references);
    assert!(references.len() > 60, "{}", references.len());
    for reference in references {
        if let Some(file) = reference.strip_prefix("./") {
            assert!(
                generated.contains(&file.to_owned()) && folder.join(file).is_file(),
                "{reference}"
            );
        } else {
            resolve(&document, &json!({ "$ref": reference }));
        }
    }
}

fn collect_references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get("$ref") {
                found.push(reference.clone());
            }
            fields.values().for_each(|field| collect_references(field, found));
        }
        Value::Array(items) => items.iter().for_each(|item| collect_references(item, found)),
        _ => {}
    }
}

#[test]
fn channels_messages_and_operations_are_those_of_the_code() {
    let document = asyncapi();
    let (mut sends, mut receives) = (0, 0);
    for kind in EventKind::ALL {
        let channel = &document["channels"][kind.subject()];
        assert_eq!(channel["address"], kind.subject());
        assert_eq!(channel["x-nats-stream"], flow::STREAM);
        let message = &document["components"]["messages"][kind.file_stem()];
        assert_eq!(message["name"], kind.ce_type());
        assert_eq!(
            message["payload"]["$ref"],
            format!("./json/{}.json", kind.file_stem())
        );
        for service in kind.publishers() {
            assert_eq!(
                document["operations"][format!("{service}.send.{kind}")]["action"],
                "send",
                "{kind}"
            );
            sends += 1;
        }
        for service in kind.readers() {
            let operation = &document["operations"][format!("{service}.receive.{kind}")];
            assert_eq!(operation["bindings"]["nats"]["queue"], *service, "{kind}");
            assert_eq!(operation["x-nats-consumer"]["durable"], *service, "{kind}");
            receives += 1;
        }
    }
    assert_eq!(
        document["operations"].as_object().map(Map::len),
        Some(sends + receives)
    );
}

#[test]
fn headers_of_every_golden_satisfy_the_documented_headers() {
    let document = asyncapi();
    for golden in golden::all() {
        let stem = golden.received().event.kind().file_stem();
        let headers = &document["components"]["messages"][stem]["headers"];
        // The reference inside `allOf` resolves against the whole document.
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "components": document["components"],
            "allOf": headers["allOf"],
        });
        let validator =
            jsonschema::validator_for(&schema).unwrap_or_else(|error| panic!("headers of {stem}: {error}"));
        for which in [&golden.sample, &golden.expected] {
            if let Err(error) = validator.validate(&which["headers"]) {
                panic!("{}: {error}", golden.name);
            }
            let mut wrong = which["headers"].clone();
            wrong["ce-type"] = json!("vigie.something.else.v1");
            assert!(!validator.is_valid(&wrong), "{}: any type passes", golden.name);
        }
    }
}

#[test]
fn every_service_and_every_publisher_is_introduced() {
    let known: BTreeSet<&str> = flow::PARTIES.iter().map(|(name, _)| *name).collect();
    let named: BTreeSet<&str> = EventKind::ALL
        .iter()
        .flat_map(|kind| kind.publishers().iter().chain(kind.readers()))
        .copied()
        .collect();
    assert_eq!(known, named);
    for kind in EventKind::ALL {
        assert!(!kind.publishers().is_empty(), "{kind}");
        for service in kind.readers() {
            assert!(EventKind::read_by(service).contains(kind));
        }
    }
}

#[test]
fn the_readme_lists_every_event_with_publishers_and_readers() {
    let readme =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("README.md");
    for kind in EventKind::ALL {
        let readers = if kind.readers().is_empty() {
            "–".to_owned()
        } else {
            kind.readers().join(", ")
        };
        let row = format!("| `{kind}` | {} | {readers} |", kind.publishers().join(", "));
        assert!(readme.contains(&row), "schemas/README.md needs the row\n{row}");
    }
}
