//! Each drift that `vigie simulate` can plant is named: its kind, its features, and since when.

use std::path::Path;

use arrow::array::TimestampMicrosecondArray;
use arrow::record_batch::RecordBatch;
use serde_json::Value;

use crate::public_data::{parts, report, words};
use crate::{told, vigie};

/// Days that a day is compared with.
const REFERENCE_DAYS: i64 = 28;
/// The day from which on something is different.
const ONSET: i64 = 32;
const DAYS: i64 = 36;

fn day(batch: &RecordBatch, row: usize, first: i64) -> i64 {
    let times = batch.column_by_name("tx_time").unwrap();
    let times: &TimestampMicrosecondArray = times.as_any().downcast_ref().unwrap();
    times.value(row) / 86_400_000_000 - first
}

/// The report of each day after the reference.
fn days(drift: &str, folder: &Path) -> Vec<(i64, Value)> {
    let output = vigie(folder)
        .args([
            "simulate",
            "--out",
            "all.parquet",
            "--days",
            &DAYS.to_string(),
            "--drift",
            drift,
        ])
        .output()
        .unwrap();
    let (code, _, err) = told(&output);
    assert_eq!(code, 0, "{err}");
    let first = std::cell::Cell::new(None);
    parts(&folder.join("all.parquet"), folder, |batch, row| {
        let begun = first.get().unwrap_or_else(|| {
            let begun = day(batch, row, 0);
            first.set(Some(begun));
            begun
        });
        match day(batch, row, begun) {
            ..REFERENCE_DAYS => "reference".to_owned(),
            later => format!("day{later}"),
        }
    });
    (REFERENCE_DAYS..DAYS)
        .map(|day| {
            let current = format!("day{day}");
            (
                day,
                report(folder, "reference", &current, &["--target", "is_fraud"]),
            )
        })
        .collect()
}

fn feature<'a>(report: &'a Value, name: &str) -> &'a Value {
    let features = report["features"].as_array().unwrap();
    features.iter().find(|feature| feature["name"] == name).unwrap()
}

#[test]
fn every_planted_drift_is_named_with_its_features_within_two_windows() {
    let told_of = |name: &'static str| move |report: &Value| feature(report, name)["told"] == true;
    type Seen = Box<dyn Fn(&Value) -> bool>;
    let cases: [(&str, &str, Seen); 5] = [
        (
            "amount-shift:factor=2,day=32",
            "data",
            Box::new(told_of("tx_amount")),
        ),
        (
            "category-change:share=0.4,day=32",
            "data",
            Box::new(told_of("merchant_category")),
        ),
        (
            "missing-column:column=amount_ratio_30d,share=0.3,day=32",
            "data",
            Box::new(told_of("amount_ratio_30d")),
        ),
        (
            "missing-column:column=amount_ratio_30d,share=1,day=32",
            "",
            Box::new(|report: &Value| {
                let broken = report["breakage"].as_array().unwrap();
                broken
                    .iter()
                    .any(|broken| broken["column"] == "amount_ratio_30d" && broken["kind"] == "all_missing")
            }),
        ),
        (
            "fraud-pattern:cards=40,day=32",
            "target",
            // A day of ordinary frauds alone may have half as many more.
            Box::new(|report: &Value| {
                let rate = |side: &str| report["target"][side]["value"].as_f64().unwrap();
                report["target"]["exceeded"] == true && rate("current") > 2.0 * rate("reference")
            }),
        ),
    ];
    for (drift, kind, seen) in cases {
        let folder = tempfile::tempdir().unwrap();
        let days = days(drift, folder.path());
        for (day, report) in days.iter().filter(|(day, _)| *day < ONSET) {
            assert!(!seen(report), "{drift}: day {day}: {}", words(report));
        }
        let first = days.iter().find(|(_, report)| seen(report));
        let (day, report) = first.unwrap_or_else(|| panic!("{drift}: never seen"));
        assert!((ONSET..ONSET + 2).contains(day), "{drift}: seen on day {day}");
        if kind.is_empty() {
            assert_eq!(
                feature(report, "amount_ratio_30d")["exceeded"],
                false,
                "broken is no drift"
            );
        } else {
            let kinds = report["drifted"].as_array().unwrap();
            assert!(kinds.contains(&kind.into()), "{drift}: {kinds:?}");
        }
    }
}
