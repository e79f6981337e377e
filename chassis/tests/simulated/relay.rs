//! A replica of a relay, one step at a time; it may be killed or forgotten between any two.

use std::time::Duration;

use chassis::backoff::publish_step;
use chassis::rules;
use rand::Rng as _;
use uuid::Uuid;

use crate::kinds::shown;
use crate::mirror::{self, Gone, Row, millis};
use crate::world::World;

const BATCH: usize = 4;
/// A transaction without a word for longer is ended by the database.
const IDLE_MAX: i64 = 15_000;

/// Which broker it is: the server's id, and the stream that was made.
pub type Identity = (u64, u64);

#[derive(Debug, Clone, Default)]
pub enum Relay {
    Down,
    #[default]
    Idle,
    /// It has asked the broker, and not written yet what follows.
    Looked {
        connection: u64,
        identity: Identity,
        last: u64,
        looked_at: i64,
    },
    Batch(Batch),
}

/// Rows that it holds, and what it was told about them.
#[derive(Debug, Clone)]
pub struct Batch {
    rows: Vec<Uuid>,
    marks: Vec<Mark>,
    highest: i64,
    behind: bool,
    touched: i64,
}

#[derive(Debug, Clone, Copy)]
enum Mark {
    Published { at: i64, seq: i64, fresh: bool },
    Again { next_at: i64 },
}

impl Batch {
    pub fn is_open(&self, now: i64) -> bool {
        now - self.touched <= IDLE_MAX
    }
}

impl Relay {
    /// The rows that it has locked.
    pub fn locked(&self, now: i64) -> &[Uuid] {
        match self {
            Self::Batch(batch) if batch.is_open(now) => &batch.rows,
            _ => &[],
        }
    }
}

impl World {
    /// One step of a relay; whether anything was done.
    pub fn step_relay(&mut self, service: usize, replica: usize) -> bool {
        let relay = std::mem::take(&mut self.services[service].relays[replica]);
        let (next, progress) = match relay {
            Relay::Down => {
                self.services[service].compared[replica] = None;
                (Relay::Idle, true)
            }
            Relay::Idle => self.relay_looks(service, replica),
            looked @ Relay::Looked { .. } => self.relay_compares(service, replica, looked),
            Relay::Batch(batch) => (self.relay_publishes(service, replica, batch), true),
        };
        self.services[service].relays[replica] = next;
        progress
    }

    fn relay_looks(&mut self, service: usize, replica: usize) -> (Relay, bool) {
        let (true, connection) = (self.broker.up, self.connection(service, replica)) else {
            return (Relay::Idle, false);
        };
        let due = self.services[service].compared[replica].is_none_or(|(on, at)| {
            let ago = Duration::from_millis((self.now - at).unsigned_abs());
            (self.rules.compares_again || on != connection) && rules::is_comparison_due(on == connection, ago)
        });
        if !due || !self.rules.epoch {
            return self.relay_claims(service);
        }
        let Some(made) = self.broker.state.made else {
            return (Relay::Idle, false);
        };
        let looked = Relay::Looked {
            connection,
            identity: (self.broker.server, made),
            last: self.broker.state.last,
            looked_at: self.now,
        };
        (looked, true)
    }

    fn relay_compares(&mut self, service: usize, replica: usize, looked: Relay) -> (Relay, bool) {
        let Relay::Looked {
            connection,
            identity,
            last,
            looked_at,
        } = looked
        else {
            return (looked, false);
        };
        let now = self.now;
        // It waits for batches that are under way, or at least for the rows that it would change.
        let waits = if self.rules.comparison_waits {
            self.services[service]
                .relays
                .iter()
                .any(|relay| matches!(relay, Relay::Batch(batch) if batch.is_open(now)))
        } else {
            let locked = self.locked(service);
            let mut rows = self.services[service].outbox.iter();
            let gone = self.services[service].epoch.map(|(known, alive_at)| Gone {
                alive_at,
                streams_too: known.1 != identity.1,
            });
            rows.any(|row| locked.contains(&row.event) && row.compared(gone, last, looked_at, now).is_some())
        };
        if waits {
            return (looked, false);
        }
        let database = &mut self.services[service];
        let (known, alive_at) = *database.epoch.get_or_insert((identity, looked_at));
        let changed = if self.rules.notices_new_streams {
            known != identity
        } else {
            known.0 != identity.0
        };
        let gone = changed.then_some(Gone {
            alive_at,
            streams_too: known.1 != identity.1,
        });
        for row in &mut database.outbox {
            if let Some(after) = row.compared(gone, last, looked_at, now) {
                *row = after;
                self.figures.compared_again += 1;
            }
        }
        database.epoch = Some((identity, looked_at));
        database.compared[replica] = Some((connection, now));
        let told = format!("relay {service} compared: changed {changed}, the stream ends at {last}");
        self.tell(|| told);
        self.relay_claims(service)
    }

    fn relay_claims(&mut self, service: usize) -> (Relay, bool) {
        let locked = self.locked(service);
        let free: Vec<Row> = self.services[service]
            .outbox
            .iter()
            .filter(|row| !locked.contains(&row.event))
            .cloned()
            .collect();
        let rows = mirror::claimed(&free, self.now, BATCH);
        let batch = Batch {
            rows,
            marks: Vec::new(),
            highest: highest(&self.services[service].outbox),
            behind: false,
            touched: self.now,
        };
        let progress = !batch.rows.is_empty();
        if progress {
            (Relay::Batch(batch), true)
        } else {
            (Relay::Idle, false)
        }
    }

    fn relay_publishes(&mut self, service: usize, replica: usize, mut batch: Batch) -> Relay {
        if !batch.is_open(self.now) || self.unlucky(40) {
            // The database ended it, or the commit failed: what the broker said is forgotten.
            self.services[service].compared[replica] = None;
            return Relay::Idle;
        }
        batch.touched = self.now;
        let Some(event) = batch.rows.get(batch.marks.len()).copied() else {
            self.relay_commits(service, &batch);
            if batch.behind {
                self.services[service].compared[replica] = None;
            }
            return Relay::Idle;
        };
        let mark = self.publish(service, event, &mut batch);
        batch.marks.push(mark);
        Relay::Batch(batch)
    }

    fn publish(&mut self, service: usize, event: Uuid, batch: &mut Batch) -> Mark {
        let row = self.services[service]
            .outbox
            .iter()
            .find(|row| row.event == event);
        let (kind, offer, attempt) = row.map_or((0, 0, 0), |row| (row.kind, row.offer, row.attempt));
        let id = rules::message_id(event, 0, offer);
        let again = Mark::Again {
            next_at: self.now + millis(publish_step(attempt.unsigned_abs())),
        };
        self.figures.published += 1;
        if self.unlucky(15) {
            if self.rng.random_bool(0.5) {
                // It is under way longer than anybody waits for its ack.
                self.late.push((event, kind, id));
            }
            return again;
        }
        let stored = self.broker.publish(event, kind, id, self.now);
        let lost_ack = self.unlucky(15);
        let told = format!(
            "relay {service} published {}: {stored:?}, ack lost: {lost_ack}",
            shown(event)
        );
        self.tell(|| told);
        match stored {
            Some(stored) if !lost_ack => {
                let seq = stored.seq.cast_signed();
                batch.behind |= rules::begins_anew(stored.fresh, seq, batch.highest);
                Mark::Published {
                    at: self.now,
                    seq,
                    fresh: stored.fresh,
                }
            }
            _ => again,
        }
    }

    fn relay_commits(&mut self, service: usize, batch: &Batch) {
        for (event, mark) in batch.rows.iter().zip(&batch.marks) {
            let rows = &mut self.services[service].outbox;
            let Some(row) = rows.iter_mut().find(|row| row.event == *event) else {
                continue;
            };
            match *mark {
                Mark::Published { at, seq, fresh } => row.acknowledged(seq, fresh, at),
                Mark::Again { next_at } => (row.attempt, row.next_at) = (row.attempt + 1, next_at),
            }
        }
    }

    /// Rows of the service that relays have locked.
    pub fn locked(&self, service: usize) -> Vec<Uuid> {
        let relays = self.services[service].relays.iter();
        relays.flat_map(|relay| relay.locked(self.now).to_vec()).collect()
    }
}

/// The highest number that the stream gave, as far as the outbox knows.
fn highest(rows: &[Row]) -> i64 {
    let published = rows.iter().filter(|row| row.published_at.is_some() && !row.dead);
    published.filter_map(|row| row.stream_seq).max().unwrap_or(0)
}
