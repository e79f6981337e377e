//! What the tests share: contexts without a whole service, handlers that count.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use chassis::bus::{Bus, NatsSettings, STREAM};
use chassis::clock::Clock;
use chassis::db::{self, DatabaseSettings};
use chassis::metrics::Metrics;
use chassis::{Context, HandleError, Handler, Secret, Tx};
use local_stack::TestEnv;
use schemas::events::DriftCheckRequested;
use schemas::{Attributes, Event, EventId, EventKind, ModelName, Received, TraceContext};
use sqlx::PgPool;
use sqlx::migrate::Migrator;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The tables that the tests' handlers write.
pub static MIGRATOR: Migrator = sqlx::migrate!("tests/migrations");

/// Longest wait for anything; far above what a loaded machine needs.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// What the tests' consumers read.
pub const KINDS: &[EventKind] = &[EventKind::DriftCheckRequested];

/// Servers of one test, and the way to them.
pub struct Bench {
    pub env: TestEnv,
    /// Short, so that redeliveries after a crash do not take half a minute.
    pub ack_wait: Duration,
    pub clock: Clock,
    /// Servers that keep each stream.
    pub replicas: usize,
    /// Shorter than the default, and long enough for a loaded machine.
    pub answer_timeout: Duration,
}

impl Bench {
    pub async fn new() -> Self {
        chassis::install_crypto();
        Self {
            env: TestEnv::new().await,
            ack_wait: Duration::from_secs(2),
            clock: Clock::Database,
            replicas: 1,
            answer_timeout: Duration::from_secs(10),
        }
    }

    pub fn nats_settings(&self, url: &str) -> NatsSettings {
        NatsSettings {
            url: Secret::new(url),
            credentials: None,
            nkey: None,
            ca_file: None,
            provision: true,
            replicas: self.replicas,
            stream_bytes_max: 64 << 20,
            stream_age_max: Duration::from_secs(86_400),
            ack_wait: self.ack_wait,
            ack_pending_max: 32,
            receipt_overdue: Duration::from_secs(300),
            sweep_every: Duration::from_secs(30),
            outbox_rows_max: 100_000,
        }
    }

    pub fn database_settings(&self, url: &str) -> DatabaseSettings {
        DatabaseSettings {
            url: Secret::new(url),
            connections_max: 8,
            acquire_timeout: Duration::from_secs(10),
            answer_timeout: self.answer_timeout,
            migrate: true,
        }
    }

    /// A replica of the service `toy`, connected, migrated and provisioned.
    pub async fn replica(&self) -> Context {
        self.replica_of("toy", "toy", &self.env.nats_url, &self.env.database_url)
            .await
    }

    /// A replica that reaches its servers by these URLs, e.g. through a proxy.
    pub async fn replica_of(
        &self,
        service: &'static str,
        schema: &'static str,
        nats_url: &str,
        database_url: &str,
    ) -> Context {
        let nats = self.nats_settings(nats_url);
        let pool = db::connect(&self.database_settings(database_url), service, schema)
            .await
            .unwrap();
        db::migrate(&pool, schema, &MIGRATOR).await.unwrap();
        if self.clock == Clock::Replay {
            chassis::clock::create_replay_clock(&pool).await.unwrap();
        }
        let bus = Bus::connect(&nats, service).await.unwrap();
        chassis::provision::streams(&bus, &nats).await.unwrap();
        Context {
            service,
            schema,
            slot_permits: Context::slot_permits(&pool),
            pool,
            bus,
            answer_timeout: self.answer_timeout,
            nats,
            clock: self.clock,
            metrics: Metrics::new(service),
            stop: CancellationToken::new(),
        }
    }
}

/// A long-lived task of a replica.
pub struct Running {
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    /// Runs `task` until stopped or killed.
    pub fn spawn(context: &Context, task: impl Future<Output = anyhow::Result<()>> + Send + 'static) -> Self {
        Self {
            stop: context.stop.clone(),
            task: tokio::spawn(task),
        }
    }

    /// Consumes with `handler`.
    pub fn consumer<H: Handler>(context: &Context, handler: H) -> Self {
        Self::consumer_of(context, KINDS, handler)
    }

    /// Consumes `kinds` with `handler`.
    pub fn consumer_of<H: Handler>(context: &Context, kinds: &'static [EventKind], handler: H) -> Self {
        Self::spawn(
            context,
            chassis::consume::run(context.clone(), kinds, Arc::new(handler)),
        )
    }

    /// Publishes the outbox.
    pub fn relay(context: &Context) -> Self {
        Self::spawn(context, chassis::relay::run(context.clone()))
    }

    /// The polite end: in-flight work is finished.
    pub async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.task)
            .await
            .expect("the task does not stop")
            .unwrap()
            .unwrap();
    }

    /// The rude end: the task stops wherever it is, as after `kill -9`.
    pub async fn kill(self) {
        self.task.abort();
        // Wait until it is gone; an aborted task reports that it was cancelled.
        let ended = self.task.await;
        assert!(ended.is_err(), "the task had ended by itself: {ended:?}");
    }

    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }
}

/// What a handler does to an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    Succeed,
    Transient,
    Permanent,
    UnknownModel,
    Panic,
    /// Never returns.
    Hang,
}

/// A handler that writes one effect and then does as `act` says; `act` sees the event's id and how often this
/// handler has seen it.
pub struct Scripted<F> {
    act: F,
    seen: Mutex<BTreeMap<EventId, u32>>,
}

impl<F: Fn(&Received, u32) -> Act + Send + Sync + 'static> Scripted<F> {
    pub fn new(act: F) -> Self {
        Self {
            act,
            seen: Mutex::default(),
        }
    }
}

/// A handler that always succeeds.
pub fn obliging() -> impl Handler {
    Scripted::new(|_: &Received, _| Act::Succeed)
}

impl<F: Fn(&Received, u32) -> Act + Send + Sync + 'static> Handler for Scripted<F> {
    type Prepared = ();

    async fn handle(&self, tx: &mut Tx, received: &Received, (): &()) -> Result<(), HandleError> {
        let id = received.attributes.id;
        let attempt = {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let attempt = seen.entry(id).or_default();
            *attempt += 1;
            *attempt
        };
        effect(tx, id, &format!("attempt {attempt}")).await?;
        match (self.act)(received, attempt) {
            Act::Succeed => Ok(()),
            Act::Transient => Err(HandleError::Transient(anyhow::anyhow!("the weather is bad"))),
            Act::Permanent => Err(HandleError::permanent("this can never work")),
            Act::UnknownModel => Err(HandleError::unknown_model(&received.attributes.model)),
            Act::Panic => panic!("the handler's own defect (meant by the test)"),
            Act::Hang => std::future::pending().await,
        }
    }

    /// The outcome of `waited-for` is told; telling that of `unspeakable` fails.
    async fn given_up(&self, tx: &mut Tx, received: &Received, reason: &str) -> anyhow::Result<()> {
        let id = received.attributes.id;
        match received.attributes.model.as_str() {
            "waited-for" => effect(tx, id, &format!("given up: {reason}")).await?,
            "unspeakable" => {
                effect(tx, id, "half said").await?;
                anyhow::bail!("it cannot be told");
            }
            _ => {}
        }
        Ok(())
    }
}

pub async fn effect(tx: &mut Tx, event: EventId, note: &str) -> sqlx::Result<()> {
    sqlx::query("insert into effect (event_id, note) values ($1, $2)")
        .bind(event.uuid())
        .bind(note)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Notes of the effects of an event.
pub async fn effects_of(pool: &PgPool, event: EventId) -> Vec<String> {
    let rows: Vec<(String,)> =
        sqlx::query_as("select note from effect where event_id = $1 order by effect_id")
            .bind(event.uuid())
            .fetch_all(pool)
            .await
            .unwrap();
    rows.into_iter().map(|(note,)| note).collect()
}

pub async fn count(pool: &PgPool, query: &'static str) -> i64 {
    let (count,): (i64,) = sqlx::query_as(query).fetch_one(pool).await.unwrap();
    count
}

/// Polls until `probe` gives something.
///
/// # Panics
/// When that takes longer than [`PATIENCE`].
pub async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "waited {} s in vain: {what}",
            PATIENCE.as_secs()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until the event has had its effects.
pub async fn handled(pool: &PgPool, event: EventId) -> Vec<String> {
    eventually(&format!("event {event} is handled"), async || {
        Some(effects_of(pool, event).await).filter(|effects| !effects.is_empty())
    })
    .await
}

pub fn model() -> ModelName {
    ModelName::new("fraud-cards").unwrap()
}

/// An event that a test sends: attributes, body.
pub fn sample() -> (Attributes, Vec<u8>) {
    let body = DriftCheckRequested {
        as_of: "2026-01-01T00:00:00Z".parse().unwrap(),
        requested_by: "test".to_owned(),
        reason: String::new(),
    };
    let id = EventId::fresh();
    let attributes = Attributes {
        id,
        source: "/vigie/vigie".to_owned(),
        kind: EventKind::DriftCheckRequested,
        time: "2026-01-01T00:00:00Z".parse().unwrap(),
        model: model(),
        correlation_id: id,
        causation_id: None,
        trace: TraceContext::default(),
    };
    (attributes, Event::from(body).to_json().unwrap())
}

pub fn headers_of(attributes: &Attributes) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in attributes.to_headers() {
        headers.insert(name, value.as_str());
    }
    headers
}

/// Publishes a good event past any outbox, as a plain client would; returns its id.
pub async fn send_sample(bus: &Bus) -> EventId {
    let (attributes, body) = sample();
    send(bus, headers_of(&attributes), body).await;
    attributes.id
}

/// Publishes a message on the tests' subject and waits until the stream has it.
pub async fn send(bus: &Bus, headers: HeaderMap, body: impl Into<bytes::Bytes>) {
    let subject = EventKind::DriftCheckRequested.subject();
    let ack = bus
        .jetstream()
        .publish_with_headers(subject, headers, body.into())
        .await
        .unwrap()
        .await
        .unwrap();
    assert_eq!(ack.stream, STREAM);
}

/// A dead letter's row.
#[derive(Debug, sqlx::FromRow)]
pub struct DeadLetter {
    pub event_id: uuid::Uuid,
    pub reason_class: String,
    pub reason: String,
    pub deliveries: i32,
    pub data: Vec<u8>,
    pub headers: serde_json::Value,
    pub state: String,
}

pub async fn dead_letters(pool: &PgPool) -> Vec<DeadLetter> {
    sqlx::query_as(
        "select event_id, reason_class, reason, deliveries, data, headers, state from dead_letter order by first_at",
    )
    .fetch_all(pool)
    .await
    .unwrap()
}

/// All messages of a stream, oldest first.
pub async fn messages(bus: &Bus, stream: &str) -> Vec<async_nats::jetstream::message::StreamMessage> {
    let mut stream = bus.jetstream().get_stream(stream).await.unwrap();
    let state = stream.info().await.unwrap().state.clone();
    let mut messages = Vec::new();
    if state.messages == 0 {
        return messages;
    }
    for sequence in state.first_sequence..=state.last_sequence {
        messages.push(stream.get_raw_message(sequence).await.unwrap());
    }
    messages
}

/// A receipt alone, as the inbox has it.
pub async fn receipt(tx: &mut Tx, consumer: &str, event: EventId) {
    sqlx::query("insert into inbox (consumer, event_id, state) values ($1, $2, 'done')")
        .bind(consumer)
        .bind(event.uuid())
        .execute(&mut **tx)
        .await
        .unwrap();
}
