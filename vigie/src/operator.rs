//! How a person's wish becomes an event, and how the answer is awaited.
//!
//! Like every event it goes through an outbox (schema `operator`), so that it is recorded with who asked and
//! why before the broker hears of it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::OrderedConfig;
use chassis::bus::{Bus, NatsSettings, STREAM, STREAM_DEAD};
use chassis::clock::Clock;
use chassis::db::DatabaseSettings;
use chassis::metrics::Metrics;
use chassis::outbox::{self, Draft};
use chassis::settings::{COMMON_ALIASES, COMMON_DEFAULTS, nearest};
use chassis::{Cause, Reader, Settings, Sources};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt as _;
use schemas::{EventBody, EventId, EventKind, ModelName, Received};
use sqlx::PgPool;
use sqlx::migrate::Migrator;

use crate::output::Usage;

/// Name of its connections.
const NAME: &str = schemas::rights::OPERATOR;
const SCHEMA: &str = "operator";
/// Where `vigie dev` writes the settings that lead to its servers, unless told otherwise.
const DEV_SETTINGS: &str = ".vigie/dev/vigie.toml";
/// How far this machine's clock may be behind.
const CLOCK_SKEW: TimeDelta = TimeDelta::minutes(1);

/// Names of the models in the settings.
///
/// # Errors
/// Wrong settings.
pub fn models(sources: &Sources) -> anyhow::Result<Vec<String>> {
    let settings = Settings::load(&[COMMON_DEFAULTS], COMMON_ALIASES, sources)?;
    let reader = Reader::new(&settings);
    let tables = reader.section("models").tables();
    Ok(tables.into_iter().map(|(name, _)| name).collect())
}

/// Refuses what can be seen to be wrong before anybody is asked: a model that the settings do not name, an instant that
/// has not come yet. Settings without any model may be those of another machine than the services': then they are asked.
///
/// # Errors
/// Wrong settings, or [`Usage`].
pub fn check_wish(
    sources: &Sources,
    model: &ModelName,
    as_of: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> anyhow::Result<()> {
    let known = models(sources)?;
    if !known.is_empty() && !known.iter().any(|name| name == model.as_str()) {
        let hint = match nearest(model.as_str(), &known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known are {}", known.join(", ")),
        };
        return Err(Usage(format!("model `{model}` is not in the settings; {hint}")).into());
    }
    let settings = Settings::load(&[COMMON_DEFAULTS], COMMON_ALIASES, sources)?;
    let reader = Reader::new(&settings);
    let clock = Clock::read(&reader);
    reader.finish()?;
    match as_of {
        Some(as_of) if clock == Clock::Database && as_of > now + CLOCK_SKEW => Err(Usage(format!(
            "`--as-of` is {}, which has not come yet; it is {}",
            as_of.format("%Y-%m-%dT%H:%M:%SZ"),
            now.format("%Y-%m-%dT%H:%M:%SZ")
        ))
        .into()),
        _ => Ok(()),
    }
}

/// Names the settings of `vigie dev` when they are there and were not used.
fn hint_at_dev(error: &anyhow::Error, sources: &Sources) -> anyhow::Error {
    let dev = Path::new(DEV_SETTINGS);
    let used = |file: &Path| file.canonicalize().ok() == dev.canonicalize().ok();
    let hint = match &sources.file {
        _ if !dev.exists() => "",
        Some(file) if used(file) => " (is `vigie dev` running?)",
        _ => " (the servers of `vigie dev` are others: --config .vigie/dev/vigie.toml)",
    };
    anyhow!("{error:#}{hint}")
}

/// Connects with the settings' database, to look and nothing else: the broker need not be there, and nothing is created.
///
/// # Errors
/// Wrong settings, or a database that cannot be reached.
pub async fn database(sources: &Sources) -> anyhow::Result<PgPool> {
    let settings = Settings::load(&[COMMON_DEFAULTS], COMMON_ALIASES, sources)?;
    let reader = Reader::new(&settings);
    let database = DatabaseSettings::read(&reader);
    reader.finish()?;
    chassis::db::connect(&database, NAME, SCHEMA)
        .await
        .map_err(|error| hint_at_dev(&error, sources))
}

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
        let pool = chassis::db::connect(&database, NAME, SCHEMA)
            .await
            .map_err(|error| hint_at_dev(&error, sources))?;
        let nothing_of_its_own = Migrator::with_migrations(Vec::new());
        chassis::db::prepare(&pool, &database, SCHEMA, &nothing_of_its_own).await?;
        let bus = Bus::connect(&nats, NAME)
            .await
            .map_err(|error| hint_at_dev(&error, sources))?;
        chassis::provision::streams(&bus, &nats).await?;
        Ok(Self { pool, bus })
    }

    /// Publishes what was recorded for the operator's own outbox.
    ///
    /// # Errors
    /// Database errors; what the broker does not take goes out with a later command.
    pub async fn publish_recorded(&self) -> anyhow::Result<()> {
        chassis::relay::publish_batch(&self.pool, &self.bus, &Metrics::new(NAME)).await?;
        Ok(())
    }

    /// The database, for what is looked up rather than asked for.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Records and publishes a wish, and waits for the first event of `answers` that it caused.
    ///
    /// # Errors
    /// When the broker cannot be reached, a service parks the wish, or no answer comes in time.
    pub async fn ask(
        &self,
        model: &ModelName,
        body: impl EventBody,
        answers: &[EventKind],
        timeout: Duration,
    ) -> anyhow::Result<Received> {
        // Listen before asking: the answer may be faster than we are.
        let subjects = answers.iter().map(|kind| kind.subject().to_owned());
        let mut messages = self.follow(DeliverPolicy::New, subjects).await?;
        let parked = ["dead.>".to_owned()];
        let mut parked = self.follow_in(STREAM_DEAD, DeliverPolicy::New, parked).await?;
        let asked = self.publish(model, body).await?;
        let waiting = async {
            loop {
                tokio::select! {
                    message = messages.next() => {
                        let message = message
                            .context("the broker ended the subscription")?
                            .context("read events")?;
                        if let Ok(received) = decode(&message)
                            && received.attributes.causation_id == Some(asked)
                        {
                            return Ok(received);
                        }
                    }
                    letter = parked.next() => {
                        let letter = letter
                            .context("the broker ended the subscription")?
                            .context("read dead letters")?;
                        if let Some(refusal) = refusal_of(&letter, asked) {
                            bail!(refusal);
                        }
                    }
                }
            }
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
        let appended = outbox::append(
            &mut tx,
            schemas::flow::VIGIE,
            Draft::new(model, Cause::Spontaneous, body),
        )
        .await?;
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
                self.seal().await;
                return Ok(appended.id);
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        bail!(
            "the broker did not accept event {}; it is recorded and goes out with the next command",
            appended.id
        )
    }

    /// No service does it for the wishes of people. What is left over waits for the next wish.
    async fn seal(&self) {
        if let Err(error) = chassis::seal::round(&self.pool).await {
            tracing::debug!("the record of wishes is not sealed: {error:#}");
        }
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
        self.follow_in(STREAM, from, subjects).await
    }

    async fn follow_in(
        &self,
        stream: &str,
        from: DeliverPolicy,
        subjects: impl IntoIterator<Item = String>,
    ) -> anyhow::Result<async_nats::jetstream::consumer::pull::Ordered> {
        let stream = self
            .bus
            .jetstream()
            .get_stream(stream)
            .await
            .with_context(|| format!("look up the stream {stream}"))?;
        let config = OrderedConfig {
            // A name of ours: rights can then tell readers of the moment from the services' own.
            name: Some(format!("{NAME}-{}", uuid::Uuid::new_v4().simple())),
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

/// What a dead letter says, if it is the one of the event `asked`.
fn refusal_of(letter: &async_nats::Message, asked: EventId) -> Option<String> {
    let headers = letter.headers.as_ref()?;
    let text = |name: &str| {
        let found = headers
            .iter()
            .find(|(header, _)| header.to_string().eq_ignore_ascii_case(name));
        found.and_then(|(_, values)| Some(values.first()?.as_str()))
    };
    if text("ce-id")? != asked.to_string() {
        return None;
    }
    let consumer = text("vigie-dead-consumer").unwrap_or("a service");
    Some(format!(
        "{consumer} could not handle event {asked} ({}): {}; it is kept, see `vigie dlq show {asked}`",
        text("vigie-dead-class").unwrap_or("unknown class"),
        text("vigie-dead-reason").unwrap_or("no reason given"),
    ))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(settings: &str, model: &str, ahead: TimeDelta) -> Result<(), String> {
        let sources = Sources {
            overrides: vec![("test".to_owned(), settings.to_owned())],
            ..Sources::default()
        };
        let now = "2026-03-01T00:00:00Z".parse::<DateTime<Utc>>().unwrap();
        let model = ModelName::new(model).unwrap();
        check_wish(&sources, &model, Some(now + ahead), now).map_err(|error| {
            assert!(error.is::<Usage>(), "{error:#}");
            error.to_string()
        })
    }

    #[test]
    fn a_model_that_the_settings_do_not_name_is_refused_with_the_nearest() {
        let two = "[models.fraud-cards]\nsource = \"postgres\"\n[models.loans]\nsource = \"postgres\"\n";
        let nothing = TimeDelta::zero();
        assert_eq!(wish(two, "fraud-cards", nothing), Ok(()));
        let refused = wish(two, "fraud-crads", nothing).unwrap_err();
        assert!(refused.contains("did you mean `fraud-cards`?"), "{refused}");
        let refused = wish(two, "something-else-altogether", nothing).unwrap_err();
        assert!(refused.contains("known are fraud-cards, loans"), "{refused}");
        // Settings that name servers only: the services know.
        assert_eq!(wish("", "fraud-crads", nothing), Ok(()));
    }

    #[test]
    fn an_instant_that_has_not_come_is_refused_unless_time_is_replayed() {
        let replay = "[clock]\nsource = \"replay\"\n";
        assert_eq!(wish("", "m", TimeDelta::seconds(59)), Ok(()));
        let refused = wish("", "m", TimeDelta::hours(1)).unwrap_err();
        assert!(refused.contains("2026-03-01T01:00:00Z"), "{refused}");
        assert_eq!(wish(replay, "m", TimeDelta::hours(1)), Ok(()));
    }
}
