//! A source that does not fit the settings says so, with everything that is wrong.

use local_stack::TestEnv;
use sqlx::PgPool;
use transactions::{
    CatalogueProblem, DataFile, FeatureChoice, ModelDefinition, Request, SourceDefinition, SourceError,
    TransactionSource,
};

use crate::support::{
    SETTINGS, at, definition, feature, fill_postgres, in_postgres, payments, pool, run, window, write_parquet,
};

async fn problems(definition: &ModelDefinition, pool: &PgPool) -> (String, Vec<CatalogueProblem>) {
    match TransactionSource::open(definition, &pool.clone().into(), SETTINGS).await {
        Err(error @ SourceError::Catalogue { .. }) => {
            assert!(!error.is_transient());
            let text = error.to_string();
            let SourceError::Catalogue { problems, .. } = error else {
                unreachable!("matched above")
            };
            (text, problems)
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("{:?} was accepted", definition.source),
    }
}

#[tokio::test]
async fn every_missing_and_mistyped_column_is_listed_with_what_was_meant() {
    let env = TestEnv::new().await;
    let pool = pool(&env).await;
    let rows = payments(10);
    fill_postgres(&pool, &rows, true).await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("p.parquet");
    write_parquet(&path, &rows);
    for mut definition in [
        in_postgres("bank", "payment"),
        definition(SourceDefinition::File(DataFile::Parquet(path))),
    ] {
        definition.time = "channel".to_owned();
        definition.label = "is_fruad".to_owned();
        definition.score = Some("channel".to_owned());
        definition.features = ["amount", "tx_time", "fee"].map(feature).to_vec();
        let (text, problems) = problems(&definition, &pool).await;
        assert_eq!(problems.len(), 5, "{text}");
        for part in [
            "`label` names the column `is_fruad`, which does not exist, did you mean `is_fraud`?",
            "`features` names the column `amount`, which does not exist, did you mean `AMOUNT`?",
            "`time` names the column `channel` of type",
            "`score` names the column `channel` of type",
            "`features` names the column `tx_time` of type",
        ] {
            assert!(text.contains(part), "{part:?} is missing in {text}");
        }
    }
}

#[tokio::test]
async fn a_missing_table_is_named_with_its_neighbour() {
    let env = TestEnv::new().await;
    let pool = pool(&env).await;
    fill_postgres(&pool, &payments(1), true).await;
    let (text, problems) = problems(&in_postgres("bank", "paymets"), &pool).await;
    assert!(matches!(
        problems.as_slice(),
        [CatalogueProblem::MissingTable { .. }]
    ));
    assert!(
        text.contains("there is no table or view `bank.paymets`, did you mean `bank.payment`?"),
        "{text}"
    );
    assert_eq!(problems[0].word(), "table_missing");
}

#[tokio::test]
async fn a_missing_right_is_named() {
    let env = TestEnv::new().await;
    let pool = pool(&env).await;
    fill_postgres(&pool, &payments(1), true).await;
    // Roles belong to the whole server, which other tests share.
    let role = format!("reader_{}", std::process::id());
    run(&pool, &format!("create role {role} login")).await;
    let options: sqlx::postgres::PgConnectOptions = env.database_url.parse().expect("a URL");
    let reader = PgPool::connect_with(options.username(&role))
        .await
        .expect("a connection");
    let definition = in_postgres("bank", "payment");
    let (text, _) = problems(&definition, &reader).await;
    assert!(
        text.contains(&format!("role `{role}` may not read schema `bank`")),
        "{text}"
    );
    run(&pool, &format!("grant usage on schema bank to {role}")).await;
    let (text, _) = problems(&definition, &reader).await;
    assert!(
        text.contains(&format!("role `{role}` may not read `bank.payment`")),
        "{text}"
    );
    run(&pool, &format!("grant select (id, tx_time, is_fraud, labelled_at, score, fee, online, channel, terminal, weekend) on bank.payment to {role}")).await;
    let (text, _) = problems(&definition, &reader).await;
    assert!(text.contains("the columns `AMOUNT` of `bank.payment`"), "{text}");
    run(&pool, &format!("grant select on bank.payment to {role}")).await;
    TransactionSource::open(&definition, &reader.clone().into(), SETTINGS)
        .await
        .expect("a readable table");
    reader.close().await;
    run(&pool, &format!("drop owned by {role}; drop role {role}")).await;
}

#[tokio::test]
async fn a_column_that_vanishes_later_is_named_and_not_read_as_nothing() {
    let env = TestEnv::new().await;
    let pool = pool(&env).await;
    fill_postgres(&pool, &payments(30), true).await;
    let source = TransactionSource::open(&in_postgres("bank", "payment"), &pool.clone().into(), SETTINGS)
        .await
        .expect("a source");
    let request = Request::all(window(0, 86_400), at(86_400));
    assert_eq!(source.read(&request).await.expect("rows").rows(), 30);
    run(
        &pool,
        "alter table bank.payment rename column \"AMOUNT\" to amount",
    )
    .await;
    let error = source.read(&request).await.expect_err("a column is missing");
    assert_eq!(
        (error.word(), error.is_transient()),
        ("column_missing", false),
        "{error}"
    );
    assert!(error.to_string().contains("did you mean `amount`?"), "{error}");
    run(&pool, "drop table bank.payment").await;
    let error = source.read(&request).await.expect_err("no table");
    assert_eq!(
        (error.word(), error.is_transient()),
        ("table_missing", false),
        "{error}"
    );
}

#[tokio::test]
async fn odd_names_are_quoted_and_never_executed() {
    let env = TestEnv::new().await;
    let pool = pool(&env).await;
    let odd = r#"a"); drop table payment; --"#;
    run(
        &pool,
        &format!(
            "create table payment (\"Tx Time\" timestamptz, \"select\" int, \"{}\" float8, \"{}`\" text); \
             insert into payment values ('2026-03-01 00:00:00+00', 1, 5, 'x')",
            odd.replace('"', "\"\""),
            odd.replace('"', "\"\"")
        ),
    )
    .await;
    let mut definition = in_postgres("public", "payment");
    definition.time = "Tx Time".to_owned();
    definition.label = "select".to_owned();
    definition.label_time = None;
    definition.score = None;
    definition.id = None;
    definition.features = vec![feature(odd)];
    definition.segments = vec![format!("{odd}`")];
    let source = TransactionSource::open(&definition, &pool.clone().into(), SETTINGS)
        .await
        .expect("a source");
    let request = Request {
        features: FeatureChoice::WithSegments(vec![odd.to_owned()]),
        ..Request::all(window(0, 10), at(86_400))
    };
    let batch = source.read(&request).await.expect("rows");
    assert_eq!(batch.features[0].numbers(), Some([5.0].as_slice()));
    assert_eq!(batch.features[1].level(0), Some("x"));
    assert_eq!(batch.label_counts(), (1, 1));
}
