//! Apache Spark gives what PostgreSQL gives for the statements of a warehouse: they mean there what we take them to mean.
//!
//! It runs where `VIGIE_SPARK_PYTHON` names a Python with PySpark 4 and PyArrow (and a Java 17 is on the path).

use std::collections::BTreeMap;
use std::path::PathBuf;

use local_stack::TestEnv;
use local_stack::peers::databricks::Databricks;
use transactions::counts::{CellCount, Cells};
use transactions::{Request, SourceError, TransactionSource};

use crate::support::{
    SETTINGS, WAREHOUSE, at, fill_postgres, in_warehouse, payments, pool, readers, window, workspace,
    write_parquet,
};
use crate::warehouse::{by_level, cells};

/// Everything that is asked of a source, as text.
async fn everything(source: &TransactionSource) -> Result<Vec<String>, SourceError> {
    let asked = source.in_place().expect("a source that counts itself");
    let day = window(0, 86_400);
    let monitored = Request::monitored(day, at(86_400));
    let mut cell_counts: BTreeMap<(i64, usize, usize), String> = BTreeMap::new();
    let each = |count: CellCount<i64>| {
        let sums = count.sums;
        // In which order an engine adds is its own affair.
        let told = format!(
            "{} {} {:.6e} {:.6e} {} {}",
            count.rows, sums.values, sums.sum, sums.sum_of_squares, sums.min, sums.max
        );
        cell_counts.insert((count.part, count.feature, count.cell), told);
    };
    let all: Vec<Cells> = cells();
    asked.cells(&monitored, &all, each).await?;
    let mut found = vec![format!("{cell_counts:?}")];
    for (segment, levels) in [
        ("channel", &["chip", "it's \"odd\"\n"][..]),
        ("weekend", &["0", "1"]),
    ] {
        let counts = by_level(asked, segment, levels).await?;
        found.push(format!("{counts:?}"));
    }
    for request in [
        Request::outcomes(day, at(50_000)),
        Request::news(day, at(20_000), at(50_000)),
    ] {
        let mut outcomes: Vec<String> = asked
            .outcomes(&request, 0.42, 50)
            .await?
            .iter()
            .map(|one| format!("{one:?}"))
            .collect();
        outcomes.sort();
        found.push(outcomes.join("\n"));
        found.push(format!("{:?}", asked.labels(&request).await?));
        let mut rows = source.read(&request).await?;
        rows.times.sort_unstable();
        found.push(format!("{:?}", rows.times));
    }
    let mut levels: Vec<String> = asked
        .levels(&monitored, 3)
        .await?
        .iter()
        .map(|one| format!("{one:?}"))
        .collect();
    levels.sort();
    found.push(levels.join("\n"));
    found.push(format!(
        "{:?}",
        source.read(&Request::all(day, at(60_000))).await?
    ));
    found.push(format!("{:?}", source.count(day, at(60_000)).await?));
    found.push(format!("{:?}", source.extent().await?));
    Ok(found)
}

#[tokio::test]
async fn spark_gives_what_postgresql_gives() {
    let Some(python) = std::env::var_os("VIGIE_SPARK_PYTHON").map(PathBuf::from) else {
        println!("skipped: VIGIE_SPARK_PYTHON names no Python with PySpark");
        return;
    };
    for zone in [true, false] {
        let env = TestEnv::new().await;
        let pool = pool(&env).await;
        let rows = payments(2_500);
        fill_postgres(&pool, &rows, zone).await;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("payment.parquet");
        write_parquet(&path, &rows);
        let on_postgres = workspace(&env).await;
        let on_spark = Databricks::start().await.expect("a workspace");
        let started = on_spark.add_spark_warehouse(WAREHOUSE, &python, &path, zone);
        started.await.expect("Spark");
        let mut seen = Vec::new();
        for workspace in [&on_postgres, &on_spark] {
            let readers = readers(&pool, workspace);
            let source = TransactionSource::open(&in_warehouse("bank.payment"), &readers, SETTINGS)
                .await
                .expect("a source");
            // Both samples are even; which rows are in them is each engine's own affair.
            let mut sampled = 0;
            let asked = source.in_place().expect("a source that counts itself");
            let all = Request::monitored(window(0, 1 << 30), at(1 << 30));
            asked
                .sample(&all, 0.25, |batch| sampled += batch.rows())
                .await
                .expect("a sample");
            assert!((525..725).contains(&sampled), "{sampled} of 2500");
            seen.push(everything(&source).await.expect("answers"));
            let missing = TransactionSource::open(&in_warehouse("bank.paymets"), &readers, SETTINGS).await;
            assert_eq!(missing.expect_err("no table").word(), "table_missing");
        }
        for (on_postgres, on_spark) in seen[0].iter().zip(&seen[1]) {
            assert_eq!(on_spark, on_postgres, "with a zone: {zone}");
        }
    }
}
