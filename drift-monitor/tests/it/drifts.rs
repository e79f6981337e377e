//! What moved is found, with its kind and severity; what did not move stays quiet.

use schemas::events::{DriftKind, DriftSeverity, ModelPromoted, Verdict};
use schemas::{Event, EventKind};

use crate::scene::{Scene, at, promoted, span};

/// `2 * 24 + 24` hours after a promotion waiting for labels is no longer expected.
const RIPE: i64 = 240;

#[tokio::test]
async fn without_drift_the_hourly_checks_are_stable_recorded_and_done_once() {
    let scene = Scene::new().await;
    let (one, two) = (scene.start().await, scene.start().await);
    scene.promote(promoted("v1", 1, 0)).await;
    // Too early for recall and precision: a hundred frauds with known labels come later.
    scene.set_clock(36).await;
    scene.checks(1).await;
    scene.set_clock(48).await;
    let checks = scene.checks(13).await;
    let hours: Vec<_> = checks.iter().map(|check| check.0).collect();
    assert_eq!(
        hours,
        (36..=48).map(at).collect::<Vec<_>>(),
        "every slot once, by two replicas"
    );
    assert!(
        checks
            .iter()
            .all(|check| check.1 == "stable" && check.2.is_none()),
        "{checks:?}"
    );

    // The document's query, as written.
    scene
        .run("SELECT * FROM drift_metrics ORDER BY detected_at DESC LIMIT 10")
        .await;
    let rows = scene
        .count(
            "select count(*) from drift_metrics where \"timestamp\" = detected_at and not threshold_exceeded \
             and severity = 'LOW' and model_name = 'fraud-cards'",
        )
        .await;
    assert_eq!(
        rows,
        13 * 3,
        "two features watched and the fraud rate, thirteen times"
    );
    let names = scene
        .count(
            "select count(distinct (metric_type, metric_name, feature_name)) from drift_metrics where \
             (metric_type, metric_name) in (('data_drift', 'psi_amount'), ('data_drift', 'psi_channel'), \
             ('target_drift', 'fraud_rate_change'))",
        )
        .await;
    assert_eq!(names, 3);
    let tasks = scene
        .count(
            "select count(*) from airflow_task_metrics where dag_id = '02_drift_monitoring' and status = 'success' and \
             task_id in ('run_drift_monitoring', 'parse_drift_results', 'save_drift_metrics', 'decide_next_step', 'no_action')",
        )
        .await;
    assert_eq!(tasks, 13 * 5);
    let said = scene.recorded().await;
    assert!(
        said.iter()
            .all(|received| received.attributes.kind == EventKind::DriftChecked)
    );
    let Event::DriftChecked(last) = &said[12].event else {
        panic!()
    };
    assert_eq!(
        (last.rows, last.labelled_rows),
        (1_440, 1),
        "labels take a day, to the minute"
    );
    assert_eq!(last.window, span(24, 48));
    assert_eq!(last.reference_window, Some(span(-520, -120)));
    assert_eq!(last.previous_verdict, Some(Verdict::Stable));
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn a_shifted_feature_is_data_drift_and_the_run_is_counted() {
    let scene = Scene::new().await;
    let replica = scene.start().await;
    scene.promote(promoted("v1", 1, 0)).await;
    scene.set_clock(400).await;
    scene.change(100, 200, "amount = amount * 2").await;
    scene.change(200, 300, "amount = amount * 20").await;
    assert_eq!(scene.check(100).await.checked().verdict, Verdict::Stable);

    let doubled = scene.check(124).await;
    let detected = doubled.detected();
    assert_eq!(
        (detected.severity, detected.kinds.as_slice()),
        (DriftSeverity::Medium, [DriftKind::Data].as_slice())
    );
    assert_eq!(detected.features.len(), 1, "the channel did not move");
    assert_eq!(detected.features[0].feature, "amount");
    assert!(detected.features[0].psi.get() > 0.3 && detected.features[0].noise.get() < 0.1);
    assert_eq!(detected.features[0].began, Some(at(100)), "to the hour");
    let moved = &detected.features[0].moved;
    assert!(
        moved.len() == 3 && moved.iter().all(|shift| shift.reference != shift.current),
        "{moved:?}"
    );
    assert_eq!((detected.since, detected.consecutive), (at(124), 1));
    assert!(detected.target.is_none() && detected.concept.is_none());

    let still = scene.check(125).await;
    assert_eq!(
        (still.detected().since, still.detected().consecutive),
        (at(124), 2)
    );
    let twentyfold = scene.check(224).await;
    assert_eq!(
        (twentyfold.detected().severity, twentyfold.detected().consecutive),
        (DriftSeverity::High, 3)
    );
    assert_eq!(
        scene.check(324).await.checked().verdict,
        Verdict::Stable,
        "over, a day later"
    );
    let next = scene
        .count("select count(*) from airflow_task_metrics where task_id = 'trigger_retraining_dag' and status = 'success'")
        .await;
    assert_eq!(next, 3);
    let words = scene
        .count("select count(*) from drift_metrics where threshold_exceeded and severity in ('MEDIUM', 'HIGH') and feature_name = 'amount'")
        .await;
    assert_eq!(words, 3);
    replica.stop().await;
}

#[tokio::test]
async fn a_feature_that_goes_missing_or_a_new_level_is_data_drift() {
    let scene = Scene::new().await;
    let replica = scene.start().await;
    scene.promote(promoted("v1", 1, 0)).await;
    scene.set_clock(400).await;
    scene
        .change(
            100,
            200,
            "channel = case when channel = 'chip' then 'phone' else channel end",
        )
        .await;
    scene
        .change(
            200,
            300,
            "channel = case when transaction_id % 10 < 8 then null else channel end",
        )
        .await;
    for hour in [124, 224] {
        let checked = scene.check(hour).await;
        assert_eq!(checked.detected().features[0].feature, "channel", "hour {hour}");
        assert_eq!(checked.detected().severity, DriftSeverity::High);
        let moved = &checked.detected().features[0].moved[0];
        let expected = if hour == 124 { "unseen" } else { "missing" };
        assert_eq!(moved.level, expected, "hour {hour}: {checked:?}");
    }
    replica.stop().await;
}

#[tokio::test]
async fn a_moved_fraud_rate_is_target_drift_and_only_alerts() {
    let scene = Scene::new().await;
    let replica = scene.start().await;
    scene.promote(promoted("v1", 1, 0)).await;
    scene.set_clock(400).await;
    // Labels move, scores follow: the model finds the new frauds as well as the old ones.
    scene
        .change(
            24,
            300,
            "is_fraud = is_fraud or transaction_id % 12 = 0, score = case when transaction_id % 12 = 0 and not is_fraud \
             then case when transaction_id % 100 < 88 then 0.9 else 0.1 end else score end",
        )
        .await;
    let checked = scene.check(RIPE).await;
    let detected = checked.detected();
    assert_eq!(
        (detected.severity, detected.kinds.as_slice()),
        (DriftSeverity::AlertOnly, [DriftKind::Target].as_slice())
    );
    let target = detected.target.as_ref().expect("how the rate moved");
    assert!(
        (0.04..0.06).contains(&target.reference_rate.get()),
        "the real rate, not zero: {target:?}"
    );
    assert!(
        (1.4..1.8).contains(&target.relative_change.expect("a change").get()),
        "{target:?}"
    );
    assert!(target.p_value.get() < 1e-6);
    // Of this very check: the hourly slot of the clock's instant may have found the same.
    let next = scene
        .count(&format!(
            "select count(*) from airflow_task_metrics where task_id = 'send_drift_alert' and run_id = '{}'",
            detected.check_id
        ))
        .await;
    assert_eq!(next, 1);
    replica.stop().await;
}

#[tokio::test]
async fn lost_recall_is_concept_drift_once_the_labels_have_ripened() {
    let scene = Scene::new().await;
    let replica = scene.start().await;
    scene.promote(promoted("v1", 1, 0)).await;
    scene.set_clock(400).await;
    scene
        .change(
            0,
            400,
            "score = case when is_fraud and transaction_id % 4 = 0 then 0.1 else score end",
        )
        .await;
    let early = scene.check(20).await;
    assert_eq!(early.checked().verdict, Verdict::Stable, "nobody can know yet");
    assert_eq!(early.reasons(), [("labels_not_ripe".to_owned(), false)]);
    let few = scene.check(34).await;
    assert_eq!(few.checked().verdict, Verdict::Stable);
    assert!(
        few.reasons()
            .iter()
            .all(|reason| *reason == ("too_few_ripened_labels".to_owned(), false)),
        "{few:?}"
    );
    let ripe = scene.check(RIPE).await;
    let detected = ripe.detected();
    assert_eq!(
        (detected.severity, detected.kinds.as_slice()),
        (DriftSeverity::Immediate, [DriftKind::Concept].as_slice())
    );
    let concept = detected.concept.as_ref().expect("how recall dropped");
    assert_eq!(concept.window, span(RIPE - 24 - 168, RIPE - 24));
    assert!((0.15..0.29).contains(&concept.drop.get()), "{concept:?}");
    assert!(concept.drop_low.get() > 0.0 && concept.frauds > 400);
    assert_eq!(ripe.metric("recall_drop", None), concept.drop.get());
    replica.stop().await;
}

#[tokio::test]
async fn lost_precision_is_concept_drift_too() {
    let scene = Scene::new().await;
    let replica = scene.start().await;
    scene.promote(promoted("v1", 1, 0)).await;
    scene.set_clock(400).await;
    scene
        .change(
            0,
            400,
            "score = case when not is_fraud and transaction_id % 40 = 0 then 0.9 else score end",
        )
        .await;
    let checked = scene.check(RIPE).await;
    assert_eq!(checked.detected().severity, DriftSeverity::Immediate);
    assert!(checked.metric("precision_drop", None) > 0.2, "{checked:?}");
    assert!(checked.metric("recall_drop", None) < 0.05, "recall held");
    let concept = checked.detected().concept.as_ref().expect("the numbers");
    assert!(concept.realised_precision.expect("a rate").get() < 0.7);
    replica.stop().await;
}

#[tokio::test]
async fn rows_that_another_champion_scored_do_not_count() {
    let scene = Scene::new().await;
    let replica = scene.start().await;
    scene.promote(promoted("v1", 1, 0)).await;
    scene.set_clock(400).await;
    scene
        .change(0, 150, "score = case when is_fraud then 0.1 else score end")
        .await;
    assert_eq!(
        scene.check(RIPE).await.detected().severity,
        DriftSeverity::Immediate
    );
    scene.promote(promoted("v2", 2, 150)).await;
    let checked = scene.check(RIPE + 1).await;
    assert_eq!(
        checked.checked().champion.as_ref().map(ToString::to_string),
        Some("v2".to_owned())
    );
    assert_eq!(checked.checked().verdict, Verdict::Stable, "{checked:?}");
    assert!(checked.metric("recall_drop", None).abs() < 0.1);
    replica.stop().await;
}

#[tokio::test]
async fn rows_between_decision_and_promotion_belong_to_the_predecessor() {
    let scene = Scene::new().await;
    let replica = scene.start().await;
    scene.set_clock(400).await;
    scene.promote(promoted("v1", 1, 0)).await;
    // Decided at hour 50 because recall fell, in force a hundred hours later.
    scene
        .change(0, 150, "score = case when is_fraud then 0.1 else score end")
        .await;
    let late = ModelPromoted {
        as_of: at(50),
        effective_from: at(150),
        ..promoted("v2", 2, 150)
    };
    scene.promote(late).await;
    let before = scene.check(149).await;
    assert_eq!(
        before.checked().champion.as_ref().map(ToString::to_string),
        Some("v1".to_owned())
    );
    let checked = scene.check(RIPE).await;
    assert_eq!(checked.checked().verdict, Verdict::Stable, "{checked:?}");
    replica.stop().await;
}

#[tokio::test]
async fn hours_that_were_stored_add_up_to_the_same_metrics() {
    let scene = Scene::new().await;
    let replica = scene.start().await;
    scene.promote(promoted("v1", 1, 0)).await;
    scene.set_clock(RIPE).await;
    scene.checks(1).await;
    scene.set_clock(RIPE + 40).await;
    scene.checks(41).await;
    let stored = scene
        .count("select count(*) from drift_monitor.hour_profile")
        .await;
    assert!(stored >= 24, "{stored}");
    let last = scene.check(RIPE + 40).await;
    scene.run("truncate drift_monitor.hour_profile, drift_monitor.hour_outcome; delete from drift_monitor.check_run").await;
    let afresh = scene.check_at(at(RIPE + 40), "afresh").await;
    assert_eq!(afresh.checked().metrics, last.checked().metrics);
    assert_eq!(
        afresh.checked().check_id,
        last.checked().check_id,
        "the same question has the same name"
    );
    // Half an hour counts what there is.
    let half = scene
        .check_at(at(RIPE + 39) + chrono::TimeDelta::minutes(30), "half")
        .await;
    assert_eq!(half.checked().rows, 1_440 + 30);
    replica.stop().await;
}

#[tokio::test]
async fn as_many_checks_in_a_row_as_are_asked_for_make_a_drift_across_restarts_and_unknown_ones() {
    let scene = Scene::new().await.with_drift("consecutive = 3");
    let replica = scene.start().await;
    scene.promote(promoted("v1", 1, 0)).await;
    scene.set_clock(400).await;
    scene.change(100, 300, "amount = amount * 20").await;
    let first = scene.check(124).await;
    assert_eq!(first.checked().verdict, Verdict::Stable);
    let psi = |checked: &crate::scene::Checked| {
        let metric = checked
            .checked()
            .metrics
            .iter()
            .find(|metric| metric.name == "psi" && metric.exceeded);
        metric.map(|metric| metric.in_a_row)
    };
    assert_eq!(psi(&first), Some(1), "it is seen, and waited for");
    replica.stop().await;
    let replica = scene.start().await;
    assert_eq!(psi(&scene.check(125).await), Some(2));
    // A check that could not look neither confirms nor clears.
    scene.run("alter table bank.payment rename to payment_away").await;
    assert_eq!(scene.check(126).await.checked().verdict, Verdict::Unknown);
    scene.run("alter table bank.payment_away rename to payment").await;
    let third = scene.check(127).await;
    assert_eq!(third.detected().severity, DriftSeverity::High);
    assert_eq!(
        (third.detected().since, third.detected().consecutive),
        (at(127), 1)
    );
    // Another champion begins anew.
    scene.promote(promoted("v2", 2, 128)).await;
    assert_eq!(scene.check(140).await.checked().verdict, Verdict::Stable);
    replica.stop().await;
}

#[tokio::test]
async fn late_rows_and_corrected_labels_get_into_the_hour_where_they_belong() {
    let scene = Scene::new().await;
    let replica = scene.start().await;
    scene.promote(promoted("v1", 1, 0)).await;
    // Hourly checks of two days: each hour is stored while its labels are still to come.
    scene.set_clock(200).await;
    scene.checks(1).await;
    scene.set_clock(248).await;
    scene.checks(49).await;
    let open = scene
        .count("select count(*) from drift_monitor.hour_outcome where not is_final")
        .await;
    assert!(open >= 23, "{open} hours wait for labels");
    // Rows that come three hours late, a label that was wrong and one that comes days late.
    scene
        .run(&format!(
            "insert into bank.payment select 900000 + transaction_id, tx_time, amount, channel, weekday, is_fraud, labelled_at, score \
             from bank.payment where tx_time >= '{}' and tx_time < '{}'",
            at(244),
            at(245)
        ))
        .await;
    scene
        .change(
            240,
            241,
            "is_fraud = not is_fraud, labelled_at = labelled_at + interval '3 hours'",
        )
        .await;
    scene
        .change(225, 226, "labelled_at = labelled_at + interval '20 hours'")
        .await;
    scene.set_clock(300).await;
    scene.checks(101).await;
    let last = scene.check(300).await;
    scene.run("truncate drift_monitor.hour_profile, drift_monitor.hour_outcome; delete from drift_monitor.check_run").await;
    let afresh = scene.check_at(at(300), "afresh").await;
    assert_eq!(afresh.checked().metrics, last.checked().metrics);
    assert_eq!(afresh.checked().labelled_rows, last.checked().labelled_rows);
    replica.stop().await;
}

#[tokio::test]
async fn a_check_of_the_past_leaves_what_is_known_by_now() {
    let scene = Scene::new().await;
    let replica = scene.start().await;
    scene.promote(promoted("v1", 1, 0)).await;
    scene.set_clock(100).await;
    scene.checks(1).await;
    scene.set_clock(130).await;
    scene.checks(31).await;
    let past = scene.check(110).await;
    let stored = "select md5(string_agg(hour::text || known_at || outcome::text || is_final, '' order by hour)) from drift_monitor.hour_outcome \
                  where hour >= '2026-03-06T00:00:00Z'";
    let before = scene.text(stored).await;
    let half = at(110) + chrono::TimeDelta::minutes(30);
    let between = scene.check_at(half, "between").await;
    assert!(between.checked().labelled_rows >= past.checked().labelled_rows);
    assert_eq!(scene.text(stored).await, before);
    replica.stop().await;
}
