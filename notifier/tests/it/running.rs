//! A notifier against a real broker and database, and what tests need around it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chassis::bus::{Bus, NatsSettings};
use chassis::db::DatabaseSettings;
use chassis::outbox::{self, Draft};
use chassis::{Cause, Secret, Settings, Sources};
use local_stack::TestEnv;
use notifier::Notifier;
use schemas::{EventBody, EventId, ModelName};
use service_bench::{Process, Replica, eventually};
use sqlx::PgPool;

/// One test's broker account, database and settings.
pub struct Scene {
    env: TestEnv,
    settings: String,
    /// Where mails are written, when the settings say so.
    pub mailbox: PathBuf,
    folder: tempfile::TempDir,
}

impl Scene {
    /// `notify` is the text of `[notify]`; `MAILBOX` in it stands for a folder of this test.
    pub async fn new(notify: &str) -> Self {
        chassis::install_crypto();
        let env = TestEnv::new().await;
        let folder = tempfile::tempdir().expect("a folder");
        let mailbox = folder.path().join("mails");
        let settings = format!(
            "[database]\nurl = {:?}\n[nats]\nurl = {:?}\n[http]\nnotifier = \"\"\n[notify]\n{}\n",
            env.database_url,
            env.nats_url,
            notify.replace("MAILBOX", &mailbox.display().to_string()),
        );
        Self {
            env,
            settings,
            mailbox,
            folder,
        }
    }

    fn sources(&self) -> Sources {
        Sources {
            overrides: vec![("test".to_owned(), self.settings.clone())],
            ..Sources::default()
        }
    }

    /// Runs the service inside this process.
    pub async fn start(&self) -> Running {
        Running {
            replica: Replica::launch::<Notifier>(self.sources()),
            pool: self.pool().await,
        }
    }

    /// Runs the service's own binary, to be killed.
    pub fn start_process(&self) -> Process {
        let binary = Path::new(env!("CARGO_BIN_EXE_notifier"));
        Process::spawn(binary, self.folder.path(), &self.sources())
    }

    /// The notifier's own schema, once it exists.
    pub async fn pool(&self) -> PgPool {
        let settings = DatabaseSettings {
            url: Secret::new(&self.env.database_url),
            connections_max: 4,
            acquire_timeout: Duration::from_secs(10),
            answer_timeout: Duration::from_secs(15),
            migrate: true,
        };
        let probe = connect(&settings).await;
        eventually("the table `alert`", async || {
            sqlx::query("select 1 from alert")
                .fetch_optional(&probe)
                .await
                .ok()
                .map(drop)
        })
        .await;
        // A connection that looked while the schema was being made may keep looking past it.
        probe.close().await;
        connect(&settings).await
    }

    /// A plain connection to the broker.
    pub async fn bus(&self) -> Bus {
        let settings = Settings::load(
            &[include_str!("../../../chassis/config/default.toml")],
            &[],
            &Sources {
                environment: BTreeMap::from([("VIGIE__NATS__URL".to_owned(), self.env.nats_url.clone())]),
                ..self.sources()
            },
        )
        .expect("settings");
        let nats = NatsSettings::read(&chassis::Reader::new(&settings));
        Bus::connect(&nats, "test").await.expect("connect to NATS")
    }
}

async fn connect(settings: &DatabaseSettings) -> PgPool {
    chassis::db::connect(settings, "test", "notifier")
        .await
        .expect("connect")
}

/// A service inside this process.
pub struct Running {
    replica: Replica,
    /// Its schema.
    pub pool: PgPool,
}

impl Running {
    /// Stops politely; a failure of the service fails the test.
    pub async fn stop(self) {
        self.replica.stop().await;
    }

    /// Ends it where it stands.
    pub async fn abandon(self) {
        self.replica.kill().await;
    }
}

/// Says an event as another service would: through an outbox (here the notifier's own) and its relay.
pub async fn say(pool: &PgPool, model: &str, body: impl EventBody) -> EventId {
    say_because(pool, model, Cause::Spontaneous, body).await
}

/// The same, within a loop.
pub async fn say_because(pool: &PgPool, model: &str, cause: Cause, body: impl EventBody) -> EventId {
    let mut tx = pool.begin().await.expect("begin");
    let draft = Draft::new(&ModelName::new(model).expect("a model name"), cause, body);
    let publisher = draft.event.kind().publishers()[0];
    let appended = outbox::append(&mut tx, publisher, draft).await.expect("append");
    tx.commit().await.expect("commit");
    appended.id
}

/// Publishes an event again under a new message id and the same event id, as the sweep does.
pub async fn say_again(pool: &PgPool, event: EventId) {
    sqlx::query("update outbox set published_at = null, offer = offer + 1 where event_id = $1")
        .bind(event.uuid())
        .execute(pool)
        .await
        .expect("offer again");
}

/// How often the notifier has received an event.
pub async fn deliveries(pool: &PgPool, event: EventId) -> i32 {
    sqlx::query_scalar("select coalesce(max(deliveries), 0) from inbox where event_id = $1")
        .bind(event.uuid())
        .fetch_one(pool)
        .await
        .expect("read the inbox")
}

/// Waits until an event has been received this often.
pub async fn received(pool: &PgPool, event: EventId, times: i32) {
    eventually("a receipt in the inbox", async || {
        (deliveries(pool, event).await >= times).then_some(())
    })
    .await;
}

/// Waits until every alert is sent or failed, and there are `count`; their states by recipient.
pub async fn settled(pool: &PgPool, count: usize) -> Vec<AlertRow> {
    eventually("alerts to be sent or given up", async || {
        let rows = alerts(pool).await;
        (rows.len() == count
            && rows
                .iter()
                .all(|row| row.state == "sent" || row.state == "failed"))
        .then_some(rows)
    })
    .await
}

/// A row of the table `alert`.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct AlertRow {
    pub alert_id: uuid::Uuid,
    pub recipient: String,
    pub state: String,
    pub attempts: i32,
    pub last_error: Option<String>,
    pub thread_id: Option<uuid::Uuid>,
}

/// Every alert, oldest first.
pub async fn alerts(pool: &PgPool) -> Vec<AlertRow> {
    sqlx::query_as(
        "select alert_id, recipient, state, attempts, last_error, thread_id from alert order by created_at, recipient",
    )
    .fetch_all(pool)
    .await
    .expect("read alerts")
}

/// What the notifier announced: event type and body, oldest first.
pub async fn announced(pool: &PgPool) -> Vec<(String, serde_json::Value)> {
    let rows: Vec<(String, Vec<u8>)> =
        sqlx::query_as("select subject, data from outbox where subject like 'alert.%' order by seq")
            .fetch_all(pool)
            .await
            .expect("read the outbox");
    rows.into_iter()
        .map(|(subject, data)| (subject, serde_json::from_slice(&data).expect("JSON")))
        .collect()
}

/// The time that a wait or a lease was meant to take has passed.
pub async fn let_time_pass(pool: &PgPool) {
    sqlx::query("update alert set next_attempt_at = clock_timestamp() where state = 'pending'")
        .execute(pool)
        .await
        .expect("end the wait");
    sqlx::query("update alert set lease_until = clock_timestamp() where state = 'sending'")
        .execute(pool)
        .await
        .expect("end the lease");
}
