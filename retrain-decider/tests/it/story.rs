//! Triggers, trainings and their ends, in order, out of order, twice, and across a kill.

use schemas::events::{
    DeclineReason, DriftSeverity, PromotionRefusal, PromotionRefused, TriggerKind, ValidationVerdict,
};
use schemas::{DecisionId, Event, EventKind, ModelName, Received};

use crate::scene::{Scene, asked, at, drift, failed, promoted, started, trained, validated, version};

fn requested(received: &Received) -> DecisionId {
    match &received.event {
        Event::RetrainRequested(requested) => requested.decision_id,
        other => panic!("expected retrain.requested, got {other:?}"),
    }
}

fn declined(received: &Received) -> DeclineReason {
    match &received.event {
        Event::RetrainDeclined(declined) => declined.reason,
        other => panic!("expected retrain.declined, got {other:?}"),
    }
}

/// Brings the model to a champion `v1`, trained as of `hour`.
async fn champion(scene: &Scene, hour: i64) {
    scene.set_clock(at(hour)).await;
    let said = scene.said_after(1).await;
    let decision = requested(&said[0]);
    scene.publish("trained/v1", trained(decision, hour, "v1")).await;
    let id = scene
        .publish("promoted/v1", promoted(decision, hour, "v1", 1))
        .await;
    scene.handled(id).await;
}

#[tokio::test]
async fn a_trigger_goes_from_pending_through_running_to_completed_and_the_slot_is_done_once() {
    let scene = Scene::new(100).await;
    let (one, two) = (scene.start().await, scene.start().await);
    scene.set_clock(at(2)).await;
    let said = scene.said_after(1).await;
    let decision = requested(&said[0]);
    assert_eq!(scene.triggers().await, [("pending".into(), None, None, None)]);
    let Event::RetrainRequested(body) = &said[0].event else {
        panic!()
    };
    assert_eq!((body.trigger, body.as_of), (TriggerKind::Schedule, at(2)));

    let id = scene.publish("started", started(decision, 2)).await;
    scene.handled(id).await;
    assert_eq!(scene.triggers().await[0].0, "running");
    scene.publish("trained", trained(decision, 2, "v1")).await;
    let id = scene.publish("promoted", promoted(decision, 2, "v1", 1)).await;
    scene.handled(id).await;
    assert_eq!(
        scene.triggers().await,
        [("completed".into(), None, None, Some("v1".into()))]
    );

    // Late news changes nothing.
    let id = scene.publish("started again", started(decision, 2)).await;
    scene.handled(id).await;
    assert_eq!(scene.triggers().await[0].0, "completed");
    assert_eq!(scene.said().await.len(), 1, "two replicas do one slot once");
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn the_cooldown_survives_a_kill_and_the_second_trigger_of_a_day_is_kept_and_explained() {
    let scene = Scene::new(72_000).await;
    let replica = scene.start().await;
    champion(&scene, 2).await;
    replica.kill().await;
    let replica = scene.start().await;
    scene
        .publish("drift/5", drift(5, DriftSeverity::High, "v1"))
        .await;
    let said = scene.said_after(2).await;
    assert_eq!(declined(&said[1]), DeclineReason::Cooldown);
    let Event::RetrainDeclined(body) = &said[1].event else {
        panic!()
    };
    assert!(
        body.counterfactuals[0].change.starts_with("1 d 21 h pass"),
        "{:?}",
        body.counterfactuals
    );
    // Concept drift is exempt; a second drift of the same day is a trigger of its own.
    scene
        .publish("drift/6", drift(6, DriftSeverity::Immediate, "v1"))
        .await;
    let said = scene.said_after(3).await;
    requested(&said[2]);
    let statuses: Vec<String> = scene
        .triggers()
        .await
        .into_iter()
        .map(|trigger| trigger.0)
        .collect();
    assert_eq!(statuses, ["completed", "declined", "pending"]);
    replica.stop().await;
}

#[tokio::test]
async fn everything_twice_and_shuffled_gives_one_decision_each() {
    let scene = Scene::new(72_000).await;
    let replica = scene.start().await;
    champion(&scene, 2).await;
    let drift_event = drift(60, DriftSeverity::High, "v1");
    for _ in 0..3 {
        let mut headers = async_nats::HeaderMap::new();
        let attributes = schemas::Attributes {
            id: schemas::EventId::of_key("one drift"),
            source: "/vigie/drift-monitor".to_owned(),
            kind: EventKind::DriftDetected,
            time: at(60),
            model: crate::scene::model(),
            correlation_id: schemas::EventId::of_key("one drift"),
            causation_id: None,
            trace: schemas::TraceContext::default(),
        };
        for (name, value) in attributes.to_headers() {
            headers.insert(name, value.as_str());
        }
        let event: Event = drift_event.clone().into();
        scene
            .publish_raw("drift.detected", headers, event.to_json().unwrap())
            .await;
    }
    let said = scene.said_after(2).await;
    let decision = requested(&said[1]);
    // Promotion overtakes everything that should come before it.
    let id = scene
        .publish("promoted/v2", promoted(decision, 60, "v2", 2))
        .await;
    scene.handled(id).await;
    for id in [
        scene.publish("trained/v2", trained(decision, 60, "v2")).await,
        scene.publish("started/v2", started(decision, 60)).await,
        scene
            .publish(
                "validated/v2",
                validated(decision, 60, "v2", ValidationVerdict::Passed),
            )
            .await,
    ] {
        scene.handled(id).await;
    }
    assert_eq!(scene.said().await.len(), 2);
    let triggers = scene.triggers().await;
    assert_eq!(triggers.len(), 2);
    assert_eq!(
        (triggers[1].0.as_str(), triggers[1].3.as_deref()),
        ("completed", Some("v2"))
    );
    replica.stop().await;
}

#[tokio::test]
async fn drift_during_a_training_waits_for_its_end() {
    let scene = Scene::new(72_000).await;
    let replica = scene.start().await;
    champion(&scene, 2).await;
    scene
        .publish("drift/60", drift(60, DriftSeverity::High, "v1"))
        .await;
    let decision = requested(&scene.said_after(2).await[1]);
    scene
        .publish("drift/61", drift(61, DriftSeverity::Immediate, "v1"))
        .await;
    assert_eq!(
        declined(&scene.said_after(3).await[2]),
        DeclineReason::TrainingInProgress
    );
    // The training fails: the drift that waited is looked at again, and is still true.
    let id = scene.publish("failed", failed(decision, 60)).await;
    scene.handled(id).await;
    let said = scene.said_after(4).await;
    let Event::RetrainRequested(body) = &said[3].event else {
        panic!("{:?}", said[3])
    };
    assert_eq!(body.trigger, TriggerKind::TrainingEnded);
    assert_eq!(
        said[3].attributes.correlation_id,
        schemas::EventId::of_key("drift/61")
    );
    assert_eq!(scene.triggers().await[1].0, "failed");
    // This one is promoted: a drift against the old champion, which waited again, is no news any more.
    let second = requested(&said[3]);
    scene
        .publish("drift/62", drift(62, DriftSeverity::Immediate, "v1"))
        .await;
    scene.said_after(5).await;
    scene.publish("promoted/v2", promoted(second, 61, "v2", 2)).await;
    let said = scene.said_after(6).await;
    assert_eq!(declined(&said[5]), DeclineReason::Superseded);
    replica.stop().await;
}

#[tokio::test]
async fn a_rejected_candidate_ends_the_training_and_counts_for_the_cooldown() {
    let scene = Scene::new(72_000).await;
    let replica = scene.start().await;
    scene.set_clock(at(2)).await;
    let decision = requested(&scene.said_after(1).await[0]);
    scene.publish("trained", trained(decision, 2, "v1")).await;
    let id = scene
        .publish(
            "rejected",
            validated(decision, 2, "v1", ValidationVerdict::Failed),
        )
        .await;
    scene.handled(id).await;
    let triggers = scene.triggers().await;
    assert_eq!(triggers[0].0, "failed");
    assert_eq!(
        triggers[0].2.as_deref(),
        Some("validation failed: recall 0.71 is below 0.80")
    );
    scene.set_clock(at(26)).await;
    assert_eq!(declined(&scene.said_after(2).await[1]), DeclineReason::Cooldown);
    replica.stop().await;
}

#[tokio::test]
async fn a_refused_promotion_ends_the_training_and_frees_the_model() {
    let scene = Scene::new(72_000).await;
    let replica = scene.start().await;
    scene.set_clock(at(2)).await;
    let decision = requested(&scene.said_after(1).await[0]);
    scene.publish("trained", trained(decision, 2, "v1")).await;
    scene
        .publish("passed", validated(decision, 2, "v1", ValidationVerdict::Passed))
        .await;
    let refused = PromotionRefused {
        version: version("v1"),
        champion: None,
        decision_id: decision,
        as_of: at(2),
        reason: PromotionRefusal::Artifact,
        detail: "one byte differs".to_owned(),
    };
    let id = scene.publish("refused", refused).await;
    scene.handled(id).await;
    let triggers = scene.triggers().await;
    assert_eq!(triggers[0].0, "failed");
    assert_eq!(
        triggers[0].2.as_deref(),
        Some("promotion refused: one byte differs")
    );
    // Free again: an operator need not wait for the training to be given up.
    scene.publish("asked", asked(3, true)).await;
    requested(&scene.said_after(2).await[1]);
    replica.stop().await;
}

#[tokio::test]
async fn an_operator_is_answered_and_force_skips_the_rests() {
    let scene = Scene::new(100).await;
    let replica = scene.start().await;
    champion(&scene, 2).await;
    scene.publish("ask", asked(3, false)).await;
    assert_eq!(declined(&scene.said_after(2).await[1]), DeclineReason::Cooldown);
    let forced = scene.publish("insist", asked(3, true)).await;
    let said = scene.said_after(3).await;
    requested(&said[2]);
    assert_eq!(said[2].attributes.causation_id, Some(forced));
    replica.stop().await;
}

#[tokio::test]
async fn bad_messages_are_parked_and_the_flow_goes_on() {
    let scene = Scene::new(100).await;
    let replica = scene.start().await;
    let mut dead = scene.subscribe("dead.>").await;
    scene
        .publish_raw(
            "drift.detected",
            async_nats::HeaderMap::new(),
            b"not an event".to_vec(),
        )
        .await;
    assert_eq!(
        service_bench::next(&mut dead).await.subject.as_str(),
        "dead.retrain-decider.undecodable"
    );
    let stranger = ModelName::new("nobody-knows-me").unwrap();
    scene
        .bench
        .publish("stranger", &stranger, drift(3, DriftSeverity::High, "v1"))
        .await;
    assert_eq!(
        service_bench::next(&mut dead).await.subject.as_str(),
        "dead.retrain-decider.unknown_model"
    );
    scene.set_clock(at(2)).await;
    requested(&scene.said_after(1).await[0]);
    let (parked,): (i64,) =
        sqlx::query_as("select count(*) from retrain_decider.dead_letter where state = 'parked'")
            .fetch_one(&scene.pool)
            .await
            .unwrap();
    assert_eq!(parked, 2);
    replica.stop().await;
}

#[tokio::test]
async fn the_documents_query_works_as_written() {
    let scene = Scene::new(100).await;
    let replica = scene.start().await;
    champion(&scene, 2).await;
    let rows = sqlx::query("SELECT * FROM retraining_triggers ORDER BY triggered_at DESC LIMIT 5")
        .fetch_all(&scene.pool)
        .await
        .unwrap();
    assert_eq!(rows.len(), 1);
    let tasks: Vec<(String,)> = sqlx::query_as("select task_id from airflow_task_metrics order by task_id")
        .fetch_all(&scene.pool)
        .await
        .unwrap();
    let tasks: Vec<&str> = tasks.iter().map(|(task,)| task.as_str()).collect();
    assert_eq!(tasks, ["check_should_retrain", "decide_training_branch"]);
    replica.stop().await;
}

#[tokio::test]
async fn new_rows_are_counted_where_the_settings_say_and_not_as_the_service() {
    let scene = Scene::new(10).await;
    let bank = scene.move_payments_away(72_000).await;
    let replica = scene
        .start_with(&format!("[transactions]\nurl = \"{bank}\"\n"))
        .await;
    champion(&scene, 2).await;
    scene
        .publish("drift/60", drift(60, DriftSeverity::High, "v1"))
        .await;
    requested(&scene.said_after(2).await[1]);
    replica.stop().await;
}

#[tokio::test]
async fn the_end_of_a_training_is_taken_in_though_nobody_can_count_rows() {
    let scene = Scene::new(10).await;
    let bank = scene.move_payments_away(10).await;
    let replica = scene
        .start_with(&format!("[transactions]\nurl = \"{bank}\"\n"))
        .await;
    scene.set_clock(at(2)).await;
    let decision = requested(&scene.said_after(1).await[0]);
    scene.publish("trained/v1", trained(decision, 2, "v1")).await;
    // It waits for the training to end.
    let waits = scene
        .publish("drift/3", drift(3, DriftSeverity::High, "v1"))
        .await;
    scene.handled(waits).await;
    let name = bank.rsplit('/').next().expect("a database");
    scene.run(&format!("drop database {name} with (force)")).await;
    let id = scene.publish("promoted/v1", promoted(decision, 2, "v1", 1)).await;
    scene.handled(id).await;
    assert_eq!(scene.triggers().await[0].0, "completed");
    replica.stop().await;
}
