//! What the scores let expect is told before labels are known, and beside what was realised once they are.

use std::collections::BTreeSet;

use drift_stats::outcome::{Known, Outcome};
use schemas::events::{DriftSeverity, Interval, ModelPromoted, ScoreCounts, Verdict};

use crate::scene::{Scene, promoted};

/// A version whose validation saw what the scene's scores are like: recall 0.88, precision 0.90.
fn counted(name: &str, fence: u64, hour: i64) -> ModelPromoted {
    let mut holdout = Outcome::empty(0.5);
    // The column has single precision.
    let [high, low] = [0.9_f32, 0.1].map(f64::from);
    for (score, label, rows) in [
        (high, Known::Fraud, 440),
        (low, Known::Fraud, 60),
        (high, Known::Genuine, 49),
        (low, Known::Genuine, 9_451),
    ] {
        holdout.add_rows(score, label, rows);
    }
    ModelPromoted {
        score_counts: Some(ScoreCounts {
            genuine: holdout.score_counts(Known::Genuine).to_vec(),
            frauds: holdout.score_counts(Known::Fraud).to_vec(),
        }),
        ..promoted(name, fence, hour)
    }
}

#[tokio::test]
async fn performance_is_estimated_before_labels_are_known() {
    let scene = Scene::new().await;
    let replica = scene.start().await;
    scene.promote(counted("v1", 1, 0)).await;
    scene.set_clock(400).await;
    // Nobody labels anything any more.
    scene
        .change(60, 400, "labelled_at = tx_time + interval '1 year'")
        .await;
    // From hour 100 on the model is half as sure of what it used to find.
    scene
        .change(
            100,
            400,
            "score = case when score > 0.5 and transaction_id % 2 = 0 then 0.1 else score end",
        )
        .await;
    for (hour, recall, precision, moved) in [(90, 0.88, 0.9, false), (130, 0.78, 0.9, true)] {
        let check = scene.check(hour).await;
        let estimated = check.checked().estimated.clone().expect("an estimate");
        assert_eq!(estimated.rows, 1_440, "hour {hour}");
        let near = |found: Option<schemas::Share>, wanted: f64| {
            let found = found.expect("a rate").get();
            assert!((found - wanted).abs() < 0.04, "hour {hour}: {found}, {wanted}");
        };
        near(estimated.recall, recall);
        near(estimated.precision, precision);
        // 60 frauds or so, as 10,000 rows taught: not to a fiftieth, but better than to a third.
        let around = estimated.recall_interval.clone().expect("how sure it is");
        let width = around.high.get() - around.low.get();
        assert!((0.02..0.3).contains(&width), "{around:?}");
        assert!(
            (around.low.get()..around.high.get()).contains(&recall),
            "{around:?}"
        );
        // Half of the flagged rows are flagged no more.
        let prediction = check.checked().prediction.clone().expect("how scores lie");
        assert_eq!(prediction.beyond_chance, moved, "hour {hour}: {prediction:?}");
        let flagged = prediction.flagged_share.get() / prediction.validated_flagged_share.get();
        let wanted = if moved { 0.5 } else { 1.0 };
        assert!((flagged - wanted).abs() < 0.25, "hour {hour}: {prediction:?}");
        let frauds = estimated.frauds.get();
        assert!((30.0..110.0).contains(&frauds), "hour {hour}: {frauds}");
        // It judges nothing: what has a threshold is what had one before.
        let judged: BTreeSet<&str> = check
            .checked()
            .metrics
            .iter()
            .map(|metric| metric.name.as_str())
            .collect();
        let known = ["fraud_rate_change", "precision_drop", "psi", "recall_drop"];
        assert!(judged.iter().all(|name| known.contains(name)), "{judged:?}");
        assert_ne!(check.checked().verdict, Verdict::Drifted, "hour {hour}");
    }
    let shown = scene
        .count("select count(*) from drift_checks where estimated_recall between 0.7 and 0.95 and estimated_precision > 0.8")
        .await;
    assert!(shown >= 2, "{shown}");
    let shown = scene
        .count(
            "select count(*) from drift_checks where estimated_recall_high - estimated_recall_low between 0.02 and 0.3 \
             and estimated_precision_high > estimated_precision_low and score_psi > 0 and score_noise > 0 \
             and scores_beyond_chance and flagged_share < 0.8 * validated_flagged_share",
        )
        .await;
    assert!(shown >= 1, "{shown}");
    replica.stop().await;
}

#[tokio::test]
async fn without_counts_of_the_validation_nothing_is_estimated() {
    let scene = Scene::new().await;
    let replica = scene.start().await;
    scene.promote(promoted("v1", 1, 0)).await;
    scene.set_clock(400).await;
    let check = scene.check(90).await;
    assert_eq!(check.checked().verdict, Verdict::Stable);
    assert_eq!(check.checked().estimated, None);
    assert_eq!(check.checked().prediction, None);
    replica.stop().await;
}

/// What is expected and what is realised of recall on ripened labels, after a change.
async fn expected_and_realised(change: &str) -> (f64, Interval, f64) {
    let scene = Scene::new().await;
    let replica = scene.start().await;
    scene.promote(counted("v1", 1, 0)).await;
    scene.set_clock(400).await;
    scene.change(24, 400, change).await;
    let check = scene.check(300).await;
    assert_eq!(check.detected().severity, DriftSeverity::Immediate);
    let concept = check.detected().concept.clone().expect("how recall dropped");
    replica.stop().await;
    let expected = concept.estimated_recall.expect("what was to be expected").get();
    let around = concept.estimated_recall_interval.expect("how sure that is");
    (expected, around, concept.realised_recall.get())
}

#[tokio::test]
async fn a_score_that_means_something_else_is_told_from_scores_that_moved() {
    // The frauds are others, and as many; the scores are what they were.
    let (expected, around, realised) =
        expected_and_realised("is_fraud = transaction_id % 20 = 7, labelled_at = tx_time + interval '1 day'")
            .await;
    assert!(expected > 0.83 && realised < 0.2, "{expected} {realised}");
    assert!(
        around.low.get() > realised && around.high.get() > expected,
        "{around:?}"
    );
    // The frauds are the same, and the model saw most of them coming less clearly: its scores say so themselves.
    let (expected, _, realised) = expected_and_realised(
        "score = case when score > 0.5 and transaction_id % 10 > 0 then 0.1 else score end",
    )
    .await;
    assert!(expected < 0.55 && realised < 0.2, "{expected} {realised}");
}

#[tokio::test]
async fn hours_that_an_older_program_counted_in_other_cells_are_counted_again() {
    let scene = Scene::new().await;
    let replica = scene.start().await;
    scene.promote(counted("v1", 1, 0)).await;
    scene.set_clock(400).await;
    let first = scene.check(200).await;
    let kept = |cells: i64| {
        format!(
            "select count(*) from drift_monitor.hour_outcome where jsonb_array_length(outcome -> 'score_counts' -> 0) = {cells}"
        )
    };
    let hours = scene.count(&kept(51)).await;
    assert!(hours > 100, "{hours}");
    scene
        .run(
            "update drift_monitor.hour_outcome set outcome = jsonb_set(outcome, '{score_counts}', \
             (select jsonb_agg(counts - 50) from jsonb_array_elements(outcome -> 'score_counts') counts))",
        )
        .await;
    assert_eq!(scene.count(&kept(50)).await, hours);
    let again = scene.check(201).await;
    assert_eq!(again.checked().verdict, first.checked().verdict, "{again:?}");
    assert!(again.checked().estimated.is_some());
    assert!(scene.count(&kept(51)).await > 100);
    replica.stop().await;
}
