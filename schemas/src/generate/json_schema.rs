//! The JSON Schema of a body, from the Rust type and its documentation.
//!
//! It describes what a reader of this release accepts: unknown fields are ignored, optional ones may be
//! missing, and an enumeration that may grow accepts any word. Numbers are bounded by what their Rust type holds.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use serde_json::{Map, Value, json};

use crate::EventKind;
use crate::event::for_each_event;
use crate::events;

/// The schema of one event's body.
pub(super) fn of(kind: EventKind) -> Value {
    let mut found = None;
    macro_rules! try_body {
        ($body:ident) => {
            if kind == EventKind::$body {
                found = Some(root::<events::$body>(kind));
            }
        };
    }
    for_each_event!(try_body);
    found.unwrap_or_else(|| unreachable!("every kind has a body"))
}

fn root<T: JsonSchema>(kind: EventKind) -> Value {
    let settings = SchemaSettings::draft2020_12()
        .for_deserialize()
        .with_transform(BoundAndOpen);
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    let about = schema
        .get("description")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let readers = match kind.readers() {
        [] => "whoever audits".to_owned(),
        services => services.join(", "),
    };
    let description = format!(
        "{about}\n\nThe body of `{}` on subject `{}`, published by {}; read by {readers}.",
        kind.ce_type(),
        kind.subject(),
        kind.publishers().join(", "),
    );
    schema.insert("$id".to_owned(), kind.schema_uri().into());
    schema.insert("title".to_owned(), kind.file_stem().into());
    schema.insert("description".to_owned(), description.into());
    schema.to_value()
}

/// Bounds every number by its Rust type and opens enumerations that have a catch-all.
#[derive(Debug, Clone)]
struct BoundAndOpen;

impl Transform for BoundAndOpen {
    fn transform(&mut self, schema: &mut schemars::Schema) {
        transform_subschemas(self, schema);
        let Some(fields) = schema.as_object_mut() else {
            return;
        };
        bound(fields);
        open(fields);
    }
}

fn bound(fields: &mut Map<String, Value>) {
    let (min, max) = match fields.get("format").and_then(Value::as_str) {
        Some("double") => (json!(f64::MIN), json!(f64::MAX)),
        Some("uint32") => (json!(0), json!(u32::MAX)),
        Some("uint64") => (json!(0), json!(u64::MAX)),
        _ => return,
    };
    fields.entry("minimum").or_insert(min);
    fields.entry("maximum").or_insert(max);
}

/// A catch-all variant is written `other`, and stands for every word that a later release adds.
fn open(fields: &mut Map<String, Value>) {
    let is_catch_all = |variant: &Value| variant.get("const") == Some(&json!("other"));
    let Some(Value::Array(variants)) = fields.get("oneOf") else {
        return;
    };
    if !variants.iter().any(is_catch_all) {
        return;
    }
    let mut any_of: Vec<Value> = variants
        .iter()
        .filter(|variant| !is_catch_all(variant))
        .cloned()
        .collect();
    any_of.push(json!({ "type": "string", "description": "A word that a later release added; `other` when it was not known to the writer either." }));
    fields.remove("oneOf");
    fields.insert("type".to_owned(), json!("string"));
    fields.insert("anyOf".to_owned(), Value::Array(any_of));
}
