//! Trainings in this process: the whole way to a champion, and what a crash leaves behind.

use schemas::events::{TrainingFailure, ValidationVerdict};
use schemas::{EventKind, ModelName};
use scoring::{Column, Rows};

use crate::scene::{QUICK, Scene, TRACE, day, validated};

#[tokio::test]
async fn a_request_becomes_a_champion_with_one_trace_and_rows_for_people() {
    let scene = Scene::new(QUICK).await;
    let replica = scene.start().await;
    let request = scene.request("one", day(30)).await;

    let started = scene.started(1).await;
    assert_eq!(
        (started.backend.as_str(), started.attempt, started.run_id),
        ("local", 1, None)
    );
    let trained = scene.trained(1).await;
    // Labels are ripe until day 29: four days for the validator, three to choose on, fourteen to train on.
    assert_eq!(
        (trained.holdout_window.start(), trained.holdout_window.end()),
        (day(25), day(29))
    );
    assert_eq!(
        (trained.threshold_window.start(), trained.threshold_window.end()),
        (day(22), day(25))
    );
    assert_eq!(
        (trained.training_window.start(), trained.training_window.end()),
        (day(8), day(22))
    );
    assert_eq!(trained.training_rows, 14 * 200);
    assert_eq!(trained.algorithm, "random_forest");
    let trained_event = scene.heard(EventKind::ModelTrained, 1).await;
    assert_eq!(trained_event.attributes.causation_id, Some(request));
    assert_eq!(trained_event.attributes.trace.trace_id(), Some(&TRACE[3..35]));

    // The artefact is there, is what it says, and finds the fraud.
    let path = url::Url::parse(&trained.artifact.uri)
        .unwrap()
        .to_file_path()
        .unwrap();
    let model = scoring::load(&std::fs::read(path).unwrap(), &trained.artifact.sha256).unwrap();
    let country = [Some("FR".to_owned()), Some("FR".to_owned())];
    let rows = Rows::new(2)
        .with("tx_amount", Column::Numeric(&[50.0, 10.0]))
        .and_then(|rows| rows.with("pace", Column::Numeric(&[0.5, 0.1])))
        .and_then(|rows| rows.with("country", Column::Text(&country)))
        .unwrap();
    let scores = model.score_rows(&rows).unwrap();
    assert!(
        scores[0] >= model.operating_threshold() && scores[1] < model.operating_threshold(),
        "{scores:?}"
    );
    assert_eq!(
        scene
            .text("select deployment_status from public.model_versions")
            .await
            .as_deref(),
        Some("trained")
    );

    let validation = scene
        .publish("validated", validated(&trained, ValidationVerdict::Passed))
        .await;
    let promoted = scene.promoted(1).await;
    assert_eq!(promoted.version, trained.version);
    assert_eq!(
        (promoted.previous, promoted.fence, promoted.registry.as_str()),
        (None, 1, "embedded")
    );
    assert_eq!(promoted.artifact, trained.artifact);
    assert_eq!(promoted.training_window, trained.training_window);
    assert_eq!(promoted.validated_recall.get(), 0.875);
    assert_eq!(
        promoted.score_counts,
        validated(&trained, ValidationVerdict::Passed).score_counts,
        "what a score stands for goes with the version"
    );
    let promoted_event = scene.heard(EventKind::ModelPromoted, 1).await;
    assert_eq!(promoted_event.attributes.causation_id, Some(validation));
    assert_eq!(promoted_event.attributes.trace.trace_id(), Some(&TRACE[3..35]));

    scene
        .until(
            "select deployment_status from public.model_versions",
            "production",
        )
        .await;
    let people = "select concat_ws(' ', version, recall, precision, f1_score, auc_roc, false_positive_rate, \
                  training_dataset_size, deployed_at::date) from public.model_versions";
    let expected = format!("{} 0.875 0.875 0.875 0.97 0.005 2800 2026-03-31", trained.version);
    assert_eq!(scene.text(people).await, Some(expected));
    let tasks = "select string_agg(dag_id || '/' || task_id || '/' || status, ' ' order by task_id) \
                 from public.airflow_task_metrics";
    assert_eq!(
        scene.text(tasks).await.as_deref(),
        Some(
            "01_training_pipeline/load_training_data/success 01_training_pipeline/register/success \
             01_training_pipeline/train_local/success"
        )
    );
    replica.stop().await;
}

#[tokio::test]
async fn a_decision_is_trained_once_however_often_it_is_asked() {
    let scene = Scene::new(QUICK).await;
    let replica = scene.start().await;
    for again in 0..3 {
        // Fresh event ids: the inbox does not see that they are the same decision.
        let body = crate::scene::requested("one", day(30));
        let id = scene.publish(&format!("request {again}"), body).await;
        scene.handled(id).await;
    }
    scene.trained(1).await;
    scene
        .until(
            "select count(*)::text from trainer_bridge.training_job where state = 'reported'",
            "1",
        )
        .await;
    assert_eq!(
        scene
            .count("select count(*) from trainer_bridge.training_job")
            .await,
        1
    );
    assert_eq!(
        scene
            .count("select count(*) from trainer_bridge.model_version")
            .await,
        1
    );
    assert_eq!(scene.said_of(EventKind::ModelTrained).await.len(), 1);
    replica.stop().await;
}

#[tokio::test]
async fn a_training_killed_in_the_middle_is_run_again_by_another_process_and_gives_the_same_model() {
    let slow = QUICK
        .replace("trees = 20", "trees = 500")
        .replace("lease = \"1s\"", "lease = \"1s\"\nthreads = 1");
    let scene = Scene::new(&slow).await;
    let mut first = scene.start_process().await;
    scene.request("one", day(30)).await;
    // The first look begins the work, and its end is seen by the second at the earliest.
    let begun = "select state from trainer_bridge.training_job where progress is not null";
    scene.until(begun, "running").await;
    first.kill();
    assert_eq!(
        scene.said_of(EventKind::ModelTrained).await.len(),
        0,
        "it was killed too late to prove anything"
    );

    let second = scene.start().await;
    let resumed = scene.trained(1).await;
    assert_eq!(
        scene.said_of(EventKind::TrainingStarted).await.len(),
        1,
        "the attempt is the same one"
    );
    // The same rows, plan and seed without any crash.
    scene.request("two", day(30)).await;
    let undisturbed = scene.trained(2).await;
    assert_eq!(resumed.artifact.sha256, undisturbed.artifact.sha256);
    assert_ne!(resumed.version, undisturbed.version);
    let trace = scene.heard(EventKind::ModelTrained, 1).await.attributes.trace;
    assert_eq!(
        trace.trace_id(),
        Some(&TRACE[3..35]),
        "the trace goes on after the restart"
    );
    second.stop().await;
}

#[tokio::test]
async fn two_replicas_train_a_job_once() {
    let scene = Scene::new(QUICK).await;
    let (one, two) = (scene.start().await, scene.start().await);
    for decision in ["one", "two", "three"] {
        scene.request(decision, day(30)).await;
    }
    scene.trained(3).await;
    for kind in [EventKind::TrainingStarted, EventKind::ModelTrained] {
        assert_eq!(scene.said_of(kind).await.len(), 3, "{kind}");
    }
    assert_eq!(
        scene
            .count("select count(*) from trainer_bridge.training_job where attempt <> 1")
            .await,
        0
    );
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn trainings_of_one_model_go_one_after_the_other() {
    let scene = Scene::new(QUICK).await;
    let replica = scene.start().await;
    for decision in ["one", "two", "three"] {
        scene.request(decision, day(30)).await;
    }
    scene.trained(3).await;
    let overlaps = "select count(*) from trainer_bridge.training_job a join trainer_bridge.training_job b \
                    on b.fence > a.fence and b.started_at < a.reported_at";
    assert_eq!(scene.count(overlaps).await, 0);
    replica.stop().await;
}

#[tokio::test]
async fn a_request_that_is_parked_is_a_training_that_failed() {
    let scene = Scene::new(QUICK).await;
    let replica = scene.start().await;
    let stranger = ModelName::new("stranger").unwrap();
    let body = crate::scene::requested("strange", day(30));
    let decision = body.decision_id;
    scene.bench.publish("strange", &stranger, body).await;
    let failed = scene.failed(1).await;
    assert_eq!(
        (failed.decision_id, failed.failure),
        (decision, TrainingFailure::Refused)
    );
    assert!(failed.detail.contains("not in the settings"), "{}", failed.detail);
    replica.stop().await;
}

#[tokio::test]
async fn a_short_history_shrinks_the_slices_and_none_at_all_is_a_failure_with_its_reason() {
    let scene = Scene::new(QUICK).await;
    let replica = scene.start().await;
    scene.request("young", day(14)).await;
    let trained = scene.trained(1).await;
    assert_eq!(trained.training_window.start(), day(0));
    assert_eq!(
        (trained.threshold_window.start(), trained.threshold_window.end()),
        (day(9), day(11))
    );
    assert_eq!(
        (trained.holdout_window.start(), trained.holdout_window.end()),
        (day(11), day(13))
    );

    scene.request("too young", day(4)).await;
    let failed = scene.failed(1).await;
    assert_eq!(failed.failure, TrainingFailure::DataInsufficient);
    assert!(
        failed.detail.contains("nothing is left to train on"),
        "{}",
        failed.detail
    );
    replica.stop().await;
}

#[tokio::test]
async fn rows_whose_label_was_not_known_at_the_instant_are_not_trained_on() {
    let scene = Scene::new(QUICK).await;
    let replica = scene.start().await;
    // Half of the training span got its label only after the instant asked about.
    sqlx::query("update bank.payment set labelled_at = $1 where tx_time >= $2 and tx_time < $3")
        .bind(day(31))
        .bind(day(8))
        .bind(day(15))
        .execute(&scene.pool)
        .await
        .unwrap();
    scene.request("one", day(30)).await;
    assert_eq!(scene.trained(1).await.training_rows, 7 * 200);
    replica.stop().await;
}

#[tokio::test]
async fn too_few_frauds_and_a_missing_column_fail_with_their_reasons() {
    let scene = Scene::new(&QUICK.replace("frauds_min = 10", "frauds_min = 100000")).await;
    let replica = scene.start().await;
    scene.request("one", day(30)).await;
    let failed = scene.failed(1).await;
    assert_eq!(
        (failed.failure, failed.attempts),
        (TrainingFailure::DataInsufficient, 1)
    );
    assert!(
        failed.detail.contains("fraud rows, 100000 are needed"),
        "{}",
        failed.detail
    );

    sqlx::query("alter table bank.payment rename column pace to speed")
        .execute(&scene.pool)
        .await
        .unwrap();
    scene.request("two", day(30)).await;
    let failed = scene.failed(2).await;
    assert_eq!(failed.failure, TrainingFailure::DataInsufficient);
    assert!(failed.detail.contains("`pace`"), "{}", failed.detail);
    let task = "select string_agg(distinct task_id || ' ' || status, ',') from public.airflow_task_metrics";
    assert_eq!(scene.text(task).await.as_deref(), Some("train_local failed"));
    replica.stop().await;
}

#[tokio::test]
async fn a_source_that_is_away_is_waited_for_and_the_deadline_ends_the_waiting() {
    let settings = QUICK.replace("lease", "deadline = \"3s\"\nlease");
    let scene = Scene::new(&format!("{settings}[transactions]\nstatement_timeout = \"1s\"\n")).await;
    let replica = scene.start().await;
    // A lock on the table: the query runs into its time limit, which is no fault of the settings.
    let mut lock = scene.pool.begin().await.unwrap();
    sqlx::query("lock table bank.payment in access exclusive mode")
        .execute(&mut *lock)
        .await
        .unwrap();
    scene.request("one", day(30)).await;
    let failed = scene.failed(1).await;
    assert_eq!(failed.failure, TrainingFailure::TimedOut, "{}", failed.detail);
    let error = scene
        .text("select last_error from trainer_bridge.training_job")
        .await;
    assert!(
        error.is_some_and(|error| error.contains("statement_timeout")),
        "why it waited is kept"
    );
    lock.rollback().await.unwrap();
    replica.stop().await;
}
