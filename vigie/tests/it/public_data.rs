//! Reports on public card payments. They are read from the folder that `VIGIE_DATA_DIR` names, else from `../shared/data`; where
//! they are not, the tests say that they skip.
//!
//! The Fraud Detection Handbook's simulated payments begin cold: for 35 days the window features fill up. From then on
//! nothing moves. The ULB sample stands in random order: nothing moves at all.

use std::fs::File;
use std::path::{Path, PathBuf};

use arrow::array::Int32Array;
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

use crate::{told, vigie};

fn data(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("VIGIE_DATA_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
        PathBuf::from,
    );
    let path = folder.join(name);
    if !path.is_file() {
        println!("skipped: {} is not there", path.display());
        return None;
    }
    Some(path)
}

/// Rows of a file, in parts, each a file in `folder`: `part_of` says where a row belongs; rows of a part must stand together.
pub fn parts(path: &Path, folder: &Path, part_of: impl Fn(&RecordBatch, usize) -> String) -> Vec<String> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    let batches = builder.with_batch_size(50_000).build().unwrap();
    let mut written: Vec<String> = Vec::new();
    let mut writer: Option<ArrowWriter<File>> = None;
    for batch in batches {
        let batch: RecordBatch = batch.unwrap();
        let mut from = 0;
        while from < batch.num_rows() {
            let part = part_of(&batch, from);
            let until = (from..batch.num_rows())
                .find(|row| part_of(&batch, *row) != part)
                .unwrap_or(batch.num_rows());
            if written.last() != Some(&part) {
                if let Some(before) = writer.take() {
                    before.close().unwrap();
                }
                let file = File::create(folder.join(format!("{part}.parquet"))).unwrap();
                writer = Some(ArrowWriter::try_new(file, batch.schema(), None).unwrap());
                written.push(part);
            }
            writer
                .as_mut()
                .unwrap()
                .write(&batch.slice(from, until - from))
                .unwrap();
            from = until;
        }
    }
    writer.unwrap().close().unwrap();
    written
}

/// A whole number of a row.
fn number(batch: &RecordBatch, column: &str, row: usize) -> i32 {
    let values = batch.column_by_name(column).unwrap();
    let values: &Int32Array = values.as_any().downcast_ref().unwrap();
    values.value(row)
}

pub fn report(folder: &Path, reference: &str, current: &str, arguments: &[&str]) -> Value {
    let output = vigie(folder)
        .arg("report")
        .args([format!("{reference}.parquet"), format!("{current}.parquet")])
        .args(arguments)
        .args(["--output", "json"])
        .output()
        .unwrap();
    let (_, out, err) = told(&output);
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {err}"))
}

/// What a report says in a few words.
pub fn words(report: &Value) -> String {
    let features = report["features"].as_array().unwrap();
    let moved: Vec<String> = features
        .iter()
        .filter(|feature| feature["told"] == true)
        .map(|feature| {
            format!(
                "{} psi {} noise {}",
                feature["name"], feature["psi"], feature["noise"]
            )
        })
        .collect();
    format!(
        "{} {}: {}",
        report["verdict"],
        report["severity"],
        moved.join(", ")
    )
}

const HANDBOOK: &[&str] = &[
    "--target",
    "TX_FRAUD",
    "--ignore",
    "TX_FRAUD_SCENARIO",
    "--ignore",
    "TRANSACTION_ID",
    "--ignore",
    "CUSTOMER_ID",
    "--ignore",
    "TERMINAL_ID",
    "--ignore",
    "TX_TIME_SECONDS",
    "--ignore",
    "TX_TIME_DAYS",
];

/// Whatever weeks say, in words; empty when all are quiet.
fn loud(folder: &Path, reference: &str, weeks: &[String], arguments: &[&str]) -> Vec<String> {
    let arguments = [HANDBOOK, arguments].concat();
    weeks
        .iter()
        .map(|week| (week, report(folder, reference, week, &arguments)))
        .filter(|(_, report)| report["verdict"] != "stable")
        .map(|(week, report)| format!("{week} {}", words(&report)))
        .collect()
}

#[test]
fn the_handbooks_cold_start_is_found_and_what_comes_after_it_is_quiet() {
    let Some(path) = data("handbook_transactions.parquet") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let weeks = parts(&path, folder.path(), |batch, row| {
        format!("week{}", number(batch, "TX_TIME_DAYS", row) / 7)
    });
    assert_eq!(weeks.len(), 27, "{weeks:?}");
    let cold = report(folder.path(), "week0", "week5", HANDBOOK);
    assert_eq!(cold["verdict"], "drifted", "{}", words(&cold));
    assert_ne!(cold["severity"], "alert_only", "{}", words(&cold));
    let exceeded: Vec<&str> = cold["features"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|feature| feature["exceeded"] == true)
        .map(|feature| feature["name"].as_str().unwrap())
        .collect();
    for filled in ["CUSTOMER_ID_NB_TX_30DAY_WINDOW", "TERMINAL_ID_NB_TX_30DAY_WINDOW"] {
        assert!(exceeded.contains(&filled), "{exceeded:?}");
    }
    assert!(!exceeded.contains(&"TX_AMOUNT"), "{exceeded:?}");
    // Week 5 begins with day 35; the last one has two days. By the rules of the hourly check each of the next twenty is quiet.
    let noise = loud(folder.path(), "week5", &weeks[6..26], &["--tell-from", "0.3"]);
    assert!(noise.is_empty(), "{noise:#?}");
    // A month knows its own unrest: beside it the rest of the file is quiet to a report, which speaks of a hundredth of that.
    let month = parts(&path, folder.path(), |batch, row| {
        let part = match number(batch, "TX_TIME_DAYS", row) {
            ..35 => "before",
            35..63 => "month",
            _ => "after",
        };
        part.to_owned()
    });
    assert_eq!(month, ["before", "month", "after"]);
    let noise = loud(folder.path(), "month", &weeks[9..26], &[]);
    assert!(noise.is_empty(), "{noise:#?}");
}

#[test]
fn the_sample_of_two_days_is_quiet() {
    let Some(path) = data("ulb_creditcard_sample.parquet") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let blocks = parts(&path, folder.path(), |batch, row| {
        match number(batch, "ROW", row) {
            ..24_000 => "reference".to_owned(),
            later => format!("block{}", (later - 24_000) / 10_000),
        }
    });
    for block in &blocks[1..] {
        let arguments = ["--target", "Class", "--ignore", "ROW", "--ignore", "SOURCE_INDEX"];
        let report = report(folder.path(), "reference", block, &arguments);
        assert_eq!(report["verdict"], "stable", "{block}: {}", words(&report));
    }
}
