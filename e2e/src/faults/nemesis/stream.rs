//! What a hand can do to a stream: delete it or a consumer, publish again, publish rubbish.

use async_nats::HeaderMap;
use futures_util::StreamExt as _;
use rand::Rng as _;
use schemas::flow::STREAM;
use vigie::host::SERVICES;

use super::{Kind, Nemesis};
use crate::faults::world::World;

/// Marks messages that no service wrote.
pub const HOSTILE: &str = "x-trial-hostile";

impl Nemesis {
    pub(super) async fn by_hand(&mut self, kind: Kind, world: &World) -> anyhow::Result<String> {
        let client = async_nats::connect(world.stack.nats_url()).await?;
        let jetstream = async_nats::jetstream::new(client);
        match kind {
            Kind::StreamDeleted => {
                jetstream.delete_stream(STREAM).await?;
                Ok(STREAM.to_owned())
            }
            Kind::ConsumerDeleted => {
                let service = SERVICES[self.rng.random_range(0..SERVICES.len())];
                jetstream
                    .get_stream(STREAM)
                    .await?
                    .delete_consumer(service)
                    .await?;
                Ok(service.to_owned())
            }
            Kind::Copies => self.copies(&jetstream).await,
            _ => self.bad_message(&jetstream).await,
        }
    }

    /// Messages of the stream once more, in any order, under no message id.
    async fn copies(&mut self, jetstream: &async_nats::jetstream::Context) -> anyhow::Result<String> {
        let stream = jetstream.get_stream(STREAM).await?;
        let state = &stream.cached_info().state;
        if state.messages == 0 {
            return Ok("nothing: the stream is empty".to_owned());
        }
        let mut copied = 0;
        for _ in 0..5 {
            let seq = self.rng.random_range(state.first_sequence..=state.last_sequence);
            let Ok(message) = stream.get_raw_message(seq).await else {
                continue;
            };
            let headers = without_message_id(&message.headers);
            jetstream
                .publish_with_headers(message.subject, headers, message.payload)
                .await?
                .await?;
            copied += 1;
        }
        Ok(if copied == 0 {
            "nothing: no message was there any more".to_owned()
        } else {
            format!("{copied} copies")
        })
    }

    async fn bad_message(&mut self, jetstream: &async_nats::jetstream::Context) -> anyhow::Result<String> {
        self.hostile += 1;
        let bodies = bad_messages();
        let (what, headers, body) = &bodies[self.rng.random_range(0..bodies.len())];
        let mut all = HeaderMap::new();
        all.insert(HOSTILE, self.hostile.to_string());
        for (name, value) in headers {
            all.insert(*name, value.as_str());
        }
        jetstream
            .publish_with_headers("drift.detected", all, body.clone().into())
            .await?
            .await?;
        Ok((*what).to_owned())
    }
}

/// The headers of a message that the broker takes for a new one.
pub fn without_message_id(headers: &HeaderMap) -> HeaderMap {
    let mut copy = HeaderMap::new();
    for (name, values) in headers.iter() {
        if name != &async_nats::header::NATS_MESSAGE_ID {
            for value in values {
                copy.append(name.clone(), value.clone());
            }
        }
    }
    copy
}

/// What it is, headers, body.
type BadMessage = (&'static str, Vec<(&'static str, String)>, Vec<u8>);

fn bad_messages() -> Vec<BadMessage> {
    let named = |name: &str| {
        vec![
            ("ce-specversion", "1.0".to_owned()),
            ("ce-id", "00000000-0000-4000-8000-000000000001".to_owned()),
            ("ce-source", "/vigie/nobody".to_owned()),
            ("ce-type", name.to_owned()),
        ]
    };
    vec![
        ("no event at all", vec![], b"hello".to_vec()),
        ("nothing", vec![], vec![]),
        ("half an event", named("vigie.drift.detected.v1"), b"{".to_vec()),
        ("another major", named("vigie.drift.detected.v9"), b"{}".to_vec()),
        (
            "no text",
            named("vigie.drift.detected.v1"),
            vec![0xff, 0xfe, 0x00],
        ),
        ("depth", vec![], [b"[".repeat(5_000), b"]".repeat(5_000)].concat()),
    ]
}

/// Reads the whole stream; nothing when it is not there.
///
/// # Errors
/// When the broker does not answer.
pub async fn messages(url: &str) -> anyhow::Result<Vec<async_nats::jetstream::Message>> {
    let jetstream = async_nats::jetstream::new(async_nats::connect(url).await?);
    let Ok(stream) = jetstream.get_stream(STREAM).await else {
        return Ok(Vec::new());
    };
    let last = stream.cached_info().state.last_sequence;
    if stream.cached_info().state.messages == 0 {
        return Ok(Vec::new());
    }
    let config = async_nats::jetstream::consumer::pull::OrderedConfig::default();
    let mut messages = stream.create_consumer(config).await?.messages().await?;
    let mut all = Vec::new();
    while let Some(message) = messages.next().await {
        let message = message?;
        let seq = message.info().map_or(last, |info| info.stream_sequence);
        all.push(message);
        if seq >= last {
            break;
        }
    }
    Ok(all)
}
