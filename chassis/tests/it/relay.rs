//! Committed events reach the stream, whatever happens to relays and broker.

use std::collections::BTreeMap;
use std::time::Duration;

use chassis::bus::{STREAM, STREAM_DEAD};
use chassis::outbox::{self, Draft};
use chassis::relay::publish_batch;
use chassis::{Cause, Context};
use local_stack::proxy::{Line, Proxy};
use local_stack::{Stack, StackOptions};
use schemas::events::DriftCheckRequested;
use schemas::flow::VIGIE;
use schemas::{EventId, EventKind};
use sqlx::PgPool;

use crate::support::{Bench, Running, count, eventually, messages, model};

pub async fn append(context: &Context, key: &str) -> EventId {
    let mut tx = context.pool.begin().await.unwrap();
    let id = append_in(&mut tx, key).await;
    tx.commit().await.unwrap();
    id
}

async fn append_in(tx: &mut chassis::Tx, key: &str) -> EventId {
    let body = DriftCheckRequested {
        as_of: "2026-01-01T00:00:00Z".parse().unwrap(),
        requested_by: "test".to_owned(),
        reason: key.to_owned(),
    };
    outbox::append(tx, VIGIE, Draft::new(&model(), Cause::Key(key.to_owned()), body))
        .await
        .unwrap()
        .id
}

pub async fn all_published(pool: &PgPool, rows: i64) {
    eventually(&format!("{rows} rows are published"), async || {
        (count(pool, "select count(*) from outbox where published_at is not null").await == rows)
            .then_some(())
    })
    .await;
}

/// Ids of the stream's messages with how often each is there.
pub async fn stored(context: &Context) -> BTreeMap<String, usize> {
    let mut stored = BTreeMap::new();
    for message in messages(&context.bus, STREAM).await {
        *stored
            .entry(message.headers.get("ce-id").unwrap().to_string())
            .or_default() += 1;
    }
    stored
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_committed_is_never_published() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    let mut open = toy.pool.begin().await.unwrap();
    let earlier = append_in(&mut open, "earlier").await;
    let mut undone = toy.pool.begin().await.unwrap();
    let never = append_in(&mut undone, "never").await;
    undone.rollback().await.unwrap();
    let relay = Running::relay(&toy);
    let later = append(&toy, "later").await;
    all_published(&toy.pool, 1).await;
    assert_eq!(stored(&toy).await, BTreeMap::from([(later.to_string(), 1)]));
    // Committed after a row with a larger number was published: a relay that remembers a position would miss it.
    open.commit().await.unwrap();
    all_published(&toy.pool, 2).await;
    relay.stop().await;
    let stored = stored(&toy).await;
    assert_eq!(
        stored,
        BTreeMap::from([(later.to_string(), 1), (earlier.to_string(), 1)])
    );
    assert!(!stored.contains_key(&never.to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_what_the_row_says() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    let id = append(&toy, "k").await;
    assert_eq!(
        publish_batch(&toy.pool, &toy.bus, &toy.metrics)
            .await
            .unwrap()
            .rows,
        1
    );
    let messages = messages(&toy.bus, STREAM).await;
    let message = &messages[0];
    assert_eq!(message.subject.as_str(), EventKind::DriftCheckRequested.subject());
    let header = |name: &str| message.headers.get(name).map(ToString::to_string);
    assert_eq!(header("Nats-Msg-Id"), Some(id.to_string()));
    assert_eq!(header("Nats-Expected-Stream").as_deref(), Some(STREAM));
    assert_eq!(header("ce-id"), Some(id.to_string()));
    assert_eq!(
        header("ce-type").as_deref(),
        Some("vigie.drift.check.requested.v1")
    );
    assert_eq!(header("ce-subject").as_deref(), Some("fraud-cards"));
    assert_eq!(header("ce-specversion").as_deref(), Some("1.0"));
    assert_eq!(header("content-type").as_deref(), Some("application/json"));
    let (recorded,): (chrono::DateTime<chrono::Utc>,) = sqlx::query_as("select created_at from outbox")
        .fetch_one(&toy.pool)
        .await
        .unwrap();
    let recorded = recorded.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    assert_eq!(header("ce-recordedtime"), Some(recorded));
    let (sequence, attempt): (i64, i32) = sqlx::query_as("select stream_seq, attempt from outbox")
        .fetch_one(&toy.pool)
        .await
        .unwrap();
    assert_eq!((sequence.unsigned_abs(), attempt), (message.sequence, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_killed_between_publish_and_mark_loses_nothing_and_doubles_nothing() {
    let bench = Bench::new().await;
    let proxy = Proxy::to_url(&bench.env.nats_url).await.unwrap();
    let doomed = bench
        .replica_of(
            "toy",
            "toy",
            &proxy.instead_of(&bench.env.nats_url).unwrap(),
            &bench.env.database_url,
        )
        .await;
    let witness = bench.replica().await;
    let relay = Running::relay(&doomed);
    let before = append(&doomed, "before").await;
    all_published(&witness.pool, 1).await;
    // The broker stores the message; its ack never arrives.
    proxy.set(Line::AnswersLost);
    let id = append(&doomed, "k").await;
    eventually("the message is in the stream", async || {
        stored(&witness).await.contains_key(&id.to_string()).then_some(())
    })
    .await;
    relay.kill().await;
    assert_eq!(
        count(
            &witness.pool,
            "select count(*) from outbox where published_at is not null"
        )
        .await,
        1
    );
    let relay = Running::relay(&witness);
    all_published(&witness.pool, 2).await;
    relay.stop().await;
    assert_eq!(
        stored(&witness).await,
        BTreeMap::from([(before.to_string(), 1), (id.to_string(), 1)]),
        "offered again, stored once"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_waits_for_is_published_before_what_is_published_again() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    let mut tx = toy.pool.begin().await.unwrap();
    for row in 0..200 {
        append_in(&mut tx, &format!("old {row}")).await;
    }
    tx.commit().await.unwrap();
    sqlx::query("update outbox set confirmed_at = clock_timestamp()")
        .execute(&toy.pool)
        .await
        .unwrap();
    let new = append(&toy, "new").await;
    let batch = chassis::relay::publish_batch(&toy.pool, &toy.bus, &toy.metrics)
        .await
        .unwrap();
    assert!(!batch.old);
    assert!(stored(&toy).await.contains_key(&new.to_string()));
    let batch = chassis::relay::publish_batch(&toy.pool, &toy.bus, &toy.metrics)
        .await
        .unwrap();
    assert!(batch.old);
    let relay = Running::relay(&toy);
    all_published(&toy.pool, 201).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_relays_share_the_rows() {
    let bench = Bench::new().await;
    let replicas = [
        bench.replica().await,
        bench.replica().await,
        bench.replica().await,
    ];
    let rows = 400;
    let mut tx = replicas[0].pool.begin().await.unwrap();
    for row in 0..rows {
        append_in(&mut tx, &format!("row {row}")).await;
    }
    tx.commit().await.unwrap();
    let relays: Vec<Running> = replicas.iter().map(Running::relay).collect();
    all_published(&replicas[0].pool, rows).await;
    for relay in relays {
        relay.stop().await;
    }
    let published: u64 = replicas
        .iter()
        .map(|replica| replica.metrics.published.get())
        .sum();
    assert_eq!(
        published,
        rows.unsigned_abs(),
        "no row was published by two relays"
    );
    let stored = stored(&replicas[0]).await;
    assert_eq!(stored.len(), 400);
    assert!(stored.values().all(|times| *times == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_broker_is_away_rows_wait_and_nothing_is_lost() {
    let bench = Bench::new().await;
    let proxy = Proxy::to_url(&bench.env.nats_url).await.unwrap();
    let toy = bench
        .replica_of(
            "toy",
            "toy",
            &proxy.instead_of(&bench.env.nats_url).unwrap(),
            &bench.env.database_url,
        )
        .await;
    proxy.set(Line::Cut);
    eventually("the client notices", async || {
        (!toy.bus.is_connected()).then_some(())
    })
    .await;
    // More than one batch, so that rows do not wait for each other's timeouts.
    let mut tx = toy.pool.begin().await.unwrap();
    for row in 0..100 {
        append_in(&mut tx, &format!("row {row}")).await;
    }
    tx.commit().await.unwrap();
    let relay = Running::relay(&toy);
    let elsewhere = bench.replica().await;
    // Another replica whose connection only seems to be up tries in vain, and says so in the rows.
    let half_open = Proxy::to_url(&bench.env.nats_url).await.unwrap();
    let deaf = bench
        .replica_of(
            "toy",
            "toy",
            &half_open.instead_of(&bench.env.nats_url).unwrap(),
            &bench.env.database_url,
        )
        .await;
    half_open.set(Line::QuestionsLost);
    publish_batch(&deaf.pool, &deaf.bus, &deaf.metrics).await.unwrap();
    assert!(count(&toy.pool, "select count(*) from outbox where attempt = 1").await > 0);
    assert_eq!(
        count(
            &toy.pool,
            "select count(*) from outbox where published_at is not null"
        )
        .await,
        0
    );
    assert_eq!(
        count(
            &toy.pool,
            "select count(*) from outbox where failed_reason is not null"
        )
        .await,
        0
    );
    proxy.set(Line::Pass);
    all_published(&toy.pool, 100).await;
    relay.stop().await;
    assert_eq!(stored(&elsewhere).await.len(), 100);
    assert!(stored(&elsewhere).await.values().all(|times| *times == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn acks_that_never_come_do_not_undo_the_ones_that_came() {
    let bench = Bench::new().await;
    let proxy = Proxy::to_url(&bench.env.nats_url).await.unwrap();
    let toy = bench
        .replica_of(
            "toy",
            "toy",
            &proxy.instead_of(&bench.env.nats_url).unwrap(),
            &bench.env.database_url,
        )
        .await;
    let mut tx = toy.pool.begin().await.unwrap();
    for row in 0..20 {
        append_in(&mut tx, &format!("row {row}")).await;
    }
    tx.commit().await.unwrap();
    proxy.set(Line::QuestionsLost);
    // One deadline for the batch: twenty timeouts one after the other would outlive the transaction's patience.
    assert_eq!(
        publish_batch(&toy.pool, &toy.bus, &toy.metrics)
            .await
            .unwrap()
            .rows,
        20
    );
    assert_eq!(
        count(&toy.pool, "select count(*) from outbox where attempt = 1").await,
        20
    );
    assert_eq!(
        count(
            &toy.pool,
            "select count(*) from outbox where next_at > created_at"
        )
        .await,
        20
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_and_comes_back_gets_what_it_missed() {
    chassis::install_crypto();
    // A stack of its own, because its broker is killed.
    let stack = Stack::start(StackOptions::for_tests()).await.unwrap();
    let nats_url = stack.nats_url();
    let database_url = stack.create_database("relay_outage").await.unwrap();
    let bench = Bench::new().await;
    let toy = bench.replica_of("toy", "toy", &nats_url, &database_url).await;
    let relay = Running::relay(&toy);
    append(&toy, "before").await;
    all_published(&toy.pool, 1).await;
    tokio::task::block_in_place(|| stack.nats().kill()).unwrap();
    for row in 0..10 {
        append(&toy, &format!("during {row}")).await;
    }
    eventually("the client notices", async || {
        (!toy.bus.is_connected()).then_some(())
    })
    .await;
    tokio::task::block_in_place(|| stack.nats().restart()).unwrap();
    all_published(&toy.pool, 11).await;
    append(&toy, "after").await;
    all_published(&toy.pool, 12).await;
    relay.stop().await;
    let stored = stored(&toy).await;
    assert_eq!(stored.len(), 12);
    assert!(stored.values().all(|times| *times == 1), "{stored:?}");
    toy.pool.close().await;
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_can_never_be_published_is_marked_and_blocks_nobody() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    let hostile = [
        // No header can hold this.
        serde_json::json!({ "ce-id": "x", "evil": "a\r\nNats-Rollup: all" }),
        serde_json::json!({ "bad name": "x" }),
        serde_json::json!({ "ce-id": 7 }),
        serde_json::json!(["not an object"]),
        // More than the broker takes.
        serde_json::json!({ "ce-id": "x".repeat(1_100_000) }),
        // Less than a message may have, and more than its headers may.
        serde_json::json!({ "ce-id": "x".repeat(100_000) }),
    ];
    let bad = i64::try_from(hostile.len()).unwrap();
    for headers in hostile {
        sqlx::query(
            "insert into outbox (event_id, subject, event_type, model, correlation_id, headers, data) \
             values ($1, 'drift.check.requested', 't', 'm', $1, $2, '{}')",
        )
        .bind(EventId::fresh().uuid())
        .bind(headers)
        .execute(&toy.pool)
        .await
        .unwrap();
    }
    let good = append(&toy, "good").await;
    let relay = Running::relay(&toy);
    all_published(&toy.pool, 1).await;
    eventually("the bad rows are marked", async || {
        (count(
            &toy.pool,
            "select count(*) from outbox where failed_reason is not null",
        )
        .await
            == bad)
            .then_some(())
    })
    .await;
    relay.stop().await;
    assert_eq!(stored(&toy).await, BTreeMap::from([(good.to_string(), 1)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_somebody_deleted_makes_rows_wait_until_it_is_there_again() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    toy.bus.jetstream().delete_stream(STREAM).await.unwrap();
    append(&toy, "k").await;
    let relay = Running::relay(&toy);
    // What the relay asks before it publishes anything.
    let compared = chassis::epoch::check(&toy.pool, &toy.bus, &toy.metrics).await;
    assert!(compared.unwrap_err().to_string().contains("is missing"));
    assert_eq!(
        count(
            &toy.pool,
            "select count(*) from outbox where failed_reason is not null"
        )
        .await,
        0
    );
    chassis::provision::streams(&toy.bus, &toy.nats).await.unwrap();
    all_published(&toy.pool, 1).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_stream_refuses_and_forgets_nothing() {
    let mut bench = Bench::new().await;
    bench.ack_wait = Duration::from_secs(2);
    let toy = bench.replica().await;
    let small = chassis::bus::NatsSettings {
        stream_bytes_max: 1 << 20,
        ..toy.nats.clone()
    };
    chassis::provision::streams(&toy.bus, &small).await.unwrap();
    // Fill it to the brim.
    let body = vec![b' '; 200_000];
    let mut accepted = 0;
    loop {
        let ack = toy
            .bus
            .jetstream()
            .publish("drift.filler", body.clone().into())
            .await
            .unwrap()
            .await;
        if ack.is_err() {
            break;
        }
        accepted += 1;
        assert!(accepted < 20, "a stream of 1 MiB takes no 4 MB");
    }
    let body = vec![b' '; 1_000];
    while toy
        .bus
        .jetstream()
        .publish("drift.filler", body.clone().into())
        .await
        .unwrap()
        .await
        .is_ok()
    {}
    let first = messages(&toy.bus, STREAM).await[0].sequence;
    append(&toy, "k").await;
    let relay = Running::relay(&toy);
    eventually("the relay has tried", async || {
        (count(&toy.pool, "select count(*) from outbox where attempt > 0").await == 1).then_some(())
    })
    .await;
    assert_eq!(
        messages(&toy.bus, STREAM).await[0].sequence,
        first,
        "the oldest event is still there"
    );
    chassis::provision::streams(&toy.bus, &toy.nats).await.unwrap();
    all_published(&toy.pool, 1).await;
    relay.stop().await;
    assert!(messages(&toy.bus, STREAM_DEAD).await.is_empty());
}
