//! A database with payments, the same payments as a file, and definitions of a model on them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    ArrayRef, BooleanArray, Decimal128Array, Float32Array, Int8Array, Int32Array, Int64Array, RecordBatch,
    StringArray, TimestampMicrosecondArray, TimestampMillisecondArray,
};
use chassis::{Reader, Settings, Sources};
use chrono::{DateTime, TimeDelta, Utc};
use local_stack::TestEnv;
use local_stack::peers::databricks::Databricks;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use schemas::{ModelName, Window};
use sqlx::{AssertSqlSafe, Executor as _, PgPool};
use transactions::definition::FeatureDefinition;
use transactions::{ModelDefinition, Readers, SourceAccess, SourceDefinition, SourceSettings};

pub const SETTINGS: SourceSettings = SourceSettings {
    statement_timeout: Duration::from_mins(1),
};
/// 2026-03-01 00:00 UTC.
pub const START: i64 = 1_772_323_200;

pub fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(START + seconds, 0).expect("an instant")
}

pub fn window(from: i64, to: i64) -> Window {
    Window::new(at(from), at(to)).expect("a window")
}

pub async fn pool(env: &TestEnv) -> PgPool {
    PgPool::connect(&env.database_url).await.expect("a database")
}

/// The id of the warehouse of [`workspace`].
pub const WAREHOUSE: &str = "fa1e";

/// A workspace whose SQL warehouse has the tables of the test's database.
pub async fn workspace(env: &TestEnv) -> Databricks {
    chassis::install_crypto();
    let workspace = Databricks::start().await.expect("a workspace");
    workspace
        .add_warehouse(WAREHOUSE, &env.database_url)
        .await
        .expect("a warehouse");
    workspace
}

/// What reads the database of the pool and the warehouse of the workspace, as settings would have it.
pub fn readers(pool: &PgPool, workspace: &Databricks) -> Readers {
    readers_with(pool, &workspace.url(), &workspace.token(), WAREHOUSE).expect("settings")
}

/// The same with these settings; says what is wrong with them.
pub fn readers_with(pool: &PgPool, host: &str, token: &str, id: &str) -> Result<Readers, String> {
    let text = format!(
        "[warehouse]\nhost = {host:?}\ntoken = {token:?}\nid = {id:?}\n[models.cards]\nsource = \"databricks\"\n"
    );
    let sources = Sources {
        overrides: vec![("test.toml".to_owned(), text)],
        ..Sources::default()
    };
    let settings =
        Settings::load(&[transactions::DEFAULTS], &[], &sources).map_err(|problems| problems.to_string())?;
    let reader = Reader::new(&settings);
    let access = SourceAccess::read(&reader);
    reader.finish().map_err(|problems| problems.to_string())?;
    access.readers(pool).map_err(|error| error.to_string())
}

pub async fn run(pool: &PgPool, sql: &str) {
    pool.execute(AssertSqlSafe(sql.to_owned()))
        .await
        .unwrap_or_else(|error| panic!("{error}\nin {sql}"));
}

pub fn feature(column: &str) -> FeatureDefinition {
    FeatureDefinition {
        weight: 1.0,
        column: column.to_owned(),
        monitored: column != "weekend",
        categorical: column == "terminal",
    }
}

pub fn definition(source: SourceDefinition) -> ModelDefinition {
    ModelDefinition {
        model: ModelName::new("cards").expect("a name"),
        source,
        time: "tx_time".to_owned(),
        label: "is_fraud".to_owned(),
        label_time: Some("labelled_at".to_owned()),
        label_delay: Duration::from_hours(24),
        score: Some("score".to_owned()),
        id: Some("id".to_owned()),
        features: ["AMOUNT", "fee", "online", "channel", "terminal", "weekend"]
            .map(feature)
            .to_vec(),
        segments: ["channel", "weekend"].map(str::to_owned).to_vec(),
    }
}

pub fn in_postgres(schema: &str, table: &str) -> ModelDefinition {
    definition(SourceDefinition::Postgres {
        schema: schema.to_owned(),
        table: table.to_owned(),
    })
}

pub fn in_warehouse(table: &str) -> ModelDefinition {
    definition(SourceDefinition::Databricks {
        table: table.split('.').map(str::to_owned).collect(),
    })
}

/// One payment; `None` is null.
#[derive(Debug, Clone)]
pub struct Payment {
    pub id: i64,
    pub seconds: i64,
    pub amount: Option<f32>,
    pub fee_cents: Option<i64>,
    pub online: Option<bool>,
    pub channel: Option<&'static str>,
    pub terminal: Option<i32>,
    pub weekend: i8,
    pub fraud: Option<bool>,
    pub labelled_seconds: Option<i64>,
    pub score: Option<f32>,
}

/// Payments one a minute with every awkwardness: nulls, zeros, ties in time, late labels, odd text.
pub fn payments(rows: i64) -> Vec<Payment> {
    const CHANNELS: [Option<&str>; 6] = [
        Some("chip"),
        Some("online"),
        None,
        Some("it's \"odd\"\n"),
        Some("zürich"),
        Some(""),
    ];
    let dice = |row: i64, salt: i64| (row * 7_919 + salt * 104_729) % 1_009;
    (0..rows)
        .map(|row| Payment {
            id: (row * 37) % rows,
            seconds: row / 3 * 180,
            amount: (dice(row, 1) > 40).then(|| {
                if dice(row, 2) < 300 {
                    0.0
                } else {
                    dice(row, 3) as f32 * 1.1
                }
            }),
            fee_cents: (dice(row, 4) > 100).then(|| dice(row, 5) - 500),
            online: [Some(true), Some(false), None][(row % 3) as usize],
            channel: CHANNELS[(dice(row, 6) % 6) as usize],
            terminal: (dice(row, 7) > 30).then(|| (dice(row, 8) % 17) as i32),
            weekend: (row / 100 % 2) as i8,
            fraud: (dice(row, 9) > 90).then(|| dice(row, 10) < 80),
            labelled_seconds: (dice(row, 11) > 50).then(|| row / 3 * 180 + 3_600 + dice(row, 12) * 60),
            score: (dice(row, 13) > 60).then(|| dice(row, 14) as f32 / 1_009.0),
        })
        .collect()
}

fn sql<T: std::fmt::Display>(value: Option<T>) -> String {
    value.map_or_else(|| "null".to_owned(), |value| value.to_string())
}

fn instant(seconds: i64) -> String {
    at(seconds).format("'%Y-%m-%d %H:%M:%S'").to_string()
}

/// Creates `bank.payment`, with `zone` deciding between timestamptz and timestamp.
pub async fn fill_postgres(pool: &PgPool, payments: &[Payment], zone: bool) {
    let kind = if zone { "timestamptz" } else { "timestamp" };
    run(
        pool,
        &format!(
            "create schema bank; create type bank.channel_kind as enum ('unused'); \
             create table bank.payment (id bigint, tx_time {kind}, \"AMOUNT\" real, fee numeric(12, 2), online boolean, \
             channel text, terminal int, weekend smallint, is_fraud boolean, labelled_at {kind}, score real)"
        ),
    )
    .await;
    for part in payments.chunks(500) {
        let rows: Vec<String> = part
            .iter()
            .map(|p| {
                let fee = p.fee_cents.map(|cents| format!("{cents} / 100.0"));
                let channel = p.channel.map(|text| format!("'{}'", text.replace('\'', "''")));
                format!(
                    "({}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {})",
                    p.id,
                    instant(p.seconds),
                    sql(p.amount),
                    sql(fee),
                    sql(p.online),
                    sql(channel),
                    sql(p.terminal),
                    p.weekend,
                    sql(p.fraud),
                    sql(p.labelled_seconds.map(instant)),
                    sql(p.score)
                )
            })
            .collect();
        run(
            pool,
            &format!(
                "set timezone = 'UTC'; insert into bank.payment values {}",
                rows.join(", ")
            ),
        )
        .await;
    }
}

/// Writes the payments as Parquet in row groups of 100.
pub fn write_parquet(path: &Path, payments: &[Payment]) {
    let millis = |seconds: i64| (START + seconds) * 1_000;
    let columns: Vec<(&str, ArrayRef)> = vec![
        (
            "id",
            Arc::new(payments.iter().map(|p| Some(p.id)).collect::<Int64Array>()),
        ),
        (
            "tx_time",
            Arc::new(
                payments
                    .iter()
                    .map(|p| Some(millis(p.seconds)))
                    .collect::<TimestampMillisecondArray>(),
            ),
        ),
        (
            "AMOUNT",
            Arc::new(payments.iter().map(|p| p.amount).collect::<Float32Array>()),
        ),
        (
            "fee",
            Arc::new(
                payments
                    .iter()
                    .map(|p| p.fee_cents.map(i128::from))
                    .collect::<Decimal128Array>()
                    .with_precision_and_scale(12, 2)
                    .expect("a decimal"),
            ),
        ),
        (
            "online",
            Arc::new(payments.iter().map(|p| p.online).collect::<BooleanArray>()),
        ),
        (
            "channel",
            Arc::new(payments.iter().map(|p| p.channel).collect::<StringArray>()),
        ),
        (
            "terminal",
            Arc::new(payments.iter().map(|p| p.terminal).collect::<Int32Array>()),
        ),
        (
            "weekend",
            Arc::new(payments.iter().map(|p| Some(p.weekend)).collect::<Int8Array>()),
        ),
        (
            "is_fraud",
            Arc::new(
                payments
                    .iter()
                    .map(|p| p.fraud.map(i8::from))
                    .collect::<Int8Array>(),
            ),
        ),
        (
            "labelled_at",
            Arc::new(
                payments
                    .iter()
                    .map(|p| p.labelled_seconds.map(|seconds| millis(seconds) * 1_000))
                    .collect::<TimestampMicrosecondArray>()
                    .with_timezone("UTC"),
            ),
        ),
        (
            "score",
            Arc::new(payments.iter().map(|p| p.score).collect::<Float32Array>()),
        ),
    ];
    let batch = RecordBatch::try_from_iter(columns).expect("a batch");
    let file = std::fs::File::create(path).expect("a file");
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(100))
        .build();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).expect("a writer");
    writer.write(&batch).expect("rows");
    writer.close().expect("a footer");
}

pub fn hours(count: i64) -> TimeDelta {
    TimeDelta::hours(count)
}
