//! A SQL warehouse counts as its rows would count, and fails as it may fail.

use std::collections::BTreeMap;
use std::time::Duration;

use local_stack::TestEnv;
use local_stack::peers::databricks::{Call, Databricks, Fault, StatementState};
use sqlx::PgPool;
use transactions::counts::{CellCount, Cells, Sums};
use transactions::{
    Batch, Column, FeatureChoice, InPlace, Label, ModelDefinition, Order, Readers, Request, SourceError,
    SourceSettings, TransactionSource,
};

use crate::support::{
    SETTINGS, WAREHOUSE, at, feature, fill_postgres, in_postgres, in_warehouse, payments, pool, readers,
    readers_with, run, window, workspace,
};

struct Scene {
    _env: TestEnv,
    pool: PgPool,
    workspace: Databricks,
    readers: Readers,
}

impl Scene {
    async fn new(rows: i64, zone: bool) -> Self {
        let env = TestEnv::new().await;
        let pool = pool(&env).await;
        fill_postgres(&pool, &payments(rows), zone).await;
        let workspace = workspace(&env).await;
        let readers = readers(&pool, &workspace);
        Self {
            _env: env,
            pool,
            workspace,
            readers,
        }
    }

    async fn open(&self, definition: &ModelDefinition) -> Result<TransactionSource, SourceError> {
        TransactionSource::open(definition, &self.readers, SETTINGS).await
    }

    async fn warehouse(&self) -> TransactionSource {
        self.open(&in_warehouse("main.bank.payment"))
            .await
            .expect("a source")
    }

    async fn refused(&self, definition: &ModelDefinition) -> SourceError {
        match self.open(definition).await {
            Err(error) => error,
            Ok(_) => panic!("{:?} was accepted", definition.source),
        }
    }
}

fn day() -> Request {
    Request {
        order: Order::Stored,
        ..Request::monitored(window(0, 86_400), at(86_400))
    }
}

/// The cell of a value by its definition, row by row.
fn cell_of(cells: &Cells, column: &Column, row: usize) -> usize {
    match cells {
        Cells::Numbers { points, edges } => {
            let value = column.numbers().expect("numbers")[row];
            if value.is_nan() {
                return 0;
            }
            match points.iter().position(|point| *point == value) {
                Some(point) => point + 1,
                None => 1 + points.len() + edges.iter().filter(|edge| **edge <= value).count(),
            }
        }
        Cells::Levels { levels, pooled } => match column.level(row) {
            None => 0,
            Some(level) => match levels.iter().position(|known| known == level) {
                Some(at) => at + 3,
                None if pooled.iter().any(|known| known == level) => 2,
                None => 1,
            },
        },
    }
}

pub fn cells() -> Vec<Cells> {
    let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    vec![
        Cells::Numbers {
            points: vec![0.0, f64::from(7.0_f32 * 1.1)],
            edges: vec![-5.0, 0.5, 10.0, 100.0, 100.000_000_1, 900.0],
        },
        Cells::Numbers {
            points: vec![],
            edges: vec![-4.0, 0.0, 0.01, 3.0],
        },
        Cells::Numbers {
            points: vec![0.0, 1.0],
            edges: vec![],
        },
        Cells::Levels {
            levels: names(&["it's \"odd\"\n", "chip", r"back\slash"]),
            pooled: names(&["zürich", ""]),
        },
        Cells::Levels {
            levels: names(&["3", "11"]),
            pooled: vec![],
        },
    ]
}

#[tokio::test]
async fn cells_are_counted_as_the_rows_would_be() {
    for zone in [true, false] {
        let scene = Scene::new(2_500, zone).await;
        run(&scene.pool, "update bank.payment set \"AMOUNT\" = 'NaN' where id = 3; update bank.payment set \"AMOUNT\" = 'Infinity' where id = 4").await;
        let (source, cells) = (scene.warehouse().await, cells());
        let mut counted = BTreeMap::new();
        let each = |count: CellCount<i64>| {
            let key = (count.part, count.feature, count.cell);
            let before = counted.insert(key, (count.rows, count.sums));
            assert!(before.is_none(), "{key:?} came twice");
        };
        let asked = source.in_place().expect("a source that counts itself");
        asked.cells(&day(), &cells, each).await.expect("counts");

        let mut wanted: BTreeMap<_, (u64, Sums)> = BTreeMap::new();
        let rows = source.read(&day()).await.expect("rows");
        let beside = scene
            .open(&in_postgres("bank", "payment"))
            .await
            .expect("a source");
        assert_eq!(
            format!("{rows:?}"),
            format!("{:?}", beside.read(&day()).await.expect("rows"))
        );
        for row in 0..rows.rows() {
            for (at, (column, cells)) in rows.features.iter().zip(&cells).enumerate() {
                let key = (
                    rows.times[row].div_euclid(3_600_000_000),
                    at,
                    cell_of(cells, column, row),
                );
                let (count, sums) = wanted.entry(key).or_default();
                *count += 1;
                let finite = column
                    .numbers()
                    .map(|all| all[row])
                    .filter(|value| value.is_finite());
                if let Some(value) = finite {
                    let first = sums.values == 0;
                    sums.values += 1;
                    sums.sum += value;
                    sums.sum_of_squares += value * value;
                    sums.min = if first { value } else { sums.min.min(value) };
                    sums.max = if first { value } else { sums.max.max(value) };
                }
            }
        }
        assert_eq!(rows.rows(), 1_440);
        assert!(wanted.len() > 200, "{}", wanted.len());
        assert_eq!(
            counted.keys().collect::<Vec<_>>(),
            wanted.keys().collect::<Vec<_>>()
        );
        for (key, (rows, sums)) in &wanted {
            let (found_rows, found) = &counted[key];
            let exact = (found_rows, found.values, found.min, found.max);
            assert_eq!(exact, (rows, sums.values, sums.min, sums.max), "{key:?}");
            // In which order the warehouse adds is its own affair.
            let near = |a: f64, b: f64| (a - b).abs() <= 1e-9 * b.abs().max(1.0);
            assert!(
                near(found.sum, sums.sum) && near(found.sum_of_squares, sums.sum_of_squares),
                "{key:?}"
            );
        }
    }
}

/// Rows per level of a column of segments, feature and cell.
pub async fn by_level(
    asked: InPlace<'_>,
    segment: &str,
    levels: &[&str],
) -> Result<BTreeMap<(Option<String>, usize, usize), u64>, SourceError> {
    let features = ["AMOUNT", "fee", "online", "channel", "terminal"].map(str::to_owned);
    let request = Request {
        features: FeatureChoice::WithSegments(features.to_vec()),
        ..day()
    };
    let at = if segment == "channel" { 5 } else { 6 };
    let levels: Vec<String> = levels.iter().map(|level| (*level).to_owned()).collect();
    let mut counted = BTreeMap::new();
    let each = |count: CellCount<Option<String>>| {
        let key = (count.part, count.feature, count.cell);
        assert_eq!(counted.insert(key, count.rows), None, "came twice");
    };
    asked
        .cells_by_level(&request, &cells(), at, &levels, each)
        .await?;
    Ok(counted)
}

#[tokio::test]
async fn segments_are_counted_as_the_rows_would_be() {
    let scene = Scene::new(2_500, true).await;
    let source = scene.warehouse().await;
    let asked = source.in_place().expect("a source that counts itself");
    let beside = scene
        .open(&in_postgres("bank", "payment"))
        .await
        .expect("a source");
    let features = ["AMOUNT", "fee", "online", "channel", "terminal"].map(str::to_owned);
    let request = Request {
        features: FeatureChoice::WithSegments(features.to_vec()),
        ..day()
    };
    let rows = beside.read(&request).await.expect("rows");
    assert!(
        matches!(source.read(&request).await, Err(SourceError::Refused { .. })),
        "its rows stay where they are"
    );
    let (values, segments) = rows.features.split_at(5);
    for (at, segment, levels) in [
        (0, "channel", &["chip", "it's \"odd\"\n", "no such"][..]),
        (0, "channel", &[]),
        (1, "weekend", &["1", "0"]),
    ] {
        let mut wanted: BTreeMap<(Option<String>, usize, usize), u64> = BTreeMap::new();
        for row in 0..rows.rows() {
            let level = segments[at].level(row);
            if level.is_some_and(|level| !levels.contains(&level)) {
                continue;
            }
            for (feature, (column, cells)) in values.iter().zip(&cells()).enumerate() {
                let key = (level.map(str::to_owned), feature, cell_of(cells, column, row));
                *wanted.entry(key).or_default() += 1;
            }
        }
        let counted = by_level(asked, segment, levels).await.expect("counts");
        assert!(wanted.len() >= 8, "{segment}: {wanted:?}");
        assert_eq!(counted, wanted, "{segment}");
    }
}

#[tokio::test]
async fn levels_labels_and_outcomes_are_counted_as_the_rows_would_be() {
    let scene = Scene::new(2_500, true).await;
    for (mode, label_time) in [
        ("label_time", Some("labelled_at".to_owned())),
        ("label_delay", None),
    ] {
        let definition = ModelDefinition {
            label_time,
            label_delay: Duration::from_secs(7_200),
            ..in_warehouse("main.bank.payment")
        };
        let source = scene.open(&definition).await.expect("a source");
        let asked = source.in_place().expect("a source that counts itself");
        let request = Request {
            features: FeatureChoice::Monitored,
            ..Request::outcomes(window(0, 86_400), at(50_000))
        };
        let rows = source.read(&request).await.expect("rows");

        let levels = asked.levels(&request, 100).await.expect("levels");
        let mut found: BTreeMap<(usize, String), u64> = BTreeMap::new();
        for (at, column) in rows.features.iter().enumerate() {
            for level in (0..rows.rows()).filter_map(|row| column.level(row)) {
                *found.entry((at, level.to_owned())).or_default() += 1;
            }
        }
        let counted: BTreeMap<_, _> = levels
            .iter()
            .map(|one| ((one.feature, one.level.clone()), one.rows))
            .collect();
        assert_eq!(counted, found, "{mode}");
        let few = asked.levels(&request, 2).await.expect("levels");
        assert_eq!(few.len(), 4, "two of each category");

        assert_eq!(
            asked.labels(&request).await.expect("labels"),
            rows.label_counts(),
            "{mode}"
        );
        let news = Request::news(window(0, 86_400), at(20_000), at(50_000));
        for request in [request, news] {
            let rows: Batch = source.read(&request).await.expect("rows");
            assert!(rows.rows() > 100, "{mode}");
            let side = |score: f64| (score.is_nan(), (score * 50.0) as i64, score >= 0.42);
            let key = |hour, label: Label, score| (hour, format!("{label:?}"), side(score));
            let mut wanted: BTreeMap<_, u64> = BTreeMap::new();
            for row in 0..rows.rows() {
                let hour = rows.times[row].div_euclid(3_600_000_000);
                *wanted
                    .entry(key(hour, rows.labels[row], rows.scores[row]))
                    .or_default() += 1;
            }
            let counted = asked.outcomes(&request, 0.42, 50).await.expect("outcomes");
            let counted: BTreeMap<_, u64> = counted
                .iter()
                .map(|one| (key(one.hour, one.label, one.score), one.rows))
                .collect();
            assert_eq!(counted, wanted, "{mode}");
        }
    }
}

#[tokio::test]
async fn a_sample_is_even_and_always_the_same() {
    let scene = Scene::new(6_000, true).await;
    let source = scene.warehouse().await;
    let asked = source.in_place().expect("a source that counts itself");
    let request = Request::monitored(window(0, 1 << 30), at(1 << 30));
    let mut samples = Vec::new();
    for _ in 0..2 {
        let mut times = Vec::new();
        let each = |batch: &Batch| times.extend_from_slice(&batch.times);
        asked.sample(&request, 0.25, each).await.expect("a sample");
        times.sort_unstable();
        samples.push(times);
    }
    assert_eq!(samples[0], samples[1]);
    let first_half = samples[0]
        .iter()
        .filter(|time| **time < at(180_000).timestamp_micros())
        .count();
    assert!((1_350..1_650).contains(&samples[0].len()), "{}", samples[0].len());
    assert!((650..850).contains(&first_half), "{first_half}");
    let mut all = 0;
    asked
        .sample(&request, 1.0, |batch| all += batch.rows())
        .await
        .expect("all");
    assert_eq!(all, 6_000);
}

#[tokio::test]
async fn many_features_are_counted_by_several_statements_and_each_row_once() {
    let scene = Scene::new(300, true).await;
    let columns: Vec<String> = (0..150)
        .map(|at| format!("\"AMOUNT\" * {at} as \"v{at}\""))
        .collect();
    run(
        &scene.pool,
        &format!(
            "create view bank.wide as select *, {} from bank.payment",
            columns.join(", ")
        ),
    )
    .await;
    let mut definition = in_warehouse("bank.wide");
    definition.features = (0..150).map(|at| feature(&format!("v{at}"))).collect();
    let source = scene.open(&definition).await.expect("a source");
    let before = scene.workspace.statements().len();
    let cells: Vec<Cells> = (0..150)
        .map(|at| Cells::Numbers {
            points: vec![],
            edges: (0..100).map(|edge| f64::from(edge * at)).collect(),
        })
        .collect();
    let mut rows = vec![0; 150];
    let asked = source.in_place().expect("a source that counts itself");
    asked
        .cells(&day(), &cells, |count| rows[count.feature] += count.rows)
        .await
        .expect("counts");
    assert_eq!(rows, vec![300; 150]);
    assert_eq!(scene.workspace.statements().len() - before, 3);
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let scene = Scene::new(30, true).await;
    let error = scene.refused(&in_warehouse("main.bank.paymets")).await;
    assert_eq!(
        (error.word(), error.is_transient()),
        ("table_missing", false),
        "{error}"
    );
    let mut definition = in_warehouse("main.bank.payment");
    definition.label = "is_fruad".to_owned();
    definition.time = "channel".to_owned();
    let told = scene.refused(&definition).await.to_string();
    assert!(told.contains("did you mean `is_fraud`?"), "{told}");
    assert!(
        told.contains("`time` names the column `channel` of type STRING"),
        "{told}"
    );

    // A column that vanishes later is named, and not read as nothing.
    let source = scene.warehouse().await;
    run(
        &scene.pool,
        "alter table bank.payment rename column \"AMOUNT\" to amount",
    )
    .await;
    let asked = source.in_place().expect("a source that counts itself");
    for error in [
        source.read(&day()).await.expect_err("a column is missing"),
        asked
            .cells(&day(), &cells(), |_| {})
            .await
            .expect_err("a column is missing"),
    ] {
        assert_eq!(
            (error.word(), error.is_transient()),
            ("column_missing", false),
            "{error}"
        );
        assert!(error.to_string().contains("did you mean `amount`?"), "{error}");
    }
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_with_their_names() {
    let scene = Scene::new(3, true).await;
    let with = |host: &str, token: &str, id: &str| readers_with(&scene.pool, host, token, id);
    let (host, token) = (scene.workspace.url(), scene.workspace.token());
    for (token, id, part) in [
        ("wrong", WAREHOUSE, "403"),
        (token.as_str(), "none", "warehouse none was not found"),
    ] {
        let readers = with(&host, token, id).expect("settings that look well");
        let definition = in_warehouse("main.bank.payment");
        let error = TransactionSource::open(&definition, &readers, SETTINGS)
            .await
            .expect_err("a refusal");
        assert_eq!(
            (error.word(), error.is_transient()),
            ("source_refused", false),
            "{error}"
        );
        assert!(error.to_string().contains(part), "{error}");
    }
    for (host, token, id, part) in [
        ("", "t", "i", "`warehouse.host` is not set"),
        ("http://dbc.example.com", "t", "i", "an `https://` URL"),
        ("https://dbc.example.com/sql", "t", "i", "scheme and host only"),
        ("https://169.254.169.254", "t", "i", "link-local"),
        ("https://dbc.example.com", "", "i", "`warehouse.token` is not set"),
        (
            "https://dbc.example.com",
            "t",
            "",
            "because `models.cards.source` is `databricks`",
        ),
    ] {
        let told = with(host, token, id).expect_err("a mistake");
        assert!(told.contains(part), "{part:?} is missing in {told}");
    }
    let without: Readers = scene.pool.clone().into();
    let definition = in_warehouse("main.bank.payment");
    let error = TransactionSource::open(&definition, &without, SETTINGS)
        .await
        .expect_err("no warehouse");
    assert!(error.to_string().contains("[warehouse]"), "{error}");
}

#[tokio::test]
async fn calls_that_fail_for_a_while_are_tried_again() {
    let scene = Scene::new(2_100, true).await;
    let source = scene.warehouse().await;
    let whole = Request::all(window(0, 1 << 30), at(1 << 30));
    let wanted = format!("{:?}", source.read(&whole).await.expect("rows"));
    let limited = || Fault::TooManyRequests {
        retry_after: Some("1".to_owned()),
    };
    for (call, faults) in [
        (Call::SubmitStatement, vec![limited(), Fault::Unavailable]),
        (Call::SubmitStatement, vec![Fault::AnswerLost]),
        (Call::GetChunk, vec![Fault::ServerError, Fault::RequestLost]),
        (Call::Download, vec![Fault::AnswerLost, Fault::Unavailable]),
    ] {
        scene.workspace.fail(call, faults);
        let found = source
            .read(&whole)
            .await
            .unwrap_or_else(|error| panic!("{call:?}: {error}"));
        assert_eq!(format!("{found:?}"), wanted, "{call:?}");
        assert_eq!(scene.workspace.heal(), 0, "{call:?} was met");
    }
    // An address that is too old is asked for again.
    let chunks = scene.workspace.calls(Call::GetChunk);
    let expired = Fault::Instead {
        status: 403,
        body: "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>".to_owned(),
    };
    scene.workspace.fail(Call::Download, [expired]);
    assert_eq!(format!("{:?}", source.read(&whole).await.expect("rows")), wanted);
    assert_eq!(
        scene.workspace.calls(Call::GetChunk) - chunks,
        3,
        "two further chunks, and one again"
    );

    // A warehouse that never answers is not asked for ever.
    scene
        .workspace
        .fail(Call::SubmitStatement, vec![Fault::ServerError; 20]);
    let error = source.read(&whole).await.expect_err("nobody answers");
    assert_eq!(
        (error.word(), error.is_transient()),
        ("source_unreachable", true),
        "{error}"
    );
    assert!(scene.workspace.heal() > 10);
}

#[tokio::test]
async fn an_answer_that_is_not_whole_is_not_taken_for_a_short_one() {
    let scene = Scene::new(2_100, true).await;
    let source = scene.warehouse().await;
    let whole = Request::all(window(0, 1 << 30), at(1 << 30));
    let instead = |body: &str| Fault::Instead {
        status: 200,
        body: body.to_owned(),
    };
    for body in ["", "<html>sign in</html>"] {
        scene.workspace.fail(Call::Download, [instead(body)]);
        let error = source.read(&whole).await.expect_err("no Arrow");
        assert_eq!(
            (error.word(), error.is_transient()),
            ("source_corrupt", false),
            "{error}"
        );
    }
    // The address of the second chunk leads to the first one.
    let links = |index: u64| {
        let id = scene.workspace.statements().len();
        let url = scene.workspace.url();
        let link = format!("{url}/signed/01f0-{id:04}/0?X-Amz-Signature=x");
        instead(&format!(
            "{{\"external_links\":[{{\"chunk_index\":{index},\"external_link\":\"{link}\"}}]}}"
        ))
    };
    scene.workspace.fail(Call::GetChunk, [links(1)]);
    let error = source.read(&whole).await.expect_err("a chunk is missing");
    assert!(
        error.to_string().contains("of 2100 rows were in the answer"),
        "{error}"
    );
}

#[tokio::test]
async fn a_statement_that_nobody_waits_for_is_cancelled() {
    let scene = Scene::new(30, true).await;
    let settings = SourceSettings {
        statement_timeout: Duration::from_secs(1),
    };
    let definition = in_warehouse("main.bank.payment");
    let hasty = TransactionSource::open(&definition, &scene.readers, settings)
        .await
        .expect("a source");
    let source = scene.warehouse().await;
    let cancelled = async |number: usize| {
        for _ in 0..200 {
            let statements = scene.workspace.statements();
            let found = statements
                .iter()
                .filter(|one| one.state == StatementState::Canceled);
            if found.count() == number {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("not {number} were cancelled: {:?}", scene.workspace.statements());
    };
    scene.workspace.warehouse_starts_within(Duration::from_secs(600));
    let error = hasty.read(&day()).await.expect_err("too slow");
    assert!(
        matches!(error, SourceError::TooSlow { .. }) && error.is_transient(),
        "{error}"
    );
    cancelled(1).await;
    // Whoever asked went away.
    let request = day();
    let reading = tokio::time::timeout(Duration::from_secs(2), source.read(&request));
    reading.await.expect_err("given up");
    cancelled(2).await;
    scene.workspace.warehouse_starts_within(Duration::ZERO);
    assert_eq!(source.read(&request).await.expect("rows").rows(), 30);
}

#[tokio::test]
async fn a_warehouse_that_starts_slowly_is_waited_for() {
    let scene = Scene::new(30, true).await;
    let source = scene.warehouse().await;
    scene.workspace.warehouse_starts_within(Duration::from_secs(3));
    assert_eq!(source.read(&day()).await.expect("rows").rows(), 30);
    assert!(
        scene.workspace.calls(Call::GetStatement) > 1,
        "it was looked at until it ended"
    );
}

#[tokio::test]
async fn a_label_or_score_that_cannot_be_one_is_refused_by_name() {
    let scene = Scene::new(30, true).await;
    run(
        &scene.pool,
        "alter table bank.payment alter is_fraud type int using is_fraud::int",
    )
    .await;
    let source = scene.warehouse().await;
    let asked = source.in_place().expect("a source that counts itself");
    let request = Request::outcomes(window(0, 86_400), at(1 << 30));
    run(
        &scene.pool,
        "update bank.payment set is_fraud = 2, labelled_at = tx_time where id = 7",
    )
    .await;
    for error in [
        asked.labels(&request).await.expect_err("2 is no label"),
        asked
            .outcomes(&request, 0.5, 50)
            .await
            .expect_err("2 is no label"),
        source.read(&request).await.expect_err("2 is no label"),
    ] {
        assert!(
            matches!(&error, SourceError::BadValue { column, .. } if column == "is_fraud"),
            "{error}"
        );
    }
    // In one bin with a score of 1.
    run(&scene.pool, "update bank.payment set is_fraud = 1, score = 1.01 where id = 7; update bank.payment set score = 1 where id = 8").await;
    let error = asked
        .outcomes(&request, 0.5, 50)
        .await
        .expect_err("no probability");
    assert!(
        error.to_string().contains("column `score`: the score is 1.00999"),
        "{error}"
    );
}
