//! Bad messages to each service are parked, and the flow goes on; any plain client sees events as documented.

use std::path::Path;
use std::time::{Duration, Instant};

use chassis::Sources;
use futures_util::StreamExt as _;
use local_stack::TestEnv;
use schemas::{EventKind, ModelName};
use sqlx::{AssertSqlSafe, PgPool};
use tokio_util::sync::CancellationToken;

pub const PATIENCE: Duration = Duration::from_secs(90);

/// Consumer, schema, and a subject it reads.
pub const READERS: [(&str, &str, &str); 5] = [
    ("drift-monitor", "drift_monitor", "model.promoted"),
    ("retrain-decider", "retrain_decider", "retrain.asked"),
    ("trainer-bridge", "trainer_bridge", "retrain.requested"),
    ("validator", "validator", "model.trained"),
    ("notifier", "notifier", "training.failed"),
];

pub fn settings(env: &TestEnv, folder: &Path) -> Sources {
    let text = format!(
        "[database]\nurl = {:?}\n[nats]\nurl = {:?}\nstream_bytes_max = 33554432\n\
         [http]\ndrift_monitor = \"\"\nretrain_decider = \"\"\ntrainer_bridge = \"\"\nvalidator = \"\"\nnotifier = \"\"\n\
         [clock]\nsource = \"replay\"\n[artifacts]\ndir = {:?}\n[notify]\nmailbox = {:?}\n\
         [models.cards]\nsource = \"postgres\"\ntable = \"bank.payment\"\ntime = \"tx_time\"\nlabel = \"is_fraud\"\n\
         label_delay = \"1d\"\nfeatures = [\"amount\"]\n",
        env.database_url,
        env.nats_url,
        folder.join("artifacts").display().to_string(),
        folder.join("mail").display().to_string()
    );
    Sources {
        overrides: vec![("the test".to_owned(), text)],
        ..Sources::default()
    }
}

async fn parked(pool: &PgPool, schema: &str) -> Vec<(String, i64)> {
    let query = format!("select reason_class, count(*) from {schema}.dead_letter group by 1 order by 1");
    sqlx::query_as(AssertSqlSafe(query))
        .fetch_all(pool)
        .await
        .unwrap_or_default()
}

fn expected(kinds: &[(&str, i64)]) -> Vec<(String, i64)> {
    kinds
        .iter()
        .map(|(class, count)| ((*class).to_owned(), *count))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_messages_are_parked_by_each_service_and_the_flow_goes_on() {
    chassis::install_crypto();
    let env = TestEnv::new().await;
    let folder = tempfile::tempdir().expect("a folder");
    let pool = PgPool::connect(&env.database_url).await.expect("connect");
    for statement in [
        "create schema bank",
        "create table bank.payment (tx_time timestamptz not null, is_fraud boolean, amount float8)",
    ] {
        sqlx::query(statement)
            .execute(&pool)
            .await
            .expect("create the table");
    }
    let stop = CancellationToken::new();
    let services = tokio::spawn(vigie::host::run_all(settings(&env, folder.path()), stop.clone()));
    let client = async_nats::connect(&env.nats_url).await.expect("connect to NATS");
    let jetstream = async_nats::jetstream::new(client.clone());
    let begun = Instant::now();
    while jetstream.get_stream("VIGIE").await.is_err() {
        assert!(
            begun.elapsed() < PATIENCE && !services.is_finished(),
            "the services do not come up"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // A plain subscriber, as `nats sub` is one.
    let mut declined = client.subscribe("retrain.>").await.expect("subscribe");
    client.flush().await.expect("flush");

    for (_, _, subject) in READERS {
        let kind = EventKind::ALL
            .iter()
            .find(|kind| kind.subject() == subject)
            .expect("a subject of ours");
        let headers = |ce_type: &str, id: &str| {
            let mut headers = async_nats::HeaderMap::new();
            for (name, value) in [
                ("ce-specversion", "1.0"),
                ("ce-id", id),
                ("ce-source", "/test"),
                ("ce-type", ce_type),
                ("ce-time", "2026-01-01T00:00:00Z"),
                ("ce-subject", "cards"),
            ] {
                headers.insert(name, value);
            }
            headers
        };
        let next = format!("vigie.{subject}.v2");
        let id = |n: u8| schemas::EventId::of_key(&format!("{subject}/{n}")).to_string();
        let messages: [(async_nats::HeaderMap, Vec<u8>); 5] = [
            (async_nats::HeaderMap::new(), b"\xff\xfe not an event".to_vec()),
            (headers(kind.ce_type(), &id(1)), b"{\"decision_id\": 7}".to_vec()),
            (headers(&next, &id(2)), b"{}".to_vec()),
            (headers(kind.ce_type(), &id(3)), vec![b' '; 300_000]),
            // The very same bytes again: parked once.
            (async_nats::HeaderMap::new(), b"\xff\xfe not an event".to_vec()),
        ];
        for (headers, body) in messages {
            let ack = jetstream
                .publish_with_headers(subject, headers, body.into())
                .await
                .expect("publish");
            ack.await.expect("stored");
        }
    }
    let all = expected(&[
        ("schema_invalid", 1),
        ("too_large", 1),
        ("undecodable", 1),
        ("unsupported_major", 1),
    ]);
    for (service, schema, _) in READERS {
        let begun = Instant::now();
        loop {
            let found = parked(&pool, schema).await;
            // The decider also reads what is meant for others, so it may have parked more of each class.
            if found.len() == all.len() && found.iter().zip(&all).all(|(f, e)| f.0 == e.0 && f.1 >= e.1) {
                break;
            }
            assert!(begun.elapsed() < PATIENCE, "{service} parked {found:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    // The flow goes on: an operator is answered.
    let model = ModelName::new("cards").expect("a name");
    let operator = vigie::operator::Operator::connect(&settings(&env, folder.path()))
        .await
        .expect("connect");
    let body = schemas::events::RetrainAsked {
        as_of: "2026-01-01T00:00:00Z".parse().expect("an instant"),
        requested_by: "test".to_owned(),
        reason: "the flow goes on".to_owned(),
        force: false,
    };
    let answers = [EventKind::RetrainRequested, EventKind::RetrainDeclined];
    operator
        .ask(&model, body, &answers, PATIENCE)
        .await
        .expect("an answer");

    let message = loop {
        let message = tokio::time::timeout(PATIENCE, declined.next())
            .await
            .expect("in time")
            .expect("a message");
        if message.subject.as_str() == "retrain.requested" && vigie::operator::decode(&message).is_ok() {
            break message;
        }
    };
    assert_documented("retrain.requested.v1", &message);
    stop.cancel();
    services.await.expect("no panic").expect("a clean end");
}

/// The body is what the published schema says.
pub fn assert_documented(stem: &str, message: &async_nats::Message) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../schemas/json/{stem}.json"));
    let schema: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).expect("the schema")).expect("JSON");
    let body: serde_json::Value = serde_json::from_slice(&message.payload).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let errors: Vec<String> = validator
        .iter_errors(&body)
        .map(|error| error.to_string())
        .collect();
    assert!(errors.is_empty(), "{stem}: {errors:?}");
    let headers = message.headers.as_ref().expect("headers");
    let received = vigie::operator::decode(message).expect("an event of ours");
    let said_by = received.attributes.source.rsplit('/').next().unwrap_or_default();
    let publishers = received.event.kind().publishers();
    assert!(
        publishers.contains(&said_by),
        "{stem} from {said_by}, not {publishers:?}"
    );
    for name in [
        "ce-id",
        "ce-type",
        "ce-source",
        "ce-time",
        "ce-subject",
        "ce-correlationid",
        "ce-specversion",
    ] {
        assert!(headers.get(name).is_some(), "{name} is missing");
    }
}
