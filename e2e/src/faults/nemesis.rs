//! What breaks things, drawn from a seed: the same seed draws the same faults in the same order.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::HeaderMap;
use chrono::{DateTime, Utc};
use futures_util::StreamExt as _;
use local_stack::peers::{databricks, slack, smtp, tracking};
use local_stack::proxy::{Line, Proxy};

use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;
use schemas::flow::STREAM;
use sqlx::AssertSqlSafe;
use vigie::host::SERVICES;

use super::fleet::Replica;
use super::world::{World, to_postgres};

/// Marks messages that no service wrote.
pub const HOSTILE: &str = "x-trial-hostile";

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `kill -9` of a replica.
    Kill,
    /// `kill -9` of every replica of a service.
    KillAll,
    /// SIGTERM of a replica.
    Terminate,
    /// SIGSTOP of a replica, shorter than any lease.
    Pause,
    /// SIGSTOP of a replica, longer than its leases: it wakes up and finds the work done.
    Stale,
    /// `kill -9` of nats-server.
    BrokerKilled,
    /// nats-server stands still.
    BrokerPaused,
    /// Power loss: nats-server is killed and its disk is that of a moment ago.
    BrokerRolledBack,
    /// As before, but what readers have had is kept.
    BrokerTailLost,
    /// nats-server loses its disk.
    BrokerWiped,
    /// A stream is deleted by hand.
    StreamDeleted,
    /// A consumer is deleted by hand.
    ConsumerDeleted,
    /// Immediate shutdown of PostgreSQL.
    DatabaseKilled,
    /// Connections of PostgreSQL are ended by an administrator.
    BackendsEnded,
    /// A line is late, narrow, silent, loses answers, truncates or is cut.
    Line,
    /// Databricks fails.
    Databricks,
    /// MLflow fails.
    Mlflow,
    /// Slack fails.
    Slack,
    /// The mail server fails.
    Mail,
    /// Messages come again, out of order, under no message id.
    Copies,
    /// Messages that are no events, or hostile ones.
    BadMessage,
    /// The disk of both servers is full; a trial of its own.
    DiskFull,
}

/// Every kind with its weight.
pub const KINDS: [(Kind, u32); 21] = [
    (Kind::Kill, 14),
    (Kind::KillAll, 4),
    (Kind::Terminate, 3),
    (Kind::Pause, 8),
    (Kind::Stale, 3),
    (Kind::BrokerKilled, 5),
    (Kind::BrokerPaused, 3),
    (Kind::BrokerRolledBack, 3),
    (Kind::BrokerTailLost, 2),
    (Kind::BrokerWiped, 2),
    (Kind::StreamDeleted, 2),
    (Kind::ConsumerDeleted, 3),
    (Kind::DatabaseKilled, 3),
    (Kind::BackendsEnded, 6),
    (Kind::Line, 20),
    (Kind::Databricks, 8),
    (Kind::Mlflow, 10),
    (Kind::Slack, 6),
    (Kind::Mail, 4),
    (Kind::Copies, 5),
    (Kind::BadMessage, 5),
];

/// A fault that was.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Its kind.
    pub kind: Kind,
    /// What it hit and how.
    pub detail: String,
    /// When what was broken worked again, by this machine's clock.
    pub ended: DateTime<Utc>,
}

/// Draws and does.
pub struct Nemesis {
    seed: u64,
    /// Draws kinds.
    kinds: ChaCha12Rng,
    /// Draws what the fault under way does: how much of it is used depends on what it meets, and must not move the next one.
    rng: ChaCha12Rng,
    struck: u64,
    bag: Vec<Kind>,
    hostile: u64,
}

impl Nemesis {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        let bag = KINDS
            .iter()
            .flat_map(|(kind, weight)| std::iter::repeat_n(*kind, *weight as usize))
            .collect();
        let mut kinds = ChaCha12Rng::seed_from_u64(seed);
        kinds.set_stream(u64::MAX);
        Self {
            seed,
            kinds,
            rng: ChaCha12Rng::seed_from_u64(seed),
            struck: 0,
            bag,
            hostile: 0,
        }
    }

    /// Begins the draws of the next fault.
    fn begin(&mut self) {
        self.struck += 1;
        self.rng = ChaCha12Rng::seed_from_u64(self.seed);
        self.rng.set_stream(self.struck);
    }

    /// The next kind.
    pub fn draw(&mut self) -> Kind {
        let drawn = self.bag.choose(&mut self.kinds);
        *drawn.unwrap_or(&Kind::Kill)
    }

    fn milliseconds(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.rng.random_range(from..=to))
    }

    fn replica(&mut self, world: &World) -> Replica {
        let all = world.fleet.replicas();
        all.choose(&mut self.rng).copied().unwrap_or(Replica {
            service: SERVICES[0],
            number: 0,
        })
    }

    /// Does one fault and waits until what it broke works again.
    ///
    /// # Errors
    /// When a server does not come back.
    pub async fn strike(&mut self, kind: Kind, world: &World) -> anyhow::Result<Fault> {
        self.begin();
        let detail = match kind {
            Kind::Kill | Kind::KillAll | Kind::Terminate | Kind::Pause | Kind::Stale => {
                self.service(kind, world).await
            }
            Kind::BrokerKilled
            | Kind::BrokerPaused
            | Kind::BrokerRolledBack
            | Kind::BrokerTailLost
            | Kind::BrokerWiped => self.broker(kind, world).await?,
            Kind::StreamDeleted | Kind::ConsumerDeleted | Kind::Copies | Kind::BadMessage => {
                // A broker that is away refuses; that was a fault that hit nobody.
                let done = tokio::time::timeout(Duration::from_secs(5), self.by_hand(kind, world)).await;
                match done {
                    Ok(Ok(detail)) => detail,
                    Ok(Err(error)) => format!("nothing: {error:#}"),
                    Err(_) => "nothing: no answer".to_owned(),
                }
            }
            Kind::DatabaseKilled => {
                let away = self.milliseconds(0, 400);
                tokio::task::block_in_place(|| {
                    world.stack.postgres().stop()?;
                    std::thread::sleep(away);
                    world.stack.postgres().restart()
                })?;
                format!("{} ms away", away.as_millis())
            }
            Kind::BackendsEnded => self.backends(world).await,
            Kind::DiskFull => "nothing: it is a trial of its own".to_owned(),
            Kind::Line => self.line(world).await,
            Kind::Databricks | Kind::Mlflow | Kind::Slack | Kind::Mail => self.peer(kind, world)?,
        };
        Ok(Fault {
            kind,
            detail,
            ended: Utc::now(),
        })
    }

    async fn service(&mut self, kind: Kind, world: &World) -> String {
        let replica = self.replica(world);
        let name = format!("{} {}", replica.service, replica.number);
        match kind {
            Kind::KillAll => {
                for other in world.fleet.replicas() {
                    if other.service == replica.service {
                        world.fleet.kill(other);
                    }
                }
                replica.service.to_owned()
            }
            Kind::Terminate => {
                world.fleet.terminate(replica);
                name
            }
            Kind::Pause | Kind::Stale => {
                let time = if kind == Kind::Stale {
                    self.milliseconds(2_500, 4_500)
                } else {
                    self.milliseconds(50, 900)
                };
                world.fleet.freeze(replica);
                tokio::time::sleep(time).await;
                world.fleet.thaw(replica);
                format!("{name} for {} ms", time.as_millis())
            }
            _ => {
                world.fleet.kill(replica);
                name
            }
        }
    }

    async fn broker(&mut self, kind: Kind, world: &World) -> anyhow::Result<String> {
        let nats = world.stack.nats();
        let (between, away) = (self.milliseconds(200, 1_500), self.milliseconds(0, 400));
        let kept = match kind {
            Kind::BrokerRolledBack | Kind::BrokerTailLost => {
                let kept = tokio::task::block_in_place(|| nats.keep_disk_of_running())?;
                tokio::time::sleep(between).await;
                Some(kept)
            }
            _ => None,
        };
        tokio::task::block_in_place(|| {
            if kind == Kind::BrokerPaused {
                nats.freeze()?;
                std::thread::sleep(between);
                return nats.thaw();
            }
            nats.kill()?;
            match (kind, &kept) {
                (Kind::BrokerWiped, _) => nats.lose_disk()?,
                (Kind::BrokerRolledBack, Some(kept)) => nats.roll_back_disk(kept)?,
                // The copy may be older than a stream that was made again: then it is the whole disk.
                (Kind::BrokerTailLost, Some(kept)) => nats
                    .roll_back_messages(kept)
                    .or_else(|_| nats.roll_back_disk(kept))?,
                _ => {}
            }
            std::thread::sleep(away);
            nats.restart()
        })?;
        Ok(match kind {
            Kind::BrokerRolledBack | Kind::BrokerTailLost => format!("{} ms lost", between.as_millis()),
            Kind::BrokerPaused => format!("{} ms", between.as_millis()),
            _ => format!("{} ms away", away.as_millis()),
        })
    }

    async fn by_hand(&mut self, kind: Kind, world: &World) -> anyhow::Result<String> {
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
            return Ok("nothing there".to_owned());
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
        Ok(format!("{copied} copies"))
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

    async fn backends(&mut self, world: &World) -> String {
        let service = SERVICES[self.rng.random_range(0..SERVICES.len())];
        let query = format!(
            "select count(*) from (select pg_terminate_backend(pid) from pg_stat_activity \
             where application_name like '%{service}%' and pid <> pg_backend_pid()) ended"
        );
        let ended: Result<(i64,), _> = sqlx::query_as(AssertSqlSafe(query)).fetch_one(&world.pool).await;
        match ended {
            Ok((count,)) => format!("{count} of {service}"),
            Err(error) => format!("nothing: {error}"),
        }
    }

    /// Every service asks PostgreSQL, and no answer arrives, on connections that stay open and never recover.
    pub async fn lose_answers(&mut self, world: &World) -> Fault {
        self.begin();
        let time = self.milliseconds(100, 1_200);
        let lines: Vec<&Proxy> = SERVICES
            .iter()
            .filter_map(|service| world.lines.find(&to_postgres(service)))
            .collect();
        for line in &lines {
            line.set(Line::AnswersLost);
        }
        tokio::time::sleep(time).await;
        for line in &lines {
            line.set(Line::Pass);
        }
        Fault {
            kind: Kind::Line,
            detail: format!(
                "answers of PostgreSQL to {} services are lost for {} ms",
                lines.len(),
                time.as_millis()
            ),
            ended: Utc::now(),
        }
    }

    async fn line(&mut self, world: &World) -> String {
        let names = world.lines.names();
        let name = names[self.rng.random_range(0..names.len())].to_owned();
        let time = self.milliseconds(100, 1_200);
        let line = match self.rng.random_range(0..7) {
            0 => Line::Delay(self.milliseconds(20, 300)),
            1 => Line::Throttle(self.rng.random_range(500..20_000)),
            2 => Line::Silent,
            3 => Line::AnswersLost,
            4 => Line::Truncate(self.rng.random_range(1..2_000)),
            5 => Line::Cut,
            _ => {
                world.lines.get(&name).reset();
                return format!("{name}: reset");
            }
        };
        let proxy = world.lines.get(&name);
        proxy.set(line);
        tokio::time::sleep(time).await;
        proxy.set(Line::Pass);
        format!("{name}: {line:?} for {} ms", time.as_millis())
    }

    fn peer(&mut self, kind: Kind, world: &World) -> anyhow::Result<String> {
        let times = self.rng.random_range(1..=3);
        let choice = self.rng.random_range(0..6);
        let slow = self.milliseconds(100, 4_000);
        Ok(match kind {
            Kind::Databricks => {
                use databricks::{Call, Fault};
                let call = [Call::Submit, Call::Get, Call::Submit][self.rng.random_range(0..3)];
                let fault = match choice {
                    0 => Fault::TooManyRequests {
                        retry_after: Some("1".to_owned()),
                    },
                    1 => Fault::ServerError,
                    2 => Fault::Unavailable,
                    3 => Fault::AnswerLost,
                    4 => Fault::RequestLost,
                    _ => Fault::Slow(slow),
                };
                world.databricks.fail(call, vec![fault.clone(); times]);
                format!("{call:?}: {times} times {fault:?}")
            }
            Kind::Mlflow => {
                use tracking::Fault;
                let fault = match choice {
                    0 => Fault::ServerError,
                    1 => Fault::TooManyRequests,
                    2 => Fault::Page,
                    3 => Fault::AnswerLost,
                    4 => Fault::DoneThenError,
                    _ => Fault::Slow(slow),
                };
                world.tracking.fail(vec![fault.clone(); times]);
                format!("{times} times {fault:?}")
            }
            Kind::Slack => {
                use slack::Answer;
                let answer = match choice {
                    0 | 1 => Answer::TooManyRequests { retry_after: 1 },
                    2 | 3 => Answer::ServerError,
                    4 => Answer::AnswerLost,
                    _ => Answer::Slow(slow),
                };
                world.slack.script(vec![answer.clone(); times]);
                format!("{times} times {answer:?}")
            }
            _ => {
                use smtp::Answer;
                let answer = if choice < 3 {
                    Answer::Refuse("451 try again later".to_owned())
                } else {
                    Answer::AnswerLost
                };
                world.smtp.script(vec![answer.clone(); times])?;
                format!("{times} times {answer:?}")
            }
        })
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

/// Faults by kind.
pub fn counted(faults: &[Fault]) -> BTreeMap<Kind, usize> {
    let mut counts = BTreeMap::new();
    for fault in faults {
        *counts.entry(fault.kind).or_default() += 1;
    }
    counts
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_the_same_faults_whatever_each_of_them_meets() {
        let (mut one, mut other) = (Nemesis::new(7), Nemesis::new(7));
        for number in 0..500 {
            assert_eq!(one.draw(), other.draw());
            one.begin();
            other.begin();
            let (first, second) = (one.milliseconds(0, 10_000), other.milliseconds(0, 10_000));
            assert_eq!(first, second, "fault {number}");
            // One of them meets something that the other does not.
            one.milliseconds(0, 10);
        }
        let kinds = |seed| {
            let mut nemesis = Nemesis::new(seed);
            (0..50).map(|_| nemesis.draw()).collect::<Vec<_>>()
        };
        assert_ne!(kinds(7), kinds(8));
    }
}
