//! Malformed, oversized, duplicated and unknown-version messages: parked or dropped, and the flow goes on.

use async_nats::HeaderMap;
use chassis::redrive::{Because, Decision, decide, find};
use schemas::Event;
use schemas::events::ValidationVerdict;

use crate::support::{Bench, Holdout, MODEL, attributes, eventually, headers_of, stump, trained};

#[tokio::test(flavor = "multi_thread")]
async fn hostile_messages_are_parked_and_the_flow_goes_on() {
    let bench = Bench::new(Holdout::AT_THE_LIMIT).await;
    let service = bench.start(MODEL).await;
    let announced = trained("fraud-cards-1", bench.write("model.json", &stump()));
    let good = Event::from(announced.clone()).to_json().unwrap();
    let own = || headers_of(&attributes());
    let with = |name: &str, value: &str| {
        let mut headers = own();
        headers.insert(name, value);
        headers
    };
    let text = String::from_utf8(good.clone()).unwrap();
    let reversed = text.replacen("\"operating_threshold\":0.5", "\"operating_threshold\":1.5", 1);
    let no_number = text.replacen("\"operating_threshold\":0.5", "\"operating_threshold\":NaN", 1);
    let no_digest = text.replacen(announced.artifact.sha256.as_str(), "deadbeef", 1);
    assert!(
        [&reversed, &no_number, &no_digest]
            .iter()
            .all(|changed| **changed != text)
    );
    let mut stranger = attributes();
    stranger.model = "stranger".parse().unwrap();
    let messages: Vec<(HeaderMap, Vec<u8>, &str)> = vec![
        (HeaderMap::new(), b"rubbish".to_vec(), "undecodable"),
        (own(), b"{}".to_vec(), "schema_invalid"),
        (own(), reversed.into_bytes(), "schema_invalid"),
        (own(), no_number.into_bytes(), "schema_invalid"),
        (own(), no_digest.into_bytes(), "schema_invalid"),
        (own(), vec![b'['; 10_000], "undecodable"),
        (own(), vec![b' '; schemas::DATA_BYTES_MAX + 1], "too_large"),
        (
            with("ce-type", "vigie.model.trained.v2"),
            good.clone(),
            "unsupported_major",
        ),
        (headers_of(&stranger), good.clone(), "unknown_model"),
        // Another event of ours under a subject that is not its own.
        (
            with("ce-type", "vigie.drift.check.requested.v1"),
            br#"{"as_of":"2026-01-01T00:00:00Z","requested_by":"x","reason":""}"#.to_vec(),
            "unauthorized_source",
        ),
    ];
    let count = messages.len();
    for (index, (headers, body, class)) in messages.into_iter().enumerate() {
        bench.publish(headers, body).await;
        let classes = eventually(&format!("message {index} is parked as {class}"), async || {
            let rows: Vec<(String,)> =
                sqlx::query_as("select reason_class from validator.dead_letter order by first_at")
                    .fetch_all(&bench.pool)
                    .await
                    .unwrap();
            (rows.len() > index).then_some(rows)
        })
        .await;
        assert_eq!(classes[index].0, class, "message {index}");
    }
    let event = bench.announce(&announced).await;
    assert_eq!(bench.verdict_on(event).await.1.verdict, ValidationVerdict::Passed);
    let mut verdicts = bench.validated().await;
    verdicts.retain(|(attributes, _)| attributes.causation_id != Some(event));
    // Whoever waits for the candidate of a model that is unknown here must not wait for ever.
    assert_eq!(verdicts.len(), 1, "nothing else hostile had a verdict");
    let (attributes, given_up) = &verdicts[0];
    assert_eq!(attributes.model.as_str(), "stranger");
    assert_eq!(given_up.verdict, ValidationVerdict::Failed);
    assert!(
        given_up.failures[0].contains("could not be judged: model `stranger`"),
        "{:?}",
        given_up.failures
    );
    let (letters,): (i64,) = sqlx::query_as("select count(*) from validator.dead_letter")
        .fetch_one(&bench.pool)
        .await
        .unwrap();
    assert_eq!(usize::try_from(letters).unwrap(), count);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_that_was_given_up_is_judged_when_it_is_offered_again() {
    let bench = Bench::new(Holdout::AT_THE_LIMIT).await;
    let elsewhere = MODEL.replace("[models.fraud-cards]", "[models.fraud-transfers]");
    let service = bench.start(&elsewhere).await;
    let announced = trained("fraud-cards-1", bench.write("model.json", &stump()));
    let event = bench.announce(&announced).await;
    let (_, given_up) = bench.verdict_on(event).await;
    assert_eq!(given_up.verdict, ValidationVerdict::Failed);
    service.stop().await;

    // Somebody adds the model to the settings, and offers the event again.
    let service = bench.start(MODEL).await;
    let letter = find(&bench.pool, event.uuid()).await.unwrap().remove(0);
    let because = Because {
        by: "cli:ana",
        why: "the model is in the settings now",
    };
    decide(&bench.pool, letter.dead_letter_id, Decision::Redrive, because)
        .await
        .unwrap();
    let verdicts = eventually("the second verdict", async || {
        let verdicts = bench.validated().await;
        (verdicts.len() > 1).then_some(verdicts)
    })
    .await;
    let said: Vec<_> = verdicts
        .iter()
        .map(|(attributes, body)| (attributes.causation_id, body.verdict))
        .collect();
    assert_eq!(
        said,
        [
            (Some(event), ValidationVerdict::Failed),
            (Some(event), ValidationVerdict::Passed)
        ]
    );
    assert_ne!(verdicts[0].0.id, verdicts[1].0.id);
    service.stop().await;
}
