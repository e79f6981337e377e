//! What `compose/` hands to the services and asks of their tables, tried without containers.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use chassis::Sources;
use local_stack::TestEnv;
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgPool};
use tokio_util::sync::CancellationToken;

use crate::messages::{PATIENCE, READERS, settings};

fn compose() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../compose")
}

#[test]
fn the_settings_of_compose_are_right_for_every_service() {
    chassis::install_crypto();
    let sources = Sources {
        file: Some(compose().join("vigie.toml")),
        environment: [
            (
                "FRAUD_DATABASE_URL",
                "postgres://vigie:secret@postgres:5432/fraud_db",
            ),
            ("NATS_URL", "nats://vigie:secret@nats:4222"),
            ("MLFLOW_TRACKING_URI", "http://mlflow:5000"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://tempo:4318"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into(),
        ..Sources::default()
    };
    if let Err(problems) = vigie::host::check_settings(&sources) {
        panic!("{problems}");
    }
}

/// The dashboard's queries of PostgreSQL, with Grafana's macros as it would fill them in.
fn queries() -> Vec<(String, String)> {
    let file = compose().join("grafana/dashboards/vigie.json");
    let text = std::fs::read_to_string(file).expect("the dashboard");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        for target in panel["targets"].as_array().into_iter().flatten() {
            if let Some(sql) = target["rawSql"].as_str() {
                let title = panel["title"].as_str().unwrap_or_default();
                queries.push((title.to_owned(), filled_in(sql)));
            }
        }
    }
    queries
}

fn filled_in(sql: &str) -> String {
    let mut sql = sql.replace("${model:sqlstring}", "'cards'");
    for column in ["detected_at", "as_of", "triggered_at", "started_at"] {
        sql = sql
            .replace(
                &format!("$__timeFilter({column})"),
                &format!("{column} between now() - interval '1 day' and now()"),
            )
            .replace(
                &format!("$__timeGroup({column}, '1h')"),
                &format!("date_bin('1 hour', {column}, 'epoch')"),
            );
    }
    assert!(!sql.contains('$'), "a macro that this test does not know: {sql}");
    sql
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_dashboards_queries_fit_the_tables() {
    chassis::install_crypto();
    let env = TestEnv::new().await;
    let folder = tempfile::tempdir().expect("a folder");
    let pool = PgPool::connect(&env.database_url).await.expect("connect");
    let stop = CancellationToken::new();
    let services = tokio::spawn(vigie::host::run_all(settings(&env, folder.path()), stop.clone()));
    let client = async_nats::connect(&env.nats_url).await.expect("connect to NATS");
    let jetstream = async_nats::jetstream::new(client);
    for (service, ..) in READERS {
        let begun = Instant::now();
        // A service asks for its consumer once its tables and views are there.
        let is_up = async || {
            let stream = jetstream.get_stream("VIGIE").await.ok()?;
            stream.consumer_info(service).await.ok()
        };
        while is_up().await.is_none() {
            assert!(
                begun.elapsed() < PATIENCE && !services.is_finished(),
                "{service} does not come up"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let queries = queries();
    assert!(queries.len() >= 10, "{queries:#?}");
    for (title, sql) in queries {
        let ran = sqlx::query(AssertSqlSafe(sql.clone())).fetch_all(&pool).await;
        assert!(ran.is_ok(), "panel `{title}`: {:?}\n{sql}", ran.err());
    }
    stop.cancel();
    services.await.expect("no panic").expect("a clean end");
}
