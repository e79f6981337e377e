//! The validator as a process of its own: wrong settings, an orderly end, and `kill -9`.

use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;

use schemas::events::ValidationVerdict;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::Notify;

use crate::support::{Bench, Holdout, MODEL, PATIENCE, eventually, reference, stump, trained};

/// The program in a folder of its own, knowing nothing of this process' environment but how to run.
fn program(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_validator"));
    command
        .env_clear()
        .current_dir(folder)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

async fn run(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    program(folder)
        .args(arguments)
        .envs(environment.iter().copied())
        .output()
        .await
        .unwrap()
}

#[tokio::test]
async fn every_wrong_setting_is_told_at_once_and_the_exit_code_is_64() {
    let folder = tempfile::tempdir().unwrap();
    let file = "[validation]\nrecall_min = 1.5\nrecal_min = 0.8\n[models.cards]\nsource = \"mysql\"\n\
                [mlflow]\ntracking_uri = \"http://ml.example.org\"\ntoken = \"hunter2\"\n";
    std::fs::write(folder.path().join("vigie.toml"), file).unwrap();
    std::fs::write(folder.path().join(".env"), "MIN_PRECISION_THRESHOLD=high\n").unwrap();
    let wrong = [
        ("FRAUD_DATABASE_URL", "postgres://u:hunter2@127.0.0.1:port/x"),
        ("VIGIE__VALIDATION__ROWS_MIN", "0"),
    ];
    for arguments in [&["--check-config"][..], &[]] {
        let output = run(folder.path(), arguments, &wrong).await;
        assert_eq!(output.status.code(), Some(64), "{output:?}");
        let told = String::from_utf8(output.stderr).unwrap();
        for part in [
            "`validation.recall_min` is `1.5` in vigie.toml; expected a number between 0 and 1",
            "`validation.recal_min` is `0.8` in vigie.toml; expected a known setting such as `validation.recall_min`",
            "`validation.precision_min` is `high` in .env variable MIN_PRECISION_THRESHOLD",
            "`validation.rows_min` is `0` in environment variable VIGIE__VALIDATION__ROWS_MIN",
            "`database.url` is",
            "`models.cards.source` is `mysql`",
            "`mlflow.tracking_uri` is `http://ml.example.org`",
        ] {
            assert!(told.contains(part), "`{part}` is missing in:\n{told}");
        }
        assert!(!told.contains("hunter2"), "{told}");
    }
}

#[tokio::test]
async fn what_is_in_force_is_shown_without_secrets() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("other.toml"), MODEL).unwrap();
    let secrets = [
        (
            "FRAUD_DATABASE_URL",
            "postgres://vigie:hunter2@db.example.org/fraud_db?sslmode=verify-full",
        ),
        ("MLFLOW_TRACKING_URI", "https://ml.example.org"),
        ("MLFLOW_TRACKING_TOKEN", "hunter2"),
        ("MIN_RECALL_THRESHOLD", "0.85"),
    ];
    let output = run(
        folder.path(),
        &["--config", "other.toml", "--print-config"],
        &secrets,
    )
    .await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(
        shown.contains("recall_min = \"0.85\"  # environment variable MIN_RECALL_THRESHOLD"),
        "{shown}"
    );
    assert!(shown.contains("[models.fraud-cards]"), "{shown}");
    assert!(
        shown.contains("db.example.org") && !shown.contains("hunter2"),
        "{shown}"
    );
    let output = run(folder.path(), &["--help"], &[]).await;
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success() && help.contains("[validation]") && help.contains("MIN_RECALL_THRESHOLD"),
        "{help}"
    );
    assert_eq!(
        run(folder.path(), &["--confg"], &[]).await.status.code(),
        Some(64)
    );
}

async fn start(bench: &Bench, settings: &str) -> Child {
    std::fs::write(bench.path("vigie.toml"), settings).unwrap();
    let child = program(bench.folder.path())
        .envs(bench.environment())
        .spawn()
        .unwrap();
    bench.until_ready().await;
    child
}

/// A tracking server that answers when told to; each request tells that it has begun.
async fn slow_server(body: Vec<u8>, begun: Arc<Notify>, answer: Arc<Notify>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (body, begun, answer) = (body.clone(), Arc::clone(&begun), Arc::clone(&answer));
            tokio::spawn(async move {
                let mut request = [0; 4096];
                if stream.read(&mut request).await.unwrap_or(0) == 0 {
                    return;
                }
                begun.notify_one();
                answer.notified().await;
                answer.notify_one();
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                // The client may be dead by now: that is what the test is about.
                let _gone = stream.write_all(&[head.into_bytes(), body].concat()).await;
            });
        }
    });
    format!("http://{address}")
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_of_a_validation_it_is_done_once_by_the_next() {
    let bench = Bench::new(Holdout::AT_THE_LIMIT).await;
    let bytes = stump().to_bytes().unwrap();
    let (begun, answer) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let url = slow_server(bytes.clone(), Arc::clone(&begun), Arc::clone(&answer)).await;
    let settings = format!("{MODEL}\n[mlflow]\ntracking_uri = \"{url}\"");
    let mut doomed = start(&bench, &settings).await;
    let announced = trained(
        "fraud-cards-1",
        reference("mlflow-artifacts:/1/abc/artifacts/model.json", &bytes),
    );
    let event = bench.announce(&announced).await;
    tokio::time::timeout(PATIENCE, begun.notified())
        .await
        .expect("the artefact is asked for");
    doomed.kill().await.unwrap();
    assert!(bench.validated().await.is_empty());
    answer.notify_one();
    let mut heir = start(&bench, &settings).await;
    let (_, report) = bench.verdict_on(event).await;
    assert_eq!(report.verdict, ValidationVerdict::Passed, "{:?}", report.failures);
    assert_eq!(bench.validated().await.len(), 1);
    heir.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_again_and_again_each_candidate_has_one_verdict() {
    let bench = Bench::new(Holdout::AT_THE_LIMIT).await;
    let artifact = bench.write("model.json", &stump());
    let mut events = Vec::new();
    for round in 0..3 {
        let mut doomed = start(&bench, MODEL).await;
        for candidate in 0..8 {
            events.push(
                bench
                    .announce(&trained(&format!("v{round}-{candidate}"), artifact.clone()))
                    .await,
            );
        }
        // Killed when one of them has its verdict: the others are anywhere.
        bench.verdict_on(events[events.len() - 8]).await;
        doomed.kill().await.unwrap();
    }
    let mut last = start(&bench, MODEL).await;
    for event in &events {
        bench.verdict_on(*event).await;
    }
    assert_eq!(bench.validated().await.len(), 24);
    let (rows,): (i64,) = sqlx::query_as("select count(*) from validator.validation")
        .fetch_one(&bench.pool)
        .await
        .unwrap();
    assert_eq!(rows, 24);
    last.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn asked_to_stop_it_finishes_and_says_that_all_is_well() {
    let bench = Bench::new(Holdout::AT_THE_LIMIT).await;
    let mut process = start(&bench, MODEL).await;
    let event = bench
        .announce(&trained("fraud-cards-1", bench.write("model.json", &stump())))
        .await;
    bench.verdict_on(event).await;
    let pid = process.id().unwrap().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .await
            .unwrap()
            .success()
    );
    let status = tokio::time::timeout(PATIENCE, process.wait())
        .await
        .expect("it ends")
        .unwrap();
    assert!(status.success(), "{status}");
    eventually("every delivery was answered", async || {
        let stream = bench.jetstream.get_stream(crate::support::STREAM).await.ok()?;
        let info = stream.consumer_info("validator").await.ok()?;
        (info.num_ack_pending == 0).then_some(())
    })
    .await;
}
