//! How a person's wish becomes an event, and how the answer is awaited.
//!
//! Like every event it goes through an outbox (schema `operator`), so that it is recorded with who asked and
//! why before the broker hears of it.

use std::time::Duration;

use anyhow::{Context as _, bail};
use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::OrderedConfig;
use chassis::bus::{Bus, NatsSettings, STREAM};
use chassis::db::DatabaseSettings;
use chassis::metrics::Metrics;
use chassis::outbox::{self, Draft};
use chassis::settings::{COMMON_ALIASES, COMMON_DEFAULTS};
use chassis::{Cause, Reader, Settings, Sources};
use futures_util::StreamExt as _;
use schemas::{EventBody, EventId, EventKind, ModelName, Received};
use sqlx::PgPool;
use sqlx::migrate::Migrator;

/// Name in events and consumers.
const NAME: &str = "operator";
const SCHEMA: &str = "operator";

/// An operator's connections.
#[derive(Debug)]
pub struct Operator {
    pool: PgPool,
    bus: Bus,
}

impl Operator {
    /// Connects with the settings' database and broker.
    ///
    /// # Errors
    /// Wrong settings, or servers that cannot be reached.
    pub async fn connect(sources: &Sources) -> anyhow::Result<Self> {
        let settings = Settings::load(&[COMMON_DEFAULTS], COMMON_ALIASES, sources)?;
        let reader = Reader::new(&settings);
        let (database, nats) = (DatabaseSettings::read(&reader), NatsSettings::read(&reader));
        reader.finish()?;
        let pool = chassis::db::connect(&database, NAME, SCHEMA).await?;
        let nothing_of_its_own = Migrator::with_migrations(Vec::new());
        chassis::db::migrate(&pool, SCHEMA, &nothing_of_its_own).await?;
        let bus = Bus::connect(&nats, NAME).await?;
        chassis::provision::streams(&bus, &nats).await?;
        Ok(Self { pool, bus })
    }

    /// Records and publishes a wish, and waits for the first event of `answers` that it caused.
    ///
    /// # Errors
    /// When the broker cannot be reached, or no answer comes in time.
    pub async fn ask(
        &self,
        model: &ModelName,
        body: impl EventBody,
        answers: &[EventKind],
        timeout: Duration,
    ) -> anyhow::Result<Received> {
        // Listen before asking: the answer may be faster than we are.
        let mut messages = self
            .follow(
                DeliverPolicy::New,
                answers.iter().map(|kind| kind.subject().to_owned()),
            )
            .await?;
        let asked = self.publish(model, body).await?;
        let waiting = async {
            while let Some(message) = messages.next().await {
                let message = message.context("read events")?;
                if let Ok(received) = decode(&message)
                    && received.attributes.causation_id == Some(asked)
                {
                    return Ok(received);
                }
            }
            bail!("the broker ended the subscription")
        };
        match tokio::time::timeout(timeout, waiting).await {
            Ok(result) => result,
            Err(_) => bail!(
                "no answer within {} s to event {asked}; it is recorded and will be worked on when the service is up \
                 (is it running? does it know model `{model}`? see `vigie events tail`)",
                timeout.as_secs()
            ),
        }
    }

    async fn publish(&self, model: &ModelName, body: impl EventBody) -> anyhow::Result<EventId> {
        let mut tx = self.pool.begin().await?;
        let appended = outbox::append(&mut tx, NAME, Draft::new(model, Cause::Spontaneous, body)).await?;
        tx.commit().await?;
        let metrics = Metrics::new(NAME);
        for _ in 0..10 {
            chassis::relay::publish_batch(&self.pool, &self.bus, &metrics).await?;
            let (published,): (bool,) =
                sqlx::query_as("select published_at is not null from outbox where event_id = $1")
                    .bind(appended.id.uuid())
                    .fetch_one(&self.pool)
                    .await?;
            if published {
                return Ok(appended.id);
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        bail!(
            "the broker did not accept event {}; it is recorded and goes out with the next command",
            appended.id
        )
    }

    /// Follows events from the stream, in order, without a durable consumer.
    ///
    /// # Errors
    /// When the stream cannot be read.
    pub async fn follow(
        &self,
        from: DeliverPolicy,
        subjects: impl IntoIterator<Item = String>,
    ) -> anyhow::Result<async_nats::jetstream::consumer::pull::Ordered> {
        let stream = self
            .bus
            .jetstream()
            .get_stream(STREAM)
            .await
            .context("look up the stream of events")?;
        let config = OrderedConfig {
            deliver_policy: from,
            filter_subjects: subjects.into_iter().collect(),
            ..OrderedConfig::default()
        };
        let consumer = stream
            .create_consumer(config)
            .await
            .context("follow the stream of events")?;
        consumer.messages().await.context("follow the stream of events")
    }
}

/// Decodes a message of the stream.
///
/// # Errors
/// Whatever makes it no event of ours.
pub fn decode(message: &async_nats::Message) -> Result<Received, schemas::Refusal> {
    let headers = message
        .headers
        .iter()
        .flat_map(async_nats::HeaderMap::iter)
        .filter_map(|(name, values)| Some((name.as_ref(), values.first()?.as_str())));
    schemas::decode(headers, &message.payload)
}

/// Who asks, for the record: `cli:NAME`.
pub fn who() -> String {
    let name = std::env::var("USER")
        .or_else(|_| std::env::var("LOGNAME"))
        .unwrap_or_else(|_| "unknown".to_owned());
    format!("cli:{name}")
}
