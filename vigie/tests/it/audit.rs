//! The record, as people ask it: the story of a loop, whether somebody changed it, who was champion when.

use std::collections::BTreeMap;
use std::path::Path;

use chassis::db::{self, DatabaseSettings};
use chassis::outbox::{self, Draft};
use chassis::{Cause, Secret, Service as _, inbox, seal};
use chrono::{DateTime, Utc};
use local_stack::TestEnv;
use schemas::events::ModelPromoted;
use schemas::{Event, EventId, EventKind, ModelName, Received, TraceContext};
use serde_json::Value;
use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, Executor as _, PgPool};
use trainer_bridge::TrainerBridge;

use crate::{told, vigie};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SERVICES: [&str; 5] = [
    "drift-monitor",
    "notifier",
    "retrain-decider",
    "trainer-bridge",
    "validator",
];

/// The services' tables and what they write there, without the services.
struct House {
    env: TestEnv,
    pools: BTreeMap<&'static str, PgPool>,
}

impl House {
    async fn new() -> Self {
        chassis::install_crypto();
        let env = TestEnv::new().await;
        let mut pools = BTreeMap::new();
        for service in SERVICES {
            let settings = DatabaseSettings {
                url: Secret::new(&env.database_url),
                connections_max: 2,
                acquire_timeout: std::time::Duration::from_secs(60),
                answer_timeout: std::time::Duration::from_secs(60),
                migrate: true,
            };
            let schema = service.replace('-', "_");
            let pool = db::connect(&settings, service, &schema).await.unwrap();
            let nothing = Migrator::with_migrations(Vec::new());
            let own = match service {
                "trainer-bridge" => TrainerBridge::DEFINITION.migrator,
                _ => &nothing,
            };
            db::migrate(&pool, &schema, own).await.unwrap();
            pools.insert(service, pool);
        }
        Self { env, pools }
    }

    /// Says an event as its publisher does, and gives it to its readers.
    async fn happens(&self, cause: Cause, event: Event) -> Received {
        let kind = event.kind();
        let publisher = kind.publishers()[0];
        let mut tx = self.pools[publisher].begin().await.unwrap();
        let draft = Draft {
            model: ModelName::new("fraud-cards").unwrap(),
            cause,
            discriminator: String::new(),
            event,
            trace: Some(TraceContext {
                parent: Some(format!("00-{TRACE}-d75597dee50b0cac-01")),
                state: None,
            }),
        };
        let id = outbox::append(&mut tx, publisher, draft).await.unwrap().id;
        tx.commit().await.unwrap();
        let (headers, data): (Value, Vec<u8>) =
            sqlx::query_as("select headers, data from outbox where event_id = $1")
                .bind(id.uuid())
                .fetch_one(&self.pools[publisher])
                .await
                .unwrap();
        let pairs = headers.as_object().unwrap().iter();
        let pairs = pairs.filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)));
        let received = schemas::decode(pairs, &data).unwrap();
        for reader in kind.readers() {
            let mut tx = self.pools[reader].begin().await.unwrap();
            assert!(inbox::receive(&mut tx, reader, &received, &data).await.unwrap());
            tx.commit().await.unwrap();
        }
        received
    }

    async fn seal(&self) {
        for pool in self.pools.values() {
            while seal::round(pool).await.unwrap() > 0 {}
        }
    }

    /// Runs the command against this database; the broker is not needed.
    async fn ask(&self, arguments: &[&str]) -> (i32, String, String) {
        ask(&self.env.database_url, arguments).await
    }
}

async fn ask(database_url: &str, arguments: &[&str]) -> (i32, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = vigie(folder.path());
    command
        .env("FRAUD_DATABASE_URL", database_url)
        .env("NATS_URL", "nats://127.0.0.1:9")
        .args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    told(&output)
}

/// The body of a golden sample.
fn sample(kind: EventKind) -> Event {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../schemas/golden/{}.json", kind.file_stem()));
    let document: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    Event::from_json(kind, document["data"].to_string().as_bytes()).unwrap()
}

/// A loop from a check to its alert.
const LOOP: [EventKind; 8] = [
    EventKind::DriftChecked,
    EventKind::DriftDetected,
    EventKind::RetrainRequested,
    EventKind::TrainingStarted,
    EventKind::ModelTrained,
    EventKind::ModelValidated,
    EventKind::ModelPromoted,
    EventKind::AlertSent,
];

async fn a_loop(house: &House) -> Vec<Received> {
    let mut events: Vec<Received> = Vec::new();
    for kind in LOOP {
        let cause = match events.last() {
            None => Cause::Key("fraud-cards/2026-03-14T15:00".to_owned()),
            Some(before) => Cause::event(before),
        };
        events.push(house.happens(cause, sample(kind)).await);
    }
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_is_told_from_its_first_metric_to_the_alert_with_who_has_what() {
    let house = House::new().await;
    let events = a_loop(&house).await;
    let correlation = events[0].attributes.id.to_string();
    let (code, text, err) = house.ask(&["audit", "show", "--correlation", &correlation]).await;
    assert_eq!((code, err.as_str()), (0, ""));
    let mut rest = text.as_str();
    for part in [
        "of model fraud-cards: 8 events",
        TRACE,
        " drift-monitor    drift.checked ",
        "metric    data_drift psi of ",
        "<- exceeded",
        "received  by notifier at",
        " drift-monitor    drift.detected ",
        "received  by retrain-decider at",
        " retrain-decider  retrain.requested ",
        "rule      ",
        "received  by trainer-bridge at",
        " trainer-bridge   training.started ",
        " trainer-bridge   model.trained ",
        "received  by validator at",
        " validator        model.validated ",
        " trainer-bridge   model.promoted ",
        "is champion",
        "sha256    ",
        "in force  from ",
        " notifier         alert.sent ",
    ] {
        let at = rest
            .find(part)
            .unwrap_or_else(|| panic!("{part:?} is missing, or in the wrong place, in:\n{text}"));
        rest = &rest[at + part.len()..];
    }
    assert!(text.contains("not sealed yet"), "{text}");

    // From any event of it, which is marked; and sealed, it names the places.
    house.seal().await;
    let promoted = events[6].attributes.id.to_string();
    let (code, text, _) = house.ask(&["audit", "show", "--event", &promoted]).await;
    assert_eq!(code, 0);
    let marked: Vec<&str> = text.lines().filter(|line| line.starts_with('>')).collect();
    assert!(
        marked.len() == 1 && marked[0].contains("model.promoted"),
        "{text}"
    );
    assert!(
        text.contains(&format!("{promoted}, link ")) && !text.contains("not sealed yet"),
        "{text}"
    );

    let (code, json, _) = house
        .ask(&["audit", "show", "--event", &promoted, "--output", "json"])
        .await;
    assert_eq!(code, 0);
    let account: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&account["correlation_id"], &account["event_id"]),
        (&correlation.clone().into(), &promoted.clone().into())
    );
    let entries = account["entries"].as_array().unwrap();
    let receipts: usize = LOOP.iter().map(|kind| kind.readers().len()).sum();
    let of = |what: &str| entries.iter().filter(|entry| entry["what"] == what).count();
    assert_eq!((of("said"), of("received")), (LOOP.len(), receipts));
    assert!(
        entries.is_sorted_by_key(|entry| entry["at"].as_str().unwrap().parse::<DateTime<Utc>>().unwrap())
    );
    assert!(
        entries
            .iter()
            .all(|entry| entry["trace_id"] == TRACE && entry["link"].is_number())
    );
    assert_eq!(entries[0]["body"]["verdict"], "drifted");

    // What is asked for and not there is told, with what may have been meant.
    let (code, _, err) = house.ask(&["audit", "show", "--correlation", &promoted]).await;
    assert_eq!(code, 1);
    assert!(
        err.contains(&format!("vigie audit show --event {promoted}")),
        "{err}"
    );
    let nobody = "309cbac0-6cb6-594d-9605-000000000000";
    let (code, _, err) = house.ask(&["audit", "show", "--event", nobody]).await;
    assert_eq!(code, 1);
    assert!(err.contains("in no event log"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_was_changed_is_named_with_service_link_and_event() {
    let house = House::new().await;
    let events = a_loop(&house).await;
    house.seal().await;
    let (code, text, err) = house.ask(&["audit", "verify"]).await;
    assert_eq!((code, err.as_str()), (0, ""), "{text}");
    for service in SERVICES {
        assert!(text.contains(&format!("{service:<16} intact, links: ")), "{text}");
    }
    let noted = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("trainer-bridge:"))
        .expect("an anchor");
    let noted = format!("trainer-bridge:{noted}");
    let (code, text, err) = house
        .ask(&[
            "audit",
            "verify",
            "--anchor",
            &noted,
            "--service",
            "trainer-bridge",
        ])
        .await;
    assert_eq!((code, err.as_str()), (0, ""), "{text}");
    assert!(!text.contains("validator"), "{text}");
    let (code, _, err) = house
        .ask(&["audit", "verify", "--service", "trainer_bridge"])
        .await;
    assert_eq!(code, 64);
    assert!(err.contains("did you mean `trainer-bridge`?"), "{err}");

    let promoted = events[6].attributes.id;
    let bridge = &house.pools["trainer-bridge"];
    for sql in [
        "alter table event_log disable trigger user".to_owned(),
        format!(
            "update event_log set body = convert_to(replace(convert_from(body, 'UTF8'), '\"fence\":', '\"fence\": '), 'UTF8') \
             where what = 'said' and event_id = '{promoted}'"
        ),
        "alter table event_log enable trigger user".to_owned(),
    ] {
        bridge.execute(AssertSqlSafe(sql)).await.unwrap();
    }
    let (link,): (i64,) = sqlx::query_as("select link from event_log where what = 'said' and event_id = $1")
        .bind(promoted.uuid())
        .fetch_one(bridge)
        .await
        .unwrap();
    let (code, text, err) = house.ask(&["audit", "verify"]).await;
    assert_eq!((code, err.as_str()), (1, ""), "{text}");
    let broken: Vec<&str> = text.lines().filter(|line| line.contains("BROKEN")).collect();
    assert_eq!(broken.len(), 1, "{text}");
    for part in [
        "trainer-bridge ".to_owned(),
        format!("link {link} "),
        format!("event {promoted}"),
        "says something else".to_owned(),
    ] {
        assert!(broken[0].contains(&part), "{part} is missing in {text}");
    }
    let (code, json, _) = house.ask(&["--output", "json", "audit", "verify"]).await;
    let report: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &report["intact"]), (1, &Value::Bool(false)));
    let logs = report["logs"].as_array().unwrap();
    let bad: Vec<&Value> = logs.iter().filter(|log| log["verdict"] == "broken").collect();
    assert_eq!(bad.len(), 1);
    assert_eq!(
        (&bad[0]["service"], &bad[0]["link"], &bad[0]["event_id"]),
        (
            &"trainer-bridge".into(),
            &link.into(),
            &promoted.to_string().into()
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_without_a_record_is_no_intact_one() {
    chassis::install_crypto();
    let env = TestEnv::new().await;
    for arguments in [
        &["audit", "verify"][..],
        &["audit", "show", "--event", "309cbac0-6cb6-594d-9605-dcc73415d652"],
        &["models", "at", "2026-03-01T00:00:00Z"],
    ] {
        let (code, out, err) = ask(&env.database_url, arguments).await;
        assert_eq!((code, out.as_str()), (1, ""), "{arguments:?}: {err}");
        assert!(err.contains("`database.url`"), "{arguments:?}: {err}");
    }
}

fn promotion(version: &str, fence: u64, effective_from: &str) -> ModelPromoted {
    let Event::ModelPromoted(mut promoted) = sample(EventKind::ModelPromoted) else {
        panic!("another event")
    };
    promoted.version = schemas::ModelVersion::new(version).unwrap();
    promoted.fence = fence;
    promoted.effective_from = effective_from.parse().unwrap();
    promoted.artifact.sha256 = schemas::Sha256Digest::new(format!("{fence:064x}")).unwrap();
    promoted
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_champion_is_answered_before_between_and_after_promotions() {
    let house = House::new().await;
    let mut ids: Vec<EventId> = Vec::new();
    for (version, fence, from) in [
        ("20260301-0200-a", 1, "2026-03-01T02:10:00Z"),
        ("20260310-1400-b", 4, "2026-03-10T14:05:00Z"),
        ("20260320-0900-c", 5, "2026-03-20T09:07:30Z"),
    ] {
        let event = promotion(version, fence, from).into();
        let happened = house.happens(Cause::Key(version.to_owned()), event).await;
        ids.push(happened.attributes.id);
    }
    for (at, champion) in [
        ("2026-03-01T02:09:59Z", None),
        ("2026-03-01T02:10:00Z", Some(0)), // from the instant on
        ("2026-03-10T14:04:59Z", Some(0)),
        ("2026-03-10T15:05:00+01:00", Some(1)),
        ("2026-03-20T09:07:29.999Z", Some(1)),
        ("2030-01-01T00:00:00Z", Some(2)),
    ] {
        let (code, json, err) = house
            .ask(&["models", "at", at, "--model", "fraud-cards", "--output", "json"])
            .await;
        assert_eq!((code, err.as_str()), (0, ""), "{at}");
        let answer: Value = serde_json::from_str(&json).unwrap();
        let Some(index) = champion else {
            assert_eq!(answer["champions"], Value::Array(Vec::new()), "{at}");
            assert_eq!(
                answer["before_their_first"][0]["version"], "20260301-0200-a",
                "{at}"
            );
            continue;
        };
        let reign = &answer["champions"][0];
        assert_eq!(
            reign["promotion_event_id"],
            ids[index].to_string(),
            "{at}: {reign}"
        );
        let digest = format!("{:064x}", [1, 4, 5][index]);
        assert_eq!(reign["sha256"], digest.as_str(), "{at}");
        assert_eq!(reign["until"].is_null(), index == 2, "{at}");
    }
    let (code, text, _) = house.ask(&["models", "at", "2026-03-15T00:00:00Z"]).await;
    assert_eq!(code, 0);
    for part in [
        "fraud-cards: 20260310-1400-b",
        "2026-03-10 14:05:00 UTC until 2026-03-20 09:07:30 UTC",
        &ids[1].to_string(),
    ] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    let (code, _, err) = house
        .ask(&["models", "at", "2026-03-15T00:00:00Z", "--model", "fraud-crads"])
        .await;
    assert_eq!(code, 64);
    assert!(err.contains("did you mean `fraud-cards`?"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_log_that_was_taken_away_is_not_intact() {
    let house = House::new().await;
    a_loop(&house).await;
    house.seal().await;
    let head = "0".repeat(64);
    let anchor = format!("trainer-bridge:1:{head}");
    let (code, _, err) = house
        .ask(&["audit", "verify", "--service", "validator", "--anchor", &anchor])
        .await;
    assert!(code == 64 && err.contains("`trainer-bridge`"), "{code}: {err}");
    house.pools["trainer-bridge"]
        .execute("drop table event_log cascade")
        .await
        .unwrap();
    let (code, text, _) = house.ask(&["audit", "verify"]).await;
    assert_eq!(code, 1);
    assert!(
        text.contains("trainer-bridge   BROKEN: link 1 is missing, and so is the whole event log"),
        "{text}"
    );
    let (code, ..) = house.ask(&["audit", "verify", "--service", "validator"]).await;
    assert_eq!(code, 0, "the others are as they were");
}
