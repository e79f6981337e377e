//! The cases, and how near is near enough.

use std::path::{Path, PathBuf};

use serde_json::Value;

pub fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The committed cases, and the whole collection when it is there.
pub fn collections(file: &str) -> Vec<PathBuf> {
    let folder = std::env::var_os("VIGIE_PARITY_DIR")
        .map_or_else(|| here().join("../../shared/parity"), PathBuf::from);
    let all = [here().join("tests/goldens").join(file), folder.join(file)];
    for path in all.iter().filter(|path| !path.is_file()) {
        println!("skipped: {} is not there", path.display());
    }
    all.into_iter().filter(|path| path.is_file()).collect()
}

pub fn cases(file: &str) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for path in collections(file) {
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let document: Value = serde_json::from_str(&text).expect("a JSON document");
        for case in document["cases"].as_array().expect("cases") {
            found.push((case["id"].as_str().expect("an id").to_owned(), case.clone()));
        }
    }
    found
}

/// Numbers with `null` as NaN and the spelled-out infinities.
pub fn numbers(value: &Value) -> Vec<f64> {
    let number = |item: &Value| match item {
        Value::Null => f64::NAN,
        Value::String(text) => text.parse().expect("inf or -inf"),
        other => other.as_f64().expect("a number"),
    };
    value.as_array().expect("a list").iter().map(number).collect()
}

pub fn counts(value: &Value) -> Vec<u64> {
    value
        .as_array()
        .expect("a list")
        .iter()
        .map(|item| item.as_u64().expect("a count"))
        .collect()
}

pub fn missing(values: &[f64]) -> u64 {
    values.iter().filter(|value| value.is_nan()).count() as u64
}

#[track_caller]
pub fn near(id: &str, what: &str, got: f64, want: &Value, tolerance: f64) {
    let want = want
        .as_f64()
        .unwrap_or_else(|| panic!("{id}: {what} is not in the file"));
    assert!(
        (got - want).abs() <= tolerance * want.abs().max(1.0),
        "{id}: {what} is {got}, expected {want}"
    );
}

/// A p-value: relative tolerance, and absolute where it is almost nothing.
#[track_caller]
pub fn near_p(id: &str, what: &str, got: f64, want: &Value, relative: f64) {
    let Some(want) = want.as_f64() else {
        panic!("{id}: {what} is not in the file")
    };
    assert!(
        (got - want).abs() <= relative * want + 1e-12,
        "{id}: {what} is {got}, expected {want}"
    );
}

pub fn relative(id: &str, what: &str, got: f64, want: &Value, tolerance: f64) {
    let want = want
        .as_f64()
        .unwrap_or_else(|| panic!("{id}: {what} is not in the file"));
    assert!(
        (got - want).abs() <= tolerance * want.abs() + 1e-13,
        "{id}: {what} is {got}, expected {want}"
    );
}

/// Statistic and p-value, whatever the file calls them.
pub fn both(found: &Value) -> (&Value, &Value) {
    let statistic = ["statistic", "u_reference"].iter().map(|name| &found[*name]);
    let p = ["p", "p_asymptotic", "p_asymptotic_two_sided"]
        .iter()
        .map(|name| &found[*name]);
    (
        statistic
            .into_iter()
            .find(|value| !value.is_null())
            .unwrap_or(&Value::Null),
        p.into_iter()
            .find(|value| !value.is_null())
            .unwrap_or(&Value::Null),
    )
}

/// Counts by the file's list of levels.
pub fn level_counts(case: &Value, want: &Value) -> (Vec<u64>, Vec<u64>) {
    let levels = want["levels"].as_array().expect("levels");
    let of = |side: &str| {
        levels
            .iter()
            .map(|level| case[side][level.as_str().expect("text")].as_u64().unwrap_or(0))
            .collect()
    };
    (of("reference_counts"), of("current_counts"))
}
