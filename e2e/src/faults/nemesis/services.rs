//! Services die, stand still, and wake up too late.

use std::time::Duration;

use rand::Rng as _;
use rand::seq::IndexedRandom as _;

use super::{Kind, Nemesis};
use crate::faults::fleet::Replica;
use crate::faults::world::World;

impl Nemesis {
    /// Any replica, but its twin in place of one that is to stand still for long.
    fn replica(&mut self, world: &World) -> Option<Replica> {
        let all = world.fleet.replicas();
        let drawn = *all.choose(&mut self.rng)?;
        let awake = |replica: &&Replica| !world.fleet.stands_still(**replica);
        [drawn]
            .iter()
            .chain(all.iter().filter(|other| other.service == drawn.service))
            .find(awake)
            .copied()
    }

    pub(super) async fn service(&mut self, kind: Kind, world: &World) -> String {
        let Some(replica) = self.replica(world) else {
            return "nothing: all of them stand still".to_owned();
        };
        let name = replica.to_string();
        match kind {
            Kind::KillAll => {
                for other in world.fleet.replicas() {
                    if other.service == replica.service && !world.fleet.stands_still(other) {
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
            Kind::Asleep => {
                let time = Duration::from_secs(self.rng.random_range(20..=60));
                if self.has_whole_twin(world, replica) {
                    world.fleet.freeze_for(replica, time);
                    format!("{name} for {} s", time.as_secs())
                } else {
                    format!("nothing: {name} is the only one that is awake")
                }
            }
            _ => {
                world.fleet.kill(replica);
                name
            }
        }
    }
}
