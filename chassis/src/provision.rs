//! Streams and consumers, created as asked and compared with what the server says it made.

use std::time::Duration;

use anyhow::{Context as _, bail};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::context::{ConsumerInfoErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType, Stream};
use async_nats::jetstream::{self, consumer::Consumer};
use schemas::EventKind;
use tokio_util::sync::CancellationToken;

use crate::bus::{Bus, NatsSettings, STREAM, STREAM_ADVISORY, STREAM_DEAD};

/// The broker forgets ids after this long; the inbox does not.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(20 * 60);

/// What to do where services may not make streams and consumers themselves.
const PROVISION: &str = "run `vigie provision streams` (setting `nats.provision` is false)";
/// Pause between two looks for what somebody else is to make.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Creates or updates the three streams; only looks at them when `nats.provision` is false.
///
/// # Errors
/// When the server refuses, kept something else than what was asked, or something is missing that somebody else is to make.
pub async fn streams(bus: &Bus, settings: &NatsSettings) -> anyhow::Result<()> {
    for asked in stream_configs(settings) {
        let kept = if settings.provision {
            ensure_stream(&bus.jetstream(), asked.clone()).await?
        } else {
            look_at_stream(&bus.jetstream(), &asked.name).await?
        };
        let differences = stream_differences(&asked, &kept);
        if !differences.is_empty() && !settings.provision {
            bail!(
                "stream {} is not what the settings ask for: {}; {PROVISION}",
                asked.name,
                differences.join("; ")
            );
        }
        if !differences.is_empty() {
            bail!(
                "the NATS server did not keep what was asked of stream {}: {}. A newer server (2.12 or later) or an administrator can help",
                asked.name,
                differences.join("; ")
            );
        }
    }
    Ok(())
}

/// [`streams`], for the start of a service: what somebody else is to make is waited for.
///
/// # Errors
/// As [`streams`] where services make streams themselves.
pub(crate) async fn await_streams(
    bus: &Bus,
    settings: &NatsSettings,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    loop {
        match streams(bus, settings).await {
            Err(error) if !settings.provision && !stop.is_cancelled() => {
                tracing::warn!("waiting for streams: {error:#}");
                tokio::select! {
                    () = tokio::time::sleep(LOOK_AGAIN) => {}
                    () = stop.cancelled() => {}
                }
            }
            result => return result,
        }
    }
}

/// Everything at once: the streams and the consumers of all services, whatever `nats.provision` says.
///
/// # Errors
/// When the server refuses, or kept something else than what was asked.
pub async fn everything(bus: &Bus, settings: &NatsSettings) -> anyhow::Result<()> {
    let settings = NatsSettings {
        provision: true,
        ..settings.clone()
    };
    streams(bus, &settings).await?;
    for service in schemas::rights::services() {
        let kinds = EventKind::read_by(service);
        if !kinds.is_empty() {
            consumer(bus, &settings, service, &kinds).await?;
        }
    }
    Ok(())
}

async fn look_at_stream(jetstream: &jetstream::Context, name: &str) -> anyhow::Result<Config> {
    match jetstream.get_stream(name).await {
        Ok(stream) => Ok(stream.cached_info().config.clone()),
        Err(error) if is_missing(error.kind()) => bail!("stream {name} is missing; {PROVISION}"),
        Err(error) => Err(error).with_context(|| format!("look up stream {name}")),
    }
}

fn stream_configs(settings: &NatsSettings) -> [Config; 3] {
    let common = Config {
        storage: StorageType::File,
        retention: RetentionPolicy::Limits,
        // A full stream makes publishers wait; it never drops the oldest unprocessed event.
        discard: DiscardPolicy::New,
        num_replicas: settings.replicas,
        max_age: settings.stream_age_max,
        duplicate_window: DUPLICATE_WINDOW.min(settings.stream_age_max),
        deny_delete: true,
        max_messages: -1,
        max_messages_per_subject: -1,
        max_message_size: 1 << 20,
        max_consumers: -1,
        ..Config::default()
    };
    let small = (settings.stream_bytes_max / 8).max(1 << 20);
    [
        Config {
            name: STREAM.to_owned(),
            description: Some("Vigie: events of the drift, retrain, validate, promote loop".to_owned()),
            subjects: event_subject_roots(),
            max_bytes: settings.stream_bytes_max,
            allow_direct: true,
            ..common.clone()
        },
        Config {
            name: STREAM_DEAD.to_owned(),
            description: Some("Vigie: messages that no retry can help".to_owned()),
            subjects: vec!["dead.>".to_owned()],
            max_bytes: small,
            ..common.clone()
        },
        Config {
            name: STREAM_ADVISORY.to_owned(),
            description: Some("Vigie: tripwire; any message in it is a bug".to_owned()),
            subjects: vec![
                format!("$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{STREAM}.>"),
                format!("$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.{STREAM}.>"),
            ],
            max_bytes: small,
            ..common
        },
    ]
}

/// `drift.>`, `retrain.>`, …: the first words of all subjects.
fn event_subject_roots() -> Vec<String> {
    let mut roots: Vec<String> = EventKind::ALL
        .iter()
        .filter_map(|kind| kind.subject().split('.').next())
        .map(|root| format!("{root}.>"))
        .collect();
    roots.sort();
    roots.dedup();
    roots
}

async fn ensure_stream(jetstream: &jetstream::Context, asked: Config) -> anyhow::Result<Config> {
    let name = asked.name.clone();
    match jetstream.get_stream(&name).await {
        Ok(stream) => {
            let kept = stream.cached_info().config.clone();
            if stream_differences(&asked, &kept).is_empty() {
                return Ok(kept);
            }
            let info = jetstream
                .update_stream(asked)
                .await
                .with_context(|| format!("update stream {name}"))?;
            Ok(info.config)
        }
        Err(error) if is_missing(error.kind()) => match jetstream.create_stream(asked).await {
            Ok(stream) => Ok(stream.cached_info().config.clone()),
            // Another replica may have been faster.
            Err(create_error) => match jetstream.get_stream(&name).await {
                Ok(stream) => Ok(stream.cached_info().config.clone()),
                Err(_) => Err(create_error).with_context(|| format!("create stream {name}")),
            },
        },
        Err(error) => Err(error).with_context(|| format!("look up stream {name}")),
    }
}

fn is_missing(kind: GetStreamErrorKind) -> bool {
    matches!(kind, GetStreamErrorKind::JetStream(error) if error.code() == 404)
}

fn stream_differences(asked: &Config, kept: &Config) -> Vec<String> {
    let mut differences = Vec::new();
    let mut compare = |what: &str, asked: String, kept: String| {
        if asked != kept {
            differences.push(format!("{what} is {kept} where {asked} was asked"));
        }
    };
    let sorted = |subjects: &[String]| {
        let mut subjects = subjects.to_vec();
        subjects.sort();
        subjects.join(",")
    };
    compare("subjects", sorted(&asked.subjects), sorted(&kept.subjects));
    compare(
        "storage",
        format!("{:?}", asked.storage),
        format!("{:?}", kept.storage),
    );
    compare(
        "retention",
        format!("{:?}", asked.retention),
        format!("{:?}", kept.retention),
    );
    compare(
        "discard",
        format!("{:?}", asked.discard),
        format!("{:?}", kept.discard),
    );
    compare(
        "num_replicas",
        asked.num_replicas.to_string(),
        kept.num_replicas.to_string(),
    );
    compare(
        "max_bytes",
        asked.max_bytes.to_string(),
        kept.max_bytes.to_string(),
    );
    // However "no limit" is written.
    let limit = |limit: i64| match limit {
        1.. => limit.to_string(),
        _ => "unlimited".to_owned(),
    };
    compare(
        "max_messages",
        limit(asked.max_messages),
        limit(kept.max_messages),
    );
    compare(
        "max_messages_per_subject",
        limit(asked.max_messages_per_subject),
        limit(kept.max_messages_per_subject),
    );
    compare(
        "max_consumers",
        limit(asked.max_consumers.into()),
        limit(kept.max_consumers.into()),
    );
    compare(
        "max_age",
        format!("{:?}", asked.max_age),
        format!("{:?}", kept.max_age),
    );
    compare(
        "max_message_size",
        asked.max_message_size.to_string(),
        kept.max_message_size.to_string(),
    );
    compare(
        "duplicate_window",
        format!("{:?}", asked.duplicate_window),
        format!("{:?}", kept.duplicate_window),
    );
    compare(
        "deny_delete",
        asked.deny_delete.to_string(),
        kept.deny_delete.to_string(),
    );
    // An asynchronous stream would acknowledge what it may forget, whatever `sync_interval` says.
    compare(
        "persist_mode",
        format!("{:?}", asked.persist_mode),
        format!("{:?}", kept.persist_mode),
    );
    differences
}

/// Creates or updates the durable pull consumer of a service; only looks at it when `nats.provision` is false.
///
/// # Errors
/// When the server refuses, or kept something else than what was asked.
pub async fn consumer(
    bus: &Bus,
    settings: &NatsSettings,
    durable: &str,
    kinds: &[EventKind],
) -> anyhow::Result<Consumer<pull::Config>> {
    let stream = bus
        .jetstream()
        .get_stream(STREAM)
        .await
        .with_context(|| format!("look up stream {STREAM}"))?;
    let mut subjects: Vec<String> = kinds.iter().map(|kind| kind.subject().to_owned()).collect();
    subjects.sort();
    let asked = pull::Config {
        durable_name: Some(durable.to_owned()),
        description: Some(format!("Vigie: {durable}")),
        deliver_policy: DeliverPolicy::All,
        ack_policy: AckPolicy::Explicit,
        ack_wait: settings.ack_wait,
        // Unlimited at the broker: the application counts deliveries and parks what fails for good.
        max_deliver: -1,
        max_ack_pending: settings.ack_pending_max,
        filter_subjects: subjects,
        ..pull::Config::default()
    };
    let mut consumer = if settings.provision {
        create_consumer(&stream, &asked, durable).await?
    } else {
        look_at_consumer(&stream, durable).await?
    };
    let last = stream.cached_info().state.last_sequence;
    let delivered = consumer.cached_info().delivered.stream_sequence;
    if delivered > last {
        if !settings.provision {
            bail!(
                "the broker lost acknowledged data: consumer {durable} was delivered message {delivered}, stream {STREAM} ends \
                 at {last}, and the consumer must be made again; {PROVISION}"
            );
        }
        // Its state outlived the tail of the stream: it would skip, in silence, whatever gets the numbers it has seen.
        // From the beginning once more; the inbox absorbs what was handled.
        tracing::error!(
            "the broker lost acknowledged data: consumer {durable} was delivered message {delivered}, stream {STREAM} ends at \
             {last}; the consumer is made again"
        );
        stream
            .delete_consumer(durable)
            .await
            .with_context(|| format!("delete consumer {durable}"))?;
        consumer = create_consumer(&stream, &asked, durable).await?;
    }
    let kept = &consumer.cached_info().config;
    let mut kept_subjects = kept.filter_subjects.clone();
    if kept_subjects.is_empty() && !kept.filter_subject.is_empty() {
        kept_subjects.push(kept.filter_subject.clone());
    }
    kept_subjects.sort();
    let as_asked = kept_subjects == asked.filter_subjects
        && kept.deliver_policy == asked.deliver_policy
        && kept.backoff.is_empty()
        && !kept.headers_only
        && kept.ack_policy == asked.ack_policy
        && kept.ack_wait == asked.ack_wait
        && kept.max_deliver == asked.max_deliver
        && kept.max_ack_pending == asked.max_ack_pending;
    if !as_asked && !settings.provision {
        bail!("consumer {durable} is not what this release and its settings ask for; {PROVISION}");
    }
    if !as_asked {
        bail!(
            "the NATS server did not keep what was asked of consumer {durable}: asked {asked:?}, kept {kept:?}"
        );
    }
    Ok(consumer)
}

async fn look_at_consumer(stream: &Stream, durable: &str) -> anyhow::Result<Consumer<pull::Config>> {
    match stream.consumer_info(durable).await {
        Ok(_) => stream
            .get_consumer(durable)
            .await
            .map_err(|error| anyhow::anyhow!("look up consumer {durable}: {error}")),
        Err(error) if error.kind() == ConsumerInfoErrorKind::NotFound => {
            bail!("consumer {durable} is missing; {PROVISION}")
        }
        Err(error) => Err(error).with_context(|| format!("look up consumer {durable}")),
    }
}

async fn create_consumer(
    stream: &Stream,
    asked: &pull::Config,
    durable: &str,
) -> anyhow::Result<Consumer<pull::Config>> {
    stream
        .create_consumer(asked.clone())
        .await
        .with_context(|| format!("create consumer {durable}"))
}
