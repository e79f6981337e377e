//! What is wrong with values, and what happens when the server is slow or away.

use std::time::Duration;

use local_stack::proxy::{Line, Proxy};
use local_stack::{Stack, StackOptions, TestEnv};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use transactions::{DataFile, Request, SourceDefinition, SourceError, SourceSettings, TransactionSource};

use crate::support::{
    SETTINGS, at, definition, fill_postgres, hours, in_postgres, payments, pool, run, window, write_parquet,
};

#[tokio::test]
async fn a_label_or_score_that_cannot_be_one_is_refused_by_name() {
    let env = TestEnv::new().await;
    let pool = pool(&env).await;
    fill_postgres(&pool, &payments(30), true).await;
    run(
        &pool,
        "alter table bank.payment alter is_fraud type int using is_fraud::int",
    )
    .await;
    let source = TransactionSource::open(&in_postgres("bank", "payment"), &pool.clone().into(), SETTINGS)
        .await
        .expect("a source");
    let request = Request::all(window(0, 86_400), at(86_400));
    assert_eq!(
        source.read(&request).await.expect("rows").rows(),
        30,
        "0 and 1 are labels"
    );
    run(&pool, "update bank.payment set is_fraud = 2 where id = 7").await;
    let error = source.read(&request).await.expect_err("2 is no label");
    assert!(
        matches!(&error, SourceError::BadValue { column, .. } if column == "is_fraud"),
        "{error}"
    );
    assert!(!error.is_transient());
    run(
        &pool,
        "update bank.payment set is_fraud = 1, score = 85 where id = 7",
    )
    .await;
    let error = source.read(&request).await.expect_err("85 is no probability");
    assert!(
        error.to_string().contains("column `score`: the score is 85"),
        "{error}"
    );
    // Who does not ask for labels and scores does not trip over them.
    source
        .read(&Request::monitored(window(0, 86_400), at(86_400)))
        .await
        .expect("features");
}

#[tokio::test]
async fn a_number_too_large_for_a_double_is_named_and_infinity_is_carried() {
    let env = TestEnv::new().await;
    let pool = pool(&env).await;
    fill_postgres(&pool, &payments(3), true).await;
    run(
        &pool,
        "alter table bank.payment alter fee type numeric; update bank.payment set \"AMOUNT\" = 'Infinity'",
    )
    .await;
    let source = TransactionSource::open(&in_postgres("bank", "payment"), &pool.clone().into(), SETTINGS)
        .await
        .expect("a source");
    let request = Request::monitored(window(0, 86_400), at(86_400));
    let batch = source.read(&request).await.expect("rows");
    assert_eq!(batch.features[0].numbers(), Some([f64::INFINITY; 3].as_slice()));
    run(&pool, "update bank.payment set fee = 1e400").await;
    let error = source.read(&request).await.expect_err("no double");
    assert_eq!(
        (error.word(), error.is_transient()),
        ("source_corrupt", false),
        "{error}"
    );
}

#[tokio::test]
async fn a_query_that_takes_too_long_ends_and_says_so() {
    let env = TestEnv::new().await;
    let pool = pool(&env).await;
    fill_postgres(&pool, &payments(1_000), true).await;
    run(
        &pool,
        "create view bank.slow as select p.*, pg_sleep(0.05)::text as rest from bank.payment p",
    )
    .await;
    let mut definition = in_postgres("bank", "slow");
    definition.features.push(crate::support::feature("rest"));
    let settings = SourceSettings {
        statement_timeout: Duration::from_millis(300),
    };
    let source = TransactionSource::open(&definition, &pool.clone().into(), settings)
        .await
        .expect("a source");
    let error = source
        .read(&Request::all(window(0, 86_400), at(86_400)))
        .await
        .expect_err("too slow");
    assert!(
        matches!(error, SourceError::TooSlow { .. }) && error.is_transient(),
        "{error}"
    );
    // The pool is usable afterwards.
    assert_eq!(source.count(window(0, 180), at(180)).await.expect("a count"), 3);
}

#[tokio::test]
async fn a_server_that_is_away_is_transient_and_comes_back() {
    // A stack of its own: no other test may lose its server.
    let stack = Stack::start(StackOptions::for_tests()).await.expect("servers");
    let url = stack.create_database("away").await.expect("a database");
    let options = PgPoolOptions::new().acquire_timeout(Duration::from_secs(5));
    let pool: PgPool = options.connect(&url).await.expect("a connection");
    fill_postgres(&pool, &payments(300), true).await;
    let source = TransactionSource::open(&in_postgres("bank", "payment"), &pool.clone().into(), SETTINGS)
        .await
        .expect("a source");
    let request = Request::all(window(0, 86_400), at(86_400));
    stack.postgres().kill().expect("killed");
    let error = source.read(&request).await.expect_err("nobody answers");
    assert_eq!(
        (error.word(), error.is_transient()),
        ("source_unreachable", true),
        "{error}"
    );
    stack.postgres().restart().expect("restarted");
    let mut rows = Err(error);
    for _ in 0..20 {
        // Each attempt waits for a connection by itself.
        rows = source.read(&request).await;
        if rows.is_ok() {
            break;
        }
    }
    assert_eq!(rows.expect("rows again").rows(), 300);
    pool.close().await;
    stack.stop().await.expect("stopped");
}

#[tokio::test]
async fn a_server_that_is_gone_without_a_word_is_not_waited_for() {
    let env = TestEnv::new().await;
    let direct = pool(&env).await;
    fill_postgres(&direct, &payments(3), true).await;
    run(
        &direct,
        "create view bank.rests as select *, pg_sleep(1)::text as rest from bank.payment",
    )
    .await;
    let line = Proxy::to_url(&env.database_url).await.expect("a line");
    let behind = line.instead_of(&env.database_url).expect("an address");
    let options = chassis::db::pool_options().acquire_timeout(Duration::from_secs(10));
    let pool: PgPool = options.connect(&behind).await.expect("a connection");
    let mut definition = in_postgres("bank", "rests");
    definition.features.push(crate::support::feature("rest"));
    let settings = SourceSettings {
        statement_timeout: Duration::from_secs(5),
    };
    let source = TransactionSource::open(&definition, &pool.clone().into(), settings)
        .await
        .expect("a source");
    let request = Request::all(window(0, 86_400), at(86_400));
    let reading = source.read(&request);
    let losing = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        line.set(Line::AnswersLost);
    };
    let both = async { tokio::join!(reading, losing).0 };
    let error = tokio::time::timeout(Duration::from_secs(60), both)
        .await
        .expect("an end")
        .expect_err("nobody answers");
    assert!(error.is_transient(), "{error}");
    line.set(Line::Pass);
    assert_eq!(source.read(&request).await.expect("rows again").rows(), 3);
}

#[tokio::test]
async fn a_file_that_is_missing_or_torn_is_told_apart() {
    let env = TestEnv::new().await;
    let pool = pool(&env).await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("p.parquet");
    let definition = definition(SourceDefinition::File(DataFile::Parquet(path.clone())));
    let error = TransactionSource::open(&definition, &pool.clone().into(), SETTINGS)
        .await
        .expect_err("no file");
    assert!(
        error.is_transient() && error.word() == "source_unreachable",
        "{error}"
    );
    write_parquet(&path, &payments(500));
    let source = TransactionSource::open(&definition, &pool.clone().into(), SETTINGS)
        .await
        .expect("a source");
    let request = Request::all(window(0, 86_400), at(0) + hours(24));
    assert!(source.read(&request).await.expect("rows").rows() > 400);
    let bytes = std::fs::read(&path).expect("bytes");
    std::fs::write(&path, &bytes[..bytes.len() / 2]).expect("written");
    let error = source.read(&request).await.expect_err("half a file");
    assert_eq!(
        (error.word(), error.is_transient()),
        ("source_corrupt", false),
        "{error}"
    );
}
