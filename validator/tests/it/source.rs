//! A source that is away is waited for; one that cannot serve is a failure with its reason.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use parquet::arrow::ArrowWriter;
use schemas::events::{Confusion, ValidationVerdict};

use crate::support::{Bench, Holdout, MODEL, STREAM, day, eventually, stump, trained};

/// The holdout as a file: one payment a minute from day 17 on.
fn write_file(path: &Path, holdout: Holdout) {
    let groups = [
        (holdout.found, true, 200.0),
        (holdout.missed, true, 50.0),
        (holdout.false_alarms, false, 200.0),
        (holdout.let_through, false, 50.0),
    ];
    let rows: Vec<(bool, f64)> = groups
        .into_iter()
        .flat_map(|(rows, fraud, amount)| {
            std::iter::repeat_n((fraud, amount), usize::try_from(rows).unwrap())
        })
        .collect();
    let minute = |row: usize| day(17).timestamp_micros() + i64::try_from(row).unwrap() * 60_000_000;
    let columns: [(&str, ArrayRef); 4] = [
        (
            "tx_time",
            Arc::new(
                TimestampMicrosecondArray::from_iter_values((0..rows.len()).map(minute)).with_timezone("UTC"),
            ),
        ),
        (
            "is_fraud",
            Arc::new(
                rows.iter()
                    .map(|(fraud, _)| Some(*fraud))
                    .collect::<BooleanArray>(),
            ),
        ),
        (
            "amount",
            Arc::new(Float64Array::from_iter_values(
                rows.iter().map(|(_, amount)| *amount),
            )),
        ),
        (
            "country",
            Arc::new(StringArray::from_iter_values(rows.iter().map(|_| "FR"))),
        ),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    // Whole or not at all, as a well-behaved exporter does it.
    let partial = path.with_extension("partial");
    let mut writer =
        ArrowWriter::try_new(std::fs::File::create(&partial).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    std::fs::rename(partial, path).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_away_is_waited_for() {
    let bench = Bench::new(Holdout::AT_THE_LIMIT).await;
    let path = bench.path("payments.parquet");
    let settings = format!(
        "[models.fraud-cards]\nsource = \"parquet\"\npath = {:?}\ntime = \"tx_time\"\nlabel = \"is_fraud\"\n\
         label_delay = \"1d\"\nfeatures = [\"amount\", \"country\"]\n",
        path.display().to_string()
    );
    let service = bench.start(&settings).await;
    let event = bench
        .announce(&trained("patient", bench.write("model.json", &stump())))
        .await;
    eventually("the event has been offered again", async || {
        let stream = bench.jetstream.get_stream(STREAM).await.ok()?;
        let info = stream.consumer_info("validator").await.ok()?;
        (info.delivered.consumer_sequence >= 2).then_some(())
    })
    .await;
    assert!(
        bench.validated().await.is_empty(),
        "a source that is away says nothing of the candidate"
    );
    write_file(&path, Holdout::AT_THE_LIMIT);
    let (_, report) = bench.verdict_on(event).await;
    assert_eq!(report.verdict, ValidationVerdict::Passed, "{:?}", report.failures);
    let expected = Confusion {
        true_positives: 60,
        false_positives: 20,
        false_negatives: 15,
        true_negatives: 905,
    };
    assert_eq!(report.confusion, expected);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_cannot_serve_is_a_failure_with_its_reason() {
    let bench = Bench::new(Holdout::AT_THE_LIMIT).await;
    let service = bench.start(MODEL).await;
    let artifact = bench.write("model.json", &stump());
    for (version, change, reason) in [
        (
            "type",
            "alter table bank.payment alter column amount type text using amount::text",
            "`amount`",
        ),
        (
            "label",
            "alter table bank.payment alter column is_fraud type int using 2",
            "the label is 2",
        ),
        ("table", "drop table bank.payment", "bank.payment"),
    ] {
        sqlx::query(change).execute(&bench.pool).await.unwrap();
        let event = bench.announce(&trained(version, artifact.clone())).await;
        let (_, report) = bench.verdict_on(event).await;
        assert_eq!(report.verdict, ValidationVerdict::Failed, "{version}");
        assert!(
            report.failures[0].starts_with("could not be judged: "),
            "{:?}",
            report.failures
        );
        assert!(
            report.failures[0].contains(reason),
            "{version}: {:?}",
            report.failures
        );
        if version == "type" {
            let back = "alter table bank.payment alter column amount type float8 using amount::float8";
            sqlx::query(back).execute(&bench.pool).await.unwrap();
        }
    }
    service.stop().await;
}
