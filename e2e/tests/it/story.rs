//! The story of the demo on a small slice of data: decay, drift, refusal, retraining, promotion.

use vigie::demo::Undisturbed;

use crate::scene::{options, replay};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_decays_is_retrained_and_everything_is_on_record() {
    let folder = tempfile::tempdir().expect("a folder");
    let report = replay(options(folder.path(), false), &mut Undisturbed).await;

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
    let mails = std::fs::read_dir(&report.mailbox).expect("the mailbox").count() as u64;
    assert_eq!(mails, report.alerts_sent, "each alert is a mail");
}
