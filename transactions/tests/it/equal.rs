//! The same rows give equal batches from a table, a view, a file and a warehouse.

use local_stack::TestEnv;
use local_stack::peers::databricks::Databricks;
use sqlx::postgres::PgPoolOptions;
use sqlx::{Executor as _, PgPool};
use transactions::{
    Batch, Column, DataFile, FeatureChoice, Label, ModelDefinition, Order, Readers, Request,
    SourceDefinition, TransactionSource,
};

use crate::support::{
    SETTINGS, at, definition, fill_postgres, in_postgres, in_warehouse, payments, pool, readers, run, window,
    workspace, write_parquet,
};

/// NaN is missing, and two missing values are equal here.
fn comparable(batch: &Batch) -> String {
    format!("{batch:?}")
}

/// What sources are read from, for as long as it is kept.
struct Kept {
    _folder: tempfile::TempDir,
    _workspace: Databricks,
    readers: Readers,
}

async fn sources(env: &TestEnv, zone: bool, rows: i64) -> (Kept, Vec<TransactionSource>) {
    let pool = pool(env).await;
    let payments = payments(rows);
    fill_postgres(&pool, &payments, zone).await;
    run(
        &pool,
        "create view bank.payment_view as select * from bank.payment",
    )
    .await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("payment.parquet");
    write_parquet(&path, &payments);
    let workspace = workspace(env).await;
    let readers = readers(&pool, &workspace);
    let mut sources = Vec::new();
    for definition in [
        in_postgres("bank", "payment"),
        in_postgres("bank", "payment_view"),
        definition(SourceDefinition::File(DataFile::Parquet(path))),
        in_warehouse("main.bank.payment"),
    ] {
        sources.push(
            TransactionSource::open(&definition, &readers, SETTINGS)
                .await
                .expect("a source"),
        );
    }
    let kept = Kept {
        _folder: folder,
        _workspace: workspace,
        readers,
    };
    (kept, sources)
}

#[tokio::test]
async fn table_view_file_and_warehouse_give_equal_batches() {
    for zone in [true, false] {
        let env = TestEnv::new().await;
        let (_kept, sources) = sources(&env, zone, 2_000).await;
        let day = 86_400;
        // window, as of, rows expected: three payments every three minutes
        let cases = [
            (window(0, day), at(day), 1_440),
            (window(3_600, 7_200), at(day), 60),
            (window(3_600, 7_200), at(5_400), 30), // nothing at or after the instant asked about
            (window(180, 181), at(day), 3),        // half-open
            (window(179, 180), at(day), 0),
            (window(-day, 0), at(day), 0),
            (window(0, day), at(-1), 0),
        ];
        for (window, as_of, rows) in cases {
            let request = Request::all(window, as_of);
            let mut seen = Vec::new();
            for source in &sources {
                let batch = source.read(&request).await.expect("rows");
                assert_eq!(
                    batch.rows(),
                    rows,
                    "{window} as of {as_of} from {}",
                    source.definition().source
                );
                assert_eq!(source.count(window, as_of).await.expect("a count"), rows as u64);
                seen.push(comparable(&batch));
            }
            assert!(
                seen.windows(2).all(|pair| pair[0] == pair[1]),
                "{window} as of {as_of}"
            );
        }
        for source in &sources {
            assert_eq!(
                source.extent().await.expect("an extent"),
                Some((at(0), at(1_999 / 3 * 180)))
            );
        }
    }
}

#[tokio::test]
async fn segments_are_read_beside_the_features_and_are_none_themselves() {
    let env = TestEnv::new().await;
    let (_kept, sources) = sources(&env, true, 2_000).await;
    let mut seen = Vec::new();
    for source in &sources {
        assert!(
            source
                .features()
                .all(|feature| feature.name != "weekend" || !feature.monitored)
        );
        assert_eq!(source.features().count(), 6);
        // `weekend` is a number among the features and a name among the segments.
        let request = Request {
            features: FeatureChoice::WithSegments(vec!["weekend".to_owned()]),
            ..Request::all(window(0, 86_400), at(86_400))
        };
        if source.in_place().is_some() {
            continue;
        }
        let rows = source.read(&request).await.expect("rows");
        let [number, channel, weekend] = rows.features.as_slice() else {
            panic!("a feature and two segments")
        };
        let number = number.numbers().expect("numbers");
        for (row, number) in number.iter().enumerate() {
            assert_eq!(weekend.level(row), Some(number.to_string()).as_deref());
        }
        assert!((0..rows.rows()).any(|row| channel.level(row) == Some("chip")));
        seen.push(comparable(&rows));
    }
    assert_eq!(seen.len(), 3);
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]));
}

#[tokio::test]
async fn more_rows_than_one_batch_come_in_parts_that_add_up() {
    let env = TestEnv::new().await;
    let (_kept, sources) = sources(&env, true, 40_000).await;
    let request = Request::all(window(0, 1 << 40), at(1 << 41));
    let mut whole = Vec::new();
    for source in &sources {
        let mut parts = Vec::new();
        let rows = source
            .scan(&request, |batch| parts.push(batch.rows()))
            .await
            .expect("rows");
        assert_eq!((rows, parts.iter().sum::<usize>()), (40_000, 40_000));
        whole.push(comparable(&source.read(&request).await.expect("rows")));
    }
    let mut parts = 0;
    sources[0].scan(&request, |_| parts += 1).await.expect("rows");
    assert_eq!(parts, 3, "a table is read in parts");
    assert!(whole.windows(2).all(|pair| pair[0] == pair[1]));
}

#[tokio::test]
async fn a_long_span_is_read_by_two_connections_and_each_row_once() {
    let env = TestEnv::new().await;
    let pool = pool(&env).await;
    fill_postgres(&pool, &payments(40_000), true).await;
    let table = in_postgres("bank", "payment");
    for connections in [1, 4] {
        let options = PgPoolOptions::new().max_connections(connections);
        let few: PgPool = options.connect(&env.database_url).await.expect("a connection");
        let source = TransactionSource::open(&table, &few.clone().into(), SETTINGS)
            .await
            .expect("a source");
        let request = |order| Request {
            order,
            ..Request::all(window(0, 1 << 30), at(1 << 30))
        };
        let (any, stored) = (
            source.read(&request(Order::Any)).await.expect("rows"),
            source.read(&request(Order::Stored)).await.expect("rows"),
        );
        let again = source.read(&request(Order::Stored)).await.expect("rows");
        assert_eq!(comparable(&stored), comparable(&again), "as they lie, each time");
        let sorted = |batch: &Batch| {
            let mut times = batch.times.clone();
            times.sort_unstable();
            times
        };
        assert_eq!(any.rows(), 40_000);
        assert_eq!(sorted(&any), sorted(&stored));
        assert_eq!(any.label_counts(), stored.label_counts());
        // With one connection there is nobody to share with, and nobody waits for ever.
        let (mut seen, wanted) = (0, i64::from(connections.min(2)));
        for _ in 0..20 {
            // Whoever reads waits for this lock, and can be counted. A busy machine may not have the second connection at once.
            let mut lock = pool.begin().await.expect("a transaction");
            lock.execute("lock table bank.payment").await.expect("the lock");
            let any_order = request(Order::Any);
            let reading = source.read(&any_order);
            let (rows, waiting) = tokio::join!(reading, async {
                let mut waiting = 0;
                for _ in 0..100 {
                    waiting = waiting.max(readers_that_wait(&pool).await);
                    if waiting == wanted {
                        break;
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
                lock.commit().await.expect("the lock is given back");
                waiting
            });
            assert_eq!(rows.expect("rows").rows(), 40_000);
            seen = seen.max(waiting);
            if seen == wanted {
                break;
            }
        }
        assert_eq!(seen, wanted, "of {connections} connections");
        few.close().await;
    }
}

async fn readers_that_wait(pool: &PgPool) -> i64 {
    sqlx::query_scalar(
        "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and query ilike 'copy%'",
    )
    .fetch_one(pool)
    .await
    .expect("who waits")
}

#[tokio::test]
async fn news_are_the_rows_whose_label_was_not_known_before() {
    let env = TestEnv::new().await;
    let (kept, sources) = sources(&env, true, 3_000).await;
    for source in &sources {
        // Without a column that says when, a label is known a fixed time after its row.
        let fixed = transactions::ModelDefinition {
            label_time: None,
            label_delay: std::time::Duration::from_secs(7_200),
            ..source.definition().clone()
        };
        let fixed = TransactionSource::open(&fixed, &kept.readers, SETTINGS)
            .await
            .expect("a source");
        for (source, mode) in [(source, "label_time"), (&fixed, "label_delay")] {
            let span = window(0, 90_000);
            let labelled = async |as_of| {
                let batch = source.read(&Request::outcomes(span, as_of)).await.expect("rows");
                batch
                    .labels
                    .iter()
                    .filter(|label| **label != Label::Unknown)
                    .count()
            };
            let mut found = 0;
            for (since, until) in [(0, 10_000), (10_000, 10_001), (10_001, 60_000), (60_000, 500_000)] {
                let news = source
                    .read(&Request::news(span, at(since), at(until)))
                    .await
                    .expect("rows");
                assert!(news.labels.iter().all(|label| *label != Label::Unknown), "{mode}");
                found += news.rows();
                assert_eq!(
                    news.rows(),
                    labelled(at(until)).await - labelled(at(since)).await,
                    "{mode} {since} to {until} of {}",
                    source.definition().source
                );
            }
            assert!(found > 100, "{mode}: {found}");
        }
    }
}

#[tokio::test]
async fn rows_come_by_time_then_id() {
    let env = TestEnv::new().await;
    let (_kept, sources) = sources(&env, true, 300).await;
    for source in &sources {
        let batch = source
            .read(&Request::all(window(0, 86_400), at(86_400)))
            .await
            .expect("rows");
        assert!(batch.times.is_sorted(), "{}", source.definition().source);
        let amounts = batch.features[0].numbers().expect("numbers");
        let payments = payments(300);
        let mut expected: Vec<_> = payments.iter().map(|p| (p.seconds, p.id, p.amount)).collect();
        expected.sort_by_key(|(seconds, id, _)| (*seconds, *id));
        for (found, (_, id, amount)) in amounts.iter().zip(expected) {
            match amount {
                Some(amount) => assert_eq!(*found, f64::from(amount), "payment {id}"),
                None => assert!(found.is_nan(), "payment {id}"),
            }
        }
    }
}

#[tokio::test]
async fn without_an_id_the_order_is_definite_too() {
    let env = TestEnv::new().await;
    let (kept, sources) = sources(&env, true, 1_000).await;
    let mut seen = Vec::new();
    for source in &sources {
        let definition = transactions::ModelDefinition {
            id: None,
            ..source.definition().clone()
        };
        let source = TransactionSource::open(&definition, &kept.readers, SETTINGS)
            .await
            .expect("a source");
        let mut request = Request::all(window(0, 86_400), at(1 << 30));
        request.labels = false;
        seen.push(comparable(&source.read(&request).await.expect("rows")));
    }
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]));
}

#[tokio::test]
async fn a_label_counts_once_it_is_known() {
    let env = TestEnv::new().await;
    let (kept, sources) = sources(&env, true, 2_000).await;
    let payments = payments(2_000);
    let (end, as_of) = (40_000, 60_000);
    for source in &sources {
        let batch = source
            .read(&Request::outcomes(window(0, end), at(as_of)))
            .await
            .expect("rows");
        let known = |p: &&crate::support::Payment| {
            p.seconds < end && p.fraud.is_some() && p.labelled_seconds.is_some_and(|seconds| seconds <= as_of)
        };
        let labelled = payments.iter().filter(known).count() as u64;
        let frauds = payments
            .iter()
            .filter(known)
            .filter(|p| p.fraud == Some(true))
            .count() as u64;
        assert!(labelled > 100 && frauds > 5);
        assert_eq!(
            batch.label_counts(),
            (labelled, frauds),
            "{}",
            source.definition().source
        );
        let later = source
            .read(&Request::outcomes(window(0, end), at(1 << 30)))
            .await
            .expect("rows");
        assert!(later.label_counts().0 > labelled, "labels go on arriving");
        // Without a label_time column the delay decides.
        let definition = transactions::ModelDefinition {
            label_time: None,
            ..source.definition().clone()
        };
        let source = TransactionSource::open(&definition, &kept.readers, SETTINGS)
            .await
            .expect("a source");
        let batch = source
            .read(&Request::outcomes(window(0, end), at(86_400)))
            .await
            .expect("rows");
        let ripe = batch
            .times
            .iter()
            .filter(|time| **time <= at(0).timestamp_micros())
            .count();
        let labelled = batch
            .labels
            .iter()
            .filter(|label| **label != Label::Unknown)
            .count();
        assert!(ripe == 3 && labelled <= 3, "only the first instant is a day old");
    }
}

#[tokio::test]
async fn only_what_was_asked_for_is_read() {
    let env = TestEnv::new().await;
    let (_kept, sources) = sources(&env, true, 300).await;
    for source in &sources {
        let monitored: Vec<&str> = source.monitored().map(|feature| feature.name.as_str()).collect();
        assert_eq!(monitored, ["AMOUNT", "fee", "online", "channel", "terminal"]);
        let batch = source
            .read(&Request::monitored(window(0, 3_600), at(3_600)))
            .await
            .expect("rows");
        assert_eq!(batch.features.len(), 5);
        assert!(batch.labels.iter().all(|label| *label == Label::Unknown));
        assert!(batch.scores.iter().all(|score| score.is_nan()));
        assert!(
            matches!(batch.features[4], Column::Category { .. }),
            "a number that names categories"
        );
        let named = Request {
            features: FeatureChoice::Named(vec!["weekend".to_owned(), "AMOUNT".to_owned()]),
            order: Order::Any,
            ..Request::all(window(0, 3_600), at(3_600))
        };
        let batch = source.read(&named).await.expect("rows");
        assert_eq!(batch.features.len(), 2);
        assert!(
            batch.features[0]
                .numbers()
                .expect("numbers")
                .iter()
                .all(|value| *value == 0.0)
        );
    }
}

#[tokio::test]
async fn a_csv_file_gives_what_its_table_gives() {
    let env = TestEnv::new().await;
    let pool = pool(&env).await;
    fill_postgres(&pool, &payments(2_000), true).await;
    // Numbers as they are written, and no text of no characters: in a file that is a missing value.
    run(
        &pool,
        "alter table bank.payment alter \"AMOUNT\" type float8 using \"AMOUNT\"::text::float8, \
         alter score type float8 using score::text::float8, alter terminal type text using lpad(terminal::text, 3, '0'); \
         update bank.payment set channel = null where channel = ''",
    )
    .await;
    let written: String = sqlx::query_scalar(
        "select string_agg(concat_ws(';', id, to_char(tx_time, 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), coalesce(\"AMOUNT\"::text, ''), \
         coalesce(fee::text, ''), coalesce(online::text, ''), coalesce('\"' || replace(channel, '\"', '\"\"') || '\"', ''), \
         coalesce(terminal, 'NA'), weekend, coalesce(is_fraud::int::text, ''), \
         coalesce(to_char(labelled_at, 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), ''), coalesce(score::text, 'null')), e'\\n') \
         from bank.payment",
    )
    .fetch_one(&pool)
    .await
    .expect("rows");
    let names = "id;tx_time;AMOUNT;fee;online;channel;terminal;weekend;is_fraud;labelled_at;score";
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("payment.csv");
    std::fs::write(&path, format!("{names}\n{written}\n")).expect("a file");
    let readers: Readers = pool.into();
    // `online` is true or false, and a number among the features; a column of segments names its values.
    let by_segment = |mut definition: ModelDefinition| {
        definition.segments = ["online", "weekend", "channel"].map(str::to_owned).to_vec();
        definition
    };
    let file = by_segment(definition(SourceDefinition::File(DataFile::Csv(path))));
    let file = TransactionSource::open(&file, &readers, SETTINGS)
        .await
        .expect("a source");
    let table = by_segment(in_postgres("bank", "payment"));
    let table = TransactionSource::open(&table, &readers, SETTINGS)
        .await
        .expect("a source");
    let day = 86_400;
    let with_segments = FeatureChoice::WithSegments(vec!["online".to_owned(), "terminal".to_owned()]);
    for request in [
        Request {
            features: with_segments,
            ..Request::all(window(0, day), at(day))
        },
        Request::all(window(0, day), at(day)),
        Request::all(window(3_600, 7_200), at(5_400)),
        Request::news(window(0, day), at(20_000), at(40_000)),
    ] {
        let (left, right) = (
            file.read(&request).await.expect("rows"),
            table.read(&request).await.expect("rows"),
        );
        assert!(left.rows() > 20);
        if request.order == Order::Time {
            assert_eq!(comparable(&left), comparable(&right));
        } else {
            assert_eq!(left.label_counts(), right.label_counts());
        }
    }
    assert_eq!(
        file.extent().await.expect("an extent"),
        table.extent().await.expect("an extent")
    );
}

#[tokio::test]
async fn the_handbook_file_opens_when_it_is_there() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared/data/handbook_transactions.parquet");
    if !path.is_file() {
        println!("skipped: {} is not there", path.display());
        return;
    }
    let env = TestEnv::new().await;
    let mut definition = definition(SourceDefinition::File(DataFile::Parquet(path)));
    definition.time = "TX_DATETIME".to_owned();
    definition.label = "TX_FRAUD".to_owned();
    definition.label_time = None;
    definition.score = None;
    definition.id = Some("TRANSACTION_ID".to_owned());
    definition.features = ["TX_AMOUNT", "TERMINAL_ID_RISK_7DAY_DELAY1"]
        .map(crate::support::feature)
        .to_vec();
    definition.segments.clear();
    let source = TransactionSource::open(&definition, &pool(&env).await.into(), SETTINGS)
        .await
        .expect("a source");
    let day = schemas::Window::new(
        "2018-05-10T00:00:00Z".parse().expect("an instant"),
        "2018-05-11T00:00:00Z".parse().expect("an instant"),
    )
    .expect("a window");
    let batch = source
        .read(&Request::all(
            day,
            "2018-06-01T00:00:00Z".parse().expect("an instant"),
        ))
        .await
        .expect("rows");
    assert!((9_000..11_000).contains(&batch.rows()), "{}", batch.rows());
    let (labelled, frauds) = batch.label_counts();
    assert_eq!(labelled, batch.rows() as u64);
    assert!((40..200).contains(&frauds), "{frauds}");
    assert!(batch.scores.iter().all(|score| score.is_nan()));
}
