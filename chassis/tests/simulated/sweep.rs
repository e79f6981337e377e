//! The sweep of a service; at most one at a time, and all that it finds is one transaction.

use chassis::rules::{self, Position};
use chassis::sweep::Patience;
use uuid::Uuid;

use crate::kinds::{KINDS, shown};
use crate::world::{Receipt, World};

const EVERY: i64 = 30_000;

#[derive(Debug, Clone)]
pub enum Sweep {
    /// Sleeps until then.
    Waits(i64),
    /// Has read what is overdue, and asks the broker next; then writes.
    Looks(Found),
}

impl Default for Sweep {
    fn default() -> Self {
        Self::Waits(0)
    }
}

#[derive(Debug, Clone, Default)]
pub struct Found {
    confirmed: Vec<Uuid>,
    overdue: Vec<(usize, Vec<Uuid>)>,
    lost: Vec<Uuid>,
}

impl World {
    pub fn step_sweep(&mut self, service: usize) -> bool {
        if !self.rules.sweep {
            return false;
        }
        match std::mem::take(&mut self.services[service].sweep) {
            Sweep::Waits(at) if at > self.now || !self.broker.up => {
                self.services[service].sweep = Sweep::Waits(at);
                false
            }
            Sweep::Waits(_) => {
                let found = self.sweep_finds(service);
                self.services[service].sweep = Sweep::Looks(found);
                true
            }
            Sweep::Looks(found) => {
                let next = self.now + EVERY;
                self.services[service].sweep = match self.sweep_asks(found) {
                    Ok(found) if found.overdue.is_empty() => {
                        self.sweep_writes(service, &found);
                        Sweep::Waits(next)
                    }
                    Ok(found) => Sweep::Looks(found),
                    // The broker could not be asked: nothing is written.
                    Err(()) => Sweep::Waits(next),
                };
                true
            }
        }
    }

    fn sweep_finds(&self, service: usize) -> Found {
        let mut found = Found::default();
        let overdue = Patience::default().overdue;
        for (number, kind) in KINDS.iter().enumerate() {
            let rows = || {
                self.services[service]
                    .outbox
                    .iter()
                    .filter(|row| row.kind == number)
            };
            let receipt = |reader: usize, event| self.services[reader].inbox.contains_key(&event);
            let all = |event| kind.readers.iter().all(|reader| receipt(*reader, event));
            found.confirmed.extend(
                rows()
                    .filter(|row| row.is_confirmed_by(all(row.event)))
                    .map(|row| row.event),
            );
            for reader in kind.readers {
                let late = rows().filter(|row| {
                    row.is_overdue(receipt(*reader, row.event), overdue, self.now)
                        && !found.confirmed.contains(&row.event)
                });
                let late: Vec<Uuid> = late.map(|row| row.event).collect();
                if !late.is_empty() {
                    found.overdue.push((*reader, late));
                }
            }
        }
        found
    }

    /// Where one of the readers stands, and which of its overdue events do not wait for it.
    fn sweep_asks(&mut self, mut found: Found) -> Result<Found, ()> {
        let Some((reader, events)) = found.overdue.pop() else {
            return Ok(found);
        };
        let state = &self.broker.state;
        if !self.broker.up || state.made.is_none() {
            return Err(());
        }
        let waiting = self.broker.waiting(reader);
        let position = Position {
            first: state.messages.keys().next().copied().unwrap_or(state.last + 1),
            last: state.last,
            acknowledged: state.consumers[reader]
                .as_ref()
                .map_or(0, |consumer| consumer.floor),
            waiting: if self.rules.asks_what_waits { waiting } else { None },
        };
        let number = |event| {
            let mut rows = self.services.iter().flat_map(|service| &service.outbox);
            rows.find(|row| row.event == event).and_then(|row| row.stream_seq)
        };
        let lost: Vec<Uuid> = events
            .into_iter()
            .filter(|event| !position.holds(number(*event)))
            .collect();
        let told = format!(
            "sweep asks for {reader}: {position:?}, lost {:?}",
            lost.iter().map(|e| shown(*e)).collect::<Vec<_>>()
        );
        self.tell(|| told);
        found.lost.extend(lost);
        Ok(found)
    }

    fn sweep_writes(&mut self, service: usize, found: &Found) {
        let now = self.now;
        for row in &mut self.services[service].outbox {
            if found.confirmed.contains(&row.event) && row.is_confirmed_by(true) {
                row.confirmed = true;
            }
            if found.lost.contains(&row.event) {
                if rules::is_offered_again(row.offer) {
                    row.offer_again(now);
                    self.figures.swept_again += 1;
                } else {
                    row.failed = true;
                }
            }
        }
    }

    /// The state of a receipt.
    pub fn receipt(&self, service: usize, event: Uuid) -> Option<Receipt> {
        self.services[service].inbox.get(&event).copied()
    }
}
