//! `kill -9` of each service in the middle of the demo, then restart: the story ends the same.

use std::time::Duration;

use chrono::{DateTime, Timelike as _, Utc};
use vigie::demo::{Disturbance, Report, Services};
use vigie::host::SERVICES;

use crate::scene::{options, replay};

/// Kills one service after the other, each right after the clock has moved, while it is at work.
#[derive(Debug, Default)]
struct Killer {
    hours: usize,
    killed: Vec<&'static str>,
}

impl Disturbance for Killer {
    async fn before_hour(&mut self, _: DateTime<Utc>, _: &mut Services) -> anyhow::Result<()> {
        Ok(())
    }

    async fn during_hour(&mut self, hour: DateTime<Utc>, services: &mut Services) -> anyhow::Result<()> {
        let Services::Processes(processes) = services else {
            anyhow::bail!("the services are no processes")
        };
        self.hours += 1;
        // The first hour trains the first champion; after it, every ninth hour loses a service.
        let turn = if self.hours == 1 {
            Some(2)
        } else {
            (hour.hour() % 9 == 4).then_some(self.hours / 9)
        };
        let Some(turn) = turn else { return Ok(()) };
        let service = SERVICES[turn % SERVICES.len()];
        // Long enough to be in the middle of something, short enough not to be done.
        tokio::time::sleep(Duration::from_millis(15 + 40 * (self.hours as u64 % 7))).await;
        processes.kill(service).await?;
        processes.restart(service)?;
        self.killed.push(service);
        Ok(())
    }
}

/// Replays the story once more with kills, and compares it with the one that was `calm`.
pub async fn assert_ends_the_same(calm: &Report) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut killer = Killer::default();
    let rough = replay(options(folder.path(), true), &mut killer).await;
    for service in SERVICES {
        assert!(
            killer.killed.contains(&service),
            "{service} was never killed: {:?}",
            killer.killed
        );
    }
    assert_eq!(
        rough.fingerprint,
        calm.fingerprint,
        "after {} kills",
        killer.killed.len()
    );
    assert_eq!(
        (&rough.verdicts, &rough.declined),
        (&calm.verdicts, &calm.declined)
    );
    assert_eq!(rough.dead_letters, 0);
    assert_eq!(
        rough.alerts_sent, calm.alerts_sent,
        "no alert is lost, none is announced twice"
    );
}
