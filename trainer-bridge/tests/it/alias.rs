//! The registry's alias, which the last writer wins: a call that arrives late is noticed and made good.

use local_stack::peers::tracking::Tracking;
use schemas::events::ValidationVerdict;

use service_bench::eventually;

use crate::scene::{QUICK, Scene, day, model, validated};

/// Two champions, one after the other; the first is version 1 of MLflow, the second version 2.
async fn two_champions() -> (Scene, Tracking, service_bench::Replica) {
    chassis::install_crypto();
    let tracking = Tracking::start().await.expect("a tracking server");
    let settings = format!(
        "{QUICK}[mlflow]\ntracking_uri = {:?}\ntimeout = \"5s\"\n",
        tracking.url()
    );
    let scene = Scene::new(&settings).await;
    let replica = scene.start().await;
    for (count, (decision, as_of)) in [("one", 28), ("two", 30)].into_iter().enumerate() {
        scene.request(decision, day(as_of)).await;
        let trained = scene.trained(count + 1).await;
        scene
            .publish(decision, validated(&trained, ValidationVerdict::Passed))
            .await;
        scene.promoted(count + 1).await;
    }
    assert_eq!(tracking.alias(model().as_str(), "champion"), Some(2));
    (scene, tracking, replica)
}

/// As a promoter leaves it that stood still before its call: begun and never ended.
const LOOSE: &str = "insert into trainer_bridge.registry_call (call_id, model, version, fence, begun_at) \
     select gen_random_uuid(), model, version, fence, clock_timestamp() - interval '1 hour' \
     from trainer_bridge.promotion order by fence limit 1";

#[tokio::test]
async fn an_alias_that_a_late_call_has_moved_is_put_back() {
    let (scene, tracking, replica) = two_champions().await;
    scene.run(LOOSE).await;
    tracking.set_alias_by_hand(model().as_str(), "champion", 1);
    eventually("the alias to be put back", async || {
        (tracking.alias(model().as_str(), "champion") == Some(2)).then_some(())
    })
    .await;
    replica.stop().await;
}

#[tokio::test]
async fn an_alias_that_a_person_has_moved_is_left_alone() {
    let (scene, tracking, replica) = two_champions().await;
    // Every call of ours was answered and ended.
    let open = "select count(*)::text from trainer_bridge.registry_call where ended_at is null";
    scene.until(open, "0").await;
    tracking.set_alias_by_hand(model().as_str(), "champion", 1);
    // One that is loose makes it look, and points elsewhere.
    scene.run(LOOSE).await;
    scene
        .run("update trainer_bridge.model_version set registry_version = '7' where registry_version = '1'")
        .await;
    scene
        .until(
            "select (next_look_at > clock_timestamp())::text from trainer_bridge.registry_call where ended_at is null",
            "true",
        )
        .await;
    assert_eq!(tracking.alias(model().as_str(), "champion"), Some(1));
    replica.stop().await;
}
