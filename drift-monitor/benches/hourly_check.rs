//! What an hourly check of a table in PostgreSQL costs, by the length of its window: the first one, and those that follow.
//!
//! Real servers and the real service; the time is that of the service's own task rows, rows are those that the server read of the table.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use drift_monitor::DriftMonitor;
use schemas::events::{Artifact, DriftCheckRequested, ModelPromoted, PromotionKind};
use schemas::{DecisionId, ModelName, ModelVersion, Sha256Digest, Share, Window};
use service_bench::Bench;

/// Numeric features.
const FEATURES: usize = 30;
/// Rows an hour.
const ROWS: i64 = 2_000;
/// The table begins so many hours before the check.
const HOURS_BEFORE: i64 = 31 * 24;
/// And ends so many after.
const HOURS_AFTER: i64 = 12;
/// How long the champion's training window is.
const TRAINED: TimeDelta = TimeDelta::hours(100);
/// Checks that follow the first.
const FOLLOWING: i64 = 9;

fn at(hour: i64) -> DateTime<Utc> {
    let zero: DateTime<Utc> = "2026-03-02T00:00:00Z".parse().expect("an instant");
    zero + TimeDelta::hours(hour)
}

fn share(value: f64) -> Share {
    Share::new(value).expect("a share")
}

fn promoted() -> ModelPromoted {
    let begin = at(-HOURS_BEFORE);
    ModelPromoted {
        version: ModelVersion::new("v1").expect("a version"),
        previous: None,
        decision_id: DecisionId::of_key("v1"),
        as_of: begin + TRAINED,
        effective_from: begin + TRAINED,
        kind: PromotionKind::Promotion,
        fence: 1,
        artifact: Artifact {
            uri: "file:///models/x.json".to_owned(),
            sha256: Sha256Digest::new("ab".repeat(32)).expect("a digest"),
            bytes: 10,
            format: "vigie.model.v1".to_owned(),
        },
        training_window: Window::new(begin, begin + TRAINED).expect("a window"),
        operating_threshold: share(0.5),
        validated_recall: share(0.88),
        validated_frauds: 300,
        validated_precision: share(0.9),
        score_counts: None,
        registry: "embedded".to_owned(),
        registry_version: None,
    }
}

async fn fill(bench: &Bench) {
    let columns: Vec<String> = (0..FEATURES)
        .map(|at| format!("sqrt(-2 * ln(1 - random())) * cos(6.2831853 * random()) as v{at}"))
        .collect();
    let rows = (HOURS_BEFORE + HOURS_AFTER) * ROWS;
    let step = 3_600.0 / ROWS as f64;
    let begin = at(-HOURS_BEFORE);
    bench.run("create schema bank").await;
    bench
        .run(&format!(
            "create table bank.payment as select n as id, '{begin}'::timestamptz + make_interval(secs => n * {step}) as tx_time, \
             n % 50 = 0 as is_fraud, '{begin}'::timestamptz + make_interval(secs => n * {step} + 86400) as labelled_at, \
             case when n % 50 = 0 then 0.9 else 0.1 end::float8 as score, {} from generate_series(0, {rows} - 1) n",
            columns.join(", ")
        ))
        .await;
    bench.run("create index on bank.payment (tx_time)").await;
    bench.run("create index on bank.payment (labelled_at)").await;
    // Alone it would start while something is measured.
    bench
        .run("alter table bank.payment set (autovacuum_enabled = off)")
        .await;
    bench.run("vacuum analyze bank.payment").await;
}

/// Rows of the table that the server has read so far.
async fn rows_read(bench: &Bench) -> i64 {
    // A backend that does nothing reports after ten seconds.
    tokio::time::sleep(Duration::from_secs(11)).await;
    bench
        .count("select seq_tup_read + coalesce(idx_tup_fetch, 0) from pg_stat_user_tables where relname = 'payment'")
        .await
}

/// Seconds of a check.
async fn check(bench: &Bench, window: &str, hour: i64) -> f64 {
    let asked = DriftCheckRequested {
        as_of: at(hour),
        requested_by: "bench".to_owned(),
        reason: String::new(),
    };
    let model = ModelName::new("fraud-cards").expect("a name");
    let id = bench.publish(&format!("{window}/{hour}"), &model, asked).await;
    bench.handled(id).await;
    let verdict = bench
        .text(&format!(
            "select verdict || coalesce(not_measured::text, '') from drift_checks where as_of = '{}'",
            at(hour)
        ))
        .await
        .unwrap_or_default();
    assert!(verdict.starts_with("stable"), "the check found {verdict}");
    let micros = bench
        .count(&format!(
            "select (sum(duration_seconds) * 1e6)::bigint from airflow_task_metrics where dag_id = '02_drift_monitoring' \
             and execution_date = '{}'",
            at(hour)
        ))
        .await;
    micros as f64 / 1e6
}

#[tokio::main]
async fn main() {
    let bench = Bench::new("drift-monitor").await;
    eprintln!(
        "hourly_check: a table of {} rows",
        (HOURS_BEFORE + HOURS_AFTER) * ROWS
    );
    fill(&bench).await;
    chassis::clock::create_replay_clock(&bench.pool)
        .await
        .expect("the replay clock");
    let features: Vec<String> = (0..FEATURES).map(|at| format!("\"v{at}\"")).collect();
    println!(
        "An hourly check of {FEATURES} features, {ROWS} rows an hour, labels after a day; windows of target and concept drift 7 d\n"
    );
    println!(
        "| window | its rows | first check | rows read | each check that follows (median) | rows read (mean) |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    for (window, hours) in [("1h", 1), ("24h", 24), ("30d", 720)] {
        let settings = format!(
            "[clock]\nsource = \"replay\"\n[drift]\nschedule = \"0 0 1 1 *\"\nwindow = \"{window}\"\n[models.fraud-cards]\nsource = \"postgres\"\n\
             table = \"bank.payment\"\ntime = \"tx_time\"\nlabel = \"is_fraud\"\nlabel_time = \"labelled_at\"\nlabel_delay = \"1d\"\n\
             score = \"score\"\nid = \"id\"\nfeatures = [{}]\n",
            features.join(", ")
        );
        let replica = bench.start::<DriftMonitor>(&settings).await;
        bench.set_clock(at(HOURS_AFTER)).await;
        let model = ModelName::new("fraud-cards").expect("a name");
        let id = bench
            .publish(&format!("promoted/{window}"), &model, promoted())
            .await;
        bench.handled(id).await;
        bench
            .run(
                "truncate drift_monitor.hour_profile, drift_monitor.hour_outcome, drift_monitor.task_run; \
                 delete from drift_monitor.check_run",
            )
            .await;
        let before = rows_read(&bench).await;
        let first = check(&bench, window, 0).await;
        let between = rows_read(&bench).await;
        let mut following = Vec::new();
        for hour in 1..=FOLLOWING {
            following.push(check(&bench, window, hour).await);
        }
        let after = rows_read(&bench).await;
        replica.stop().await;
        following.sort_by(f64::total_cmp);
        println!(
            "| {window} | {} | {first:.2} s | {} | {:.2} s | {} |",
            hours * ROWS,
            between - before,
            following[following.len() / 2],
            (after - between) / FOLLOWING
        );
    }
}
