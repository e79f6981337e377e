//! What people are called and write goes through the decider, its tables and its events as it is, or is parked with a reason.

use local_stack::hostile::NAMES;
use schemas::Event;
use schemas::events::RetrainAsked;

use crate::scene::{Scene, at};

#[tokio::test]
async fn hostile_names_are_text_in_tables_and_events() {
    let scene = Scene::new(100).await;
    let replica = scene.start().await;
    for (hour, name) in (1_i64..).zip(NAMES) {
        let asked = RetrainAsked {
            as_of: at(hour),
            requested_by: (*name).to_owned(),
            reason: (*name).to_owned(),
            force: false,
        };
        let id = scene.publish(&format!("asked {hour}"), asked).await;
        scene.handled(id).await;
    }
    let said = scene.said_after(1).await;
    for (hour, name) in (1_i64..).zip(NAMES) {
        let of_it = |received: &&schemas::Received| match &received.event {
            Event::RetrainRequested(requested) => requested.as_of == at(hour),
            Event::RetrainDeclined(declined) => declined.as_of == at(hour),
            _ => false,
        };
        let event = said.iter().find(of_it);
        println!("{name:?}: {:?}", event.map(|event| &event.event));
    }
    println!(
        "{:?}",
        scene
            .text("select string_agg(reason, E'\n') from retrain_decider.dead_letter")
            .await
    );
    println!(
        "{:?}",
        scene
            .text("select string_agg(trigger_reason, E'\n') from retrain_decider.trigger")
            .await
    );
    replica.stop().await;
}
