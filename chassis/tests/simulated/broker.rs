//! A broker that does everything that a real one was seen to do: it repeats, reorders, forgets its tail or everything, gives numbers
//! twice, forgets answers, and remembers of a reader what it no longer holds.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::kinds::{KINDS, SERVICES};

const DUPLICATE_WINDOW: i64 = 20 * 60_000;
/// Snapshots of the disk that are kept.
const DISKS: usize = 4;

#[derive(Debug, Clone)]
pub struct Message {
    pub event: Uuid,
    pub kind: usize,
    id: String,
    at: i64,
}

#[derive(Debug, Clone, Copy)]
struct Pending {
    deliveries: i64,
    due: i64,
}

#[derive(Debug, Clone, Default)]
pub struct Consumer {
    /// Stream number of the newest message that was handed out.
    pub delivered: u64,
    /// Everything up to here was acknowledged.
    pub floor: u64,
    pending: BTreeMap<u64, Pending>,
    deliveries: BTreeMap<u64, i64>,
}

/// A stream and its readers.
#[derive(Debug, Clone, Default)]
pub struct State {
    pub made: Option<u64>,
    pub messages: BTreeMap<u64, Message>,
    pub last: u64,
    pub consumers: [Option<Consumer>; SERVICES],
}

#[derive(Debug, Default)]
pub struct Broker {
    pub up: bool,
    /// Changes with each start.
    pub server: u64,
    /// After so long without an answer it hands a message out again.
    pub ack_wait: i64,
    pub state: State,
    disks: Vec<(i64, State)>,
    streams_made: u64,
}

/// What came of a publish.
#[derive(Debug, Clone, Copy)]
pub struct Stored {
    pub seq: u64,
    pub fresh: bool,
}

/// A message that was handed out.
#[derive(Debug, Clone, Copy)]
pub struct Delivery {
    pub seq: u64,
    pub event: Uuid,
    pub kind: usize,
    pub deliveries: i64,
}

impl Broker {
    /// `None` when nobody stores it.
    pub fn publish(&mut self, event: Uuid, kind: usize, id: String, now: i64) -> Option<Stored> {
        if !self.up {
            return None;
        }
        self.state.made?;
        let state = &mut self.state;
        let known = state
            .messages
            .iter()
            .find(|(_, message)| message.id == id && message.at > now - DUPLICATE_WINDOW);
        if let Some((seq, _)) = known {
            return Some(Stored {
                seq: *seq,
                fresh: false,
            });
        }
        state.last += 1;
        let message = Message {
            event,
            kind,
            id,
            at: now,
        };
        state.messages.insert(state.last, message);
        Some(Stored {
            seq: state.last,
            fresh: true,
        })
    }

    pub fn provision(&mut self, service: usize) {
        if self.state.made.is_none() {
            self.streams_made += 1;
            self.state.made = Some(self.streams_made);
        }
        let last = self.state.last;
        let consumer = self.state.consumers[service].get_or_insert_default();
        if consumer.delivered > last {
            *consumer = Consumer::default();
        }
    }

    /// A message for the reader, if there is one; `early` prefers what was handed out before.
    pub fn deliver(&mut self, service: usize, now: i64, early: bool) -> Option<Delivery> {
        let State {
            messages, consumers, ..
        } = &mut self.state;
        let consumer = consumers[service].as_mut()?;
        consumer.pending.retain(|seq, _| messages.contains_key(seq));
        let next = || {
            let mut waiting = messages.range(consumer.delivered + 1..);
            waiting.find(|(_, message)| KINDS[message.kind].readers.contains(&service))
        };
        let again = consumer
            .pending
            .iter()
            .find(|(_, pending)| pending.due <= now)
            .map(|(seq, _)| *seq);
        let fresh = next().map(|(seq, _)| *seq);
        let seq = if early { again.or(fresh)? } else { fresh.or(again)? };
        let message = &messages[&seq];
        let deliveries = consumer.deliveries.entry(seq).or_default();
        *deliveries += 1;
        let pending = Pending {
            deliveries: *deliveries,
            due: now + self.ack_wait,
        };
        consumer.pending.insert(seq, pending);
        consumer.delivered = consumer.delivered.max(seq);
        Some(Delivery {
            seq,
            event: message.event,
            kind: message.kind,
            deliveries: pending.deliveries,
        })
    }

    /// An ack names a number, and whatever has it now is acknowledged.
    pub fn ack(&mut self, service: usize, seq: u64) {
        if let Some(consumer) = &mut self.state.consumers[service] {
            consumer.pending.remove(&seq);
            let below = consumer
                .pending
                .keys()
                .next()
                .map_or(consumer.delivered, |first| first - 1);
            consumer.floor = consumer.floor.max(below);
        }
    }

    pub fn nak(&mut self, service: usize, seq: u64, due: i64) {
        if let Some(consumer) = &mut self.state.consumers[service]
            && let Some(pending) = consumer.pending.get_mut(&seq)
        {
            pending.due = due;
        }
    }

    /// Messages for the reader that it was not given or has not answered.
    pub fn waiting(&self, service: usize) -> Option<u64> {
        let consumer = self.state.consumers[service].as_ref()?;
        let new = self.state.messages.range(consumer.delivered + 1..);
        let new = new.filter(|(_, message)| KINDS[message.kind].readers.contains(&service));
        Some(new.count() as u64 + consumer.pending.len() as u64)
    }

    pub fn restart(&mut self) {
        self.up = true;
        self.server += 1;
    }

    /// What is on the disk now stays there.
    pub fn keep_disk(&mut self, now: i64) {
        self.disks.push((now, self.state.clone()));
        if self.disks.len() > DISKS {
            self.disks.remove(0);
        }
    }

    fn disk(&self, pick: usize, since: i64) -> Option<State> {
        let recent: Vec<&State> = self
            .disks
            .iter()
            .filter(|(at, _)| *at >= since)
            .map(|(_, state)| state)
            .collect();
        (!recent.is_empty()).then(|| recent[pick % recent.len()].clone())
    }

    /// Power is lost, and with it what was not on the disk; `keeps_readers` is the disk that kept the readers' state alone.
    pub fn lose_power(&mut self, pick: usize, since: i64, keeps_readers: bool) {
        if let Some(mut disk) = self.disk(pick, since).filter(|disk| disk.made == self.state.made) {
            if keeps_readers {
                disk.consumers.clone_from(&self.state.consumers);
            }
            self.state = disk;
            self.disks.clear();
        }
        self.up = false;
    }

    /// Messages stay; of what the readers answered, something is forgotten.
    pub fn forget_answers(&mut self, pick: usize, since: i64) {
        if let Some(disk) = self.disk(pick, since).filter(|disk| disk.made == self.state.made) {
            self.state.consumers = disk.consumers;
        }
        self.up = false;
    }

    /// The disk is lost.
    pub fn lose_disk(&mut self) {
        self.state = State::default();
        self.disks.clear();
        self.up = false;
    }

    /// Somebody deletes the stream under living connections.
    pub fn delete_stream(&mut self) {
        self.state = State::default();
        self.disks.clear();
    }

    pub fn delete_consumer(&mut self, service: usize) {
        self.state.consumers[service] = None;
    }

    pub fn holds(&self, event: Uuid) -> bool {
        self.state.messages.values().any(|message| message.event == event)
    }
}
