//! Whom a check compares with: the champion as of its instant, and that champion's own training window.

use schemas::events::{ModelPromoted, PromotionKind, Verdict};

use crate::scene::{Scene, at, promoted, span};

fn champion(checked: &crate::scene::Checked) -> Option<String> {
    checked.checked().champion.as_ref().map(ToString::to_string)
}

#[tokio::test]
async fn a_new_champion_brings_a_new_reference_for_its_time_only() {
    let scene = Scene::new().await;
    let replica = scene.start().await;
    scene.promote(promoted("v1", 1, 0)).await;
    scene.set_clock(400).await;
    // The world changes for good at hour 50; v2 is trained on the new one.
    scene.change(50, 400, "amount = amount * 20").await;
    assert_eq!(scene.check(150).await.checked().verdict, Verdict::Drifted);
    scene
        .promote(ModelPromoted {
            training_window: span(50, 140),
            ..promoted("v2", 2, 160)
        })
        .await;
    let before = scene.check(159).await;
    assert_eq!(
        (champion(&before).as_deref(), before.checked().verdict),
        (Some("v1"), Verdict::Drifted)
    );
    let from = scene.check(160).await;
    assert_eq!(
        (champion(&from).as_deref(), from.checked().verdict),
        (Some("v2"), Verdict::Stable),
        "{from:?}"
    );
    assert_eq!(from.checked().reference_window, Some(span(50, 140)));

    // Rolled back: the old champion counts again, with its old reference.
    let back = ModelPromoted {
        kind: PromotionKind::Rollback,
        ..promoted("v1", 3, 0)
    };
    scene
        .promote(ModelPromoted {
            as_of: at(200),
            effective_from: at(200),
            ..back
        })
        .await;
    let after = scene.check(200).await;
    assert_eq!(
        (champion(&after).as_deref(), after.checked().verdict),
        (Some("v1"), Verdict::Drifted)
    );
    let between = scene.check(199).await;
    assert_eq!(
        champion(&between).as_deref(),
        Some("v2"),
        "history stays as it was"
    );
    assert_eq!(
        scene.count("select count(*) from drift_monitor.reference").await,
        2
    );
    replica.stop().await;
}

#[tokio::test]
async fn a_promotion_told_twice_or_late_changes_nothing() {
    let scene = Scene::new().await;
    let replica = scene.start().await;
    scene.set_clock(400).await;
    scene.promote(promoted("v2", 2, 100)).await;
    let again = scene.publish("promoted again", promoted("v2", 2, 100)).await;
    scene.handled(again).await;
    scene.promote(promoted("v1", 1, 100)).await;
    assert_eq!(
        champion(&scene.check(130).await).as_deref(),
        Some("v2"),
        "the larger fence counts"
    );
    assert_eq!(
        scene.count("select count(*) from drift_monitor.champion").await,
        2
    );
    replica.stop().await;
}

#[tokio::test]
async fn a_training_window_without_rows_is_unknown_until_it_has_some() {
    let scene = Scene::new().await;
    let replica = scene.start().await;
    scene.set_clock(400).await;
    scene
        .promote(ModelPromoted {
            training_window: span(-2_000, -1_900),
            ..promoted("v1", 1, 0)
        })
        .await;
    let checked = scene.check_at(at(100), "empty").await;
    assert_eq!(checked.checked().verdict, Verdict::Unknown);
    assert_eq!(
        checked.reasons(),
        vec![("reference_too_small".to_owned(), true); 3]
    );
    scene.run("insert into bank.payment select transaction_id - 100000, tx_time - interval '1400 hours', amount, channel, weekday, is_fraud, labelled_at - interval '1400 hours', score from bank.payment where tx_time < '2026-03-01'").await;
    assert_eq!(
        scene.check_at(at(100), "filled").await.checked().verdict,
        Verdict::Stable
    );
    replica.stop().await;
}

#[tokio::test]
async fn other_features_in_the_settings_bring_a_reference_of_their_own() {
    let scene = Scene::new().await;
    let replica = scene.start().await;
    scene.promote(promoted("v1", 1, 0)).await;
    scene.set_clock(400).await;
    assert_eq!(
        scene.check(100).await.checked().metrics.len(),
        5,
        "two features, the fraud rate, recall and precision"
    );
    replica.stop().await;
    let scene = scene.with_model(
        "source = \"postgres\"\ntable = \"bank.payment\"\nfeatures = [\"amount\", \"weekday\"]\nnot_monitored = [\"weekday\"]",
    );
    let replica = scene.start().await;
    let checked = scene.check(101).await;
    assert_eq!(checked.checked().verdict, Verdict::Stable, "{checked:?}");
    assert!(checked.metric("psi", Some("amount")) < 0.1);
    assert_eq!(
        checked.checked().metrics.len(),
        4,
        "the channel is no longer watched"
    );
    replica.stop().await;
}

#[tokio::test]
async fn a_check_of_the_past_does_not_know_later_labels() {
    let scene = Scene::new().await;
    let replica = scene.start().await;
    scene.promote(promoted("v1", 1, 0)).await;
    scene.set_clock(400).await;
    // Frauds of hours 100 to 150 become known only at hour 260.
    scene
        .change(100, 150, "labelled_at = '2026-03-12 20:00+00'")
        .await;
    assert_eq!(at(260).to_rfc3339(), "2026-03-12T20:00:00+00:00");
    let later = scene.check(262).await;
    assert!(later.checked().not_measured.is_empty(), "{later:?}");
    let stored = scene.count("select count(*) from drift_monitor.hour_outcome where hour >= '2026-03-06 04:00+00' and hour < '2026-03-08 06:00+00'").await;
    assert_eq!(stored, 50, "their labels are all known now");
    let before = scene.check(190).await;
    scene
        .run("truncate drift_monitor.hour_outcome; delete from drift_monitor.check_run")
        .await;
    let afresh = scene.check_at(at(190), "afresh").await;
    assert_eq!(before.checked().metrics, afresh.checked().metrics);
    replica.stop().await;
}
