//! Task rows of every service, in the one view that people query.

use chassis::db;
use chassis::tasks::{DAG_DRIFT, DAG_TRAINING, TaskEnd, TaskTimer};
use chrono::{DateTime, Utc};
use sqlx::Executor as _;

use crate::support::{Bench, MIGRATOR, count};

fn day() -> DateTime<Utc> {
    "2026-01-01T02:00:00Z".parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_view_shows_the_tasks_of_every_service() {
    let bench = Bench::new().await;
    let (nats, database) = (&bench.env.nats_url, &bench.env.database_url);
    let monitor = bench.replica_of("one", "one", nats, database).await;
    let timer = TaskTimer::start(DAG_DRIFT, "check", day(), "run-1");
    timer
        .finish(&monitor.pool, &TaskEnd::Success, 1_000, 3)
        .await
        .unwrap();
    assert_eq!(
        count(&monitor.pool, "select count(*) from airflow_task_metrics").await,
        1
    );
    // A service that comes later joins the view.
    let bridge = bench.replica_of("two", "two", nats, database).await;
    let timer = TaskTimer::start(DAG_TRAINING, "train", day(), "run-2");
    timer
        .finish(&bridge.pool, &TaskEnd::Failed("no rows".to_owned()), 0, 0)
        .await
        .unwrap();
    type Shown = (
        String,
        String,
        String,
        String,
        Option<f64>,
        i64,
        i64,
        Option<String>,
    );
    let rows: Vec<Shown> = sqlx::query_as(
        "select id, dag_id, task_id, status, duration_seconds, records_processed, records_failed, error_message \
         from airflow_task_metrics order by dag_id desc",
    )
    .fetch_all(&monitor.pool)
    .await
    .unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(
        (rows[0].1.as_str(), rows[0].3.as_str(), rows[0].5, rows[0].6),
        (DAG_DRIFT, "success", 1_000, 3)
    );
    assert_eq!((rows[1].1.as_str(), rows[1].3.as_str()), (DAG_TRAINING, "failed"));
    assert_eq!(rows[1].7.as_deref(), Some("no rows"));
    assert!(rows.iter().all(|row| row.4.is_some_and(|seconds| seconds >= 0.0)));
    assert_ne!(rows[0].0, rows[1].0, "ids tell rows of different services apart");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_runs_again_replaces_its_row() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    let again = || TaskTimer::start(DAG_TRAINING, "validate", day(), "run-1");
    again()
        .finish(&toy.pool, &TaskEnd::Failed("source away".to_owned()), 0, 0)
        .await
        .unwrap();
    again().finish(&toy.pool, &TaskEnd::Success, 10, 0).await.unwrap();
    let (rows, status, error): (i64, String, Option<String>) =
        sqlx::query_as("select count(*), min(status), min(error_message) from airflow_task_metrics")
            .fetch_one(&toy.pool)
            .await
            .unwrap();
    assert_eq!((rows, status.as_str(), error), (1, "success", None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_somebody_else_with_the_same_name_is_left_alone() {
    let bench = Bench::new().await;
    let settings = bench.database_settings(&bench.env.database_url);
    let pool = db::connect(&settings, "toy", "toy").await.unwrap();
    // Other tools have a task_run too.
    pool.execute("create schema orchestrator; create table orchestrator.task_run (id uuid, name text)")
        .await
        .unwrap();
    db::migrate(&pool, "toy", &MIGRATOR).await.unwrap();
    let timer = TaskTimer::start(DAG_DRIFT, "check", day(), "run-1");
    timer.finish(&pool, &TaskEnd::Success, 1, 0).await.unwrap();
    assert_eq!(count(&pool, "select count(*) from airflow_task_metrics").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_the_pipelines_before_are_not_touched_and_named_all_at_once() {
    let bench = Bench::new().await;
    let settings = bench.database_settings(&bench.env.database_url);
    let pool = db::connect(&settings, "toy", "toy").await.unwrap();
    pool.execute(
        "create table public.drift_metrics (id int); insert into public.drift_metrics values (1); \
         create table public.airflow_task_metrics (id int)",
    )
    .await
    .unwrap();
    let refusal = format!("{:#}", db::migrate(&pool, "toy", &MIGRATOR).await.unwrap_err());
    assert!(
        refusal.contains("(airflow_task_metrics, drift_metrics)"),
        "{refusal}"
    );
    let advice = refusal.split_once("start again: ").expect(&refusal).1.to_owned();
    pool.execute(sqlx::AssertSqlSafe(advice)).await.unwrap();
    db::migrate(&pool, "toy", &MIGRATOR).await.unwrap();
    assert_eq!(
        count(&pool, "select count(*) from public.drift_metrics_before").await,
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn services_that_start_together_migrate_one_after_the_other() {
    let bench = Bench::new().await;
    let settings = bench.database_settings(&bench.env.database_url);
    let starts = ["one", "two", "three", "one", "two", "three"].map(|schema| {
        let settings = settings.clone();
        async move {
            let pool = db::connect(&settings, schema, schema).await?;
            db::migrate(&pool, schema, &MIGRATOR).await?;
            anyhow::Ok(pool)
        }
    });
    let mut pools = Vec::new();
    for started in futures_util::future::join_all(starts).await {
        pools.push(started.unwrap());
    }
    for pool in &pools[..3] {
        let timer = TaskTimer::start(DAG_DRIFT, "check", day(), "run-1");
        timer.finish(pool, &TaskEnd::Success, 1, 0).await.unwrap();
    }
    assert_eq!(
        count(&pools[0], "select count(*) from public.airflow_task_metrics").await,
        3
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn migrations_that_ran_are_not_run_again() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    toy.pool
        .execute("insert into gate values ('kept')")
        .await
        .unwrap();
    db::migrate(&toy.pool, "toy", &MIGRATOR).await.unwrap();
    assert_eq!(count(&toy.pool, "select count(*) from gate").await, 1);
}
