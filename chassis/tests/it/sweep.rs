//! What has no receipt is offered again; what merely waits is not.

use std::time::Duration;

use async_nats::jetstream::AckKind;
use chassis::Context;
use chassis::sweep::{Patience, Swept, round};
use futures_util::StreamExt as _;

use crate::relay::{all_published, append};
use crate::support::{Bench, Running, count, dead_letters, eventually, handled, obliging};

const PATIENT: Patience = Patience {
    overdue: Duration::from_secs(300),
};
const AT_ONCE: Patience = Patience {
    overdue: Duration::ZERO,
};

/// `drift.check.requested` is published by `vigie` and must be read by `drift-monitor`.
async fn parties(bench: &Bench) -> (Context, Context) {
    let (nats, database) = (&bench.env.nats_url, &bench.env.database_url);
    (
        bench.replica_of("vigie", "vigie_operator", nats, database).await,
        bench
            .replica_of("drift-monitor", "drift_monitor", nats, database)
            .await,
    )
}

/// As if the broker had acknowledged it and forgotten it.
async fn pretend_published(vigie: &Context) {
    sqlx::query(
        "update outbox set published_at = clock_timestamp(), stream_seq = 1000 where published_at is null",
    )
    .execute(&vigie.pool)
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_without_a_receipt_is_offered_again_and_confirmed_once_it_has_one() {
    let bench = Bench::new().await;
    let (vigie, monitor) = parties(&bench).await;
    let event = append(&vigie, "forgotten").await;
    pretend_published(&vigie).await;
    let patient = round(&vigie, PATIENT).await.unwrap();
    assert_eq!(patient, Swept::default(), "it may still be under way");
    let swept = round(&vigie, AT_ONCE).await.unwrap();
    assert_eq!((swept.reoffered, swept.confirmed), (1, 0));
    let relay = Running::relay(&vigie);
    let consumer = Running::consumer(&monitor, obliging());
    assert_eq!(handled(&monitor.pool, event).await.len(), 1);
    all_published(&vigie.pool, 1).await;
    let swept = round(&vigie, AT_ONCE).await.unwrap();
    assert_eq!((swept.reoffered, swept.confirmed), (0, 1));
    assert_eq!(round(&vigie, AT_ONCE).await.unwrap(), Swept::default());
    consumer.stop().await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_at_the_broker_for_a_reader_that_is_away_is_not_offered_again() {
    let bench = Bench::new().await;
    let (vigie, monitor) = parties(&bench).await;
    let relay = Running::relay(&vigie);
    append(&vigie, "waits").await;
    all_published(&vigie.pool, 1).await;
    assert_eq!(round(&vigie, AT_ONCE).await.unwrap(), Swept::default());
    // The reader has a consumer and does not come.
    chassis::provision::consumer(
        &monitor.bus,
        &monitor.nats,
        "drift-monitor",
        crate::support::KINDS,
    )
    .await
    .unwrap();
    assert_eq!(round(&vigie, AT_ONCE).await.unwrap(), Swept::default());
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_offer_helps_is_left_to_a_person() {
    let bench = Bench::new().await;
    let (vigie, _monitor) = parties(&bench).await;
    append(&vigie, "hopeless").await;
    for offer in 0..10 {
        pretend_published(&vigie).await;
        assert_eq!(
            round(&vigie, AT_ONCE).await.unwrap().reoffered,
            1,
            "offer {offer}"
        );
    }
    pretend_published(&vigie).await;
    let swept = round(&vigie, AT_ONCE).await.unwrap();
    assert_eq!((swept.reoffered, swept.given_up), (0, 1));
    let letters = dead_letters(&vigie.pool).await;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].reason_class, "deliveries_exhausted");
    assert_eq!(round(&vigie, AT_ONCE).await.unwrap(), Swept::default());
    let failed = "select count(*) from outbox where failed_reason like 'drift-monitor has no receipt%'";
    assert_eq!(count(&vigie.pool, failed).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_was_never_installed_is_not_waited_for() {
    let bench = Bench::new().await;
    let (nats, database) = (&bench.env.nats_url, &bench.env.database_url);
    let vigie = bench.replica_of("vigie", "vigie_operator", nats, database).await;
    append(&vigie, "nobody").await;
    pretend_published(&vigie).await;
    assert_eq!(round(&vigie, AT_ONCE).await.unwrap(), Swept::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_somebody_elses_message_has_is_not_taken_for_one_that_waits() {
    let bench = Bench::new().await;
    let (vigie, monitor) = parties(&bench).await;
    append(&vigie, "from a stream that is no more").await;
    pretend_published(&vigie).await;
    // In the stream that was made again, others have published past the number, and nothing is for this reader.
    chassis::provision::consumer(
        &monitor.bus,
        &monitor.nats,
        "drift-monitor",
        crate::support::KINDS,
    )
    .await
    .unwrap();
    let subject = schemas::EventKind::DriftChecked.subject();
    for _ in 0..2 {
        let stored = vigie.bus.jetstream().publish(subject, "of another".into()).await;
        stored.unwrap().await.unwrap();
    }
    sqlx::query("update outbox set stream_seq = 1")
        .execute(&vigie.pool)
        .await
        .unwrap();
    assert_eq!(round(&vigie, AT_ONCE).await.unwrap().reoffered, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_somebody_terminated_trips_the_wire() {
    let bench = Bench::new().await;
    let (vigie, monitor) = parties(&bench).await;
    let relay = Running::relay(&vigie);
    append(&vigie, "terminated").await;
    all_published(&vigie.pool, 1).await;
    round(&vigie, PATIENT).await.unwrap();
    assert_eq!(vigie.metrics.advisories.get(), 0);
    let consumer = chassis::provision::consumer(
        &monitor.bus,
        &monitor.nats,
        "drift-monitor",
        crate::support::KINDS,
    )
    .await
    .unwrap();
    let mut batch = consumer.fetch().max_messages(1).messages().await.unwrap();
    let message = batch.next().await.unwrap().unwrap();
    message.ack_with(AckKind::Term).await.unwrap();
    eventually("the advisory", async || {
        round(&vigie, PATIENT).await.unwrap();
        (vigie.metrics.advisories.get() == 1).then_some(())
    })
    .await;
    relay.stop().await;
}
