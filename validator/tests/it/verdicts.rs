//! What passes and what fails, told by counts that a pencil confirms.

use schemas::events::{Confusion, ModelValidated, ReportedMetric, ValidationVerdict};
use schemas::{EventId, Finite};

use crate::support::{Bench, Holdout, MODEL, attributes, eventually, headers_of, stump, trained, window};

fn value(report: &ModelValidated, name: &str) -> f64 {
    let metric = report
        .metrics
        .iter()
        .find(|metric| metric.name == name)
        .unwrap_or_else(|| panic!("no {name}"));
    let (value, interval) = (metric.value.unwrap().get(), metric.interval.clone().unwrap());
    assert!(
        interval.low.get() <= value && value <= interval.high.get(),
        "{name}: {value} {interval:?}"
    );
    assert_eq!(interval.level.get(), 0.95);
    value
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_exactly_at_both_limits_passes_with_the_whole_report() {
    let bench = Bench::new(Holdout::AT_THE_LIMIT).await;
    let service = bench.start(MODEL).await;
    let announced = trained("fraud-cards-1", bench.write("model.json", &stump()));
    let event = bench.announce(&announced).await;
    let (attributes, report) = bench.verdict_on(event).await;
    assert_eq!(
        attributes.correlation_id,
        EventId::of_key("the loop"),
        "the same loop goes on"
    );
    assert_eq!(attributes.model.as_str(), "fraud-cards");
    assert_eq!(
        (report.verdict, report.failures.as_slice()),
        (ValidationVerdict::Passed, &[][..])
    );
    assert_eq!(
        report.confusion,
        Confusion {
            true_positives: 60,
            false_positives: 20,
            false_negatives: 15,
            true_negatives: 905
        }
    );
    assert_eq!((report.rows, report.frauds), (1_000, 75));
    // Each row once, by its score.
    let scores = report.score_counts.as_ref().expect("the rows by their scores");
    let rows = |counts: &[u64]| {
        (
            counts.len(),
            counts
                .iter()
                .filter(|rows| **rows > 0)
                .copied()
                .collect::<Vec<_>>(),
        )
    };
    assert_eq!(rows(&scores.frauds), (51, vec![15, 60]));
    assert_eq!(rows(&scores.genuine), (51, vec![905, 20]));
    assert_eq!(value(&report, "recall"), 0.80);
    assert_eq!(value(&report, "precision"), 0.75);
    assert!((value(&report, "f1") - 120.0 / 155.0).abs() < 1e-12);
    assert!((value(&report, "false_positive_rate") - 20.0 / 925.0).abs() < 1e-12);
    // Two groups of equal score: P(fraud above genuine) + half of the ties.
    let (frauds, genuine) = (75.0, 925.0);
    let area = (60.0 * 905.0 + 0.5 * (60.0 * 20.0 + 15.0 * 905.0)) / (frauds * genuine);
    assert!((value(&report, "roc_auc") - area).abs() < 1e-12);
    let average = (60.0 * (60.0 / 80.0) + 15.0 * (75.0 / 1000.0)) / 75.0;
    assert!((value(&report, "average_precision") - average).abs() < 1e-12);
    assert_eq!(report.gates.len(), 2);
    assert!(report.gates.iter().all(|gate| gate.passed));
    assert_eq!(
        report.artifact, announced.artifact,
        "only what was validated may be promoted"
    );
    service.stop().await;

    let (verdict, sha256, stored): (String, String, serde_json::Value) = sqlx::query_as(
        "select verdict, sha256, report from validator.validation where version = 'fraud-cards-1'",
    )
    .fetch_one(&bench.pool)
    .await
    .unwrap();
    assert_eq!(
        (verdict.as_str(), sha256.as_str()),
        ("passed", announced.artifact.sha256.as_str())
    );
    assert_eq!(serde_json::from_value::<ModelValidated>(stored).unwrap(), report);
    let (dag, task, status, records): (String, String, String, i64) =
        sqlx::query_as("select dag_id, task_id, status, records_processed from airflow_task_metrics")
            .fetch_one(&bench.pool)
            .await
            .unwrap();
    assert_eq!(
        (dag.as_str(), task.as_str(), status.as_str(), records),
        ("01_training_pipeline", "validate", "success", 1_000)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_fraud_less_or_one_false_alarm_more_fails() {
    for (holdout, metric) in [
        (
            Holdout {
                found: 59,
                missed: 16,
                false_alarms: 19,
                let_through: 906,
            },
            "recall",
        ),
        (
            Holdout {
                false_alarms: 21,
                let_through: 904,
                ..Holdout::AT_THE_LIMIT
            },
            "precision",
        ),
    ] {
        let bench = Bench::new(holdout).await;
        let service = bench.start(MODEL).await;
        let event = bench
            .announce(&trained("fraud-cards-1", bench.write("model.json", &stump())))
            .await;
        let (_, report) = bench.verdict_on(event).await;
        assert_eq!(report.verdict, ValidationVerdict::Failed);
        assert_eq!(report.failures.len(), 1, "{:?}", report.failures);
        assert!(
            report.failures[0].starts_with(&format!("{metric} is ")),
            "{:?}",
            report.failures
        );
        for gate in &report.gates {
            assert_eq!(gate.passed, gate.metric != metric, "{gate:?}");
        }
        let (status, error): (String, String) =
            sqlx::query_as("select status, error_message from airflow_task_metrics")
                .fetch_one(&bench.pool)
                .await
                .unwrap();
        assert_eq!((status.as_str(), error), ("failed", report.failures[0].clone()));
        service.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limits_are_settings_under_the_names_that_people_use() {
    let bench = Bench::new(Holdout::AT_THE_LIMIT).await;
    let mut sources = bench.sources(MODEL);
    sources
        .environment
        .insert("MIN_RECALL_THRESHOLD".to_owned(), "0.9".to_owned());
    sources
        .environment
        .insert("MIN_PRECISION_THRESHOLD".to_owned(), "0.5".to_owned());
    let stop = tokio_util::sync::CancellationToken::new();
    let token = stop.clone();
    let service = tokio::spawn(async move { chassis::launch::<validator::Validator>(&sources, token).await });
    bench.until_ready().await;
    let event = bench
        .announce(&trained("fraud-cards-1", bench.write("model.json", &stump())))
        .await;
    let (_, report) = bench.verdict_on(event).await;
    assert_eq!(report.verdict, ValidationVerdict::Failed);
    assert!(
        report.failures[0].contains("0.9 is needed"),
        "{:?}",
        report.failures
    );
    assert_eq!(report.failures.len(), 1, "precision of 0.75 is enough now");
    stop.cancel();
    service.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_holdout_must_prove_it_the_same_candidate_fails() {
    let bench = Bench::new(Holdout::AT_THE_LIMIT).await;
    let service = bench
        .start(&format!("{MODEL}\n[validation]\ngate_on = \"lower_bound\""))
        .await;
    let event = bench
        .announce(&trained("fraud-cards-1", bench.write("model.json", &stump())))
        .await;
    let (_, report) = bench.verdict_on(event).await;
    assert_eq!(report.verdict, ValidationVerdict::Failed);
    assert_eq!(report.failures.len(), 2, "{:?}", report.failures);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holdout_that_training_may_have_seen_fails_whatever_the_numbers() {
    let bench = Bench::new(Holdout {
        found: 75,
        missed: 0,
        false_alarms: 0,
        let_through: 925,
    })
    .await;
    let service = bench.start(MODEL).await;
    let artifact = bench.write("model.json", &stump());
    let honest = trained("honest", artifact.clone());
    let mut in_training = trained("in-training", artifact.clone());
    in_training.training_window = window(0, 18);
    let mut in_threshold = trained("in-threshold", artifact.clone());
    in_threshold.threshold_window = window(14, 18);
    let mut in_future = trained("in-future", artifact);
    in_future.holdout_window = window(17, 23);
    // The artefact itself says that it was fitted on more than was announced.
    let liar = scoring::ModelArtifact {
        training_window: window(0, 20),
        ..stump()
    };
    let lied = trained("lied", bench.write("liar.json", &liar));
    for (announced, reason) in [
        (honest, None),
        (in_training, Some("leakage")),
        (in_threshold, Some("leakage")),
        (in_future, Some("after the decision")),
        (lied, Some("by its own account")),
    ] {
        let event = bench.announce(&announced).await;
        let (_, report) = bench.verdict_on(event).await;
        match reason {
            None => assert_eq!(report.verdict, ValidationVerdict::Passed, "{:?}", report.failures),
            Some(reason) => {
                assert_eq!(report.verdict, ValidationVerdict::Failed, "{}", announced.version);
                assert!(
                    report.failures.iter().any(|failure| failure.contains(reason)),
                    "{:?}",
                    report.failures
                );
            }
        }
    }
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_boast_is_compared_and_never_trusted() {
    let bench = Bench::new(Holdout {
        found: 50,
        missed: 25,
        false_alarms: 10,
        let_through: 915,
    })
    .await;
    let service = bench.start(MODEL).await;
    let mut announced = trained("boaster", bench.write("model.json", &stump()));
    announced.reported = vec![ReportedMetric {
        name: "recall".to_owned(),
        slice: "holdout".to_owned(),
        value: Finite::new(0.99).unwrap(),
    }];
    let event = bench.announce(&announced).await;
    let (_, report) = bench.verdict_on(event).await;
    assert_eq!(report.verdict, ValidationVerdict::Failed);
    assert!(
        report
            .failures
            .iter()
            .any(|failure| failure.starts_with("recall is 0.6667")),
        "{:?}",
        report.failures
    );
    assert!(
        report
            .failures
            .iter()
            .any(|failure| failure.contains("reports recall 0.9900")),
        "{:?}",
        report.failures
    );
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_judged_fails_and_says_why() {
    let few = Holdout {
        found: 10,
        missed: 0,
        false_alarms: 0,
        let_through: 90,
    };
    let bench = Bench::new(few).await;
    let service = bench.start(MODEL).await;
    let artifact = bench.write("model.json", &stump());
    let event = bench.announce(&trained("few", artifact.clone())).await;
    let (_, report) = bench.verdict_on(event).await;
    assert_eq!(report.verdict, ValidationVerdict::Failed);
    assert_eq!(
        report.failures,
        [
            "the holdout has 100 labelled rows, 500 are needed",
            "the holdout has 10 frauds, 20 are needed"
        ]
    );
    // No row at all.
    let mut empty = trained("empty", artifact.clone());
    empty.holdout_window = window(19, 20);
    let event = bench.announce(&empty).await;
    let (_, report) = bench.verdict_on(event).await;
    assert_eq!((report.verdict, report.rows), (ValidationVerdict::Failed, 0));
    // A column that the model reads is gone: that is never the same as a column of missing values.
    sqlx::query("alter table bank.payment drop column country")
        .execute(&bench.pool)
        .await
        .unwrap();
    let event = bench.announce(&trained("column-gone", artifact)).await;
    let (_, report) = bench.verdict_on(event).await;
    assert_eq!(
        (report.verdict, report.rows, report.gates.len()),
        (ValidationVerdict::Failed, 0, 0)
    );
    assert!(
        report.failures[0].starts_with("could not be judged: "),
        "{:?}",
        report.failures
    );
    assert!(report.failures[0].contains("`country`"), "{:?}", report.failures);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn however_often_it_is_announced_a_candidate_is_judged_once() {
    let bench = Bench::new(Holdout::AT_THE_LIMIT).await;
    let service = bench.start(MODEL).await;
    let announced = trained("fraud-cards-1", bench.write("model.json", &stump()));
    let body = schemas::Event::from(announced.clone()).to_json().unwrap();
    let original = attributes();
    for copy in 0..4 {
        // The same event under message ids that the broker cannot recognise.
        let mut headers = headers_of(&original);
        headers.insert("Nats-Msg-Id", format!("{}#r{copy}", original.id).as_str());
        bench.publish(headers, body.clone()).await;
    }
    // And another event about the same version.
    let again = bench.announce(&announced).await;
    eventually("every delivery is answered", async || {
        let (seen,): (i64,) =
            sqlx::query_as("select coalesce(sum(deliveries), 0)::bigint from validator.inbox")
                .fetch_one(&bench.pool)
                .await
                .unwrap();
        // A slow one may have come once more.
        (seen >= 5).then_some(())
    })
    .await;
    // Whatever would follow later comes before this.
    let next = bench
        .announce(&trained("fraud-cards-2", announced.artifact.clone()))
        .await;
    bench.verdict_on(next).await;
    let of_first: Vec<_> = bench
        .validated()
        .await
        .into_iter()
        .filter(|(_, report)| report.version == announced.version)
        .collect();
    assert_eq!(of_first.len(), 1);
    let cause = of_first[0].0.causation_id;
    assert!(cause == Some(original.id) || cause == Some(again));
    service.stop().await;
}
