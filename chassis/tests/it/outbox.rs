//! What is written beside a state change, and what is refused there.

use chassis::Cause;
use chassis::outbox::{self, Draft};
use schemas::events::DriftCheckRequested;
use schemas::flow::VIGIE;
use schemas::{DATA_BYTES_MAX, EventKind, SOURCE_PREFIX};

use crate::support::{Bench, count, model};

fn body(reason: String) -> DriftCheckRequested {
    DriftCheckRequested {
        as_of: "2026-01-01T00:00:00Z".parse().unwrap(),
        requested_by: "test".to_owned(),
        reason,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_and_its_state_change_are_one_transaction() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    let mut tx = toy.pool.begin().await.unwrap();
    let draft = Draft::new(&model(), Cause::Key("slot/1".to_owned()), body(String::new()));
    outbox::append(&mut tx, VIGIE, draft.clone()).await.unwrap();
    assert_eq!(
        count(&toy.pool, "select count(*) from outbox").await,
        0,
        "nobody sees it before the commit"
    );
    tx.rollback().await.unwrap();
    assert_eq!(
        count(&toy.pool, "select count(*) from outbox").await,
        0,
        "a rolled back change was never said"
    );
    let mut tx = toy.pool.begin().await.unwrap();
    outbox::append(&mut tx, VIGIE, draft).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(
        count(
            &toy.pool,
            "select count(*) from outbox where published_at is null"
        )
        .await,
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn saying_it_again_says_it_under_the_same_name_once() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let mut tx = toy.pool.begin().await.unwrap();
        let draft = Draft::new(&model(), Cause::Key("slot/1".to_owned()), body(String::new()));
        ids.push(outbox::append(&mut tx, VIGIE, draft).await.unwrap().id);
        tx.commit().await.unwrap();
    }
    assert!(ids.iter().all(|id| *id == ids[0]));
    assert_eq!(count(&toy.pool, "select count(*) from outbox").await, 1);
    let mut tx = toy.pool.begin().await.unwrap();
    let mut other = Draft::new(&model(), Cause::Key("slot/1".to_owned()), body(String::new()));
    other.discriminator = "second".to_owned();
    outbox::append(&mut tx, VIGIE, other).await.unwrap();
    let spontaneous = Draft::new(&model(), Cause::Spontaneous, body(String::new()));
    outbox::append(&mut tx, VIGIE, spontaneous.clone()).await.unwrap();
    outbox::append(&mut tx, VIGIE, spontaneous).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(count(&toy.pool, "select count(*) from outbox").await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused_when_it_is_written_and_nothing_of_its_transaction_stays() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    let frame = serde_json::to_vec(&body(String::new())).unwrap().len();
    for (bytes, fits) in [(DATA_BYTES_MAX, true), (DATA_BYTES_MAX + 1, false)] {
        let mut tx = toy.pool.begin().await.unwrap();
        sqlx::query("insert into gate (name) values ($1)")
            .bind(bytes.to_string())
            .execute(&mut *tx)
            .await
            .unwrap();
        let draft = Draft::new(
            &model(),
            Cause::Key(bytes.to_string()),
            body("x".repeat(bytes - frame)),
        );
        match outbox::append(&mut tx, VIGIE, draft).await {
            Ok(_) => {
                assert!(fits, "{bytes} bytes were accepted");
                tx.commit().await.unwrap();
            }
            Err(error) => {
                assert!(!fits, "{bytes} bytes were refused: {error}");
                assert!(error.to_string().contains("outbox_data_fits"), "{error}");
            }
        }
    }
    assert_eq!(count(&toy.pool, "select count(*) from outbox").await, 1);
    assert_eq!(count(&toy.pool, "select count(*) from gate").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_holds_all_that_the_message_will_say() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    let name = schemas::ModelName::new("Betrug \"ä\" 100%").unwrap();
    let mut tx = toy.pool.begin().await.unwrap();
    let appended = outbox::append(
        &mut tx,
        VIGIE,
        Draft::new(&name, Cause::Spontaneous, body("why".to_owned())),
    )
    .await
    .unwrap();
    tx.commit().await.unwrap();
    let (subject, headers, data): (String, serde_json::Value, Vec<u8>) =
        sqlx::query_as("select subject, headers, data from outbox")
            .fetch_one(&toy.pool)
            .await
            .unwrap();
    assert_eq!(subject, EventKind::DriftCheckRequested.subject());
    let pairs: Vec<(&str, &str)> = headers
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str().unwrap()))
        .collect();
    for (name, value) in &pairs {
        assert!(
            value.bytes().all(|b| (0x21..=0x7e).contains(&b)),
            "{name}: {value:?} fits into any header"
        );
    }
    let received = schemas::decode(pairs, &data).unwrap();
    assert_eq!(received.attributes.model, name);
    assert_eq!(received.attributes.id, appended.id);
    assert_eq!(received.attributes.correlation_id, appended.correlation_id);
    assert_eq!(received.attributes.causation_id, None);
    assert_eq!(received.attributes.source, format!("{SOURCE_PREFIX}{VIGIE}"));
}
