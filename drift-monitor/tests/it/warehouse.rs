//! A model whose rows are in a warehouse is judged as if they were in a table, and its rows stay there.

use std::collections::BTreeMap;

use local_stack::peers::databricks::{Databricks, StatementState};
use schemas::events::{DriftChecked, Verdict};

use crate::scene::{Scene, at, promoted};

const FEATURES: &str = "features = [\"amount\", \"channel\", \"weekday\"]\nnot_monitored = [\"weekday\"]\n";

async fn world() -> Scene {
    let scene = Scene::new().await;
    scene
        .change(
            150,
            400,
            "amount = amount * 3, channel = case when transaction_id % 5 = 0 then 'new' else channel end",
        )
        .await;
    scene
        .change(200, 400, "score = case when is_fraud then 0.1 else score end")
        .await;
    scene
}

/// Values by metric and feature, and whether they exceed, to the last bit.
fn values(checked: &DriftChecked) -> BTreeMap<(String, Option<String>), (u64, bool)> {
    let of = |metric: &schemas::events::Metric| {
        let key = (metric.name.clone(), metric.feature.clone());
        (key, (metric.value.get().to_bits(), metric.exceeded))
    };
    checked.metrics.iter().map(of).collect()
}

#[tokio::test]
async fn a_warehouse_gives_the_verdicts_of_a_table() {
    let beside = world().await;
    let (workspace, scene) = world().await.behind_a_warehouse(FEATURES, "").await;
    let (replica, replica_beside) = (scene.start().await, beside.start().await);
    for scene in [&scene, &beside] {
        scene.promote(promoted("v1", 1, 0)).await;
        scene.set_clock(400).await;
    }
    let after_reference = workspace.statements().len();
    for (hour, verdict) in [
        (100, Verdict::Stable),
        (101, Verdict::Stable),
        (180, Verdict::Drifted),
        (280, Verdict::Drifted),
    ] {
        let (found, wanted) = (scene.check(hour).await, beside.check(hour).await);
        let (found, wanted) = (found.checked(), wanted.checked());
        assert_eq!(found.verdict, verdict, "hour {hour}: {found:?}");
        assert_eq!(values(found), values(wanted), "hour {hour}");
        assert_eq!(found.rows, wanted.rows, "hour {hour}");
        assert_eq!(found.not_measured, wanted.not_measured, "hour {hour}");
    }
    // Nothing but counts was asked for, however many rows there are.
    let statements = workspace.statements();
    assert!(statements.len() > after_reference + 8);
    for statement in &statements[after_reference..] {
        assert_eq!(statement.state, StatementState::Succeeded, "{}", statement.text);
        assert!(
            statement.rows < 3_000,
            "{} rows of {}",
            statement.rows,
            statement.text
        );
        let counts = statement.text.contains("count(*) as n") || statement.text.ends_with("limit 0");
        assert!(counts, "{}", statement.text);
    }
    // A check one hour later counts what is new: one hour that is over, those that are counted again, and none besides.
    let before = workspace.statements().len();
    scene.check(281).await;
    let spans = |text: &str| text.matches("timestamp_micros(").count();
    let newer: Vec<String> = workspace.statements()[before..]
        .iter()
        .map(|one| one.text.clone())
        .collect();
    let oldest = format!("timestamp_micros({})", at(281 - 24).timestamp_micros());
    let profiles = newer.iter().filter(|text| text.contains("lateral view"));
    assert!(profiles.clone().count() >= 1 && newer.iter().all(|text| spans(text) <= 6));
    assert!(
        profiles.clone().all(|text| !text.contains(&oldest)),
        "the window is not counted again: {newer:?}"
    );
    replica.stop().await;
    replica_beside.stop().await;
}

#[tokio::test]
async fn a_warehouse_that_is_away_is_no_drift() {
    let scene = Scene::new().await;
    let workspace = Databricks::start().await.expect("a workspace");
    let url = workspace.url();
    drop(workspace);
    let scene = scene
        .with_model(&format!(
            "source = \"databricks\"\ntable = \"bank.payment\"\n{FEATURES}"
        ))
        .with_settings(&format!(
            "[warehouse]\nhost = {url:?}\ntoken = \"t\"\nid = \"fa1e\"\n"
        ));
    let replica = scene.start().await;
    scene.promote(promoted("v1", 1, 0)).await;
    scene.set_clock(400).await;
    let checked = scene.check(100).await;
    let checked = checked.checked();
    assert_eq!(checked.verdict, Verdict::Unknown);
    assert!(
        checked
            .not_measured
            .iter()
            .all(|missed| missed.reason == "source_unreachable"),
        "{checked:?}"
    );
    replica.stop().await;
}

#[tokio::test]
async fn edges_come_from_a_sample_where_rows_are_many() {
    // The training window has 24,000 rows.
    let (workspace, scene) = world()
        .await
        .behind_a_warehouse(FEATURES, "[drift.bins]\nsample_rows_max = 2000\n")
        .await;
    let replica = scene.start().await;
    scene.promote(promoted("v1", 1, 0)).await;
    scene.set_clock(400).await;
    assert_eq!(scene.check(100).await.checked().verdict, Verdict::Stable);
    let drifted = scene.check(180).await;
    assert_eq!(drifted.checked().verdict, Verdict::Drifted);
    assert!(drifted.metric("psi", Some("amount")) > 0.3);
    let sampled: Vec<usize> = workspace
        .statements()
        .iter()
        .filter(|statement| statement.text.contains("xxhash64"))
        .map(|statement| statement.rows)
        .collect();
    assert!(
        sampled.len() == 1 && (1_700..2_000).contains(&sampled[0]),
        "{sampled:?}"
    );
    replica.stop().await;
}
