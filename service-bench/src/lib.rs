//! What the tests of a service stand on: real servers, a replica to start, stop and kill, events in and out.
//!
//! Everything here panics with a sentence where a product would return an error: a test has nobody to return it to.

mod replica;

use std::path::Path;
use std::time::{Duration, Instant};

use chassis::{Service, Sources};
use chrono::{DateTime, Utc};
use futures_util::StreamExt as _;
use local_stack::TestEnv;
use schemas::flow::STREAM;
use schemas::{
    Attributes, Event, EventBody, EventId, EventKind, ModelName, Received, SOURCE_PREFIX, TraceContext,
};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Executor as _, PgPool, Row as _};

pub use replica::{Process, Replica};

/// Longest wait for anything; reached only when a test fails.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Asks again and again until there is an answer.
///
/// # Panics
/// When that takes longer than [`PATIENCE`].
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Headers as the client takes them.
pub fn headers_of(attributes: &Attributes) -> async_nats::HeaderMap {
    let mut headers = async_nats::HeaderMap::new();
    for (name, value) in attributes.to_headers() {
        headers.insert(name, value.as_str());
    }
    headers
}

/// Servers and a folder of one test's own, for one service.
#[derive(Debug)]
pub struct Bench {
    schema: String,
    /// The database, as its owner.
    pub pool: PgPool,
    /// A plain client of the broker.
    pub nats: async_nats::Client,
    /// More settings of `[nats]`, e.g. `ack_wait = "5s"` where replicas are killed.
    pub nats_settings: &'static str,
    /// For artefacts, mails and settings.
    pub folder: tempfile::TempDir,
    /// Dropped last: it stops the broker and drops the database.
    pub env: TestEnv,
}

impl Bench {
    /// Servers for the service `name`, e.g. `drift-monitor`.
    pub async fn new(name: &str) -> Self {
        chassis::install_crypto();
        let env = TestEnv::new().await;
        Self {
            schema: name.replace('-', "_"),
            pool: PgPool::connect(&env.database_url)
                .await
                .expect("connect to PostgreSQL"),
            nats: async_nats::connect(&env.nats_url).await.expect("connect to NATS"),
            nats_settings: "",
            folder: tempfile::tempdir().expect("a folder"),
            env,
        }
    }

    /// Settings that name the servers; no port for health and metrics is opened.
    pub fn settings(&self) -> String {
        format!(
            "[database]\nurl = {:?}\n[nats]\nurl = {:?}\nstream_bytes_max = 16777216\n{}\n[http]\n{} = \"\"\n",
            self.env.database_url, self.env.nats_url, self.nats_settings, self.schema
        )
    }

    /// [`Self::settings`] and these.
    pub fn sources(&self, more: &str) -> Sources {
        Sources {
            overrides: vec![("the test".to_owned(), format!("{}{more}", self.settings()))],
            ..Sources::default()
        }
    }

    /// Starts a replica inside this process and waits until it can be spoken to.
    pub async fn start<S: Service>(&self, settings: &str) -> Replica {
        let replica = Replica::launch::<S>(self.sources(settings));
        self.until_up().await;
        replica
    }

    /// Starts the service's own binary, to be killed, and waits until it can be spoken to.
    pub async fn start_process(&self, binary: impl AsRef<Path>, settings: &str) -> Process {
        let process = Process::spawn(binary.as_ref(), self.folder.path(), &self.sources(settings));
        self.until_up().await;
        process
    }

    /// Waits until the service has its consumer: by then its tables are there too.
    async fn until_up(&self) {
        let name = self.schema.replace('_', "-");
        let jetstream = self.jetstream();
        eventually("the service's consumer", async || {
            let stream = jetstream.get_stream(STREAM).await.ok()?;
            stream.consumer_info(&name).await.ok()
        })
        .await;
    }

    /// JetStream, as anybody sees it.
    pub fn jetstream(&self) -> async_nats::jetstream::Context {
        async_nats::jetstream::new(self.nats.clone())
    }

    /// Sets the clock of the replay that the services go by.
    pub async fn set_clock(&self, at: DateTime<Utc>) {
        chassis::clock::set_replay_clock(&self.pool, at)
            .await
            .expect("set the clock");
    }

    /// Publishes an event as another service would; the same name gives the same event id. The broker does not see that
    /// two of them are the same: no `Nats-Msg-Id` is set.
    pub async fn publish<B: EventBody>(&self, name: &str, model: &ModelName, body: B) -> EventId {
        self.publish_as(attributes::<B>(name, model), body).await
    }

    /// Publishes an event under these attributes.
    pub async fn publish_as<B: EventBody>(&self, attributes: Attributes, body: B) -> EventId {
        let event: Event = body.into();
        let data = event.to_json().expect("JSON");
        self.publish_raw(B::KIND.subject(), headers_of(&attributes), data)
            .await;
        attributes.id
    }

    /// Publishes anything.
    pub async fn publish_raw(&self, subject: &str, headers: async_nats::HeaderMap, body: Vec<u8>) {
        let published = self
            .jetstream()
            .publish_with_headers(subject.to_owned(), headers, body.into())
            .await
            .expect("publish");
        published.await.expect("an ack");
    }

    /// Waits until the service has a receipt for this event.
    pub async fn handled(&self, id: EventId) {
        let query = format!("select 1 from {}.inbox where event_id = $1", self.schema);
        eventually(&format!("a receipt for {id}"), async || {
            let receipt = sqlx::query(AssertSqlSafe(query.clone())).bind(id.uuid());
            receipt.fetch_optional(&self.pool).await.ok().flatten()
        })
        .await;
    }

    /// The events that the service has recorded so far, in order; parked messages are none.
    pub async fn recorded(&self) -> Vec<Received> {
        self.outbox("subject not like 'dead.%'").await
    }

    /// The events that the service has published so far, in order.
    pub async fn said(&self) -> Vec<Received> {
        self.outbox("published_at is not null and subject not like 'dead.%'")
            .await
    }

    /// The published events of one kind, in order.
    pub async fn said_of(&self, kind: EventKind) -> Vec<Received> {
        let mut said = self.said().await;
        said.retain(|received| received.event.kind() == kind);
        said
    }

    /// Waits until there are `count` of a kind, and returns the last.
    pub async fn heard(&self, kind: EventKind, count: usize) -> Received {
        eventually(&format!("{count} of {kind}"), async || {
            let mut said = self.said_of(kind).await;
            (said.len() >= count).then(|| said.swap_remove(count - 1))
        })
        .await
    }

    /// Waits until the service has said `count` things, and returns them.
    pub async fn said_after(&self, count: usize) -> Vec<Received> {
        eventually(&format!("{count} events"), async || {
            let said = self.said().await;
            (said.len() >= count).then_some(said)
        })
        .await
    }

    async fn outbox(&self, condition: &str) -> Vec<Received> {
        let query = format!(
            "select headers, data from {}.outbox where {condition} order by seq",
            self.schema
        );
        let rows = self.rows(&query).await;
        rows.iter().map(decoded).collect()
    }

    /// A plain subscription, as `nats sub` has one.
    pub async fn subscribe(&self, subject: &str) -> async_nats::Subscriber {
        let subscription = self.nats.subscribe(subject.to_owned()).await.expect("subscribe");
        self.nats.flush().await.expect("flush");
        subscription
    }

    /// Runs SQL.
    pub async fn run(&self, sql: &str) {
        self.pool
            .execute(AssertSqlSafe(sql.to_owned()))
            .await
            .unwrap_or_else(|error| panic!("{error}\nin {sql}"));
    }

    async fn rows(&self, query: &str) -> Vec<PgRow> {
        sqlx::query(AssertSqlSafe(query.to_owned()))
            .fetch_all(&self.pool)
            .await
            .unwrap_or_else(|error| panic!("{error}\nin {query}"))
    }

    /// How many rows a query counts.
    pub async fn count(&self, query: &str) -> i64 {
        let rows = self.rows(query).await;
        rows.first().expect("a row").get(0)
    }

    /// The first text that a query gives.
    pub async fn text(&self, query: &str) -> Option<String> {
        let rows = self.rows(query).await;
        rows.first().and_then(|row| row.get(0))
    }

    /// Waits until a query gives this text.
    pub async fn until(&self, query: &str, expected: &str) {
        eventually(&format!("`{query}` to be `{expected}`"), async || {
            (self.text(query).await.as_deref() == Some(expected)).then_some(())
        })
        .await;
    }
}

/// Attributes of an event that begins a loop of its own: the name gives the id.
pub fn attributes<B: EventBody>(name: &str, model: &ModelName) -> Attributes {
    let id = EventId::of_key(name);
    Attributes {
        id,
        source: format!("{SOURCE_PREFIX}{}", B::KIND.publishers()[0]),
        kind: B::KIND,
        time: DateTime::UNIX_EPOCH,
        model: model.clone(),
        correlation_id: id,
        causation_id: None,
        trace: TraceContext::default(),
    }
}

/// The next message, in time.
pub async fn next(subscription: &mut async_nats::Subscriber) -> async_nats::Message {
    tokio::time::timeout(PATIENCE, subscription.next())
        .await
        .expect("a message in time")
        .expect("a message")
}

fn decoded(row: &PgRow) -> Received {
    let headers: serde_json::Value = row.get(0);
    let data: Vec<u8> = row.get(1);
    let pairs = headers.as_object().expect("headers").iter();
    let pairs = pairs.filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)));
    schemas::decode(pairs, &data).expect("an event")
}
