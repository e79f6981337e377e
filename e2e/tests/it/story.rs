//! The story of the demo on a small slice of data: decay, drift, refusal, retraining, promotion; once undisturbed, and once more with every
//! service killed on the way.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use futures_util::StreamExt as _;
use schemas::events::DriftDetected;
use vigie::demo::{Disturbance, Services};

use crate::messages::assert_documented;
use crate::scene::{options, replay};

/// The subjects that anyone may build on, and their schemas.
const CONTRACT: [(&str, &str); 3] = [
    ("drift.detected", "drift.detected.v1"),
    ("retrain.requested", "retrain.requested.v1"),
    ("model.validated", "model.validated.v1"),
];

/// Listens as `nats sub` would: a plain client that knows nothing of Vigie, beside the demo.
#[derive(Debug, Default)]
struct Listener {
    settings: PathBuf,
    listens: bool,
    heard: Arc<Mutex<Vec<async_nats::Message>>>,
}

impl Disturbance for Listener {
    async fn before_hour(&mut self, _: DateTime<Utc>, _: &mut Services) -> anyhow::Result<()> {
        if std::mem::replace(&mut self.listens, true) {
            return Ok(());
        }
        let settings = std::fs::read_to_string(&self.settings)?;
        let url = settings.split('"').find(|text| text.starts_with("nats://"));
        let client = async_nats::connect(url.expect("the broker's address")).await?;
        for (subject, _) in CONTRACT {
            let mut messages = client.subscribe(subject).await?;
            let heard = Arc::clone(&self.heard);
            tokio::spawn(async move {
                while let Some(message) = messages.next().await {
                    heard.lock().unwrap_or_else(PoisonError::into_inner).push(message);
                }
            });
        }
        client.flush().await?;
        Ok(())
    }

    async fn during_hour(&mut self, _: DateTime<Utc>, _: &mut Services) -> anyhow::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_decays_is_retrained_and_everything_is_on_record_whoever_is_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut listener = Listener {
        settings: folder.path().join("demo/vigie.toml"),
        ..Listener::default()
    };
    let report = replay(options(folder.path(), false), &mut listener).await;

    let heard = std::mem::take(&mut *listener.heard.lock().unwrap_or_else(PoisonError::into_inner));
    for (subject, schema) in CONTRACT {
        let of_subject: Vec<_> = heard
            .iter()
            .filter(|message| message.subject.as_str() == subject)
            .collect();
        assert!(!of_subject.is_empty(), "a plain client heard no {subject}");
        for message in of_subject {
            assert_documented(schema, message);
        }
    }

    // What a score stands for goes from the validation by the promotion into the checks.
    let told: Vec<DriftDetected> = heard
        .iter()
        .filter(|message| message.subject.as_str() == "drift.detected")
        .map(|message| serde_json::from_slice(&message.payload).expect("the body of drift.detected"))
        .collect();
    let (mut estimated, mut beyond_chance) = (0, 0);
    for drift in &told {
        let (Some(found), Some(prediction)) = (&drift.estimated, &drift.prediction) else {
            continue;
        };
        let recall = found.recall.expect("some fraud is expected");
        let around = found.recall_interval.as_ref().expect("how sure it is");
        assert!(recall.get() > 0.3, "{found:?}");
        assert!(
            around.low < around.high && around.high.get() - around.low.get() < 0.9,
            "{found:?}"
        );
        assert!(prediction.noise.get() > 0.0, "{prediction:?}");
        estimated += 1;
        beyond_chance += u32::from(prediction.beyond_chance);
    }
    // What fraud is changes in this story, and which payments there are; the scores of the model lie as ever.
    assert!(
        estimated > 0 && 20 * beyond_chance <= estimated,
        "{beyond_chance} of {estimated}"
    );

    let promoted: Vec<_> = report
        .models
        .iter()
        .filter(|model| model.outcome == "promoted")
        .collect();
    assert!(
        promoted.len() >= 2,
        "a first champion and a successor: {:#?}",
        report.models
    );
    for model in &promoted {
        assert!(
            model.metrics["recall"] >= 0.80 && model.metrics["precision"] >= 0.75,
            "{model:#?}"
        );
        assert!(model.holdout_frauds >= 20, "{model:#?}");
    }
    let fences: Vec<u64> = promoted.iter().filter_map(|model| model.fence).collect();
    assert!(
        fences.windows(2).all(|pair| pair[0] < pair[1]),
        "fences increase: {fences:?}"
    );
    assert!(
        promoted.iter().skip(1).any(|model| model.trace_id.is_some()),
        "one trace runs from drift.detected to model.promoted: {promoted:#?}"
    );
    assert!(
        !report.drifts.is_empty() && report.verdicts.contains_key("drifted"),
        "{:?}",
        report.verdicts
    );
    assert!(report.declined.contains_key("cooldown"), "{:?}", report.declined);
    for (table, rows) in &report.rows {
        assert!(*rows > 0, "{table} is empty");
    }
    assert_eq!(report.answers.len(), 2);
    assert!(
        report.answers.iter().all(|(_, rows)| !rows.is_empty()),
        "both of the document's queries are answered"
    );
    assert_eq!((report.dead_letters, report.alerts_failed), (0, 0));
    assert!(
        report.record.len() == 5 && report.record.values().all(|rows| *rows > 0),
        "each service has a record whose chain holds: {:?}",
        report.record
    );
    let mails = std::fs::read_dir(&report.mailbox).expect("the mailbox").count() as u64;
    assert_eq!(mails, report.alerts_sent, "each alert is a mail");

    crate::kill::assert_ends_the_same(&report).await;
}
