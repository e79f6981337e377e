//! The candidate's bytes: the ones that were trained, from wherever they lie, or a failure that says why.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use local_stack::peers::mlflow::shared_mlflow;
use schemas::events::{ModelValidated, ValidationVerdict};
use schemas::{ModelName, Share};
use scoring::ModelArtifact;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufStream};
use tokio::net::TcpListener;

use crate::support::{Bench, Holdout, MODEL, eventually, file_uri, reference, stump, trained};

async fn verdict(bench: &Bench, announced: &schemas::events::ModelTrained) -> ModelValidated {
    let event = bench.announce(announced).await;
    bench.verdict_on(event).await.1
}

fn assert_refused(report: &ModelValidated, reason: &str) {
    assert_eq!(report.verdict, ValidationVerdict::Failed, "{}", report.version);
    assert!(
        report.failures.iter().any(|failure| failure.contains(reason)),
        "{reason}: {:?}",
        report.failures
    );
    assert_eq!(
        (report.rows, report.metrics.len()),
        (0, 0),
        "nothing was measured"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_swapped_byte_is_refused_with_both_digests() {
    let bench = Bench::new(Holdout::AT_THE_LIMIT).await;
    let service = bench.start(MODEL).await;
    let announced = trained("swapped", bench.write("model.json", &stump()));
    let path = bench.path("model.json");
    // A better threshold in the tree: still a valid model, and not the one that was trained.
    let text = std::fs::read_to_string(&path).unwrap();
    let swapped = text.replacen("100.0", "101.0", 1);
    assert_eq!(text.len(), swapped.len());
    assert_ne!(text, swapped);
    std::fs::write(&path, &swapped).unwrap();
    let report = verdict(&bench, &announced).await;
    assert_refused(&report, "sha256");
    assert_refused(&report, announced.artifact.sha256.as_str());
    assert_refused(&report, scoring::digest_of(swapped.as_bytes()).as_str());
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_what_was_announced_is_refused() {
    let bench = Bench::new(Holdout::AT_THE_LIMIT).await;
    let service = bench.start(MODEL).await;
    let write = |name: &str, artifact: &ModelArtifact| trained(name, bench.write(name, artifact));
    let other_model = ModelArtifact {
        model: ModelName::new("fraud-wires").unwrap(),
        ..stump()
    };
    assert_refused(
        &verdict(&bench, &write("other-model", &other_model)).await,
        "`fraud-wires`",
    );
    let mut other_threshold = write("other-threshold", &stump());
    other_threshold.operating_threshold = Share::new(0.05).unwrap();
    assert_refused(
        &verdict(&bench, &other_threshold).await,
        "operating threshold is 0.5, 0.05 was announced",
    );
    let bytes = b"\x80\x04\x95 a pickle";
    std::fs::write(bench.path("pickle"), bytes).unwrap();
    let pickle = trained("pickle", reference(&file_uri(&bench.path("pickle")), bytes));
    assert_refused(&verdict(&bench, &pickle).await, "not a model document");
    // A model that asks for a column that the settings do not name.
    let mut stranger = stump();
    stranger.features[1].name = "amuont".to_owned();
    assert_refused(&verdict(&bench, &write("stranger", &stranger)).await, "`amuont`");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_leads_nowhere_is_a_failure_with_its_reason() {
    let bench = Bench::new(Holdout::AT_THE_LIMIT).await;
    let service = bench.start(MODEL).await;
    let bytes = stump().to_bytes().unwrap();
    let pipe = bench.path("pipe");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    // Files that everybody can read, beside the folder that candidates lie in: an event must not lead there.
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("model.json"), &bytes).unwrap();
    std::os::unix::fs::symlink(outside.path(), bench.path("link")).unwrap();
    let climbing = format!(
        "file://{}/..%2f{}/model.json",
        bench.folder.path().display(),
        outside.path().file_name().unwrap().display()
    );
    for (name, uri, reason) in [
        (
            "outside",
            file_uri(&outside.path().join("model.json")),
            "not inside `artifacts.dir`",
        ),
        ("climbing", climbing, "not inside `artifacts.dir`"),
        (
            "link",
            file_uri(&bench.path("link/model.json")),
            "not inside `artifacts.dir`",
        ),
        (
            "passwords",
            "file:///etc/passwd".to_owned(),
            "not inside `artifacts.dir`",
        ),
        ("absent", file_uri(&bench.path("absent.json")), "No such file"),
        ("folder", file_uri(bench.folder.path()), "it is no file"),
        ("pipe", file_uri(&pipe), "it is no file"),
        (
            "plain-path",
            bench.path("model.json").display().to_string(),
            "only `file:///",
        ),
        (
            "web",
            "https://example.org/model.json".to_owned(),
            "only `file:///",
        ),
        (
            "host",
            "file://elsewhere/model.json".to_owned(),
            "no path on this machine",
        ),
        (
            "mlflow",
            "mlflow-artifacts:/1/abc/model.json".to_owned(),
            "MLFLOW_TRACKING_URI",
        ),
        ("nothing", String::new(), "only `file:///"),
    ] {
        assert_refused(
            &verdict(&bench, &trained(name, reference(&uri, &bytes))).await,
            reason,
        );
    }
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_on_a_real_mlflow_server_is_fetched_and_checked() {
    let bench = Bench::new(Holdout::AT_THE_LIMIT).await;
    let mlflow = shared_mlflow().await.unwrap();
    let bytes = stump().to_bytes().unwrap();
    let path = "0/0123456789abcdef/artifacts/model/model.json";
    let address = format!("{}/api/2.0/mlflow-artifacts/artifacts/{path}", mlflow.url());
    let answer = reqwest::Client::new()
        .put(address)
        .body(bytes.clone())
        .send()
        .await
        .unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
    let service = bench
        .start(&format!("{MODEL}\n[mlflow]\ntracking_uri = \"{}\"", mlflow.url()))
        .await;
    let good = trained(
        "on-mlflow",
        reference(&format!("mlflow-artifacts:/{path}"), &bytes),
    );
    let report = verdict(&bench, &good).await;
    assert_eq!(report.verdict, ValidationVerdict::Passed, "{:?}", report.failures);
    let mut other = bytes.clone();
    other[10] ^= 1;
    let swapped = trained("swapped", reference(&format!("mlflow-artifacts:/{path}"), &other));
    assert_refused(&verdict(&bench, &swapped).await, "sha256");
    let absent = trained(
        "absent",
        reference("mlflow-artifacts:/0/0123456789abcdef/artifacts/none.json", &bytes),
    );
    assert_refused(&verdict(&bench, &absent).await, "404");
    service.stop().await;
}

/// A tracking server that answers each request with the next status, the last one for ever.
async fn moody_server(statuses: &'static [u16], body: Vec<u8>) -> (SocketAddr, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let at = usize::try_from(counted.fetch_add(1, Ordering::SeqCst))
                .unwrap()
                .min(statuses.len() - 1);
            let mut stream = BufStream::new(stream);
            let mut line = String::new();
            while stream.read_line(&mut line).await.is_ok_and(|read| read > 2) {
                line.clear();
            }
            let status = statuses[at];
            let length = if status == 200 { body.len() } else { 0 };
            let head =
                format!("HTTP/1.1 {status} x\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            let written = async {
                stream.write_all(head.as_bytes()).await?;
                stream.write_all(&body[..length]).await?;
                stream.flush().await
            };
            // A client that has gone meanwhile is no matter of this server's.
            let _gone = written.await;
        }
    });
    (address, asked)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tracking_server_that_is_not_well_is_asked_again() {
    let bench = Bench::new(Holdout::AT_THE_LIMIT).await;
    let bytes = stump().to_bytes().unwrap();
    let (address, asked) = moody_server(&[503, 401, 200], bytes.clone()).await;
    let service = bench
        .start(&format!("{MODEL}\n[mlflow]\ntracking_uri = \"http://{address}\""))
        .await;
    let announced = trained(
        "patient",
        reference("mlflow-artifacts:/1/abc/artifacts/model.json", &bytes),
    );
    let event = bench.announce(&announced).await;
    let (_, report) = bench.verdict_on(event).await;
    assert_eq!(report.verdict, ValidationVerdict::Passed, "{:?}", report.failures);
    assert_eq!(asked.load(Ordering::SeqCst), 3);
    eventually("no dead letter was written", async || {
        let (letters,): (i64,) = sqlx::query_as("select count(*) from validator.dead_letter")
            .fetch_one(&bench.pool)
            .await
            .unwrap();
        (letters == 0).then_some(())
    })
    .await;
    service.stop().await;
}
