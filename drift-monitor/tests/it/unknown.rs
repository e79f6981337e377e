//! "Could not look" is never "stable", and says why.

use schemas::events::{DriftCheckRequested, Verdict};
use schemas::{Event, ModelName};

use service_bench::eventually;

use crate::scene::{Scene, at, promoted};

#[tokio::test]
async fn without_a_champion_or_without_rows_the_verdict_is_unknown() {
    let scene = Scene::new().await;
    let replica = scene.start().await;
    scene.set_clock(2_000).await;
    let checked = scene.check(0).await;
    assert_eq!(checked.checked().verdict, Verdict::Unknown);
    assert!(checked.detected.is_none());
    assert_eq!(checked.reasons(), vec![("no_champion".to_owned(), true); 3]);
    scene.promote(promoted("v1", 1, 0)).await;
    // Payments end at hour 400.
    let silent = scene.check(1_000).await;
    assert_eq!(silent.checked().verdict, Verdict::Unknown);
    assert!(
        silent.reasons().contains(&("no_rows".to_owned(), true)),
        "{silent:?}"
    );
    let thin = scene.check(416).await;
    assert_eq!(thin.checked().verdict, Verdict::Unknown);
    assert!(
        thin.reasons().contains(&("too_few_rows".to_owned(), true)),
        "480 rows: {thin:?}"
    );
    let alerts = scene
        .count(&format!(
            "select count(*) from airflow_task_metrics where task_id = 'send_drift_alert' and execution_date in ('{}', '{}', '{}')",
            at(0),
            at(416),
            at(1_000)
        ))
        .await;
    assert_eq!(alerts, 3);
    replica.stop().await;
}

#[tokio::test]
async fn a_missing_column_is_named_and_the_check_is_made_again_when_asked() {
    let scene = Scene::new().await;
    let replica = scene.start().await;
    scene.promote(promoted("v1", 1, 0)).await;
    scene.set_clock(400).await;
    scene
        .run("alter table bank.payment rename column amount to amount_eur")
        .await;
    let blind = scene.check_at(at(100), "blind").await;
    assert_eq!(blind.checked().verdict, Verdict::Unknown);
    assert_eq!(blind.reasons(), vec![("column_missing".to_owned(), true); 3]);
    let detail = &blind.checked().not_measured[0].detail;
    assert!(
        detail.contains("`features` names the column `amount`, which does not exist"),
        "{detail}"
    );
    let instant = at(100);
    for (what, expected) in [
        (
            format!(
                "airflow_task_metrics where task_id = 'run_drift_monitoring' and status = 'failed' \
                 and error_message like 'column_missing: %amount%' and execution_date = '{instant}'"
            ),
            1,
        ),
        (format!("drift_metrics where detected_at = '{instant}'"), 0),
        (
            format!(
                "drift_checks where not_measured -> 0 ->> 'reason' = 'column_missing' and as_of = '{instant}'"
            ),
            1,
        ),
    ] {
        assert_eq!(
            scene.count(&format!("select count(*) from {what}")).await,
            expected,
            "{what}"
        );
    }

    scene
        .run("alter table bank.payment rename column amount_eur to amount")
        .await;
    let seen = scene.check_at(at(100), "seen").await;
    assert_eq!(seen.checked().verdict, Verdict::Stable);
    assert_eq!(seen.checked().check_id, blind.checked().check_id);
    let checks = scene
        .count(&format!(
            "select count(*) from drift_checks where as_of = '{instant}'"
        ))
        .await;
    assert_eq!(checks, 1, "one instant, one check");
    replica.stop().await;
}

#[tokio::test]
async fn a_source_that_is_away_is_unknown_and_a_promotion_is_recorded_all_the_same() {
    let folder = std::env::temp_dir().join(format!("vigie-no-such-folder-{}", std::process::id()));
    let source = format!(
        "source = \"parquet\"\npath = {:?}\nfeatures = [\"amount\"]",
        folder.join("p.parquet")
    );
    let scene = Scene::new().await.with_model(&source);
    let replica = scene.start().await;
    scene.set_clock(400).await;
    // Its reference cannot be built yet; who is champion is known from now on.
    scene.promote(promoted("v1", 1, 0)).await;
    let checked = scene.check_at(at(100), "away").await;
    assert_eq!(checked.checked().verdict, Verdict::Unknown);
    assert_eq!(
        checked
            .checked()
            .champion
            .as_ref()
            .map(schemas::ModelVersion::as_str),
        Some("v1")
    );
    assert_eq!(
        checked.reasons(),
        vec![("source_unreachable".to_owned(), true); 3]
    );
    assert_eq!(checked.checked().unknown_since, Some(at(100)));
    let later = scene.check_at(at(101), "still away").await;
    assert_eq!(
        later.checked().unknown_since,
        Some(at(100)),
        "one run of unknown checks"
    );
    replica.stop().await;
}

#[tokio::test]
async fn scores_and_labels_that_stop_arriving_are_noticed() {
    let scene = Scene::new().await;
    let replica = scene.start().await;
    scene.promote(promoted("v1", 1, 0)).await;
    scene.set_clock(400).await;
    scene.change(0, 400, "score = null").await;
    let unscored = scene.check(300).await;
    assert_eq!(unscored.checked().verdict, Verdict::Unknown);
    assert_eq!(unscored.reasons(), [("no_scores".to_owned(), true)]);
    // A feed that stopped a day ago, while older rows keep recall measurable.
    scene.change(0, 400, "score = 0.1").await;
    scene.change(326, 400, "score = null").await;
    let stopped = scene.check(351).await;
    assert_eq!(stopped.checked().verdict, Verdict::Unknown);
    assert_eq!(stopped.reasons(), [("no_scores".to_owned(), true)]);
    scene.change(0, 400, "score = 0.1, labelled_at = null").await;
    // Hours whose labels were all known are kept: what was known is not forgotten.
    scene.run("truncate drift_monitor.hour_outcome").await;
    let unlabelled = scene.check(301).await;
    assert_eq!(unlabelled.checked().verdict, Verdict::Unknown);
    assert_eq!(unlabelled.reasons(), vec![("labels_overdue".to_owned(), true); 2]);
    replica.stop().await;
}

#[tokio::test]
async fn a_check_of_the_future_or_of_a_strange_model_is_parked() {
    let scene = Scene::new().await;
    let replica = scene.start().await;
    scene.promote(promoted("v1", 1, 0)).await;
    scene.set_clock(100).await;
    scene.checks(1).await;
    let asked = |hour| DriftCheckRequested {
        as_of: at(hour),
        requested_by: "cli:ana".to_owned(),
        reason: String::new(),
    };
    let future = scene.publish("future", asked(101)).await;
    let strange = scene
        .bench
        .publish("strange", &ModelName::new("other").expect("a name"), asked(90))
        .await;
    for (id, class, words) in [
        (future, "handler_permanent", "lies in the future"),
        (strange, "unknown_model", "model `other` is not in the settings"),
    ] {
        scene.handled(id).await;
        let (found, reason): (String, String) =
            sqlx::query_as("select reason_class, reason from drift_monitor.dead_letter where event_id = $1")
                .bind(id.uuid())
                .fetch_one(&scene.pool)
                .await
                .expect("a dead letter");
        assert_eq!(found, class);
        assert!(reason.contains(words), "{reason}");
    }
    assert_eq!(scene.count("select count(*) from drift_checks").await, 1);
    replica.stop().await;
}

#[tokio::test]
async fn a_question_asked_twice_is_answered_twice_and_recorded_once() {
    let scene = Scene::new().await;
    let replica = scene.start().await;
    scene.promote(promoted("v1", 1, 0)).await;
    scene.set_clock(400).await;
    scene.change(76, 100, "amount = amount * 20").await;
    let first = scene.check_at(at(100), "one").await;
    // The same message again, as a broker may deliver it.
    scene.check_at(at(100), "one").await;
    eventually("the duplicate", async || {
        let seen = scene
            .count("select count(*) from drift_monitor.inbox where deliveries = 2")
            .await;
        (seen == 1).then_some(())
    })
    .await;
    let second = scene.check_at(at(100), "two").await;
    assert_eq!(first.checked(), second.checked());
    assert!(
        first.detected.is_some() && second.detected.is_none(),
        "people are told of a drift once"
    );
    let metrics = scene
        .count(&format!(
            "select count(*) from drift_metrics where detected_at = '{}'",
            at(100)
        ))
        .await;
    assert_eq!(metrics, 5, "two features, the fraud rate, recall and precision");
    let of_this_instant =
        |event: &Event| matches!(event, Event::DriftChecked(checked) if checked.as_of == at(100));
    assert_eq!(
        scene
            .recorded()
            .await
            .iter()
            .filter(|said| of_this_instant(&said.event))
            .count(),
        2
    );
    replica.stop().await;
}

#[tokio::test]
async fn a_kill_in_the_middle_loses_no_slot_and_doubles_none() {
    let scene = Scene::new().await;
    let mut replica = scene.start().await;
    scene.promote(promoted("v1", 1, 0)).await;
    scene.set_clock(48).await;
    scene.checks(1).await;
    scene.set_clock(88).await;
    for reached in [5, 12, 20, 30] {
        scene.checks(reached).await;
        replica.kill().await;
        replica = scene.start().await;
    }
    let checks = scene.checks(41).await;
    assert_eq!(
        checks.iter().map(|check| check.0).collect::<Vec<_>>(),
        (48..=88).map(at).collect::<Vec<_>>()
    );
    assert_eq!(scene.recorded().await.len(), 41);
    let doubled = scene.count("select count(*) from (select 1 from drift_metrics group by detected_at, metric_name having count(*) > 1) d").await;
    assert_eq!(doubled, 0);
    replica.stop().await;
}

#[tokio::test]
async fn what_broke_is_said_and_no_reason_to_retrain() {
    let scene = Scene::new().await;
    let replica = scene.start().await;
    scene.promote(promoted("v1", 1, 0)).await;
    scene.set_clock(400).await;
    scene.change(50, 100, "channel = null").await;
    scene.change(150, 200, "amount = amount * 100").await;
    scene
        .run(&format!(
            "delete from bank.payment where tx_time >= '{}' and tx_time < '{}' and transaction_id % 50 <> 0",
            at(250),
            at(350)
        ))
        .await;
    let reason = |checked: &crate::scene::Checked| {
        let missing = checked
            .checked()
            .not_measured
            .iter()
            .find(|missing| missing.blocks_verdict);
        missing.map(|missing| (missing.reason.clone(), missing.detail.clone()))
    };
    for (hour, reason_word, part) in [
        (
            100,
            "all_missing",
            "feature `channel`: 0.0 % of its values were missing, 100.0 % are",
        ),
        (
            200,
            "unit_changed",
            "feature `amount`: all values are 100 times what they were",
        ),
    ] {
        let checked = scene.check(hour).await;
        assert_eq!(checked.checked().verdict, Verdict::Unknown, "{checked:?}");
        assert!(checked.detected.is_none());
        let (word, detail) = reason(&checked).expect("a reason");
        assert!(word == reason_word && detail.contains(part), "{word}: {detail}");
        let broken = checked
            .checked()
            .metrics
            .iter()
            .filter(|metric| metric.name == "psi")
            .count();
        assert_eq!(broken, 1, "the other feature is measured");
    }
    // Drift beside it is drift.
    scene.change(170, 200, "channel = 'phone'").await;
    scene.run("truncate drift_monitor.hour_profile").await;
    let both = scene
        .check_at(at(200) - chrono::TimeDelta::minutes(1), "both")
        .await;
    assert_eq!(both.detected().features.len(), 1);
    assert_eq!(both.detected().features[0].feature, "channel");
    assert!(reason(&both).is_some_and(|(word, _)| word == "unit_changed"));
    // 29 rows of 1,440 are too few to look at; so is a fiftieth of more.
    assert_eq!(
        reason(&scene.check(280).await).expect("a reason").0,
        "too_few_rows"
    );
    replica.stop().await;
}

#[tokio::test]
async fn a_stream_that_has_nearly_run_dry_is_an_outage() {
    let scene = Scene::new().await.with_drift("rows_min = 50\nvolume_min = 0.25");
    let replica = scene.start().await;
    scene.promote(promoted("v1", 1, 0)).await;
    scene.set_clock(400).await;
    for (from, to, part) in [(50, 100, 5), (150, 200, 3)] {
        scene
            .run(&format!(
                "delete from bank.payment where tx_time >= '{}' and tx_time < '{}' and transaction_id % {part} <> 0",
                at(from),
                at(to)
            ))
            .await;
    }
    let dry = scene.check(100).await;
    assert_eq!(dry.checked().verdict, Verdict::Unknown);
    let missing = &dry.checked().not_measured;
    assert!(
        missing.iter().any(|missing| missing.reason == "volume_collapsed"
            && missing
                .detail
                .contains("12.0 rows an hour in the window, 60.0 in the reference")),
        "{missing:?}"
    );
    assert_eq!(
        scene.check(200).await.checked().verdict,
        Verdict::Stable,
        "a third is enough"
    );
    replica.stop().await;
}
