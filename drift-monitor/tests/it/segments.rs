//! Where columns of segments are set, it is told in which of them a feature moved.

use schemas::events::{DriftDetected, Verdict};

use crate::scene::{Scene, promoted};

/// `country` is not trained on; `channel` is.
const FEATURES: &str = "features = [\"amount\", \"channel\"]\nsegments = [\"country\", \"channel\"]\n";

/// Half the payments are French, and from hour 150 on these are larger; one in ten of the others has no country.
async fn world() -> Scene {
    let scene = Scene::new().await;
    scene
        .run(
            "alter table bank.payment add country text; \
             update bank.payment set country = case when transaction_id % 2 = 0 then 'FR' when transaction_id % 10 = 1 then null else 'DE' end",
        )
        .await;
    scene
        .change(
            150,
            400,
            "amount = case when country = 'FR' then amount * 20 else amount end",
        )
        .await;
    scene
}

/// Column, level and rows (reference, window) of the segments of the one feature that moved.
fn told(detected: &DriftDetected) -> Vec<(&str, &str, u64, u64)> {
    let [feature] = detected.features.as_slice() else {
        panic!("one feature moved: {detected:?}")
    };
    assert_eq!(feature.feature, "amount");
    let segments = feature.segments.iter();
    segments
        .map(|segment| {
            assert!(segment.psi > segment.noise, "{segment:?}");
            (
                segment.column.as_str(),
                segment.level.as_str(),
                segment.reference_rows,
                segment.rows,
            )
        })
        .collect()
}

async fn detected(scene: &Scene) -> DriftDetected {
    let replica = scene.start().await;
    scene.promote(promoted("v1", 1, 0)).await;
    scene.set_clock(400).await;
    assert_eq!(scene.check(140).await.checked().verdict, Verdict::Stable);
    let found = scene.check(180).await.detected().clone();
    replica.stop().await;
    found
}

fn in_a_table(segments: &str) -> String {
    format!("source = \"postgres\"\ntable = \"bank.payment\"\n{segments}")
}

#[tokio::test]
async fn what_moved_in_one_segment_is_told_of_it() {
    let scene = world().await.with_model(&in_a_table(FEATURES));
    let found = detected(&scene).await;
    let all = told(&found);
    // 400 hours of the reference, 24 of the window, a payment a minute. It moved alike in every channel.
    assert_eq!(all, [("country", "FR", 12_000, 720)]);
    // The same of a rolling reference, whose rows are read when they are needed.
    let rolling = world()
        .await
        .with_model(&in_a_table(FEATURES))
        .with_drift("reference = \"rolling\"\nreference_span = \"5d\"");
    let found = detected(&rolling).await;
    assert_eq!(told(&found), [("country", "FR", 3_600, 720)]);
    // And of the same hours of earlier weeks, and no others: a day is 720 of them.
    let weekly = world()
        .await
        .with_model(&in_a_table(FEATURES))
        .with_drift("reference = \"same_hour_of_week\"\nreference_span = \"14d\"");
    let found = detected(&weekly).await;
    assert_eq!(told(&found), [("country", "FR", 1_440, 720)]);
}

#[tokio::test]
async fn the_reference_is_counted_by_segment_once_and_again_when_columns_change() {
    let scene = world().await.with_model(&in_a_table(FEATURES));
    let found = detected(&scene).await;
    let kept = "select count(*) from drift_monitor.reference, jsonb_array_elements(reference -> 'segments')";
    assert_eq!(scene.count(kept).await, 2);
    let hours = "select count(*) from drift_monitor.hour_profile";
    let before = scene.count(hours).await;
    // Its training window is archived, and a column of segments taken away, and brought back.
    let one = FEATURES.replace("\"country\", ", "");
    scene
        .run("delete from bank.payment where tx_time < '2026-03-02'")
        .await;
    let scene = scene.with_model(&in_a_table(FEATURES));
    let replica = scene.start().await;
    assert_eq!(
        told(scene.check(181).await.detected()),
        told(&found),
        "from what was kept"
    );
    replica.stop().await;
    let scene = scene.with_model(&in_a_table(&one));
    let replica = scene.start().await;
    let check = scene.check(182).await;
    assert_eq!(
        check.detected().features[0].segments,
        [],
        "there is nothing to compare with any more"
    );
    assert!(
        scene.count(hours).await >= before,
        "and no hour was thrown away for it"
    );
    replica.stop().await;
}

#[tokio::test]
async fn a_column_of_segments_that_is_gone_or_locked_hinders_nothing() {
    let scene = world().await.with_model(&in_a_table(FEATURES));
    scene.run("alter table bank.payment rename country to land").await;
    let found = detected(&scene).await;
    assert_eq!(
        (
            found.features[0].feature.as_str(),
            found.features[0].segments.len()
        ),
        ("amount", 0)
    );
    // It comes back, and the next check tells.
    scene.run("alter table bank.payment rename land to country").await;
    let replica = scene.start().await;
    assert_eq!(
        told(scene.check(181).await.detected()),
        [("country", "FR", 12_000, 720)]
    );
    replica.stop().await;
}

#[tokio::test]
async fn a_warehouse_counts_segments_as_a_table_does() {
    let beside = world().await.with_model(&in_a_table(FEATURES));
    let (_workspace, scene) = world().await.behind_a_warehouse(FEATURES, "").await;
    let (found, wanted) = (detected(&scene).await, detected(&beside).await);
    // To the last bit. Since when it moved depends on the hours that other checks left behind.
    let numbers = |found: &DriftDetected| (found.features[0].psi, found.features[0].segments.clone());
    assert_eq!(numbers(&found), numbers(&wanted));
    assert_eq!(told(&found), [("country", "FR", 12_000, 720)]);
    // Of a rolling reference it is asked span by span.
    let (_workspace, rolling) = world().await.behind_a_warehouse(FEATURES, "").await;
    let rolling = rolling.with_drift("reference = \"rolling\"\nreference_span = \"5d\"");
    assert_eq!(told(&detected(&rolling).await), [("country", "FR", 3_600, 720)]);
}

#[tokio::test]
async fn a_column_with_too_many_levels_says_nothing_and_hides_nothing() {
    let features = "features = [\"amount\"]\nsegments = [\"transaction_id\", \"country\"]\n";
    let scene = world().await.with_model(&in_a_table(features));
    let found = detected(&scene).await;
    assert_eq!(told(&found), [("country", "FR", 12_000, 720)]);
}
