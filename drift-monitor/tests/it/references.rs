//! What windows are compared with is a choice.

use schemas::Window;
use schemas::events::{ModelPromoted, Verdict};

use crate::scene::{Scene, at, promoted, span};

/// Two days a week have other amounts: a rhythm, no drift.
const RHYTHM: &str =
    "update bank.payment set amount = amount * 4 where extract(isodow from tx_time at time zone 'UTC') >= 6";

#[tokio::test]
async fn a_rhythm_is_no_drift_beside_the_same_hours_of_earlier_weeks() {
    let scene = Scene::new()
        .await
        .with_drift("reference = \"same_hour_of_week\"\nreference_span = \"14d\"");
    scene.run(RHYTHM).await;
    scene.change(300, 330, "amount = amount * 4").await;
    let replica = scene.start().await;
    scene.promote(promoted("v1", 1, 0)).await;
    scene.set_clock(400).await;
    // Hour 0 is a Monday: hours 120 to 168 are a week-end.
    for hour in [144, 168, 192] {
        let checked = scene.check(hour).await;
        assert_eq!(
            checked.checked().verdict,
            Verdict::Stable,
            "hour {hour}: {checked:?}"
        );
        assert_eq!(
            checked.checked().reference_window,
            Some(span(hour - 24 - 336, hour - 24))
        );
    }
    // The hours are counted once: of the next check only the newest is read.
    let kept = scene
        .count("select count(*) from drift_monitor.hour_profile")
        .await;
    assert!(kept >= 336 + 24, "{kept}");
    // What moves besides is drift.
    let moved = scene.check(324).await;
    assert_eq!(moved.detected().features[0].feature, "amount");
    assert_eq!(moved.detected().features[0].began, Some(at(300)));
    replica.stop().await;
}

#[tokio::test]
async fn the_same_rhythm_is_drift_beside_the_training_window() {
    let scene = Scene::new().await;
    scene.run(RHYTHM).await;
    let replica = scene.start().await;
    scene.promote(promoted("v1", 1, 0)).await;
    scene.set_clock(400).await;
    assert_eq!(scene.check(168).await.checked().verdict, Verdict::Drifted);
    replica.stop().await;
}

#[tokio::test]
async fn a_rolling_reference_forgets_and_one_that_has_nothing_says_so() {
    let scene = Scene::new()
        .await
        .with_drift("reference = \"rolling\"\nreference_span = \"7d\"");
    scene.change(50, 400, "amount = amount * 20").await;
    let replica = scene.start().await;
    scene.promote(promoted("v1", 1, 0)).await;
    scene.set_clock(400).await;
    let new = scene.check(80).await;
    assert_eq!(new.detected().features[0].feature, "amount");
    assert_eq!(new.checked().reference_window, Some(span(80 - 24 - 168, 80 - 24)));
    let used_to = scene.check(300).await;
    assert_eq!(used_to.checked().verdict, Verdict::Stable, "{used_to:?}");
    // Payments begin at hour -600, and this champion's training and window before them lie at the edge.
    let edge = ModelPromoted {
        training_window: span(-600, -590),
        ..promoted("v2", 2, -590)
    };
    scene.promote(edge).await;
    let nothing = scene.check(-582).await;
    assert_eq!(nothing.checked().verdict, Verdict::Unknown);
    assert!(
        nothing
            .reasons()
            .contains(&("reference_too_small".to_owned(), true)),
        "{nothing:?}"
    );
    replica.stop().await;
}

#[tokio::test]
async fn a_fixed_reference_stays_whoever_is_champion_and_is_built_again_when_it_is_changed() {
    let fixed = |from, to| {
        format!(
            "reference = \"fixed\"\nreference_start = \"{}\"\nreference_end = \"{}\"",
            at(from).to_rfc3339(),
            at(to).to_rfc3339()
        )
    };
    let scene = Scene::new().await.with_drift(&fixed(-600, -400));
    scene.change(-400, 400, "amount = amount * 20").await;
    let replica = scene.start().await;
    // Both champions learnt from payments that had moved already.
    scene.promote(promoted("v1", 1, 200)).await;
    scene.set_clock(400).await;
    let checked = scene.check(240).await;
    assert_eq!(checked.detected().features[0].feature, "amount");
    assert_eq!(
        checked.checked().reference_window,
        Window::new(at(-600), at(-400)).ok()
    );
    replica.stop().await;
    let scene = scene.with_drift(&fixed(-300, -100));
    let replica = scene.start().await;
    let checked = scene.check(241).await;
    assert_eq!(checked.checked().verdict, Verdict::Stable, "{checked:?}");
    assert_eq!(
        checked.checked().reference_window,
        Window::new(at(-300), at(-100)).ok()
    );
    replica.stop().await;
}
