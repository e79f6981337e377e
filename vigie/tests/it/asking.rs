//! Wishes, and what becomes of them.

use std::time::Duration;

use chassis::Sources;
use chrono::Utc;
use drift_monitor::DriftMonitor;
use local_stack::TestEnv;
use schemas::events::DriftCheckRequested;
use schemas::{EventKind, ModelName};
use tokio_util::sync::CancellationToken;
use vigie::operator::Operator;

use crate::{told, vigie};

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_that_is_parked_is_answered_with_class_and_reason_at_once() {
    chassis::install_crypto();
    let env = TestEnv::new().await;
    let settings = format!(
        "[database]\nurl = {:?}\n[nats]\nurl = {:?}\n[http]\ndrift_monitor = \"\"\n",
        env.database_url, env.nats_url
    );
    let sources = Sources {
        overrides: vec![("test".to_owned(), settings)],
        ..Sources::default()
    };
    let stop = CancellationToken::new();
    let service = tokio::spawn({
        let (sources, stop) = (sources.clone(), stop.clone());
        async move { chassis::launch::<DriftMonitor>(&sources, stop).await }
    });
    let operator = Operator::connect(&sources).await.unwrap();
    let wish = DriftCheckRequested {
        as_of: Utc::now(),
        requested_by: "cli:test".to_owned(),
        reason: String::new(),
    };
    let model = ModelName::new("nobody-knows").unwrap();
    let patience = Duration::from_secs(90);
    let answer = operator
        .ask(&model, wish, &[EventKind::DriftChecked], patience)
        .await
        .unwrap_err()
        .to_string();
    for part in [
        "drift-monitor",
        "unknown_model",
        "`nobody-knows`",
        "vigie dlq show",
    ] {
        assert!(answer.contains(part), "{part} is missing in: {answer}");
    }
    stop.cancel();
    service.await.unwrap().unwrap();

    // The wish is an event like any other, and whoever follows events may stop reading at any time.
    let folder = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = tokio::task::spawn_blocking({
        let mut command = vigie(folder.path());
        command
            .env("FRAUD_DATABASE_URL", &env.database_url)
            .env("NATS_URL", &env.nats_url)
            .args([
                "events",
                "tail",
                "--since",
                "2020-01-01T00:00:00Z",
                "--count",
                "1",
            ])
            .stdout(writer);
        move || command.output().unwrap()
    })
    .await
    .unwrap();
    let (code, _, err) = told(&output);
    assert_eq!((code, err.as_str()), (0, ""));
}
