//! What breaks things, drawn from a seed: the same seed draws the same faults in the same order. One file for each kind of
//! victim.

mod broker;
mod database;
mod lines;
mod peers;
mod services;
mod stream;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;

use super::fleet::Replica;
use super::world::{World, to_nats, to_postgres};
pub use database::heal as heal_database;
pub use stream::{HOSTILE, messages, without_message_id};

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
    /// SIGSTOP of a replica for 20 to 60 s, while everything else goes on.
    Asleep,
    /// `kill -9` of nats-server.
    BrokerKilled,
    /// nats-server stands still.
    BrokerPaused,
    /// Power loss: nats-server is killed and its disk is that of a moment ago.
    BrokerRolledBack,
    /// As before, but what readers have had is kept.
    BrokerTailLost,
    /// nats-server comes back with its disk of some faults ago.
    BrokerRestored,
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
    /// PostgreSQL takes no writes.
    DatabaseReadOnly,
    /// PostgreSQL lets nobody in, and a service is thrown out.
    LoginsRefused,
    /// A line is late, narrow, silent, loses answers, truncates or is cut.
    Line,
    /// The line of one replica to NATS or PostgreSQL is broken for 20 to 60 s, while everything else goes on.
    CutOff,
    /// Databricks fails.
    Databricks,
    /// A run on Databricks fails, takes long, or never ends.
    Run,
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
pub const KINDS: [(Kind, u32); 27] = [
    (Kind::Kill, 14),
    (Kind::KillAll, 4),
    (Kind::Terminate, 3),
    (Kind::Pause, 8),
    (Kind::Stale, 3),
    (Kind::Asleep, 2),
    (Kind::BrokerKilled, 5),
    (Kind::BrokerPaused, 3),
    (Kind::BrokerRolledBack, 3),
    (Kind::BrokerTailLost, 2),
    (Kind::BrokerRestored, 2),
    (Kind::BrokerWiped, 2),
    (Kind::StreamDeleted, 2),
    (Kind::ConsumerDeleted, 3),
    (Kind::DatabaseKilled, 3),
    (Kind::BackendsEnded, 6),
    (Kind::DatabaseReadOnly, 2),
    (Kind::LoginsRefused, 2),
    (Kind::Line, 20),
    (Kind::CutOff, 2),
    (Kind::Databricks, 8),
    (Kind::Run, 3),
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
    /// When what was broken worked again, by this machine's clock; when it was broken, if the others are to go on meanwhile.
    pub ended: DateTime<Utc>,
}

impl Fault {
    /// Whether there was something to hit.
    pub fn hit(&self) -> bool {
        !self.detail.starts_with("nothing")
    }
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
    /// Whether there is time to wait for the deadline of a run that never ends.
    patient: bool,
    /// A disk of nats-server to go back to, and when it was copied.
    backup: Option<(PathBuf, Instant)>,
    /// Lines, by name and replica, that are broken for long, and until when.
    broken: BTreeMap<(String, usize), Instant>,
}

impl Nemesis {
    /// From a seed; a patient one also lets runs never end.
    pub fn new(seed: u64, patient: bool) -> Self {
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
            patient,
            backup: None,
            broken: BTreeMap::new(),
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

    /// Whether another replica of the service is awake, with whole lines.
    fn has_whole_twin(&mut self, world: &World, replica: Replica) -> bool {
        self.broken.retain(|_, until| *until > Instant::now());
        world.fleet.replicas().into_iter().any(|other| {
            let cut_off = self.broken.keys().any(|(name, number)| {
                *number == other.number && [to_nats(other.service), to_postgres(other.service)].contains(name)
            });
            other.service == replica.service
                && other != replica
                && !world.fleet.stands_still(other)
                && !cut_off
        })
    }

    fn milliseconds(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.rng.random_range(from..=to))
    }

    /// Does one fault and waits until what it broke works again.
    ///
    /// # Errors
    /// When a server does not come back.
    pub async fn strike(&mut self, kind: Kind, world: &World) -> anyhow::Result<Fault> {
        self.begin();
        let detail = match kind {
            Kind::Kill | Kind::KillAll | Kind::Terminate | Kind::Pause | Kind::Stale | Kind::Asleep => {
                self.service(kind, world).await
            }
            Kind::BrokerKilled
            | Kind::BrokerPaused
            | Kind::BrokerRolledBack
            | Kind::BrokerTailLost
            | Kind::BrokerWiped => self.broker(kind, world).await?,
            Kind::BrokerRestored => self.restore_broker(world)?,
            Kind::StreamDeleted | Kind::ConsumerDeleted | Kind::Copies | Kind::BadMessage => {
                // A broker that is away refuses; that was a fault that hit nobody.
                let done = tokio::time::timeout(Duration::from_secs(5), self.by_hand(kind, world)).await;
                match done {
                    Ok(Ok(detail)) => detail,
                    Ok(Err(error)) => format!("nothing: {error:#}"),
                    Err(_) => "nothing: no answer".to_owned(),
                }
            }
            Kind::DatabaseKilled | Kind::BackendsEnded | Kind::DatabaseReadOnly | Kind::LoginsRefused => {
                self.database(kind, world).await?
            }
            Kind::DiskFull => "nothing: it is a trial of its own".to_owned(),
            Kind::Line => self.line(world).await,
            Kind::CutOff => self.cut_off(world),
            Kind::Run => self.run(world),
            Kind::Databricks | Kind::Mlflow | Kind::Slack | Kind::Mail => self.peer(kind, world)?,
        };
        Ok(Fault {
            kind,
            detail,
            ended: Utc::now(),
        })
    }
}

/// Faults by kind.
pub fn counted(faults: &[Fault]) -> BTreeMap<Kind, usize> {
    let mut counts = BTreeMap::new();
    for fault in faults {
        *counts.entry(fault.kind).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_the_same_faults_whatever_each_of_them_meets() {
        let (mut one, mut other) = (Nemesis::new(7, false), Nemesis::new(7, false));
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
            let mut nemesis = Nemesis::new(seed, false);
            (0..50).map(|_| nemesis.draw()).collect::<Vec<_>>()
        };
        assert_ne!(kinds(7), kinds(8));
    }
}
