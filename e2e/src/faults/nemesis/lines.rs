//! Lines between a replica and what it talks to are late, narrow, silent, lose what passes, or are cut.

use std::time::{Duration, Instant};

use chrono::Utc;
use local_stack::proxy::{Line, Proxy};
use rand::Rng as _;
use vigie::host::SERVICES;

use super::{Fault, Kind, Nemesis};
use crate::faults::fleet::Replica;
use crate::faults::world::{World, to_nats, to_postgres};

impl Nemesis {
    /// Every service asks PostgreSQL, and no answer arrives, on connections that stay open and never recover.
    pub async fn lose_answers(&mut self, world: &World) -> Fault {
        self.begin();
        let time = self.milliseconds(100, 1_200);
        let lines: Vec<&Proxy> = SERVICES
            .iter()
            .flat_map(|service| world.lines.to(&to_postgres(service)))
            .collect();
        broken(&lines, Line::AnswersLost, time).await;
        Fault {
            kind: Kind::Line,
            detail: format!(
                "answers of PostgreSQL to {} processes are lost for {} ms",
                lines.len(),
                time.as_millis()
            ),
            ended: Utc::now(),
        }
    }

    /// The line of one replica, or those of all of them.
    pub(super) async fn line(&mut self, world: &World) -> String {
        let name = self.any_line(world);
        let all = world.lines.to(&name);
        // As often all of them as any single one.
        let which = self.rng.random_range(0..=all.len());
        let time = self.milliseconds(100, 1_200);
        let line = match self.rng.random_range(0..8) {
            0 => Some(Line::Delay(self.milliseconds(20, 300))),
            1 => Some(Line::Throttle(self.rng.random_range(500..20_000))),
            2 => Some(Line::Silent),
            3 => Some(Line::AnswersLost),
            4 => Some(Line::QuestionsLost),
            5 => Some(Line::Truncate(self.rng.random_range(1..2_000))),
            6 => Some(Line::Cut),
            _ => None,
        };
        self.broken.retain(|_, until| *until > Instant::now());
        let hit: Vec<&Proxy> = all
            .iter()
            .enumerate()
            .filter(|(number, _)| which == all.len() || which == *number)
            .filter(|(number, _)| !self.broken.contains_key(&(name.clone(), *number)))
            .map(|(_, proxy)| proxy)
            .collect();
        let who = match (hit.len(), all.len()) {
            (0, _) => return format!("nothing: {name} {which} is broken already"),
            (_, 1) => name,
            (hit, all) if hit == all => format!("{name}, all {all}"),
            _ if which == all.len() => format!("{name}, the others"),
            _ => format!("{name}, {which}"),
        };
        let Some(line) = line else {
            for proxy in hit {
                proxy.reset();
            }
            return format!("{who}: reset");
        };
        broken(&hit, line, time).await;
        format!("{who}: {line:?} for {} ms", time.as_millis())
    }

    /// One replica is cut off for long while the others go on.
    pub(super) fn cut_off(&mut self, world: &World) -> String {
        let service = SERVICES[self.rng.random_range(0..SERVICES.len())];
        let name = if self.rng.random_bool(0.5) {
            to_postgres(service)
        } else {
            to_nats(service)
        };
        let time = Duration::from_secs(self.rng.random_range(20..=60));
        let line = match self.rng.random_range(0..4) {
            0 => Line::Silent,
            1 => Line::AnswersLost,
            2 => Line::QuestionsLost,
            _ => Line::Cut,
        };
        let all = world.lines.to(&name);
        let number = self.rng.random_range(0..all.len().max(1));
        if all.len() < 2 || !self.has_whole_twin(world, Replica { service, number }) {
            return format!("nothing: no other {service} is whole");
        }
        all[number].set_for(line, time);
        self.broken.insert((name.clone(), number), Instant::now() + time);
        format!("{name}, {number}: {line:?} for {} s", time.as_secs())
    }

    fn any_line(&mut self, world: &World) -> String {
        let names = world.lines.names();
        names[self.rng.random_range(0..names.len())].to_owned()
    }
}

async fn broken(lines: &[&Proxy], line: Line, time: Duration) {
    for proxy in lines {
        proxy.set(line);
    }
    tokio::time::sleep(time).await;
    for proxy in lines {
        proxy.set(Line::Pass);
    }
}
