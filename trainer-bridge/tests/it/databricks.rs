//! Trainings on Databricks: one run per attempt, whatever is lost on the way.

use std::collections::{BTreeMap, HashMap};

use local_stack::hostile::NAMES;
use local_stack::peers::databricks::{Call, Databricks, Dialect, Fault, Outcome, RunPlan, RunState};
use schemas::EventKind;
use schemas::events::TrainingFailure;
use scoring::{Body, Encoding, FORMAT, Feature, Logistic, ModelArtifact, digest_of};

use service_bench::eventually;

use crate::scene::{Scene, day, model};
use crate::tracking_stub::{Logged, TrackingStub};

/// What the notebook would write for a training as of day 30.
fn document() -> ModelArtifact {
    ModelArtifact {
        format: FORMAT.to_owned(),
        model: model(),
        algorithm: "spark_logistic_regression".to_owned(),
        created: day(30),
        seed: 42,
        training_window: schemas::Window::new(day(8), day(22)).unwrap(),
        operating_threshold: 0.4,
        features: vec![Feature {
            name: "tx_amount".to_owned(),
            encoding: Encoding::Numeric {
                impute: 1.0,
                standardise: None,
            },
        }],
        body: Body::Logistic(Logistic {
            intercept: -1.0,
            coefficients: vec![0.1],
        }),
        notes: BTreeMap::new(),
    }
}

fn logged(document: &ModelArtifact) -> Logged {
    let bytes = document.to_bytes().unwrap();
    Logged {
        tags: HashMap::from([
            ("vigie.artifact".to_owned(), "model/model.json".to_owned()),
            ("vigie.sha256".to_owned(), digest_of(&bytes).to_string()),
        ]),
        metrics: HashMap::from([
            ("training_rows".to_owned(), 2_800.0),
            ("training_frauds".to_owned(), 112.0),
            ("threshold.average_precision".to_owned(), 0.93),
        ]),
        files: HashMap::from([("model/model.json".to_owned(), bytes)]),
        late: 0,
    }
}

struct Workspace {
    databricks: Databricks,
    scene: Scene,
    _tracking: TrackingStub,
}

impl Workspace {
    async fn new(more_training: &str, more_databricks: &str, logged: Logged) -> Self {
        chassis::install_crypto();
        let databricks = Databricks::start().await.unwrap();
        let tracking = TrackingStub::start(logged).await;
        // Results are read from the tracking server, models are registered in the embedded registry: two servers.
        let settings = format!(
            "[training]\nbackend = \"databricks\"\nlease = \"1s\"\n{more_training}\n\
             [databricks]\nhost = {:?}\ntoken = {:?}\npoll_first = \"100ms\"\npoll_longest = \"200ms\"\ntimeout = \"5s\"\n\
             tracking_uri = {:?}\n{more_databricks}",
            databricks.url(),
            databricks.token(),
            tracking.url,
        );
        let scene = Scene::new(&settings).await;
        Self {
            databricks,
            scene,
            _tracking: tracking,
        }
    }

    async fn with_notebook(more_training: &str) -> Self {
        let notebook = "notebook_path = \"/Shared/vigie/train\"\n";
        Self::new(more_training, notebook, logged(&document())).await
    }
}

#[tokio::test]
async fn a_notebook_run_becomes_a_candidate_with_everything_it_logged() {
    let workspace = Workspace::with_notebook("").await;
    let scene = &workspace.scene;
    let replica = scene.start().await;
    scene.request("one", day(30)).await;
    let trained = scene.trained(1).await;
    assert_eq!(trained.backend, "databricks");
    assert_eq!(trained.algorithm, "spark_logistic_regression");
    assert_eq!((trained.training_rows, trained.training_frauds), (2_800, 112));
    assert_eq!(trained.operating_threshold.get(), 0.4);
    assert_eq!(trained.mlflow_run_id.as_deref(), Some("abc123"));
    let reported = &trained.reported[0];
    assert_eq!(
        (
            reported.slice.as_str(),
            reported.name.as_str(),
            reported.value.get()
        ),
        ("threshold", "average_precision", 0.93)
    );
    assert!(
        trained
            .artifact
            .uri
            .starts_with(url::Url::from_directory_path(scene.artifacts()).unwrap().as_str())
    );

    let runs = workspace.databricks.runs();
    assert_eq!(runs.len(), 1);
    assert_eq!(runs[0].token.as_deref().map(str::len), Some(64));
    let task = &runs[0].request["tasks"][0];
    assert_eq!(task["notebook_task"]["notebook_path"], "/Shared/vigie/train");
    let told = &task["notebook_task"]["base_parameters"];
    assert_eq!(told["vigie_token"].as_str(), runs[0].token.as_deref());
    assert_eq!(told["table"], "bank.payment");
    assert_eq!(told["training_start"], "2026-03-09T00:00:00Z");
    assert_eq!(told["holdout_start"], "2026-03-26T00:00:00Z");
    assert_eq!(told["features"], r#"["tx_amount","pace","country"]"#);
    let started = scene.started(1).await;
    assert_eq!(started.run_id, Some(runs[0].run_id.to_string()));
    assert!(
        started
            .run_url
            .is_some_and(|url| url.starts_with(&workspace.databricks.url()))
    );
    let task = "select task_id || ' ' || status from public.airflow_task_metrics";
    assert_eq!(
        scene.text(task).await.as_deref(),
        Some("train_databricks success")
    );
    replica.stop().await;
}

#[tokio::test]
async fn a_job_is_run_with_its_parameters() {
    let workspace = Workspace::new("", "job_id = 4711\n", logged(&document())).await;
    workspace.databricks.add_job(4711);
    let replica = workspace.scene.start().await;
    workspace.scene.request("one", day(30)).await;
    workspace.scene.trained(1).await;
    let runs = workspace.databricks.runs();
    assert_eq!((runs.len(), runs[0].job_id), (1, Some(4711)));
    assert_eq!(runs[0].request["job_parameters"]["model"], "fraud-cards");
    replica.stop().await;
}

#[tokio::test]
async fn killed_between_the_committed_token_and_the_call_there_is_one_run() {
    let workspace = Workspace::with_notebook("").await;
    let scene = &workspace.scene;
    // The call never arrives, as if the process had died before it.
    workspace
        .databricks
        .fail(Call::Submit, vec![Fault::RequestLost; 2]);
    let first = scene.start().await;
    scene.request("one", day(30)).await;
    eventually("a call that did not arrive", async || {
        (workspace.databricks.calls(Call::Submit) >= 1).then_some(())
    })
    .await;
    first.kill().await;
    let state = scene.text("select state from trainer_bridge.training_job").await;
    assert_eq!(state.as_deref(), Some("submitting"));
    let token = scene.text("select token from trainer_bridge.training_job").await;
    assert_eq!(workspace.databricks.runs().len(), 0);

    let second = scene.start().await;
    scene.trained(1).await;
    let runs = workspace.databricks.runs();
    assert_eq!((runs.len(), &runs[0].token), (1, &token));
    second.stop().await;
}

#[tokio::test]
async fn a_lost_answer_makes_no_second_run() {
    let workspace = Workspace::with_notebook("").await;
    let scene = &workspace.scene;
    workspace
        .databricks
        .fail(Call::Submit, [Fault::AnswerLost, Fault::AnswerLost]);
    let first = scene.start().await;
    scene.request("one", day(30)).await;
    eventually("a run whose answer was lost", async || {
        (workspace.databricks.runs().len() == 1).then_some(())
    })
    .await;
    // Killed besides: another process asks again.
    first.kill().await;
    let second = scene.start().await;
    scene.trained(1).await;
    assert_eq!(workspace.databricks.runs().len(), 1);
    assert!(
        workspace.databricks.calls(Call::Submit) >= 2,
        "the answer was never lost"
    );
    second.stop().await;
}

#[tokio::test]
async fn a_token_that_is_refused_after_a_lost_answer_loses_no_run() {
    let workspace = Workspace::with_notebook("retry_first = \"200ms\"\nretry_longest = \"1s\"\n").await;
    let refused = || Fault::Instead {
        status: 401,
        body: "{\"error_code\": \"UNAUTHENTICATED\", \"message\": \"Invalid access token.\"}".to_owned(),
    };
    workspace
        .databricks
        .fail(Call::Submit, [Fault::AnswerLost, refused(), refused()]);
    workspace.databricks.fail(Call::Get, [Fault::None, refused()]);
    let replica = workspace.scene.start().await;
    workspace.scene.request("one", day(30)).await;
    workspace.scene.trained(1).await;
    assert_eq!(workspace.databricks.runs().len(), 1);
    assert!(workspace.databricks.calls(Call::Submit) >= 4);
    replica.stop().await;
}

#[tokio::test]
async fn a_token_that_is_refused_after_a_death_loses_no_run() {
    let workspace = Workspace::with_notebook("").await;
    let scene = &workspace.scene;
    workspace.databricks.fail(Call::Submit, [Fault::AnswerLost]);
    let first = scene.start().await;
    scene.request("one", day(30)).await;
    eventually("a run that nobody has heard of", async || {
        (workspace.databricks.runs().len() == 1).then_some(())
    })
    .await;
    first.kill().await;
    // As if it had died before it could write anything down.
    scene
        .run("update trainer_bridge.training_job set retries = 0")
        .await;
    let refused = Fault::Instead {
        status: 401,
        body: "{\"error_code\": \"UNAUTHENTICATED\", \"message\": \"Invalid access token.\"}".to_owned(),
    };
    workspace.databricks.heal();
    workspace.databricks.fail(Call::Submit, [refused]);
    let second = scene.start().await;
    scene.trained(1).await;
    assert_eq!(workspace.databricks.runs().len(), 1);
    second.stop().await;
}

#[tokio::test]
async fn whatever_a_notebook_says_of_itself_its_training_ends() {
    let mut document = document();
    // What is longer is cut.
    document.algorithm = format!("nul \0 {}", NAMES.join(" "));
    document.notes = NAMES
        .iter()
        .map(|name| ((*name).to_owned(), (*name).to_owned()))
        .collect();
    let mut logged = logged(&document);
    for name in NAMES {
        logged.metrics.insert((*name).to_owned(), 0.5);
        logged.metrics.insert(format!("threshold.{name}"), 0.5);
        logged.tags.insert((*name).to_owned(), (*name).to_owned());
    }
    let workspace = Workspace::new("", "notebook_path = \"/Shared/vigie/train\"\n", logged).await;
    let replica = workspace.scene.start().await;
    workspace.scene.request("one", day(30)).await;
    let trained = workspace.scene.trained(1).await;
    assert!(!trained.algorithm.contains('\0'), "{}", trained.algorithm);
    let letters = workspace
        .scene
        .count("select count(*) from trainer_bridge.dead_letter")
        .await;
    assert_eq!(letters, 0);
    replica.stop().await;
}

#[tokio::test]
async fn limits_and_server_errors_are_waited_out() {
    let workspace = Workspace::with_notebook("").await;
    let limit = Fault::TooManyRequests {
        retry_after: Some("1".to_owned()),
    };
    workspace
        .databricks
        .fail(Call::Submit, [limit, Fault::ServerError, Fault::Unavailable]);
    let page = Fault::Instead {
        status: 200,
        body: "<html>a proxy's page</html>".to_owned(),
    };
    let cut = Fault::Instead {
        status: 200,
        body: "{\"run_id\": 4593".to_owned(),
    };
    workspace.databricks.fail(
        Call::Get,
        [Fault::None, Fault::ServerError, page, cut, Fault::AnswerLost],
    );
    let replica = workspace.scene.start().await;
    workspace.scene.request("one", day(30)).await;
    workspace.scene.trained(1).await;
    assert_eq!(workspace.databricks.runs().len(), 1);
    let error = workspace
        .scene
        .text("select last_error from trainer_bridge.training_job")
        .await;
    assert!(error.is_some(), "what went wrong is kept");
    replica.stop().await;
}

#[tokio::test]
async fn a_failed_run_is_a_failed_training_with_the_notebooks_own_words() {
    let workspace = Workspace::with_notebook("").await;
    let outcome = Outcome::new(
        "FAILED",
        "RUN_EXECUTION_ERROR",
        "CLIENT_ERROR",
        "KeyError: 'tx_amount'",
    );
    workspace.databricks.plan([RunPlan::fails(outcome)]);
    let replica = workspace.scene.start().await;
    workspace.scene.request("one", day(30)).await;
    let failed = workspace.scene.failed(1).await;
    assert_eq!((failed.failure, failed.attempts), (TrainingFailure::RunFailed, 1));
    assert!(
        failed.detail.contains("RUN_EXECUTION_ERROR") && failed.detail.contains("KeyError"),
        "{}",
        failed.detail
    );
    assert_eq!(
        failed.run_id,
        Some(workspace.databricks.runs()[0].run_id.to_string())
    );
    assert_eq!(
        workspace.databricks.runs().len(),
        1,
        "the notebook's own fault is not tried again"
    );
    assert_eq!(workspace.scene.said_of(EventKind::ModelTrained).await.len(), 0);
    replica.stop().await;
}

#[tokio::test]
async fn words_that_postgres_cannot_keep_end_a_training_like_any_others() {
    let workspace = Workspace::with_notebook("").await;
    let outcome = Outcome::new("FAILED", "RUN_EXECUTION_ERROR", "CLIENT_ERROR", "bad row \0\u{1}");
    workspace.databricks.plan([RunPlan::fails(outcome)]);
    let replica = workspace.scene.start().await;
    workspace.scene.request("one", day(30)).await;
    let failed = workspace.scene.failed(1).await;
    assert_eq!(failed.failure, TrainingFailure::RunFailed);
    assert!(failed.detail.contains("bad row \u{fffd}"), "{:?}", failed.detail);
    replica.stop().await;
}

#[tokio::test]
async fn a_failure_of_the_platform_gets_another_attempt_with_another_token() {
    let workspace = Workspace::with_notebook("").await;
    let outcome = Outcome::new("FAILED", "CLUSTER_ERROR", "CLOUD_FAILURE", "spot instance lost");
    workspace.databricks.plan([RunPlan::fails(outcome)]);
    let replica = workspace.scene.start().await;
    workspace.scene.request("one", day(30)).await;
    workspace.scene.trained(1).await;
    let runs = workspace.databricks.runs();
    assert_eq!(runs.len(), 2);
    assert_ne!(runs[0].token, runs[1].token);
    assert_eq!(workspace.scene.started(2).await.attempt, 2);
    replica.stop().await;
}

#[tokio::test]
async fn attempts_are_bounded() {
    let workspace = Workspace::with_notebook("attempts_max = 2").await;
    workspace
        .databricks
        .otherwise(RunPlan::through([], RunState::InternalError("again".to_owned())));
    let replica = workspace.scene.start().await;
    workspace.scene.request("one", day(30)).await;
    assert_eq!(workspace.scene.failed(1).await.attempts, 2);
    assert_eq!(workspace.databricks.runs().len(), 2);
    replica.stop().await;
}

#[tokio::test]
async fn the_deadline_ends_a_run_that_never_does_and_cancels_it() {
    let workspace = Workspace::with_notebook("deadline = \"3s\"").await;
    workspace.databricks.otherwise(RunPlan::stays(RunState::Running));
    // The first cancel meets a server in trouble.
    workspace.databricks.fail(Call::Cancel, [Fault::ServerError]);
    let replica = workspace.scene.start().await;
    workspace.scene.request("one", day(30)).await;
    let failed = workspace.scene.failed(1).await;
    assert_eq!(failed.failure, TrainingFailure::TimedOut);
    assert_eq!(failed.detail, "the deadline passed; the run was cancelled");
    assert!(workspace.databricks.runs()[0].cancelled);
    let outcome = workspace
        .scene
        .text("select outcome from trainer_bridge.training_job")
        .await;
    assert_eq!(outcome.as_deref(), Some("timed_out"));
    replica.stop().await;
}

#[tokio::test]
async fn a_run_cancelled_on_the_platform_is_a_cancelled_training() {
    for dialect in [Dialect::OldOnly, Dialect::NewOnly] {
        let workspace = Workspace::with_notebook("").await;
        let outcome = Outcome::new("CANCELED", "USER_CANCELED", "CLIENT_ERROR", "by ana");
        workspace
            .databricks
            .plan([RunPlan::fails(outcome).told_in(dialect)]);
        let replica = workspace.scene.start().await;
        workspace.scene.request("one", day(30)).await;
        let failed = workspace.scene.failed(1).await;
        assert_eq!(failed.failure, TrainingFailure::Cancelled, "{dialect:?}");
        assert!(failed.detail.contains("CANCELED"), "{}", failed.detail);
        replica.stop().await;
    }
}

#[tokio::test]
async fn unheard_states_are_polled_on_and_unheard_endings_are_failures() {
    let workspace = Workspace::with_notebook("").await;
    let ending = Outcome::new("PARTIAL_SUCCESS", "SOMETHING_NEW", "NEW_TYPE", "");
    workspace.databricks.plan([
        RunPlan::through(
            [RunState::Unheard("HIBERNATING".to_owned())],
            RunState::Terminated(ending),
        ),
        RunPlan::through(
            [RunState::Unheard("HIBERNATING".to_owned())],
            RunState::Terminated(Outcome::success()),
        ),
    ]);
    let replica = workspace.scene.start().await;
    workspace.scene.request("one", day(30)).await;
    let failed = workspace.scene.failed(1).await;
    assert!(failed.detail.contains("SOMETHING_NEW"), "{}", failed.detail);
    workspace.scene.request("two", day(30)).await;
    workspace.scene.trained(1).await;
    replica.stop().await;
}

#[tokio::test]
async fn a_refused_submission_is_final_and_a_deleted_run_is_a_failure() {
    let workspace = Workspace::with_notebook("").await;
    let forbidden = Fault::Instead {
        status: 403,
        body: r#"{"error_code":"PERMISSION_DENIED","message":"no"}"#.to_owned(),
    };
    workspace.databricks.fail(Call::Submit, [forbidden]);
    let replica = workspace.scene.start().await;
    workspace.scene.request("one", day(30)).await;
    let failed = workspace.scene.failed(1).await;
    assert_eq!((failed.failure, failed.run_id), (TrainingFailure::Refused, None));
    assert!(
        failed.detail.contains("403") && failed.detail.contains("PERMISSION_DENIED"),
        "{}",
        failed.detail
    );

    workspace.databricks.otherwise(RunPlan::stays(RunState::Running));
    workspace.scene.request("two", day(30)).await;
    let run = workspace.scene.started(1).await.run_id.unwrap();
    workspace.databricks.delete_run(run.parse().unwrap());
    let failed = workspace.scene.failed(2).await;
    assert!(
        failed.detail.contains("does not exist any more"),
        "{}",
        failed.detail
    );
    replica.stop().await;
}

#[tokio::test]
async fn a_right_that_is_missing_while_a_run_goes_on_is_waited_for() {
    let workspace = Workspace::with_notebook("").await;
    let expired = Fault::Instead {
        status: 403,
        body: r#"{"error_code":"403","message":"Invalid token"}"#.to_owned(),
    };
    workspace.databricks.fail(Call::Get, [Fault::None, expired]);
    let replica = workspace.scene.start().await;
    workspace.scene.request("one", day(30)).await;
    workspace.scene.trained(1).await;
    let error = workspace
        .scene
        .text("select last_error from trainer_bridge.training_job")
        .await;
    assert!(error.is_some_and(|error| error.contains("DATABRICKS_TOKEN")));
    replica.stop().await;
}

#[tokio::test]
async fn a_result_that_appears_late_is_waited_for() {
    let workspace = Workspace::new(
        "",
        "notebook_path = \"/x\"\n",
        Logged {
            late: 2,
            ..logged(&document())
        },
    )
    .await;
    let replica = workspace.scene.start().await;
    workspace.scene.request("one", day(30)).await;
    workspace.scene.trained(1).await;
    replica.stop().await;
}

#[tokio::test]
async fn nothing_that_a_notebook_logged_is_trusted() {
    let good = logged(&document());
    let with_tag = |key: &str, value: &str| {
        let mut logged = good.clone();
        logged.tags.insert(key.to_owned(), value.to_owned());
        logged
    };
    let of = |change: fn(&mut ModelArtifact)| {
        let mut document = document();
        change(&mut document);
        logged(&document)
    };
    let mut no_rows = good.clone();
    no_rows.metrics.remove("training_rows");
    let cases = [
        (
            with_tag("vigie.sha256", &digest_of(b"x").to_string()),
            "not the bytes that were meant",
        ),
        (with_tag("vigie.sha256", "nonsense"), "vigie.sha256"),
        (with_tag("vigie.artifact", "../../etc/passwd"), "without `..`"),
        (
            with_tag("vigie.artifact", "/Volumes/a/../../b"),
            "no path of a volume",
        ),
        (
            with_tag("vigie.artifact", "/Volumes/a/%2e%2e/%2e%2e/api/2.0/token/list"),
            "no path of a volume",
        ),
        (with_tag("vigie.artifact", "model/elsewhere.json"), "404"),
        (
            of(|document| document.model = "another".parse().unwrap()),
            "is of model `another`",
        ),
        // It saw the rows that the threshold was to be chosen on.
        (
            of(|document| document.training_window = schemas::Window::new(day(8), day(23)).unwrap()),
            "reaches into the threshold span",
        ),
        (
            of(|document| document.operating_threshold = 1.5),
            "operating_threshold",
        ),
        (no_rows, "no metric `training_rows`"),
    ];
    for (logged, expected) in cases {
        let workspace = Workspace::new("", "notebook_path = \"/x\"\n", logged).await;
        let replica = workspace.scene.start().await;
        workspace.scene.request("one", day(30)).await;
        let failed = workspace.scene.failed(1).await;
        assert_eq!(failed.failure, TrainingFailure::RunFailed);
        assert!(
            failed.detail.contains(expected),
            "{} does not say {expected}",
            failed.detail
        );
        assert_eq!(
            workspace
                .scene
                .count("select count(*) from trainer_bridge.model_version")
                .await,
            0
        );
        replica.stop().await;
    }
}
