//! The same history gives the same decisions, whatever happened on the way.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use schemas::events::{DriftSeverity, ValidationVerdict};
use schemas::{DecisionId, Event, EventId, Received};

use crate::scene::{Scene, asked, drift, failed, promoted, started, trained, validated};

const STEPS: i64 = 40;

/// What the world tells the decider next; news of a training is about the latest that was requested.
fn draw(rng: &mut StdRng, hour: i64, latest: Option<DecisionId>) -> Event {
    let severity = [
        DriftSeverity::AlertOnly,
        DriftSeverity::Medium,
        DriftSeverity::High,
        DriftSeverity::Immediate,
    ][rng.random_range(0..4)];
    let champion = ["v1", "v2"][rng.random_range(0..2)];
    let verdict = [ValidationVerdict::Passed, ValidationVerdict::Failed][rng.random_range(0..2)];
    let candidate = format!("v{hour}");
    match (rng.random_range(0..9), latest) {
        (0, _) => asked(hour, rng.random_bool(0.5)).into(),
        (1, Some(decision)) => started(decision, hour).into(),
        (2, Some(decision)) => trained(decision, hour, &candidate).into(),
        (3, Some(decision)) => validated(decision, hour, &candidate, verdict).into(),
        (4, Some(decision)) => promoted(decision, hour, &candidate, hour.unsigned_abs()).into(),
        (5, Some(decision)) => failed(decision, hour).into(),
        _ => drift(hour, severity, champion).into(),
    }
}

async fn tell(scene: &Scene, name: &str, event: Event) -> EventId {
    match event {
        Event::RetrainAsked(body) => scene.publish(name, body).await,
        Event::TrainingStarted(body) => scene.publish(name, body).await,
        Event::ModelTrained(body) => scene.publish(name, body).await,
        Event::ModelValidated(body) => scene.publish(name, body).await,
        Event::ModelPromoted(body) => scene.publish(name, body).await,
        Event::TrainingFailed(body) => scene.publish(name, body).await,
        Event::DriftDetected(body) => scene.publish(name, body).await,
        other => panic!("{} is not told here", other.kind()),
    }
}

/// Everything but the instant of writing, byte for byte.
fn decisions(said: &[Received]) -> Vec<(String, String)> {
    let shown = |received: &Received| {
        let body = String::from_utf8(received.event.to_json().expect("JSON")).expect("text");
        (received.attributes.id.to_string(), body)
    };
    said.iter().map(shown).collect()
}

async fn triggers(scene: &Scene) -> Option<String> {
    let rows = "select string_agg(row_to_json(t)::text, E'\\n' order by triggered_at, decision_id) from (select decision_id, \
                triggered_at, status, priority, trigger_kind, declined_reason, completed_at, rules, counterfactuals, policy, cause, \
                error_message, new_model_version from retrain_decider.trigger) t";
    scene.text(rows).await
}

#[tokio::test]
async fn the_same_history_gives_the_same_decisions_whatever_happened_on_the_way() {
    for seed in [1, 2] {
        let mut rng = StdRng::seed_from_u64(seed);
        let scene = Scene::new(60_000).await;
        let replica = scene.start().await;
        let mut history: Vec<Event> = Vec::new();
        for step in 0..STEPS {
            let said = scene.recorded().await;
            let latest = said.iter().rev().find_map(|received| match &received.event {
                Event::RetrainRequested(requested) => Some(requested.decision_id),
                _ => None,
            });
            let event = draw(&mut rng, 3 * step, latest);
            history.push(event.clone());
            let id = tell(&scene, &format!("step {step}"), event).await;
            scene.handled(id).await;
        }
        let first = (decisions(&scene.recorded().await), triggers(&scene).await);
        replica.stop().await;
        assert!(
            first.0.len() > 10,
            "seed {seed}: only {} decisions",
            first.0.len()
        );

        // Once more from the beginning, each twice, and killed now and then.
        let scene = Scene::new(60_000).await;
        let mut replica = scene.start().await;
        for (step, event) in history.into_iter().enumerate() {
            let name = format!("step {step}");
            let id = tell(&scene, &name, event.clone()).await;
            if rng.random_bool(0.05) {
                replica.kill().await;
                replica = scene.start().await;
            }
            scene.handled(id).await;
            tell(&scene, &name, event).await;
        }
        let again = (decisions(&scene.recorded().await), triggers(&scene).await);
        replica.stop().await;
        for (one, other) in first.0.iter().zip(&again.0) {
            assert_eq!(one, other, "seed {seed}");
        }
        assert_eq!(first, again, "seed {seed}");
    }
}
