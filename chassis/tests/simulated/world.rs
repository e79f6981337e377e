//! A schedule: who does the next step, and what breaks; all of it drawn from one seed.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use uuid::Uuid;

use crate::broker::Broker;
use crate::kinds::{KINDS, SERVICES, event, is_poison, shown};
use crate::mirror::Row;
use crate::reader::Reader;
use crate::relay::{Identity, Relay};
use crate::sweep::Sweep;

const REPLICAS: usize = 2;
/// Steps with faults, when there is much to say and when there is little.
const STEPS: (u32, u32) = (500, 1_000);
/// So few events that each is looked at again and again.
const FEW: u32 = 2;
/// Waits without faults after which everything must be settled; redeliveries take up to an hour.
const WAITS_MAX: u32 = 600;
/// Longer than a relay and a sweep wait before they look again.
const WAIT: i64 = 61_000;
/// As many together are twice the time after which anything is offered again.
const QUIET: u32 = 10;
/// All that is published within this is given to a broker that came back, however late that is noticed: less than the span of
/// the rule.
const SHORT: i64 = 290_000;
/// Power takes at most this much with it.
const UNWRITTEN: i64 = 150_000;

/// Rules that can be switched off, to see that something misses them.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches")]
pub struct Rules {
    pub inbox: bool,
    pub sweep: bool,
    pub epoch: bool,
    pub asks_what_waits: bool,
    pub comparison_waits: bool,
    pub notices_new_streams: bool,
    pub compares_again: bool,
    pub parking_looks_again: bool,
}

impl Rules {
    pub const ALL: Self = Self {
        inbox: true,
        sweep: true,
        epoch: true,
        asks_what_waits: true,
        comparison_waits: true,
        notices_new_streams: true,
        compares_again: true,
        parking_looks_again: true,
    };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipt {
    Done,
    Dead,
}

/// A service: its database, which survives, and its replicas, which do not.
#[derive(Debug, Default)]
pub struct Service {
    pub outbox: Vec<Row>,
    pub inbox: BTreeMap<Uuid, Receipt>,
    pub effects: BTreeMap<Uuid, u32>,
    /// Parked, at which delivery.
    pub letters: BTreeMap<Uuid, i64>,
    /// The broker, and when it was last seen alive.
    pub epoch: Option<(Identity, i64)>,
    pub relays: [Relay; REPLICAS],
    pub compared: [Option<(u64, i64)>; REPLICAS],
    pub readers: [Reader; REPLICAS],
    pub provisioned: [Option<u64>; REPLICAS],
    pub links: [u64; REPLICAS],
    pub sweep: Sweep,
    /// A replica does nothing before then, and holds what it holds.
    asleep: [i64; REPLICAS],
}

/// What happened, counted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figures {
    pub events: u64,
    pub crashes: u64,
    pub broker_faults: u64,
    pub published: u64,
    pub delivered: u64,
    pub compared_again: u64,
    pub swept_again: u64,
    pub parked: u64,
    /// Of these, after too many deliveries.
    pub exhausted: u64,
}

impl Figures {
    pub fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.crashes += other.crashes;
        self.broker_faults += other.broker_faults;
        self.published += other.published;
        self.delivered += other.delivered;
        self.compared_again += other.compared_again;
        self.swept_again += other.swept_again;
        self.parked += other.parked;
        self.exhausted += other.exhausted;
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} events, {} publishes, {} deliveries, {} crashes, {} faults of the broker, offered again {} times after a comparison \
             and {} times by the sweep, {} parked, {} of them after too many deliveries",
            self.events,
            self.published,
            self.delivered,
            self.crashes,
            self.broker_faults,
            self.compared_again,
            self.swept_again,
            self.parked,
            self.exhausted
        )
    }
}

/// A property that does not hold, and where.
#[derive(Debug)]
pub struct Broken {
    pub property: &'static str,
    pub detail: String,
}

pub struct World {
    pub now: i64,
    pub rules: Rules,
    pub rng: StdRng,
    pub broker: Broker,
    pub services: [Service; SERVICES],
    /// Publishes that are still under way.
    pub late: Vec<(Uuid, usize, String)>,
    pub figures: Figures,
    faults: bool,
    short: bool,
    /// A handler fails once in so many times.
    pub grumpiness: u32,
    /// A message is lost on its way to a reader once in so many times.
    pub deafness: u32,
    /// A reader is stopped with a message in its hands once in so many times.
    pub doziness: u32,
    /// Events that readers must see, at most.
    talk: u32,
    steady: bool,
    events: u32,
    lines: Option<Vec<String>>,
}

impl World {
    fn new(seed: u64, rules: Rules, told: bool) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let short = rng.random_bool(0.5);
        let grumpiness = [2, 4, 12, 50][rng.random_range(0..4)];
        let deafness = [2, 15, 50][rng.random_range(0..3)];
        let doziness = [3, 20, 50][rng.random_range(0..3)];
        let talk = [FEW, 20, 20][rng.random_range(0..3)];
        let steady = rng.random_bool(0.4);
        let mut broker = Broker::default();
        broker.ack_wait = [2_000, 30_000][rng.random_range(0..2)];
        broker.restart();
        Self {
            now: 1_000_000,
            rules,
            rng,
            broker,
            services: std::array::from_fn(|_| Service::default()),
            late: Vec::new(),
            figures: Figures::default(),
            faults: true,
            short,
            grumpiness,
            deafness,
            doziness,
            talk,
            steady,
            events: 0,
            lines: told.then(Vec::new),
        }
    }

    /// Notes a line for people, when somebody wants to read them.
    pub fn tell(&mut self, line: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>9} ms  {}", self.now - 1_000_000, line()));
        }
    }

    /// Happens once in so many times, while there are faults.
    pub fn unlucky(&mut self, times: u32) -> bool {
        self.faults && self.rng.random_ratio(1, times)
    }

    /// Counts the connections of a replica.
    pub fn connection(&self, service: usize, replica: usize) -> u64 {
        (self.broker.server << 32) | self.services[service].links[replica]
    }

    /// Writes an event beside its state change; writing it twice is writing it once.
    pub fn append(&mut self, service: usize, event: Uuid, kind: usize) {
        let outbox = &mut self.services[service].outbox;
        if outbox.iter().any(|row| row.event == event) {
            return;
        }
        let seq = outbox.len() as i64;
        outbox.push(Row {
            event,
            seq,
            kind,
            dead: false,
            next_at: self.now,
            attempt: 0,
            offer: 0,
            published_at: None,
            stream_seq: None,
            stored_at: None,
            confirmed: false,
            failed: false,
        });
        self.figures.events += 1;
        self.tell(|| format!("service {service} says {}", shown(event)));
    }

    /// A replica is stopped where it stands.
    pub fn stop(&mut self, service: usize, replica: usize, milliseconds: i64) {
        self.services[service].asleep[replica] = self.now + milliseconds;
        self.tell(|| format!("service {service}, replica {replica} is stopped for {milliseconds} ms"));
    }

    fn step(&mut self) {
        let (service, replica) = (
            self.rng.random_range(0..SERVICES),
            self.rng.random_range(0..REPLICAS),
        );
        let awake = self.services[service].asleep[replica] <= self.now;
        match self.rng.random_range(0..100) {
            0..80 if !awake => {}
            0..35 => {
                self.step_relay(service, replica);
            }
            35..75 => {
                self.step_reader(service, replica);
            }
            75..80 => {
                self.step_sweep(service);
            }
            80..86 => self.say(),
            86..92 => self.wait(),
            92..94 => self.arrive_late(),
            94..97 => self.crash(service, replica),
            _ => self.break_broker(service, replica),
        }
    }

    fn say(&mut self) {
        if self.events < 30 {
            self.events += 1;
            let kind = if self.talk > 0 && self.rng.random_bool(0.7) {
                0
            } else {
                3
            };
            self.talk -= u32::from(kind == 0);
            self.append(0, event(self.events, kind), kind);
        }
    }

    fn wait(&mut self) {
        let wait = match self.rng.random_range(0..if self.short { 10 } else { 13 }) {
            0..6 => self.rng.random_range(1..2_000),
            6..9 => self.rng.random_range(2_000..20_000),
            _ => self.rng.random_range(20_000..400_000),
        };
        let end = if self.short { 1_000_000 + SHORT } else { i64::MAX };
        self.now = (self.now + wait).min(end.max(self.now));
        if self.rng.random_bool(0.3) && self.broker.up {
            self.broker.keep_disk(self.now);
        }
    }

    fn arrive_late(&mut self) {
        if !self.late.is_empty() {
            let pick = self.rng.random_range(0..self.late.len());
            let (event, kind, id) = self.late.swap_remove(pick);
            let stored = self.broker.publish(event, kind, id, self.now);
            self.tell(|| format!("{} arrives late: {stored:?}", shown(event)));
        }
    }

    fn crash(&mut self, service: usize, replica: usize) {
        self.figures.crashes += 1;
        let what = self.rng.random_range(0..3);
        let database = &mut self.services[service];
        match what {
            0 => database.relays[replica] = Relay::Down,
            1 => database.readers[replica] = Reader::Down,
            _ => database.sweep = Sweep::default(),
        }
        self.tell(|| {
            format!(
                "service {service}, replica {replica}: {} is killed",
                ["relay", "reader", "sweep"][what]
            )
        });
    }

    fn break_broker(&mut self, service: usize, replica: usize) {
        if !self.broker.up {
            self.broker.restart();
            self.tell(|| "the broker is up again".to_owned());
            return;
        }
        let (pick, since) = (self.rng.random_range(0..8), self.now - UNWRITTEN);
        let fault = self.rng.random_range(0..26);
        match fault {
            0..5 => {
                self.services[service].links[replica] += 1;
                return;
            }
            // A broker that mostly holds lets redeliveries add up.
            5..20 if self.steady && self.rng.random_ratio(14, 15) => return,
            20.. => {
                let long = self.rng.random_range(1_000..900_000);
                // Now and then a whole service.
                let whole = self.rng.random_bool(0.4);
                for number in (0..REPLICAS).filter(|number| whole || *number == replica) {
                    self.stop(service, number, long);
                }
                return;
            }
            5..8 => self.broker.up = false,
            8..10 => self.broker.lose_power(pick, since, false),
            10..13 => self.broker.lose_power(pick, since, true),
            13..15 => self.broker.forget_answers(pick, since),
            15..17 => self.broker.lose_disk(),
            17..=18 => self.broker.delete_stream(),
            _ => self.broker.delete_consumer(service),
        }
        if !self.broker.up {
            // What was under way on its connections is gone with them.
            self.late.clear();
        }
        self.figures.broker_faults += 1;
        let last = self.broker.state.last;
        self.tell(|| format!("the broker breaks ({fault}); its stream ends at {last}"));
    }

    /// Nothing breaks any more, and everybody goes on until there is nothing left to do.
    fn calm(&mut self) -> Result<(), Broken> {
        self.faults = false;
        self.late.clear();
        if !self.broker.up {
            self.broker.restart();
        }
        self.tell(|| "faults end".to_owned());
        let mut quiet = 0;
        for _ in 0..WAITS_MAX {
            let before = self.figures.published;
            self.settle();
            quiet = if self.is_settled() && self.figures.published == before {
                quiet + 1
            } else {
                0
            };
            if quiet > QUIET {
                return Ok(());
            }
            self.now += WAIT;
        }
        Err(Broken {
            property: "everything ends",
            detail: format!("after {WAITS_MAX} waits: {}", self.unsettled()),
        })
    }

    /// Until nobody can do anything without time passing.
    fn settle(&mut self) {
        loop {
            let mut progress = false;
            for service in 0..SERVICES {
                progress |= self.step_sweep(service);
                for replica in 0..REPLICAS {
                    progress |= self.step_relay(service, replica);
                    progress |= self.step_reader(service, replica);
                }
            }
            if !progress {
                return;
            }
        }
    }

    fn is_settled(&self) -> bool {
        self.services
            .iter()
            .flat_map(|service| &service.outbox)
            .all(|row| row.published_at.is_some() && row.confirmed)
    }

    fn unsettled(&self) -> String {
        let rows = self.services.iter().flat_map(|service| &service.outbox);
        let rows = rows.filter(|row| row.published_at.is_none() || !row.confirmed);
        rows.take(3)
            .map(|row| format!("{} {row:?}; ", shown(row.event)))
            .collect()
    }

    fn check(&self) -> Result<(), Broken> {
        let broken = |property, detail| Err(Broken { property, detail });
        for row in self.services.iter().flat_map(|service| &service.outbox) {
            let name = shown(row.event);
            for reader in KINDS[row.kind].readers {
                let database = &self.services[*reader];
                let effects = database.effects.get(&row.event).copied().unwrap_or(0);
                let letter = database.letters.get(&row.event);
                match self.receipt(*reader, row.event) {
                    _ if effects > 1 => {
                        return broken(
                            "an event takes effect once",
                            format!("{name}: {effects} times at {reader}"),
                        );
                    }
                    None => return broken("no event is lost", format!("{name} has no receipt of {reader}")),
                    Some(Receipt::Done) if effects == 0 || letter.is_some() => {
                        return broken(
                            "done or parked, never both",
                            format!("{name} at {reader}: {effects}, {letter:?}"),
                        );
                    }
                    Some(Receipt::Dead) if effects > 0 || letter.is_none() => {
                        return broken(
                            "done or parked, never both",
                            format!("{name} at {reader}: {effects}, {letter:?}"),
                        );
                    }
                    _ => {}
                }
            }
            if KINDS[row.kind].readers.is_empty() && self.short && !self.broker.holds(row.event) {
                return broken(
                    "plain subscribers miss nothing",
                    format!("{name} is not in the stream"),
                );
            }
            if row.failed {
                return broken("nothing is given up that can be delivered", name);
            }
        }
        Ok(())
    }
}

/// Runs a schedule to its end; the lines are its story, when it is `told`.
pub fn run(seed: u64, rules: Rules, told: bool) -> (Result<Figures, Broken>, Vec<String>) {
    let mut world = World::new(seed, rules, told);
    let result = (|| {
        let steps = if world.talk > FEW { STEPS.0 } else { STEPS.1 };
        for _ in 0..steps {
            world.step();
        }
        let settled = world.calm();
        // What is lost or doubled says more than that something did not end.
        world.check().and(settled)?;
        for event in world.services.iter().flat_map(|service| service.letters.keys()) {
            world.figures.parked += 1;
            world.figures.exhausted += u64::from(!is_poison(*event));
        }
        Ok(world.figures)
    })();
    (result, world.lines.unwrap_or_default())
}
