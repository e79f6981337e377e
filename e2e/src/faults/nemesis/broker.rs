//! nats-server dies, stands still, and forgets.

use std::time::Instant;

use rand::Rng as _;

use super::{Kind, Nemesis};
use crate::faults::world::World;

impl Nemesis {
    pub(super) async fn broker(&mut self, kind: Kind, world: &World) -> anyhow::Result<String> {
        let nats = world.stack.nats();
        let away = self.milliseconds(0, 400);
        // Mostly short, so that an hour has room for many.
        let between = if self.rng.random_ratio(1, 6) {
            self.milliseconds(3_000, 15_000)
        } else {
            self.milliseconds(200, 1_500)
        };
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

    /// Back to a disk of some faults ago, as a backup would be; then the next one is kept.
    pub(super) fn restore_broker(&mut self, world: &World) -> anyhow::Result<String> {
        let nats = world.stack.nats();
        let away = self.milliseconds(0, 400);
        tokio::task::block_in_place(|| {
            let told = if let Some((backup, since)) = self.backup.take() {
                nats.kill()?;
                nats.roll_back_disk(&backup)?;
                std::thread::sleep(away);
                nats.restart()?;
                format!("{:.1} s lost", since.elapsed().as_secs_f64())
            } else {
                "nothing: no backup was made yet".to_owned()
            };
            let kept = nats.keep_disk_of_running()?;
            let backup = kept.with_file_name("jetstream-backup");
            if backup.exists() {
                std::fs::remove_dir_all(&backup)?;
            }
            std::fs::rename(kept, &backup)?;
            self.backup = Some((backup, Instant::now()));
            Ok(told)
        })
    }
}
