//! A replica of a consumer, one step at a time; it may be killed or forgotten between any two.

use chassis::rules::{self, Answer, Became};
use rand::Rng as _;
use uuid::Uuid;

use crate::broker::Delivery;
use crate::kinds::{KINDS, derived, is_poison, shown};
use crate::mirror::millis;
use crate::world::{Receipt, World};

#[derive(Debug, Clone, Copy, Default)]
pub enum Reader {
    Down,
    #[default]
    Idle,
    /// Was given a message.
    Got(Delivery),
    /// Its transaction holds the receipt, which nobody else sees yet.
    Working(Delivery),
    /// Will park the message.
    Parking(Delivery),
    /// Is done, and says so next.
    Answers(Delivery, Became),
}

impl World {
    /// One step of a consumer; whether anything was done.
    pub fn step_reader(&mut self, service: usize, replica: usize) -> bool {
        let reader = std::mem::take(&mut self.services[service].readers[replica]);
        let (next, progress) = match reader {
            Reader::Down => {
                self.services[service].provisioned[replica] = None;
                (Reader::Idle, true)
            }
            Reader::Idle => self.reader_fetches(service, replica),
            Reader::Got(delivery) => {
                if self.unlucky(self.doziness) {
                    let long = self.rng.random_range(20_000..200_000);
                    self.stop(service, replica, long);
                }
                self.reader_begins(service, delivery)
            }
            Reader::Working(delivery) => (self.reader_commits(service, delivery), true),
            Reader::Parking(delivery) => self.reader_parks(service, delivery),
            Reader::Answers(delivery, became) => {
                self.reader_answers(service, delivery, became);
                (Reader::Idle, true)
            }
        };
        self.services[service].readers[replica] = next;
        progress
    }

    fn reader_fetches(&mut self, service: usize, replica: usize) -> (Reader, bool) {
        if !self.broker.up {
            return (Reader::Idle, false);
        }
        let connection = self.connection(service, replica);
        if self.services[service].provisioned[replica] != Some(connection) {
            self.broker.provision(service);
            self.services[service].provisioned[replica] = Some(connection);
            return (Reader::Idle, true);
        }
        if self.broker.state.consumers[service].is_none() {
            // The fetch fails, and what is missing is made again.
            self.services[service].provisioned[replica] = None;
            return (Reader::Idle, true);
        }
        let early = self.rng.random_bool(0.5);
        let Some(delivery) = self.broker.deliver(service, self.now, early) else {
            return (Reader::Idle, false);
        };
        self.figures.delivered += 1;
        let lost = self.unlucky(self.deafness);
        let told = format!(
            "reader {service} is given {}: {delivery:?}, lost on the way: {lost}",
            shown(delivery.event)
        );
        self.tell(|| told);
        if lost {
            return (Reader::Idle, true);
        }
        (Reader::Got(delivery), true)
    }

    /// Whether a transaction of another replica holds the receipt.
    fn is_held(&self, service: usize, event: Uuid) -> bool {
        let mut readers = self.services[service].readers.iter();
        readers.any(|reader| matches!(reader, Reader::Working(other) if other.event == event))
    }

    fn reader_begins(&mut self, service: usize, delivery: Delivery) -> (Reader, bool) {
        let known = self.rules.inbox && self.receipt(service, delivery.event).is_some();
        // Looks only at what is committed, and waits for nobody.
        if rules::is_exhausted(delivery.deliveries) && !known {
            return (Reader::Parking(delivery), true);
        }
        if self.is_held(service, delivery.event) {
            return (Reader::Got(delivery), false);
        }
        if known {
            return (Reader::Answers(delivery, Became::Duplicate), true);
        }
        (Reader::Working(delivery), true)
    }

    fn reader_commits(&mut self, service: usize, delivery: Delivery) -> Reader {
        if is_poison(delivery.event) {
            return Reader::Parking(delivery);
        }
        if self.unlucky(self.grumpiness) {
            return Reader::Answers(delivery, Became::Again);
        }
        if self.unlucky(30) {
            // The connection dies during the commit.
            if self.rng.random_bool(0.5) {
                self.take_effect(service, delivery);
            }
            return Reader::Answers(delivery, Became::CommitUnknown);
        }
        self.take_effect(service, delivery);
        Reader::Answers(delivery, Became::Done)
    }

    /// Receipt, effect and what follows: one transaction.
    fn take_effect(&mut self, service: usize, delivery: Delivery) {
        let event = delivery.event;
        let told = format!("reader {service}: {} takes effect", shown(event));
        self.tell(|| told);
        self.services[service].inbox.insert(event, Receipt::Done);
        *self.services[service].effects.entry(event).or_default() += 1;
        if let Some((reader, kind)) = KINDS[delivery.kind].leads_to
            && reader == service
        {
            self.append(service, derived(event, kind), kind);
        }
    }

    fn reader_parks(&mut self, service: usize, delivery: Delivery) -> (Reader, bool) {
        let event = delivery.event;
        if self.is_held(service, event) {
            return (Reader::Parking(delivery), false);
        }
        if self.rules.parking_looks_again && self.receipt(service, event) == Some(Receipt::Done) {
            return (Reader::Answers(delivery, Became::Duplicate), true);
        }
        let told = format!("reader {service} parks {}", shown(event));
        self.tell(|| told);
        let database = &mut self.services[service];
        database.inbox.entry(event).or_insert(Receipt::Dead);
        database.letters.entry(event).or_insert(delivery.deliveries);
        (Reader::Answers(delivery, Became::Parked), true)
    }

    fn reader_answers(&mut self, service: usize, delivery: Delivery, became: Became) {
        if !self.broker.up || self.unlucky(12) {
            return;
        }
        match rules::answer(became, delivery.deliveries) {
            Answer::Ack => self.broker.ack(service, delivery.seq),
            Answer::Again(delay) => self.broker.nak(service, delivery.seq, self.now + millis(delay)),
            Answer::Silence => {}
        }
    }
}
