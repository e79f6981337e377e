//! An independent implementation agrees: numpy, scipy and scikit-learn on the same inputs.
//!
//! `tests/goldens` holds a few cases; the whole collection is read from `../shared/parity` beside the
//! repository when it is there.

use std::path::{Path, PathBuf};

use drift_stats::compat::{count_in_edges, count_values, psi_with_empty_share, quantile_edges};
use drift_stats::performance::Ranking;
use serde_json::Value;

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The committed cases, and the whole collection when it is there.
fn collections(file: &str) -> Vec<PathBuf> {
    let committed = here().join("tests/goldens").join(file);
    let shared = here().join("../../shared/parity").join(file);
    if shared.is_file() {
        vec![committed, shared]
    } else {
        println!(
            "skipped: {} is not there, so only the committed cases were compared",
            shared.display()
        );
        vec![committed]
    }
}

fn cases(file: &str) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for path in collections(file) {
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let document: Value = serde_json::from_str(&text).expect("a JSON document");
        for case in document["cases"].as_array().expect("cases") {
            found.push((case["id"].as_str().expect("an id").to_owned(), case.clone()));
        }
    }
    assert!(found.len() >= 2, "{file} has cases");
    found
}

/// Numbers with `null` as NaN and the spelled-out infinities.
fn numbers(value: &Value) -> Vec<f64> {
    let number = |item: &Value| match item {
        Value::Null => f64::NAN,
        Value::String(text) => text.parse().expect("inf or -inf"),
        other => other.as_f64().expect("a number"),
    };
    value.as_array().expect("a list").iter().map(number).collect()
}

fn counts(value: &Value) -> Vec<u64> {
    value
        .as_array()
        .expect("a list")
        .iter()
        .map(|item| item.as_u64().expect("a count"))
        .collect()
}

fn missing(values: &[f64]) -> u64 {
    values.iter().filter(|value| value.is_nan()).count() as u64
}

#[track_caller]
fn near(id: &str, what: &str, got: f64, want: &Value, tolerance: f64) {
    let want = want
        .as_f64()
        .unwrap_or_else(|| panic!("{id}: {what} is not in the file"));
    assert!(
        (got - want).abs() <= tolerance * want.abs().max(1.0),
        "{id}: {what} is {got}, expected {want}"
    );
}

#[test]
fn quantile_bins_count_and_measure_as_numpy_does() {
    for (id, case) in cases("numeric.json") {
        let (reference, current) = (numbers(&case["reference"]), numbers(&case["current"]));
        let want = &case["expected"]["scipy_numpy"]["quantile_bins_10"];
        let edges = quantile_edges(&reference, 10);
        let (r, c) = (
            count_in_edges(&reference, &edges),
            count_in_edges(&current, &edges),
        );
        assert_eq!(r, counts(&want["reference_counts"]), "{id}: reference");
        assert_eq!(c, counts(&want["current_counts"]), "{id}: current");
        for (name, empty_share) in [("psi_eps_1e-4", 1e-4), ("psi_eps_1e-6", 1e-6)] {
            near(
                &id,
                name,
                psi_with_empty_share(&r, &c, empty_share).unwrap(),
                &want[name],
                1e-10,
            );
        }
        let with = |mut counts: Vec<u64>, values: &[f64]| {
            counts.push(missing(values));
            counts
        };
        let index = psi_with_empty_share(&with(r, &reference), &with(c, &current), 1e-4).unwrap();
        let name = "psi_with_missing_bin_eps_1e-4";
        // Where neither sample misses anything the bin does not exist, which equals two empty shares.
        near(&id, name, index, &want[name], 1e-10);
    }
}

#[test]
fn value_bins_count_and_measure_as_numpy_does() {
    let mut compared = 0;
    for (id, case) in cases("numeric.json") {
        let want = &case["expected"]["scipy_numpy"]["value_bins"];
        if want.is_null() {
            continue;
        }
        compared += 1;
        let (r, c) = count_values(&numbers(&case["reference"]), &numbers(&case["current"]));
        assert_eq!(r, counts(&want["reference_counts"]), "{id}: reference");
        assert_eq!(c, counts(&want["current_counts"]), "{id}: current");
        let name = "psi_eps_1e-4";
        near(
            &id,
            name,
            psi_with_empty_share(&r, &c, 1e-4).unwrap(),
            &want[name],
            1e-10,
        );
    }
    assert!(compared > 0);
}

#[test]
fn levels_measure_as_numpy_does() {
    for (id, case) in cases("categorical.json") {
        let want = &case["expected"]["scipy_numpy"];
        let levels = want["levels"].as_array().expect("levels");
        let of = |side: &str| -> Vec<u64> {
            levels
                .iter()
                .map(|level| case[side][level.as_str().expect("text")].as_u64().unwrap_or(0))
                .collect()
        };
        let (mut r, mut c) = (of("reference_counts"), of("current_counts"));
        for (name, empty_share) in [("psi_eps_1e-4", 1e-4), ("psi_eps_1e-6", 1e-6)] {
            near(
                &id,
                name,
                psi_with_empty_share(&r, &c, empty_share).unwrap(),
                &want[name],
                1e-10,
            );
        }
        r.push(case["missing_reference"].as_u64().expect("a count"));
        c.push(case["missing_current"].as_u64().expect("a count"));
        let name = "psi_with_missing_level_eps_1e-4";
        near(
            &id,
            name,
            psi_with_empty_share(&r, &c, 1e-4).unwrap(),
            &want[name],
            1e-10,
        );
    }
}

#[test]
fn performance_measures_as_scikit_learn_does() {
    for (id, case) in cases("performance.json") {
        let want = &case["expected"]["scikit_learn"];
        let labels = case["y_true"].as_array().expect("labels");
        let (mut scores, mut frauds) = (Vec::new(), Vec::new());
        for (score, label) in numbers(&case["score"]).into_iter().zip(labels) {
            if let Some(label) = label.as_f64() {
                scores.push(score);
                frauds.push(label == 1.0);
            }
        }
        let ranking = Ranking::new(&scores, &frauds).unwrap();
        let confusion = ranking.confusion_at(case["threshold"].as_f64().expect("a threshold"));
        assert_eq!(Some(ranking.rows()), want["n_labelled"].as_u64(), "{id}");
        for (name, got) in [
            ("tp", confusion.true_positives),
            ("fp", confusion.false_positives),
            ("fn", confusion.false_negatives),
            ("tn", confusion.true_negatives),
        ] {
            assert_eq!(Some(got), want[name].as_u64(), "{id}: {name}");
        }
        // scikit-learn says 0 where a rate has no value.
        for (name, got) in [
            ("recall", confusion.recall().value()),
            ("precision_zero_division_0", confusion.precision().value()),
            ("f1", confusion.f1()),
            ("accuracy", confusion.accuracy().value()),
            ("specificity", confusion.specificity().value()),
            ("mcc", confusion.matthews()),
            ("brier", ranking.brier()),
            ("log_loss", ranking.log_loss()),
            ("roc_auc", ranking.roc_auc().ok()),
            ("average_precision", ranking.average_precision().ok()),
        ] {
            near(&id, name, got.unwrap_or(0.0), &want[name], 1e-12);
        }
    }
}
