//! Mistakes of the pipelines that this service replaces, each as a story that ends otherwise here.

use schemas::events::{DeclineReason, Priority};
use schemas::{Event, EventId};
use serde_json::Value;

use crate::scene::{Scene, asked, at, promoted, trained};

/// There, the reader looked for a field that the writer called otherwise, and for a shape that the API never had: every
/// feature drifted, and "no retraining required". Here the released sample itself is sent.
#[tokio::test]
async fn a_drift_as_it_travels_leads_to_a_training() {
    let golden: Value = serde_json::from_str(include_str!("../../../schemas/golden/drift.detected.v1.json"))
        .expect("the golden");
    let scene = Scene::new(72_000).await;
    let replica = scene.start().await;
    // The champion that the sample is about, as of the hour before.
    let champion = golden["data"]["champion"].as_str().expect("a champion");
    scene.set_clock(at(2)).await;
    let first = scene.said_after(1).await;
    let Event::RetrainRequested(first) = &first[0].event else {
        panic!("expected retrain.requested, got {first:?}");
    };
    scene
        .publish("trained", trained(first.decision_id, 2, champion))
        .await;
    let id = scene
        .publish("promoted", promoted(first.decision_id, 2, champion, 1))
        .await;
    scene.handled(id).await;

    let mut headers = async_nats::HeaderMap::new();
    for (name, value) in golden["headers"].as_object().expect("headers") {
        headers.insert(name.as_str(), value.as_str().expect("text"));
    }
    let body = golden["data"].to_string().into_bytes();
    scene.publish_raw("drift.detected", headers, body).await;

    let said = scene.said_after(2).await;
    let Event::RetrainRequested(requested) = &said[1].event else {
        panic!("expected retrain.requested, got {:?}", said[1]);
    };
    assert_eq!(requested.priority, Priority::Immediate);
    assert_eq!(
        requested.champion.as_ref().map(schemas::ModelVersion::as_str),
        Some(champion)
    );
    let cause: EventId = golden["headers"]["ce-id"]
        .as_str()
        .expect("an id")
        .parse()
        .expect("an id");
    assert_eq!(said[1].attributes.causation_id, Some(cause));
    replica.stop().await;
}

/// There, local times without a zone met instants with one. Here a server in a zone of half hours changes nothing.
#[tokio::test]
async fn a_cooldown_is_the_same_in_every_time_zone() {
    let scene = Scene::new(72_000).await;
    let name: String = sqlx::query_scalar("select current_database()")
        .fetch_one(&scene.pool)
        .await
        .expect("the name of the database");
    let zone = format!("alter database \"{name}\" set timezone to 'Asia/Kolkata'");
    sqlx::query(sqlx::AssertSqlSafe(zone))
        .execute(&scene.pool)
        .await
        .expect("set the time zone");
    let replica = scene.start().await;
    scene.set_clock(at(2)).await;
    let first = scene.said_after(1).await;
    let Event::RetrainRequested(first) = &first[0].event else {
        panic!("expected retrain.requested, got {first:?}");
    };
    scene
        .publish("trained", trained(first.decision_id, 2, "v1"))
        .await;
    let id = scene
        .publish("promoted", promoted(first.decision_id, 2, "v1", 1))
        .await;
    scene.handled(id).await;
    // 48 h later to the hour: one hour earlier is refused.
    scene.publish("too early", asked(49, false)).await;
    let said = scene.said_after(2).await;
    match &said[1].event {
        Event::RetrainDeclined(declined) => assert_eq!(declined.reason, DeclineReason::Cooldown),
        other => panic!("expected retrain.declined, got {other:?}"),
    }
    scene.publish("in time", asked(50, false)).await;
    let said = scene.said_after(3).await;
    assert!(
        matches!(said[2].event, Event::RetrainRequested(_)),
        "{:?}",
        said[2]
    );
    replica.stop().await;
}
