//! Files written and replayed, our own and other people's.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int8Array, StringArray, TimestampMillisecondArray};
use arrow::record_batch::RecordBatch;
use chrono::TimeDelta;
use parquet::arrow::ArrowWriter;

use super::{days, planted, shown, small};
use crate::simulator::{
    COLUMNS, DayBatch, LABEL_DELAY, Progress, ReplayColumns, ReplayFile, SimulateError, SimulateOptions,
    simulate,
};

fn replay_columns() -> ReplayColumns {
    ReplayColumns {
        time: "tx_time".to_owned(),
        label: "is_fraud".to_owned(),
        label_delay: LABEL_DELAY,
        features: COLUMNS.iter().map(|column| column.name.to_owned()).collect(),
    }
}

#[test]
fn a_written_file_replays_as_it_was_simulated() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("payments.parquet");
    std::fs::write(&path, "an older file").unwrap();
    let options = planted(&[
        "missing-column:column=amount_ratio_30d,share=0.5,day=10",
        "missing-column:column=merchant_category,share=0.5,day=10",
    ]);
    let mut heard = Vec::new();
    let done = simulate(&options, &path, |progress| heard.push(progress)).unwrap();
    let batches = days(&options);
    let payments: usize = batches.iter().map(DayBatch::len).sum();
    let frauds: usize = batches.iter().map(DayBatch::frauds).sum();
    assert_eq!(
        done,
        Progress {
            days: 40,
            days_total: 40,
            payments: payments as u64,
            frauds: frauds as u64
        }
    );
    assert_eq!((heard.len(), heard.last()), (40, Some(&done)));
    let left: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["payments.parquet"], "no half of a file is left");

    let replayed: Vec<DayBatch> = ReplayFile::open(&path, replay_columns())
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(replayed.len(), batches.len());
    for (replayed, simulated) in replayed.iter().zip(batches) {
        assert_eq!(
            shown(replayed),
            shown(&DayBatch {
                origins: None,
                ..simulated
            })
        );
    }
}

#[test]
fn a_file_that_cannot_be_written_is_named_and_nothing_is_left_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let error = simulate(&small(), &folder.path().join("no/such/folder.parquet"), |_| ()).unwrap_err();
    assert!(matches!(error, SimulateError::File { .. }), "{error}");
    let blocked = folder.path().join("blocked");
    std::fs::create_dir(&blocked).unwrap();
    let error = simulate(&SimulateOptions { days: 2, ..small() }, &blocked, |_| ()).unwrap_err();
    assert!(error.to_string().contains("blocked"), "{error}");
    assert!(!folder.path().join("blocked.partial").exists());
    let error = simulate(&SimulateOptions { days: 0, ..small() }, &blocked, |_| ()).unwrap_err();
    assert!(error.to_string().contains("`days` is 0"), "{error}");
}

#[test]
fn nothing_but_a_file_is_replaced_and_a_link_stays_a_link() {
    let folder = tempfile::tempdir().unwrap();
    let options = SimulateOptions { days: 1, ..small() };
    let at = |name: &str| folder.path().join(name);
    let link = |to: &str, name: &str| std::os::unix::fs::symlink(at(to), at(name)).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    link("socket", "to_socket");
    link("nothing", "to_nothing");
    for name in ["socket", "to_socket", "to_nothing"] {
        let before = std::fs::symlink_metadata(at(name)).unwrap().file_type();
        let error = simulate(&options, &at(name), |_| ()).unwrap_err();
        assert!(
            matches!(error, SimulateError::Target { .. }) && error.to_string().contains(name),
            "{error}"
        );
        assert_eq!(std::fs::symlink_metadata(at(name)).unwrap().file_type(), before);
    }
    std::fs::write(at("file.parquet"), "an older file").unwrap();
    link("file.parquet", "to_file");
    simulate(&options, &at("to_file"), |_| ()).unwrap();
    assert!(std::fs::symlink_metadata(at("to_file")).unwrap().is_symlink());
    assert!(ReplayFile::open(&at("file.parquet"), replay_columns()).is_ok());
    // What an interrupted run left is no obstacle; a link in its place is.
    std::fs::write(at("new.parquet.partial"), "half a file").unwrap();
    simulate(&options, &at("new.parquet"), |_| ()).unwrap();
    link("file.parquet", "other.parquet.partial");
    let error = simulate(&options, &at("other.parquet"), |_| ()).unwrap_err();
    assert!(error.to_string().contains("other.parquet.partial"), "{error}");
}

/// A file as other people write them: milliseconds without a zone, labels as numbers.
fn foreign_file(folder: &Path, millis: Vec<Option<i64>>, labels: Vec<Option<i8>>) -> std::path::PathBuf {
    let path = folder.join("foreign.parquet");
    let words: Vec<Option<&str>> = millis.iter().map(|_| Some("word")).collect();
    let columns: [(&str, ArrayRef); 3] = [
        ("at", Arc::new(TimestampMillisecondArray::from(millis))),
        ("bad", Arc::new(Int8Array::from(labels))),
        ("word", Arc::new(StringArray::from(words))),
    ];
    let rows =
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, values)| (name, values, true))).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(&path).unwrap(), rows.schema(), None).unwrap();
    writer.write(&rows).unwrap();
    writer.close().unwrap();
    path
}

fn foreign_columns() -> ReplayColumns {
    ReplayColumns {
        time: "at".to_owned(),
        label: "bad".to_owned(),
        label_delay: TimeDelta::hours(36),
        features: vec!["word".to_owned(), "bad".to_owned()],
    }
}

const FOREIGN_DAY: i64 = 86_400_000;

#[test]
fn a_foreign_file_is_cut_into_days_and_read_as_utc() {
    let folder = tempfile::tempdir().unwrap();
    let millis = vec![
        Some(5),
        Some(FOREIGN_DAY - 1),
        Some(FOREIGN_DAY),
        Some(5 * FOREIGN_DAY),
    ];
    let path = foreign_file(folder.path(), millis, vec![Some(1), Some(0), None, Some(1)]);
    let replayed: Vec<DayBatch> = ReplayFile::open(&path, foreign_columns())
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let labels: Vec<_> = replayed.iter().map(|day| day.labels.clone()).collect();
    assert_eq!(
        labels,
        [vec![Some(true), Some(false)], vec![None], vec![Some(true)]]
    );
    assert_eq!(replayed[0].times[0].to_rfc3339(), "1970-01-01T00:00:00.005+00:00");
    assert_eq!(
        replayed[0].label_times[0] - replayed[0].times[0],
        TimeDelta::hours(36)
    );
    assert_eq!(replayed[2].words("word").unwrap(), [Some("word".to_owned())]);
    assert!(replayed[1].numbers("bad").unwrap()[0].is_nan());
    assert_eq!(replayed[0].frauds(), 1);
}

#[test]
fn files_that_cannot_be_replayed_say_why() {
    let folder = tempfile::tempdir().unwrap();
    let replay = |path: &Path, columns| ReplayFile::open(path, columns).map(Iterator::collect::<Vec<_>>);
    let refused = |path: &Path, columns| replay(path, columns).unwrap_err().to_string();
    assert!(refused(&folder.path().join("none"), foreign_columns()).starts_with("cannot open"));
    let text = folder.path().join("text");
    std::fs::write(&text, "no Parquet at all, only words").unwrap();
    assert!(refused(&text, foreign_columns()).ends_with("as Parquet"));

    let path = foreign_file(folder.path(), vec![Some(2), Some(1)], vec![Some(1), Some(0)]);
    let error = refused(&path, replay_columns());
    assert!(
        error.contains("lacks the columns tx_time, is_fraud, tx_amount")
            && error.contains("it has at, bad, word"),
        "{error}"
    );
    let swapped = ReplayColumns {
        time: "word".to_owned(),
        ..foreign_columns()
    };
    assert!(refused(&path, swapped).contains("column `word` is Utf8; expected a timestamp"));
    let swapped = ReplayColumns {
        label: "word".to_owned(),
        ..foreign_columns()
    };
    assert!(refused(&path, swapped).contains("expected a boolean or a number"));

    let days = replay(&path, foreign_columns()).unwrap();
    let error = days[0].as_ref().unwrap_err().to_string();
    assert!(
        error.contains("row 1 is of 1970-01-01 00:00:00.001 UTC, older than the row before"),
        "{error}"
    );
    assert_eq!(days.len(), 1, "nothing comes after an error");
    let path = foreign_file(folder.path(), vec![Some(1), None], vec![Some(1), Some(0)]);
    let days = replay(&path, foreign_columns()).unwrap();
    assert!(
        days[0]
            .as_ref()
            .unwrap_err()
            .to_string()
            .contains("row 1 has no `at`")
    );
}

#[test]
fn the_public_data_set_replays() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/handbook_transactions.parquet");
    if !path.exists() {
        eprintln!("skipped: {} is not there", path.display());
        return;
    }
    let columns = ReplayColumns {
        time: "TX_DATETIME".to_owned(),
        label: "TX_FRAUD".to_owned(),
        label_delay: LABEL_DELAY,
        features: vec![
            "TX_AMOUNT".to_owned(),
            "CUSTOMER_ID_NB_TX_30DAY_WINDOW".to_owned(),
        ],
    };
    let days: Vec<DayBatch> = ReplayFile::open(&path, columns)
        .unwrap()
        .take(3)
        .map(Result::unwrap)
        .collect();
    let counts: Vec<(usize, usize)> = days.iter().map(|day| (day.len(), day.frauds())).collect();
    assert_eq!(counts, [(9_488, 3), (9_583, 13), (9_747, 15)]);
    assert_eq!(days[0].times[0].to_rfc3339(), "2018-04-01T00:00:31+00:00");
}
