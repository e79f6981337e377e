//! Promotions: once, never over a newer one, and only the bytes that were validated.

use chassis::redrive::{Because, Decision, decide, find};
use schemas::events::{PromotionRefusal, ValidationVerdict};
use trainer_bridge::store::champion;

use crate::scene::{QUICK, Scene, day, validated, with_other_digest};

#[tokio::test]
async fn a_validation_said_twice_promotes_once() {
    let scene = Scene::new(QUICK).await;
    let replica = scene.start().await;
    scene.request("one", day(30)).await;
    let trained = scene.trained(1).await;
    for again in 0..3 {
        // Fresh event ids: the inbox does not see that they are the same.
        let id = scene
            .publish(
                &format!("validated {again}"),
                validated(&trained, ValidationVerdict::Passed),
            )
            .await;
        scene.handled(id).await;
    }
    scene.promoted(1).await;
    scene
        .until("select state from trainer_bridge.promotion", "promoted")
        .await;
    assert_eq!(
        scene.count("select count(*) from trainer_bridge.promotion").await,
        1
    );
    assert_eq!(scene.said_of(schemas::EventKind::ModelPromoted).await.len(), 1);
    replica.stop().await;
}

#[tokio::test]
async fn champions_follow_each_other_and_a_stale_one_is_refused() {
    let scene = Scene::new(QUICK).await;
    let replica = scene.start().await;
    for (decision, as_of) in [("one", 28), ("two", 30), ("three", 32)] {
        // One after the other: the order of acceptance is the order of the fences.
        let request = scene.request(decision, day(as_of)).await;
        scene.handled(request).await;
    }
    let mut by_day = Vec::new();
    for count in 1..=3 {
        by_day.push(scene.trained(count).await);
    }
    by_day.sort_by_key(|trained| trained.as_of);
    let [first, second, third] = &by_day[..] else {
        panic!("three candidates")
    };

    scene
        .publish("first", validated(first, ValidationVerdict::Passed))
        .await;
    assert_eq!(scene.promoted(1).await.version, first.version);
    scene
        .publish("third", validated(third, ValidationVerdict::Passed))
        .await;
    let promoted = scene.promoted(2).await;
    assert_eq!(
        (promoted.version, promoted.previous),
        (third.version.clone(), Some(first.version.clone()))
    );
    assert!(promoted.fence > 1);
    let champions =
        "select string_agg(version, ',') from public.model_versions where deployment_status = 'production'";
    assert_eq!(
        scene.text(champions).await.as_deref(),
        Some(third.version.as_str())
    );

    // The validation of an older decision arrives last.
    scene
        .publish("second", validated(second, ValidationVerdict::Passed))
        .await;
    let refused = "select reason from trainer_bridge.promotion where state = 'refused'";
    service_bench::eventually("the refusal", async || scene.text(refused).await).await;
    let reason = scene.text(refused).await.unwrap();
    assert!(
        reason.contains("stale") && reason.contains(third.version.as_str()),
        "{reason}"
    );
    assert_eq!(
        scene.text(champions).await.as_deref(),
        Some(third.version.as_str())
    );
    assert_eq!(scene.said_of(schemas::EventKind::ModelPromoted).await.len(), 2);
    let told = scene.refused(1).await;
    assert_eq!(
        (told.reason, told.champion),
        (PromotionRefusal::Superseded, Some(third.version.clone()))
    );
    let retired = "select count(*) from public.model_versions where deployment_status = 'retired' and retired_at is not null";
    assert_eq!(scene.count(retired).await, 2);
    replica.stop().await;

    // Who was champion when is on record, and without the record the registry's table says the same of who and what.
    let announced = scene.said_of(schemas::EventKind::ModelPromoted).await;
    let reigns = champion::reigns(&scene.pool, None).await.unwrap();
    let told: Vec<_> = reigns
        .iter()
        .map(|reign| {
            (
                reign.version.as_str(),
                reign.sha256.as_str(),
                reign.promotion_event_id,
            )
        })
        .collect();
    let expected: Vec<_> = [first, third]
        .into_iter()
        .zip(&announced)
        .map(|(trained, event)| {
            let sha256 = trained.artifact.sha256.as_str();
            (trained.version.as_str(), sha256, event.attributes.id)
        })
        .collect();
    assert_eq!(told, expected);
    assert_eq!(
        (reigns[0].until, reigns[1].until),
        (Some(reigns[1].effective_from), None)
    );
    assert!(reigns.iter().all(|reign| reign.on_record
        && reign.registered_sha256.as_deref() == Some(reign.sha256.as_str())));
    scene
        .run(
            "alter table trainer_bridge.event_log disable trigger user; delete from trainer_bridge.event_log",
        )
        .await;
    let from_table = champion::reigns(&scene.pool, None).await.unwrap();
    let of_table: Vec<_> = from_table
        .iter()
        .map(|reign| {
            (
                reign.version.as_str(),
                reign.sha256.as_str(),
                reign.promotion_event_id,
            )
        })
        .collect();
    assert_eq!(of_table, expected);
    assert!(from_table.iter().all(|reign| !reign.on_record));
}

#[tokio::test]
async fn one_byte_swapped_between_validation_and_promotion_is_refused() {
    let scene = Scene::new(QUICK).await;
    let replica = scene.start().await;
    scene.request("one", day(30)).await;
    let trained = scene.trained(1).await;
    let path = url::Url::parse(&trained.artifact.uri)
        .unwrap()
        .to_file_path()
        .unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let last_digit = bytes.iter().rposition(u8::is_ascii_digit).unwrap();
    bytes[last_digit] = if bytes[last_digit] == b'1' { b'2' } else { b'1' };
    std::fs::write(&path, &bytes).unwrap();

    scene
        .publish("validated", validated(&trained, ValidationVerdict::Passed))
        .await;
    scene
        .until("select state from trainer_bridge.promotion", "refused")
        .await;
    let reason = scene
        .text("select reason from trainer_bridge.promotion")
        .await
        .unwrap();
    assert!(reason.contains(trained.artifact.sha256.as_str()), "{reason}");
    assert!(reason.contains(scoring::digest_of(&bytes).as_str()), "{reason}");
    assert_eq!(scene.said_of(schemas::EventKind::ModelPromoted).await.len(), 0);
    let told = scene.refused(1).await;
    assert_eq!(
        (told.version, told.decision_id, told.reason, told.detail),
        (
            trained.version.clone(),
            trained.decision_id,
            PromotionRefusal::Artifact,
            reason
        )
    );
    assert_eq!(told.champion, None);
    scene
        .until("select deployment_status from public.model_versions", "retired")
        .await;
    let task = "select status from public.airflow_task_metrics where task_id = 'register'";
    assert_eq!(scene.text(task).await.as_deref(), Some("failed"));
    replica.stop().await;
}

#[tokio::test]
async fn a_validation_of_other_bytes_promotes_nothing() {
    let scene = Scene::new(QUICK).await;
    let replica = scene.start().await;
    scene.request("one", day(30)).await;
    let trained = scene.trained(1).await;
    let mut other = validated(&trained, ValidationVerdict::Passed);
    other.artifact = with_other_digest(&trained.artifact);
    scene.publish("validated", other).await;
    scene
        .until("select state from trainer_bridge.promotion", "refused")
        .await;
    let reason = scene
        .text("select reason from trainer_bridge.promotion")
        .await
        .unwrap();
    assert!(
        reason.contains("trained were") && reason.contains(trained.artifact.sha256.as_str()),
        "{reason}"
    );
    replica.stop().await;
}

#[tokio::test]
async fn a_failed_candidate_is_retired_with_its_figures_and_reasons() {
    let scene = Scene::new(QUICK).await;
    let replica = scene.start().await;
    scene.request("one", day(30)).await;
    let trained = scene.trained(1).await;
    let id = scene
        .publish("validated", validated(&trained, ValidationVerdict::Failed))
        .await;
    scene.handled(id).await;
    let row = "select concat_ws('|', deployment_status, notes, recall) from public.model_versions";
    assert_eq!(
        scene.text(row).await.as_deref(),
        Some("retired|recall 0.41 is below 0.80|0.875")
    );
    assert_eq!(
        scene.count("select count(*) from trainer_bridge.promotion").await,
        0
    );
    replica.stop().await;
}

#[tokio::test]
async fn an_intent_left_by_a_crash_is_resolved_by_whoever_comes_next() {
    let scene = Scene::new(QUICK).await;
    let first = scene.start().await;
    scene.request("one", day(30)).await;
    let trained = scene.trained(1).await;
    first.kill().await;
    // As a process left it that died while it held the lease.
    let body = serde_json::to_value(validated(&trained, ValidationVerdict::Passed)).unwrap();
    sqlx::query(
        "insert into trainer_bridge.promotion (promotion_id, model, version, decision_id, fence, validated, deadline, \
         owner, lease_until, next_try_at, cause_event_id, correlation_id) \
         select gen_random_uuid(), model, version, decision_id, fence, $1, clock_timestamp() + interval '1 hour', \
         gen_random_uuid(), clock_timestamp() + interval '2 seconds', clock_timestamp(), gen_random_uuid(), \
         gen_random_uuid() from trainer_bridge.model_version",
    )
    .bind(body)
    .execute(&scene.pool)
    .await
    .unwrap();
    let second = scene.start().await;
    assert_eq!(scene.promoted(1).await.version, trained.version);
    second.stop().await;
}

#[tokio::test]
async fn a_validation_of_an_unknown_version_is_parked() {
    let scene = Scene::new(QUICK).await;
    let replica = scene.start().await;
    scene.request("one", day(30)).await;
    let mut unknown = validated(&scene.trained(1).await, ValidationVerdict::Passed);
    unknown.version = crate::scene::version("never-trained");
    scene.publish("validated", unknown).await;
    let letter = "select reason from trainer_bridge.dead_letter";
    service_bench::eventually("the dead letter", async || scene.text(letter).await).await;
    assert!(
        scene
            .text(letter)
            .await
            .unwrap()
            .contains("no version `never-trained`")
    );
    replica.stop().await;
}

#[tokio::test]
async fn a_request_that_was_given_up_is_trained_when_it_is_offered_again() {
    let scene = Scene::new(QUICK).await;
    // The model has another name in the settings.
    let replica = scene.start_as("fraud-transfers").await;
    let request = scene.request("one", day(30)).await;
    let failed = scene.failed(1).await;
    assert!(
        failed
            .detail
            .contains("model `fraud-cards` is not in the settings"),
        "{}",
        failed.detail
    );
    replica.stop().await;

    let replica = scene.start().await;
    let letter = find(&scene.pool, request.uuid()).await.unwrap().remove(0);
    let because = Because {
        by: "cli:ana",
        why: "the model is in the settings now",
    };
    decide(&scene.pool, letter.dead_letter_id, Decision::Redrive, because)
        .await
        .unwrap();
    let trained = scene.trained(1).await;
    assert_eq!(trained.decision_id, failed.decision_id);
    assert_eq!(scene.said_of(schemas::EventKind::TrainingFailed).await.len(), 1);
    replica.stop().await;
}

#[tokio::test]
async fn a_candidate_that_nobody_could_judge_is_promoted_once_somebody_did() {
    let scene = Scene::new(QUICK).await;
    let replica = scene.start().await;
    scene.request("one", day(30)).await;
    let trained = scene.trained(1).await;
    // The validator gave up on it, a person offered it again, and then it passed.
    let given_up = scene
        .publish("given up", validated(&trained, ValidationVerdict::Failed))
        .await;
    scene.handled(given_up).await;
    let status = "select deployment_status from public.model_versions";
    assert_eq!(scene.text(status).await.as_deref(), Some("retired"));
    scene
        .publish("passed", validated(&trained, ValidationVerdict::Passed))
        .await;
    assert_eq!(scene.promoted(1).await.version, trained.version);
    scene.until(status, "production").await;
    replica.stop().await;
}
