//! What the broker keeps is what was asked, or the service says what differs.

use std::time::Duration;

use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::stream::{Config, DiscardPolicy, StorageType};
use chassis::bus::{Bus, NatsSettings, STREAM, STREAM_ADVISORY, STREAM_DEAD};
use chassis::provision;
use schemas::EventKind;

use crate::support::{Bench, KINDS, Running, eventually, handled, obliging, send_sample};

#[tokio::test(flavor = "multi_thread")]
async fn the_three_streams_are_made_as_designed_and_making_them_again_changes_nothing() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    provision::streams(&toy.bus, &toy.nats).await.unwrap();
    for name in [STREAM, STREAM_DEAD, STREAM_ADVISORY] {
        let stream = toy.bus.jetstream().get_stream(name).await.unwrap();
        let config = &stream.cached_info().config;
        assert_eq!(config.storage, StorageType::File, "{name}");
        assert_eq!(config.discard, DiscardPolicy::New, "{name}");
        assert!(config.deny_delete, "{name}");
        assert!(config.max_bytes > 0, "{name} is bounded");
        assert_eq!(config.max_age, toy.nats.stream_age_max, "{name}");
    }
    let stream = toy.bus.jetstream().get_stream(STREAM).await.unwrap();
    let subjects = &stream.cached_info().config.subjects;
    for kind in EventKind::ALL {
        let root = kind.subject().split('.').next().unwrap();
        assert!(
            subjects.contains(&format!("{root}.>")),
            "{kind} has a place in {subjects:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_services_that_start_at_once_agree() {
    let bench = Bench::new().await;
    let settings = bench.nats_settings(&bench.env.nats_url);
    let starts = (0..8).map(|_| async {
        let bus = Bus::connect(&settings, "toy").await?;
        provision::streams(&bus, &settings).await?;
        provision::consumer(&bus, &settings, "toy", KINDS).await
    });
    for started in futures_util::future::join_all(starts).await {
        started.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_with_other_limits_is_brought_to_what_the_settings_say() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    let wider = NatsSettings {
        stream_bytes_max: 128 << 20,
        stream_age_max: Duration::from_secs(7 * 86_400),
        ..toy.nats.clone()
    };
    provision::streams(&toy.bus, &wider).await.unwrap();
    let stream = toy.bus.jetstream().get_stream(STREAM).await.unwrap();
    assert_eq!(stream.cached_info().config.max_bytes, 128 << 20);
    assert_eq!(stream.cached_info().config.max_age, wider.stream_age_max);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_cannot_be_what_was_asked_is_refused_with_a_sentence() {
    let bench = Bench::new().await;
    let settings = bench.nats_settings(&bench.env.nats_url);
    let bus = Bus::connect(&settings, "toy").await.unwrap();
    // An administrator made it in memory: it would forget what it acknowledged.
    let foreign = Config {
        name: STREAM.to_owned(),
        subjects: vec!["drift.>".to_owned()],
        storage: StorageType::Memory,
        max_bytes: 1 << 20,
        ..Config::default()
    };
    bus.jetstream().create_stream(foreign).await.unwrap();
    let error = format!("{:#}", provision::streams(&bus, &settings).await.unwrap_err());
    assert!(error.contains(STREAM) && error.contains("storage"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_somebody_else_on_our_subjects_is_refused_with_a_sentence() {
    let bench = Bench::new().await;
    let settings = bench.nats_settings(&bench.env.nats_url);
    let bus = Bus::connect(&settings, "toy").await.unwrap();
    let foreign = Config {
        name: "SOMEBODY".to_owned(),
        subjects: vec!["drift.detected".to_owned()],
        max_bytes: 1 << 20,
        ..Config::default()
    };
    bus.jetstream().create_stream(foreign).await.unwrap();
    let error = format!("{:#}", provision::streams(&bus, &settings).await.unwrap_err());
    assert!(error.contains(STREAM) && error.contains("overlap"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_follows_the_subjects_of_a_new_release() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    provision::consumer(&toy.bus, &toy.nats, "toy", KINDS)
        .await
        .unwrap();
    let more = [EventKind::DriftCheckRequested, EventKind::ModelPromoted];
    let consumer = provision::consumer(&toy.bus, &toy.nats, "toy", &more)
        .await
        .unwrap();
    let mut subjects = consumer.cached_info().config.filter_subjects.clone();
    subjects.sort();
    assert_eq!(subjects, ["drift.check.requested", "model.promoted"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_consumer_is_made_again_and_events_have_their_effects_once() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    let consumer = Running::consumer(&toy, obliging());
    let before = send_sample(&toy.bus).await;
    handled(&toy.pool, before).await;
    let stream = toy.bus.jetstream().get_stream(STREAM).await.unwrap();
    stream.delete_consumer("toy").await.unwrap();
    let after = send_sample(&toy.bus).await;
    handled(&toy.pool, after).await;
    // The new consumer offers everything again.
    eventually("the old event came again as a duplicate", async || {
        let (deliveries,): (i32,) = sqlx::query_as("select deliveries from inbox where event_id = $1")
            .bind(before.uuid())
            .fetch_one(&toy.pool)
            .await
            .unwrap();
        (deliveries >= 2).then_some(())
    })
    .await;
    assert_eq!(handled(&toy.pool, before).await.len(), 1);
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_streams_are_made_again_while_the_service_runs() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    let consumer = Running::consumer(&toy, obliging());
    let before = send_sample(&toy.bus).await;
    handled(&toy.pool, before).await;
    toy.bus.jetstream().delete_stream(STREAM).await.unwrap();
    eventually("the stream is there again", async || {
        toy.bus.jetstream().get_stream(STREAM).await.ok()
    })
    .await;
    let after = send_sample(&toy.bus).await;
    handled(&toy.pool, after).await;
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_consumer_of_the_same_name_stops_nothing_for_ever() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    let stream = toy.bus.jetstream().get_stream(STREAM).await.unwrap();
    let push = async_nats::jetstream::consumer::push::Config {
        durable_name: Some("toy".to_owned()),
        deliver_subject: "somewhere".to_owned(),
        ..Default::default()
    };
    stream.create_consumer(push).await.unwrap();
    let consumer = Running::consumer(&toy, obliging());
    let event = send_sample(&toy.bus).await;
    eventually("the consumer waits, and says so", async || {
        provision::consumer(&toy.bus, &toy.nats, "toy", KINDS).await.err()
    })
    .await;
    stream.delete_consumer("toy").await.unwrap();
    handled(&toy.pool, event).await;
    consumer.stop().await;
    let kept: async_nats::jetstream::consumer::Consumer<pull::Config> =
        stream.get_consumer("toy").await.unwrap();
    assert_eq!(kept.cached_info().config.max_deliver, -1);
}
