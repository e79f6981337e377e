//! What people are called and write goes through the decider, its tables and its events as it is, or is parked with a reason.

use local_stack::hostile::NAMES;
use schemas::Event;
use schemas::events::RetrainAsked;

use crate::scene::{Scene, at};

/// More than the longest training holds others back.
const APART: i64 = 30;

#[tokio::test]
async fn hostile_names_are_text_in_tables_and_events() {
    let scene = Scene::new(100).await;
    let replica = scene.start().await;
    for (number, name) in (1_i64..).zip(NAMES) {
        let asked = RetrainAsked {
            as_of: at(APART * number),
            requested_by: (*name).to_owned(),
            reason: (*name).to_owned(),
            force: true,
        };
        let id = scene.publish(&format!("asked {number}"), asked).await;
        scene.handled(id).await;
    }
    let storable: Vec<&&str> = NAMES.iter().filter(|name| !name.contains('\0')).collect();
    let expected: Vec<String> = storable
        .iter()
        .map(|name| format!("{name} asks: {name}"))
        .collect();
    let said = scene.recorded().await;
    let reasons: Vec<String> = said
        .iter()
        .filter_map(|received| match &received.event {
            Event::RetrainRequested(requested) => Some(requested.reason.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(reasons, expected);
    let rows: Vec<(String,)> =
        sqlx::query_as("select trigger_reason from retraining_triggers order by triggered_at")
            .fetch_all(&scene.pool)
            .await
            .expect("the triggers");
    let rows: Vec<String> = rows.into_iter().map(|(reason,)| reason).collect();
    assert_eq!(rows, expected);
    // PostgreSQL's text cannot hold it, and no retry helps.
    let letters: Vec<(String, String)> =
        sqlx::query_as("select reason_class, reason from retrain_decider.dead_letter")
            .fetch_all(&scene.pool)
            .await
            .expect("the dead letters");
    assert_eq!(letters.len(), NAMES.len() - storable.len());
    for (class, reason) in letters {
        assert_eq!(class, "handler_permanent");
        assert!(reason.contains("cannot store what it says"), "{reason}");
    }
    replica.stop().await;
}
