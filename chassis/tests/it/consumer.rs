//! An event has its effects once, and what cannot be handled is parked, whatever befalls the handler.

use std::time::Duration;

use async_nats::jetstream::AckKind;
use async_nats::jetstream::consumer::{FromConsumer as _, pull};
use chassis::bus::{STREAM, STREAM_DEAD};
use chassis::{HandleError, Handler, Tx, provision};
use futures_util::StreamExt as _;
use local_stack::proxy::{Line, Proxy};
use schemas::events::RetrainAsked;
use schemas::{Event, EventKind, Received};

use crate::child::{self, ToyHandler};
use crate::support::{
    Act, Bench, KINDS, Running, Scripted, count, dead_letters, effects_of, eventually, handled, headers_of,
    messages, obliging, receipt, sample, send, send_sample,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_is_handled_once_and_counted() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    let consumer = Running::consumer(&toy, obliging());
    let (attributes, body) = sample();
    for copy in 0..5 {
        // A fresh message id each time: the broker cannot tell that they are the same event.
        let mut headers = headers_of(&attributes);
        headers.insert("Nats-Msg-Id", format!("{}#r{copy}", attributes.id).as_str());
        send(&toy.bus, headers, body.clone()).await;
    }
    eventually("all copies have been delivered", async || {
        (count(&toy.pool, "select coalesce(sum(deliveries), 0) from inbox").await >= 5).then_some(())
    })
    .await;
    assert_eq!(effects_of(&toy.pool, attributes.id).await.len(), 1);
    consumer.stop().await;
}

/// Has nothing to write for any event.
struct Silent;

impl Handler for Silent {
    type Prepared = ();

    fn writes((): &()) -> bool {
        false
    }

    async fn handle(&self, _: &mut Tx, _: &Received, (): &()) -> Result<(), HandleError> {
        panic!("there is nothing to handle")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_without_effects_has_its_receipt_and_its_place_in_the_record_once() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    let consumer = Running::consumer(&toy, Silent);
    let (attributes, body) = sample();
    for _ in 0..2 {
        send(&toy.bus, headers_of(&attributes), body.clone()).await;
    }
    eventually("both have been delivered", async || {
        (count(&toy.pool, "select coalesce(sum(deliveries), 0) from inbox").await >= 2).then_some(())
    })
    .await;
    let received = count(
        &toy.pool,
        "select count(*) from event_log where what = 'received'",
    )
    .await;
    assert_eq!(received, 1);
    assert_eq!(
        count(&toy.pool, "select count(*) from inbox where state = 'done'").await,
        1
    );
    assert_eq!(count(&toy.pool, "select count(*) from effect").await, 0);
    assert!(dead_letters(&toy.pool).await.is_empty());
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_broker_delivers_besides_is_left_alone() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    let consumer = Running::consumer(&toy, obliging());
    let (attributes, body) = sample();
    send(&toy.bus, headers_of(&attributes), body).await;
    handled(&toy.pool, attributes.id).await;
    // A broker that uses the numbers of lost messages again delivers by number, whatever the filter says.
    let stream = toy.bus.jetstream().get_stream(STREAM).await.unwrap();
    let made = stream.get_consumer::<pull::Config>("toy").await.unwrap();
    let mut asked = pull::Config::try_from_consumer_config(made.cached_info().config.clone()).unwrap();
    asked.filter_subject = String::new();
    asked.filter_subjects = [EventKind::DriftCheckRequested, EventKind::RetrainAsked]
        .map(|kind| kind.subject().to_owned())
        .into();
    stream.update_consumer(asked).await.unwrap();
    let foreign = RetrainAsked {
        requested_by: "test".to_owned(),
        as_of: "2026-01-01T00:00:00Z".parse().unwrap(),
        reason: "another's".to_owned(),
        force: false,
    };
    let (mut attributes, _) = sample();
    attributes.kind = EventKind::RetrainAsked;
    let body = Event::from(foreign).to_json().unwrap();
    let ack = toy
        .bus
        .jetstream()
        .publish_with_headers(
            EventKind::RetrainAsked.subject(),
            headers_of(&attributes),
            body.into(),
        )
        .await
        .unwrap();
    let number = ack.await.unwrap().sequence;
    eventually("the broker knows that it is dealt with", async || {
        let info = stream
            .get_consumer::<pull::Config>("toy")
            .await
            .ok()?
            .cached_info()
            .clone();
        (info.ack_floor.stream_sequence == number).then_some(())
    })
    .await;
    assert!(effects_of(&toy.pool, attributes.id).await.is_empty());
    assert!(
        dead_letters(&toy.pool).await.is_empty(),
        "nothing is wrong with it"
    );
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_has_nothing_to_do_holds_no_connection() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    let consumer = Running::consumer(&toy, obliging());
    let (attributes, body) = sample();
    for _ in 0..3 {
        send(&toy.bus, headers_of(&attributes), body.clone()).await;
    }
    handled(&toy.pool, attributes.id).await;
    eventually("every connection is back", async || {
        (toy.pool.num_idle() == toy.pool.size() as usize).then_some(())
    })
    .await;
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_readers_each_have_their_own_effects() {
    let bench = Bench::new().await;
    let (urls, database) = (&bench.env.nats_url, &bench.env.database_url);
    let one = bench.replica_of("one", "one", urls, database).await;
    let two = bench.replica_of("two", "two", urls, database).await;
    let readers = [
        Running::consumer(&one, obliging()),
        Running::consumer(&two, obliging()),
    ];
    let event = send_sample(&one.bus).await;
    assert_eq!(handled(&one.pool, event).await.len(), 1);
    assert_eq!(handled(&two.pool, event).await.len(), 1);
    for reader in readers {
        reader.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_share_the_work_and_each_event_is_done_once() {
    let bench = Bench::new().await;
    let replicas = [
        bench.replica().await,
        bench.replica().await,
        bench.replica().await,
    ];
    let consumers: Vec<Running> = replicas
        .iter()
        .map(|replica| Running::consumer(replica, obliging()))
        .collect();
    let mut events = Vec::new();
    for _ in 0..60 {
        events.push(send_sample(&replicas[0].bus).await);
    }
    for event in &events {
        assert_eq!(handled(&replicas[0].pool, *event).await.len(), 1);
    }
    for consumer in consumers {
        consumer.stop().await;
    }
    assert_eq!(count(&replicas[0].pool, "select count(*) from effect").await, 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_heal_is_rolled_back_and_offered_again() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    let stubborn =
        Scripted::new(|_: &Received, attempt| if attempt < 3 { Act::Transient } else { Act::Succeed });
    let consumer = Running::consumer(&toy, stubborn);
    let event = send_sample(&toy.bus).await;
    assert_eq!(
        handled(&toy.pool, event).await,
        ["attempt 3"],
        "the effects of failed attempts are undone"
    );
    consumer.stop().await;
    assert!(dead_letters(&toy.pool).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_waits_does_not_hold_up_the_others() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    let first = sample();
    let first_id = first.0.id;
    let fails_first = Scripted::new(move |received: &Received, _| {
        if received.attributes.id == first_id {
            Act::Transient
        } else {
            Act::Succeed
        }
    });
    let consumer = Running::consumer(&toy, fails_first);
    send(&toy.bus, headers_of(&first.0), first.1).await;
    for _ in 0..20 {
        let event = send_sample(&toy.bus).await;
        handled(&toy.pool, event).await;
    }
    assert!(effects_of(&toy.pool, first_id).await.is_empty());
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_a_parked_event_hears_of_it_in_the_same_transaction() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    let consumer = Running::consumer(&toy, Scripted::new(|_: &Received, _| Act::Permanent));
    let mut sent = Vec::new();
    for name in ["waited-for", "unspeakable"] {
        let (mut attributes, body) = sample();
        attributes.model = name.parse().unwrap();
        send(&toy.bus, headers_of(&attributes), body).await;
        sent.push(attributes.id);
    }
    eventually("both are parked", async || {
        (dead_letters(&toy.pool).await.len() == 2).then_some(())
    })
    .await;
    assert_eq!(
        effects_of(&toy.pool, sent[0]).await,
        ["given up: this can never work"]
    );
    // What cannot be told is parked all the same, and nothing of it stays half done.
    assert_eq!(effects_of(&toy.pool, sent[1]).await, Vec::<String>::new());
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_never_work_is_parked_with_its_reason_and_the_flow_goes_on() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    let picky = Scripted::new(
        |received: &Received, _| match received.attributes.model.as_str() {
            "cursed" => Act::Permanent,
            "stranger" => Act::UnknownModel,
            _ => Act::Succeed,
        },
    );
    let consumer = Running::consumer(&toy, picky);
    let relay = Running::relay(&toy);
    let mut parked = Vec::new();
    for name in ["cursed", "stranger"] {
        let (mut attributes, body) = sample();
        attributes.model = name.parse().unwrap();
        send(&toy.bus, headers_of(&attributes), body).await;
        parked.push(attributes);
    }
    let good = send_sample(&toy.bus).await;
    handled(&toy.pool, good).await;
    let letters = eventually("both are parked", async || {
        Some(dead_letters(&toy.pool).await).filter(|letters| letters.len() == 2)
    })
    .await;
    for (attributes, class, reason) in [
        (&parked[0], "handler_permanent", "this can never work"),
        (
            &parked[1],
            "unknown_model",
            "model `stranger` is not in the settings",
        ),
    ] {
        let letter = letters
            .iter()
            .find(|letter| letter.event_id == attributes.id.uuid())
            .unwrap();
        assert_eq!(
            (letter.reason_class.as_str(), letter.state.as_str()),
            (class, "parked")
        );
        assert!(letter.reason.contains(reason), "{}", letter.reason);
        assert_eq!(letter.deliveries, 1, "no retry can help, so there was none");
        assert_eq!(letter.headers["ce-id"], attributes.id.to_string(), "kept whole");
        assert!(
            effects_of(&toy.pool, attributes.id).await.is_empty(),
            "what the handler did is undone"
        );
    }
    assert_eq!(
        count(&toy.pool, "select count(*) from inbox where state = 'dead'").await,
        2
    );
    // People and tools learn of it from the stream.
    let dead = eventually("both messages are announced", async || {
        Some(messages(&toy.bus, STREAM_DEAD).await).filter(|messages| messages.len() == 2)
    })
    .await;
    let subjects: Vec<&str> = dead.iter().map(|message| message.subject.as_str()).collect();
    assert!(subjects.contains(&"dead.toy.handler_permanent"), "{subjects:?}");
    assert!(subjects.contains(&"dead.toy.unknown_model"), "{subjects:?}");
    for message in &dead {
        let header = |name: &str| {
            message
                .headers
                .get(name)
                .map(ToString::to_string)
                .unwrap_or_default()
        };
        assert_eq!(header("vigie-dead-consumer"), "toy");
        assert_eq!(header("vigie-dead-subject"), "drift.check.requested");
        assert!(!header("vigie-dead-reason").is_empty());
        assert_eq!(
            header("ce-type"),
            "vigie.drift.check.requested.v1",
            "the message keeps what it came with"
        );
    }
    relay.stop().await;
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_event_that_comes_again_stays_parked() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    let cursed = Scripted::new(|_: &Received, _| Act::Permanent);
    let consumer = Running::consumer(&toy, cursed);
    let (attributes, body) = sample();
    send(&toy.bus, headers_of(&attributes), body.clone()).await;
    eventually("it is parked", async || {
        (dead_letters(&toy.pool).await.len() == 1).then_some(())
    })
    .await;
    send(&toy.bus, headers_of(&attributes), body).await;
    eventually("it came again", async || {
        (count(&toy.pool, "select coalesce(sum(deliveries), 0) from inbox").await == 2).then_some(())
    })
    .await;
    let letters = dead_letters(&toy.pool).await;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].deliveries, 1, "it was not handled again");
    assert_eq!(
        count(&toy.pool, "select count(*) from outbox").await,
        1,
        "and not announced again"
    );
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_panics_harms_neither_the_service_nor_the_other_events() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    let clumsy = Scripted::new(
        |received: &Received, attempt| match received.attributes.model.as_str() {
            "banana" if attempt == 1 => Act::Panic,
            _ => Act::Succeed,
        },
    );
    let consumer = Running::consumer(&toy, clumsy);
    let (mut attributes, body) = sample();
    attributes.model = "banana".parse().unwrap();
    send(&toy.bus, headers_of(&attributes), body).await;
    let good = send_sample(&toy.bus).await;
    handled(&toy.pool, good).await;
    assert_eq!(handled(&toy.pool, attributes.id).await, ["attempt 2"]);
    assert!(!consumer.is_finished(), "the consumer is still there");
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_the_commit_the_work_is_redone() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    let hang = Scripted::new(|_: &Received, _| Act::Hang);
    let doomed = Running::consumer(&toy, hang);
    let event = send_sample(&toy.bus).await;
    eventually("the handler is at work", async || {
        (count(
            &toy.pool,
            "select count(*) from pg_stat_activity where state = 'idle in transaction'",
        )
        .await
            > 0)
        .then_some(())
    })
    .await;
    doomed.kill().await;
    assert!(effects_of(&toy.pool, event).await.is_empty());
    let consumer = Running::consumer(&toy, obliging());
    assert_eq!(handled(&toy.pool, event).await.len(), 1);
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_commit_and_ack_the_work_is_not_redone() {
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
    let handler = ToyHandler {
        pool: witness.pool.clone(),
        patience: Duration::from_secs(60),
    };
    let consumer = Running::consumer(&doomed, handler);
    let event = child::send_waiting(&witness.bus, "commit").await;
    child::visited(&witness.pool, event, 1).await;
    // From here on no ack gets through; then the handler may commit.
    proxy.set(Line::QuestionsLost);
    child::open_gate(&witness.pool, "commit").await;
    handled(&witness.pool, event).await;
    consumer.kill().await;
    let handler = ToyHandler {
        pool: witness.pool.clone(),
        patience: Duration::from_secs(60),
    };
    let consumer = Running::consumer(&witness, handler);
    eventually("it came again as a duplicate", async || {
        (count(&witness.pool, "select coalesce(sum(deliveries), 0) from inbox").await == 2).then_some(())
    })
    .await;
    assert_eq!(effects_of(&witness.pool, event).await.len(), 1);
    assert_eq!(
        child::follow_ups(&witness.pool, event).await,
        1,
        "and what follows is said once"
    );
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_handler_keeps_its_message() {
    let mut bench = Bench::new().await;
    bench.ack_wait = Duration::from_secs(1);
    let replicas = [bench.replica().await, bench.replica().await];
    let consumers: Vec<Running> = replicas
        .iter()
        .map(|replica| {
            let handler = ToyHandler {
                pool: replica.pool.clone(),
                patience: Duration::from_secs(60),
            };
            Running::consumer(replica, handler)
        })
        .collect();
    let slow = child::send_waiting(&replicas[0].bus, "slow").await;
    child::visited(&replicas[0].pool, slow, 1).await;
    // The broker's patience passes several times; it is the server's time that counts, so other work measures it.
    let begun = std::time::Instant::now();
    eventually("the ack wait is long over", async || {
        (begun.elapsed() > bench.ack_wait * 4).then_some(())
    })
    .await;
    child::open_gate(&replicas[0].pool, "slow").await;
    handled(&replicas[0].pool, slow).await;
    let other = send_sample(&replicas[0].bus).await;
    handled(&replicas[0].pool, other).await;
    for consumer in consumers {
        consumer.stop().await;
    }
    let (visits,): (i64,) = sqlx::query_as("select count(*) from visit where event_id = $1")
        .bind(slow.uuid())
        .fetch_one(&replicas[0].pool)
        .await
        .unwrap();
    assert_eq!(visits, 1, "nobody else was given the message meanwhile");
}

/// Delivers the waiting message `times` times without success, as processes that die would.
pub async fn waste_deliveries(toy: &chassis::Context, times: usize) {
    let consumer: async_nats::jetstream::consumer::Consumer<pull::Config> =
        provision::consumer(&toy.bus, &toy.nats, "toy", KINDS)
            .await
            .unwrap();
    for _ in 0..times {
        let mut batch = consumer
            .batch()
            .max_messages(1)
            .expires(Duration::from_secs(20))
            .messages()
            .await
            .unwrap();
        let message = batch.next().await.expect("the message is offered").unwrap();
        message.ack_with(AckKind::Nak(None)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_kills_its_readers_is_parked_before_it_is_handled_once_more() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    let deadly = send_sample(&toy.bus).await;
    waste_deliveries(&toy, 7).await;
    let consumer = Running::consumer(&toy, obliging());
    let letters = eventually("it is parked", async || {
        Some(dead_letters(&toy.pool).await).filter(|letters| !letters.is_empty())
    })
    .await;
    assert_eq!(letters[0].reason_class, "deliveries_exhausted");
    assert_eq!(letters[0].event_id, deadly.uuid());
    assert_eq!(letters[0].deliveries, 8);
    assert!(
        effects_of(&toy.pool, deadly).await.is_empty(),
        "the eighth delivery meets no handler"
    );
    let good = send_sample(&toy.bus).await;
    handled(&toy.pool, good).await;
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_done_is_not_parked_however_often_it_comes() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    let event = send_sample(&toy.bus).await;
    // Done by a reader whose acks all got lost.
    let mut tx = toy.pool.begin().await.unwrap();
    receipt(&mut tx, "toy", event).await;
    tx.commit().await.unwrap();
    waste_deliveries(&toy, 9).await;
    let consumer = Running::consumer(&toy, obliging());
    eventually("it came again", async || {
        (count(&toy.pool, "select coalesce(sum(deliveries), 0) from inbox").await == 2).then_some(())
    })
    .await;
    consumer.stop().await;
    assert!(dead_letters(&toy.pool).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_database_messages_stay_with_the_broker_and_nothing_is_counted_against_them() {
    let bench = Bench::new().await;
    let proxy = Proxy::to_url(&bench.env.database_url).await.unwrap();
    let witness = bench.replica().await;
    let toy = bench
        .replica_of(
            "toy",
            "toy",
            &bench.env.nats_url,
            &proxy.instead_of(&bench.env.database_url).unwrap(),
        )
        .await;
    let consumer = Running::consumer(&toy, obliging());
    let before = send_sample(&witness.bus).await;
    handled(&witness.pool, before).await;
    proxy.set(Line::Cut);
    let during = send_sample(&witness.bus).await;
    // The service notices on its own and goes on waiting.
    eventually("the pool is useless", async || {
        sqlx::query("select 1").execute(&toy.pool).await.err()
    })
    .await;
    proxy.set(Line::Pass);
    assert_eq!(handled(&witness.pool, during).await.len(), 1);
    assert!(!consumer.is_finished());
    consumer.stop().await;
    assert!(dead_letters(&witness.pool).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_broker_the_consumer_waits_and_goes_on() {
    let bench = Bench::new().await;
    let proxy = Proxy::to_url(&bench.env.nats_url).await.unwrap();
    let witness = bench.replica().await;
    let toy = bench
        .replica_of(
            "toy",
            "toy",
            &proxy.instead_of(&bench.env.nats_url).unwrap(),
            &bench.env.database_url,
        )
        .await;
    let consumer = Running::consumer(&toy, obliging());
    let before = send_sample(&witness.bus).await;
    handled(&witness.pool, before).await;
    proxy.set(Line::Cut);
    eventually("the client notices", async || {
        (!toy.bus.is_connected()).then_some(())
    })
    .await;
    let during = send_sample(&witness.bus).await;
    proxy.set(Line::Pass);
    assert_eq!(handled(&witness.pool, during).await.len(), 1);
    consumer.stop().await;
}
