//! What people do about dead letters, while the broker is away.

use chassis::Secret;
use chassis::db::{self, DatabaseSettings};
use local_stack::TestEnv;
use local_stack::hostile::NAMES;
use serde_json::{Value, json};
use sqlx::PgPool;
use sqlx::migrate::Migrator;
use uuid::Uuid;

use crate::{told, vigie};

/// Bytes that are no text, and more than is shown at once.
const BODY_BYTES: usize = 5_000;

struct House {
    env: TestEnv,
    pool: PgPool,
}

impl House {
    /// The tables of one service.
    async fn new() -> Self {
        chassis::install_crypto();
        let env = TestEnv::new().await;
        let settings = DatabaseSettings {
            url: Secret::new(&env.database_url),
            connections_max: 2,
            acquire_timeout: std::time::Duration::from_secs(60),
            answer_timeout: std::time::Duration::from_secs(60),
            migrate: true,
        };
        let pool = db::connect(&settings, "trainer-bridge", "trainer_bridge")
            .await
            .unwrap();
        let nothing = Migrator::with_migrations(Vec::new());
        db::migrate(&pool, "trainer_bridge", &nothing).await.unwrap();
        Self { env, pool }
    }

    async fn park(&self, class: &str, model: &str, reason: &str, data: &[u8]) -> Uuid {
        let id = Uuid::new_v4();
        sqlx::query(
            "insert into dead_letter (dead_letter_id, event_id, consumer, subject, headers, data, reason_class, reason, deliveries) \
             values ($1, gen_random_uuid(), 'trainer-bridge', 'model.validated', $2, $3, $4, $5, 3)",
        )
        .bind(id)
        .bind(json!({ "ce-subject": model, "ce-type": "vigie.model.validated.v1", "x-why": reason }))
        .bind(data)
        .bind(class)
        .bind(reason)
        .execute(&self.pool)
        .await
        .unwrap();
        id
    }

    async fn ask(&self, arguments: &[&str]) -> (i32, String, String) {
        let folder = tempfile::tempdir().unwrap();
        let mut command = vigie(folder.path());
        command
            .env("FRAUD_DATABASE_URL", &self.env.database_url)
            .env("NATS_URL", "nats://127.0.0.1:9")
            .env("USER", "ana")
            .args(arguments);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap();
        told(&output)
    }

    async fn json(&self, arguments: &[&str]) -> Value {
        let (code, text, err) = self.ask(&[arguments, &["--output", "json"]].concat()).await;
        assert_eq!((code, err.as_str()), (0, ""), "{text}");
        serde_json::from_str(&text).unwrap()
    }

    async fn state(&self, id: Uuid) -> String {
        sqlx::query_scalar("select state from dead_letter where dead_letter_id = $1")
            .bind(id)
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_listed_chosen_and_shown_whole() {
    let house = House::new().await;
    let (code, text, _) = house.ask(&["dlq", "list"]).await;
    assert_eq!((code, text.trim()), (0, "no dead letters"));

    // PostgreSQL keeps no zero character; what parks a message writes it in another way.
    let names: Vec<&str> = NAMES
        .iter()
        .copied()
        .filter(|name| !name.contains('\0'))
        .collect();
    let mut hostile = Vec::new();
    for name in &names {
        hostile.push(house.park("handler_permanent", name, name, name.as_bytes()).await);
    }
    let bytes = house
        .park("unknown_model", "loans", "who is that", &[0xff; BODY_BYTES])
        .await;

    let (code, text, err) = house.ask(&["dlq", "list"]).await;
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(text.lines().count(), names.len() + 2, "one line each:\n{text}");
    let moves = |c: char| c.is_control() && c != '\n';
    assert!(!text.contains(moves), "{text:?}");
    for id in &hostile {
        let id = id.to_string();
        let (code, text, _) = house.ask(&["dlq", "show", &id]).await;
        assert_eq!(code, 0);
        assert!(!text.contains(|c: char| moves(c) && c != '\t'), "{text:?}");
        assert!(text.contains(&id), "{text}");
    }

    let loans = house.json(&["dlq", "list", "--class", "unknown_model"]).await;
    assert_eq!(loans.as_array().unwrap().len(), 1);
    assert_eq!(loans[0]["dead_letter_id"], json!(bytes));
    let none = house.json(&["dlq", "list", "--service", "validator"]).await;
    assert_eq!(none, json!([]));
    let (_, text, err) = house.ask(&["dlq", "list", "--limit", "2"]).await;
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(err.contains("there are more than these 2"), "{err}");

    let id = bytes.to_string();
    let (_, text, _) = house.ask(&["dlq", "show", &id]).await;
    assert!(text.contains("and 904 more bytes"), "{text}");
    let (_, text, _) = house.ask(&["dlq", "show", &id, "--full"]).await;
    assert_eq!(text.matches('\u{fffd}').count(), BODY_BYTES);
    let whole = house.json(&["dlq", "show", &id]).await;
    let body = whole[0]["body_base64"].as_str().unwrap();
    assert_eq!(body.len(), BODY_BYTES.div_ceil(3) * 4);
    let named = house.json(&["dlq", "show", &hostile[0].to_string()]).await;
    assert_eq!(named[0]["body"], json!(names[0]));
    let (code, _, err) = house.ask(&["dlq", "show", &Uuid::nil().to_string()]).await;
    assert!(code == 1 && err.contains("vigie dlq list"), "{code}: {err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_letter_is_a_decision_of_its_own() {
    let house = House::new().await;
    let mut letters = Vec::new();
    for (class, model) in [
        ("handler_permanent", "fraud-cards"),
        ("handler_permanent", "fraud-cards"),
        ("unknown_model", "loans"),
    ] {
        letters.push(house.park(class, model, "broken", b"{}").await);
    }
    let ids: Vec<String> = letters.iter().map(Uuid::to_string).collect();
    for wrong in [
        vec!["dlq", "redrive", "--reason", "no letters are named"],
        vec!["dlq", "redrive", &ids[0], "--reason", " "],
        vec![
            "dlq",
            "discard",
            &ids[0],
            "--class",
            "unknown_model",
            "--reason",
            "both",
        ],
    ] {
        let (code, _, err) = house.ask(&wrong).await;
        assert!(code == 64 && !err.is_empty(), "{wrong:?}: {code}, {err}");
    }

    let all = ["--class", "handler_permanent", "--model", "fraud-cards"];
    let why = ["--reason", "the mapping was mended"];
    let dry = [["dlq", "redrive"].as_slice(), &all, &why, &["--dry-run"]].concat();
    let (code, text, _) = house.ask(&dry).await;
    assert_eq!(code, 0);
    assert_eq!(text.matches("would be redriven").count(), 2, "{text}");
    assert_eq!(house.state(letters[0]).await, "parked");

    // One in the middle is unknown: the others are dealt with all the same.
    let unknown = Uuid::nil().to_string();
    let three = ["dlq", "redrive", &ids[0], &unknown, &ids[1]];
    let (code, text, _) = house.ask(&[three.as_slice(), &why].concat()).await;
    assert_eq!(code, 1, "{text}");
    let begins: Vec<&str> = text.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(begins, ["redriven", "failed", "redriven"], "{text}");
    let waiting: i64 = sqlx::query_scalar("select count(*) from outbox where published_at is null")
        .fetch_one(&house.pool)
        .await
        .unwrap();
    assert_eq!(waiting, 2, "they wait for the broker");
    let by: Vec<(String, String)> =
        sqlx::query_as("select decided_by, decision from dead_letter where state = 'redriven'")
            .fetch_all(&house.pool)
            .await
            .unwrap();
    assert_eq!(
        by,
        vec![("cli:ana".to_owned(), "the mapping was mended".to_owned()); 2]
    );

    let (code, text, _) = house
        .ask(&[
            "dlq",
            "discard",
            "--model",
            "loans",
            "--reason",
            "that model is gone",
        ])
        .await;
    assert!(code == 0 && text.starts_with("discarded "), "{text}");
    let (_, text, _) = house.ask(&["dlq", "list"]).await;
    assert_eq!(text.trim(), "no dead letters");
    let kept = house.json(&["dlq", "list", "--all"]).await;
    assert_eq!(kept.as_array().unwrap().len(), 3);
}
