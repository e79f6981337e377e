//! The JSON Schemas: valid themselves, fresh, true to what is read and written, open to what comes later.

use jsonschema::{Draft, Validator};
use schemas::generate::{generated_files, json_schema};
use schemas::{Event, EventKind};
use serde_json::{Value, json};

use crate::golden;

pub fn validator(kind: EventKind) -> Validator {
    jsonschema::options()
        .with_draft(Draft::Draft202012)
        .should_validate_formats(true)
        .build(&json_schema(kind))
        .unwrap_or_else(|error| panic!("schema of {kind}: {error}"))
}

fn sample(kind: EventKind) -> Value {
    let named = golden::all()
        .into_iter()
        .find(|golden| golden.name == kind.file_stem());
    named.unwrap_or_else(|| panic!("no golden of {kind}")).sample["data"].clone()
}

#[test]
fn committed_files_are_fresh() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    for file in generated_files() {
        let committed = std::fs::read_to_string(folder.join(&file.path)).unwrap_or_default();
        assert!(
            committed == file.contents,
            "schemas/{} is stale; run `cargo xtask schemas`",
            file.path
        );
    }
    let known: Vec<String> = generated_files().into_iter().map(|file| file.path).collect();
    for entry in std::fs::read_dir(folder.join("json")).expect("json folder") {
        let name = format!("json/{}", entry.expect("entry").file_name().to_string_lossy());
        assert!(known.contains(&name), "schemas/{name} belongs to no event");
    }
}

#[test]
fn every_schema_is_a_valid_2020_12_schema_with_its_own_id() {
    for kind in EventKind::ALL {
        let schema = json_schema(*kind);
        assert_eq!(
            schema["$schema"], "https://json-schema.org/draft/2020-12/schema",
            "{kind}"
        );
        assert_eq!(schema["$id"], kind.schema_uri(), "{kind}");
        assert_eq!(schema["title"], kind.file_stem(), "{kind}");
        if let Err(error) = jsonschema::draft202012::meta::validate(&schema) {
            panic!("schema of {kind}: {error}");
        }
    }
}

#[test]
fn every_property_is_described_and_every_number_is_bounded() {
    for kind in EventKind::ALL {
        let schema = json_schema(*kind);
        for (owner, fields) in objects(&schema) {
            for (name, property) in fields {
                let described = property
                    .get("description")
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                assert!(!described.is_empty(), "{kind}: {owner}.{name} has no description");
            }
        }
        walk(&schema, &mut |fields| {
            let is_number = match fields.get("type") {
                Some(Value::String(word)) => word == "number" || word == "integer",
                Some(Value::Array(words)) => {
                    words.contains(&json!("number")) || words.contains(&json!("integer"))
                }
                _ => false,
            };
            let bounded = fields.contains_key("minimum") && fields.contains_key("maximum");
            assert!(
                !is_number || bounded,
                "{kind}: a number without bounds: {fields:?}"
            );
        });
    }
}

/// The objects of a schema with their properties: the body itself and each definition.
fn objects(schema: &Value) -> Vec<(String, serde_json::Map<String, Value>)> {
    let definitions = schema["$defs"].as_object().into_iter().flatten();
    let named = definitions.map(|(name, definition)| (name.clone(), definition));
    std::iter::once(("body".to_owned(), schema))
        .chain(named)
        .filter_map(|(name, object)| Some((name, object["properties"].as_object()?.clone())))
        .collect()
}

fn walk(value: &Value, visit: &mut dyn FnMut(&serde_json::Map<String, Value>)) {
    match value {
        Value::Object(fields) => {
            visit(fields);
            fields.values().for_each(|field| walk(field, visit));
        }
        Value::Array(items) => items.iter().for_each(|item| walk(item, visit)),
        _ => {}
    }
}

#[test]
fn every_golden_satisfies_its_schema() {
    for golden in golden::all() {
        let kind = golden.received().event.kind();
        let validator = validator(kind);
        for (which, document) in [("sample", &golden.sample), ("expected", &golden.expected)] {
            if let Err(error) = validator.validate(&document["data"]) {
                panic!("{} {which}: {error} at {}", golden.name, error.instance_path());
            }
        }
    }
}

#[test]
fn fields_that_a_later_release_adds_are_accepted_by_schema_and_reader_alike() {
    for golden in golden::all() {
        let kind = golden.received().event.kind();
        let mut data = golden.sample["data"].clone();
        add_unknown_fields(&mut data);
        assert!(validator(kind).is_valid(&data), "schema of {}", golden.name);
        let read = Event::from_json(kind, data.to_string().as_bytes());
        assert_eq!(
            read.as_ref(),
            Ok(&golden.received().event),
            "reader of {}",
            golden.name
        );
    }
}

fn add_unknown_fields(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            // `inputs` is a map of the writer's own names: a new name there is content, not a new field.
            fields
                .iter_mut()
                .filter(|(name, _)| *name != "inputs")
                .for_each(|(_, field)| add_unknown_fields(field));
            fields.insert("added_later".to_owned(), json!({ "nested": [1, "two", null] }));
        }
        Value::Array(items) => items.iter_mut().for_each(add_unknown_fields),
        _ => {}
    }
}

#[test]
fn schema_and_reader_refuse_the_same_breaches() {
    let cases: &[(EventKind, &str, Value)] = &[
        // kind, JSON pointer, what is put there
        (EventKind::DriftDetected, "/as_of", json!("yesterday")),
        (EventKind::DriftDetected, "/check_id", json!("not-a-uuid")),
        (EventKind::DriftDetected, "/champion", json!("")),
        (EventKind::DriftDetected, "/champion", json!(null)),
        (EventKind::DriftDetected, "/champion", json!("x".repeat(51))),
        (EventKind::DriftDetected, "/rows", json!(-1)),
        (EventKind::DriftDetected, "/rows", json!(1.5)),
        (EventKind::DriftDetected, "/severity", json!("mild")),
        (EventKind::DriftDetected, "/kinds/0", json!("weather")),
        (EventKind::DriftDetected, "/consecutive", json!(4_294_967_296_u64)),
        (EventKind::DriftDetected, "/target/p_value", json!(1.000_001)),
        (EventKind::DriftDetected, "/concept/window/start", json!(null)),
        (EventKind::ModelValidated, "/operating_threshold", json!(-0.1)),
        (EventKind::ModelValidated, "/verdict", json!("maybe")),
        (
            EventKind::ModelValidated,
            "/artifact/sha256",
            json!("AB".repeat(32)),
        ),
        (EventKind::ModelTrained, "/seed", json!("7")),
        (EventKind::RetrainRequested, "/rules", json!({})),
        (EventKind::RetrainAsked, "/force", json!("yes")),
    ];
    for (kind, pointer, value) in cases {
        let mut data = sample(*kind);
        *data
            .pointer_mut(pointer)
            .unwrap_or_else(|| panic!("{kind} has no {pointer}")) = value.clone();
        assert!(
            !validator(*kind).is_valid(&data),
            "schema of {kind} accepts {value} at {pointer}"
        );
        let read = Event::from_json(*kind, data.to_string().as_bytes());
        assert!(read.is_err(), "reader of {kind} accepts {value} at {pointer}");
    }
}

#[test]
fn every_required_field_is_required_by_schema_and_reader_alike() {
    for kind in EventKind::ALL {
        let (data, schema) = (sample(*kind), json_schema(*kind));
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        for name in data.as_object().expect("a body is an object").keys() {
            let mut without = data.clone();
            without.as_object_mut().expect("object").remove(name);
            let is_required = required.contains(&json!(name));
            let read = Event::from_json(*kind, without.to_string().as_bytes());
            assert_eq!(read.is_err(), is_required, "reader of {kind} without `{name}`");
            assert_eq!(
                !validator(*kind).is_valid(&without),
                is_required,
                "schema of {kind} without `{name}`"
            );
        }
    }
}

#[test]
fn producers_are_held_to_what_readers_forgive() {
    let cases: &[(EventKind, &str, Value)] = &[
        (EventKind::DriftDetected, "/consecutive", json!(0)),
        (EventKind::DriftDetected, "/kinds", json!([])),
        (EventKind::DriftDetected, "/features/0/psi", json!(-0.1)),
        (EventKind::TrainingStarted, "/attempt", json!(0)),
        (EventKind::TrainingFailed, "/attempts", json!(0)),
        (EventKind::AlertSent, "/attempts", json!(0)),
        (EventKind::RetrainAsked, "/reason", json!("")),
        (EventKind::ModelTrained, "/duration_seconds", json!(-1)),
    ];
    for (kind, pointer, value) in cases {
        let mut data = sample(*kind);
        *data
            .pointer_mut(pointer)
            .unwrap_or_else(|| panic!("{kind} has no {pointer}")) = value.clone();
        assert!(
            !validator(*kind).is_valid(&data),
            "schema of {kind} accepts {value} at {pointer}"
        );
    }
}

#[test]
fn words_that_a_later_release_adds_are_accepted_where_the_reader_has_a_catch_all() {
    let cases = [
        (EventKind::AlertSent, "/channel"),
        (EventKind::TrainingFailed, "/failure"),
        (EventKind::RetrainDeclined, "/reason"),
        (EventKind::PromotionRefused, "/reason"),
    ];
    for (kind, pointer) in cases {
        let mut data = sample(kind);
        *data.pointer_mut(pointer).expect(pointer) = json!("invented_later");
        assert!(
            validator(kind).is_valid(&data),
            "schema of {kind} refuses a new word at {pointer}"
        );
        let read = Event::from_json(kind, data.to_string().as_bytes());
        assert!(
            read.is_ok(),
            "reader of {kind} refuses a new word at {pointer}: {read:?}"
        );
    }
}
