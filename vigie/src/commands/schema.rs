//! `vigie schema`: what others may rely on in the documents that Vigie writes.

use std::process::ExitCode;

use schemars::generate::SchemaSettings;
use schemas::EventKind;
use schemas::generate::json_schema;
use serde_json::Value;

use crate::cli::{Output, SchemaArgs};
use crate::output::{self, Usage, one_line};
use crate::report::document::{Report, SCHEMA as REPORT};
use crate::selftest::document::{SCHEMA as SELFTEST, SelfTest};

/// Lists documents, or prints the schema of one.
pub fn run(output: Output, args: &SchemaArgs) -> anyhow::Result<ExitCode> {
    match &args.document {
        None => output::print(output, &names(), |names| names.join("\n"))?,
        Some(name) => println!("{}", serde_json::to_string_pretty(&of(name)?)?),
    }
    Ok(ExitCode::SUCCESS)
}

fn names() -> Vec<String> {
    let events = EventKind::ALL.iter().map(|kind| kind.subject().to_owned());
    ["report", "selftest"]
        .map(str::to_owned)
        .into_iter()
        .chain(events)
        .collect()
}

/// The schema of a document, by its short name or by the one that it bears.
fn of(name: &str) -> anyhow::Result<Value> {
    if name == "report" || name == REPORT {
        return Ok(document::<Report>(REPORT));
    }
    if name == "selftest" || name == SELFTEST {
        return Ok(document::<SelfTest>(SELFTEST));
    }
    let event = EventKind::ALL
        .iter()
        .find(|kind| kind.subject() == name || kind.ce_type() == name);
    event.map(|kind| json_schema(*kind)).ok_or_else(|| {
        let known = names().join(", ");
        Usage(format!(
            "there is no document `{}`; expected one of {known}",
            one_line(name)
        ))
        .into()
    })
}

/// Open to fields that a later release adds; what is written is described, not what is read.
fn document<T: schemars::JsonSchema>(name: &str) -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    schema.insert("$id".to_owned(), Value::from(format!("urn:vigie:{name}")));
    schema.insert("title".to_owned(), Value::from(name));
    schema.to_value()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_document_that_is_listed_has_a_schema() {
        for name in names() {
            let schema = of(&name).unwrap();
            assert!(schema["$schema"].as_str().unwrap().contains("2020-12"), "{name}");
            assert_eq!(schema["type"], "object", "{name}");
        }
        let error = of("nothing").unwrap_err().to_string();
        assert!(
            error.contains("report, selftest, drift.check.requested"),
            "{error}"
        );
    }

    #[test]
    fn what_a_report_always_has_is_required_of_it() {
        let schema = of(REPORT).unwrap();
        let required = schema["required"].as_array().unwrap();
        for field in ["schema", "verdict", "features", "limits", "breakage"] {
            assert!(required.contains(&field.into()), "{field}: {required:?}");
        }
        let words = schema["$defs"]["Word"].to_string();
        for word in ["stable", "drifted", "broken", "unknown"] {
            assert!(words.contains(word), "{words}");
        }
    }
}
