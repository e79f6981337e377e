//! A backlog of many events, each offered several times in any order: how many effects, how fast, in how much memory.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use chassis::Cause;
use futures_util::StreamExt as _;
use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha12Rng;
use schemas::flow::{DRIFT_MONITOR, RETRAIN_DECIDER};
use schemas::{Attributes, SOURCE_PREFIX, TraceContext};
use serde_json::{Value, json};
use sqlx::PgPool;

use super::fleet::Replica;
use super::producer::drift;
use super::witness::WITNESS;
use super::world::{World, WorldOptions};

/// What each service may take of memory while a backlog drains, bytes.
pub const MEMORY_MAX: u64 = 64 << 20;

/// What to do.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Events, count.
    pub events: u64,
    /// How often each is offered.
    pub copies: u64,
    /// Seed of the order.
    pub seed: u64,
    /// The world.
    pub world: WorldOptions,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Load {
    /// Events, count.
    pub events: u64,
    /// Messages offered.
    pub offered: u64,
    /// Events that were decided on.
    pub decisions: i64,
    /// Events that took effect at the witness, and effects.
    pub witnessed: (i64, i64),
    /// From the first look until the last decision.
    pub drained: Duration,
    /// The largest resident memory of each process, bytes.
    pub memory: Vec<(String, u64)>,
}

impl Load {
    /// Decisions a second.
    pub fn rate(&self) -> f64 {
        self.decisions as f64 / self.drained.as_secs_f64()
    }

    /// Whether each event was decided on once and took effect once, in the memory that is allowed.
    pub fn holds(&self) -> bool {
        let expected = self.events.cast_signed();
        self.decisions == expected
            && self.witnessed == (expected, expected)
            && self.memory.iter().all(|(_, bytes)| *bytes <= MEMORY_MAX)
    }

    /// As JSON.
    pub fn to_json(&self) -> Value {
        json!({
            "trial": "load", "holds": self.holds(), "events": self.events, "offered": self.offered,
            "decisions": self.decisions, "witnessed_events": self.witnessed.0, "witnessed_effects": self.witnessed.1,
            "drained_seconds": self.drained.as_secs_f64(), "decisions_per_second": self.rate(),
            "memory_bytes": self.memory.iter().cloned().collect::<BTreeMap<_, _>>(),
        })
    }
}

impl std::fmt::Display for Load {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "load: {} messages of {} events; {} decisions, {} events with {} effects at the witness",
            self.offered, self.events, self.decisions, self.witnessed.0, self.witnessed.1
        )?;
        writeln!(
            f,
            "  {:.0} s until the last decision, {:.0} decisions a second",
            self.drained.as_secs_f64(),
            self.rate()
        )?;
        for (name, bytes) in &self.memory {
            let over = if *bytes > MEMORY_MAX {
                "  OVER THE LIMIT"
            } else {
                ""
            };
            writeln!(
                f,
                "  {name:<18} at most {:>5.1} MiB of memory{over}",
                *bytes as f64 / f64::from(1 << 20)
            )?;
        }
        write!(
            f,
            "  {}",
            if self.holds() {
                "every event took effect once"
            } else {
                "NOT AS IT MUST BE"
            }
        )
    }
}

/// Runs the trial.
///
/// # Errors
/// When the trial cannot go on, or the backlog does not drain.
pub async fn run(options: LoadOptions) -> anyhow::Result<Load> {
    let world = World::start(WorldOptions {
        replicas: 1,
        witness: true,
        told: false,
        direct: true,
        ..options.world.clone()
    })
    .await?;
    world.watch.rest();
    let readers: Vec<Replica> = world
        .fleet
        .replicas()
        .into_iter()
        .filter(|replica| replica.service != DRIFT_MONITOR)
        .collect();
    for reader in &readers {
        world.fleet.hold(*reader).await?;
    }
    offer(&world, &options).await?;
    eprintln!(
        "faults: {} messages are offered; now they are read",
        options.events * options.copies
    );
    let begun = Instant::now();
    // The witness counts what happened; it must not compete for the two cores with what is measured.
    let (witnesses, readers): (Vec<Replica>, Vec<Replica>) =
        readers.into_iter().partition(|reader| reader.service == WITNESS);
    for reader in readers {
        world.fleet.release(reader, Vec::new());
    }
    let mut memory: BTreeMap<String, u64> = BTreeMap::new();
    let expected = i64::try_from(options.events)?;
    let mut progress = (Instant::now(), 0);
    let mut told = Instant::now();
    let drained = loop {
        note_memory(&world, &mut memory);
        let mut decisions = about(&world.pool).await?;
        if decisions >= expected {
            decisions = counts(&world.pool).await?.0;
            if decisions >= expected {
                break begun.elapsed();
            }
        }
        if decisions > progress.1 {
            progress = (Instant::now(), decisions);
        }
        anyhow::ensure!(
            progress.0.elapsed() < Duration::from_mins(3),
            "no further decision for 3 minutes after {decisions} of {expected}\n{}",
            world.tails()
        );
        if told.elapsed() > Duration::from_secs(15) {
            told = Instant::now();
            eprintln!(
                "faults: about {decisions} decisions after {} s",
                begun.elapsed().as_secs()
            );
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    eprintln!("faults: every event is decided on; the witness reads them now");
    for witness in witnesses {
        world.fleet.release(witness, Vec::new());
    }
    // The witness, and the copies that are still to come.
    settle_readers(&world, &mut memory).await?;
    let (decisions, witnessed) = counts(&world.pool).await?;
    let load = Load {
        events: options.events,
        offered: options.events * options.copies,
        decisions,
        witnessed,
        drained,
        memory: memory.into_iter().collect(),
    };
    world.stop(false).await?;
    Ok(load)
}

fn note_memory(world: &World, memory: &mut BTreeMap<String, u64>) {
    for replica in world.fleet.replicas() {
        if let Some(bytes) = world.fleet.pid(replica).and_then(resident) {
            let largest = memory.entry(replica.service.to_owned()).or_default();
            *largest = bytes.max(*largest);
        }
    }
}

/// Decisions so far as the server's own statistics have them: counting rows would cost what is to be measured.
async fn about(pool: &PgPool) -> anyhow::Result<i64> {
    let (inserted,): (i64,) = sqlx::query_as(
        "select coalesce(sum(n_tup_ins), 0)::bigint from pg_stat_user_tables \
         where schemaname = 'retrain_decider' and relname = 'trigger'",
    )
    .fetch_one(pool)
    .await?;
    Ok(inserted)
}

async fn counts(pool: &PgPool) -> anyhow::Result<(i64, (i64, i64))> {
    let (decisions,): (i64,) = sqlx::query_as(
        "select count(*) from retrain_decider.inbox i where exists \
         (select from retrain_decider.trigger t where t.cause = i.event_id::text)",
    )
    .fetch_one(pool)
    .await?;
    let witnessed: (i64, i64) =
        sqlx::query_as("select count(distinct event_id), count(*) from witness.effect")
            .fetch_one(pool)
            .await?;
    Ok((decisions, witnessed))
}

/// Waits until decider and witness have answered every message.
async fn settle_readers(world: &World, memory: &mut BTreeMap<String, u64>) -> anyhow::Result<()> {
    let jetstream = async_nats::jetstream::new(async_nats::connect(world.stack.nats_url()).await?);
    let begun = Instant::now();
    for reader in [RETRAIN_DECIDER, WITNESS] {
        loop {
            let stream = jetstream.get_stream(schemas::flow::STREAM).await?;
            let info = stream.consumer_info(reader).await?;
            note_memory(world, memory);
            if info.num_pending == 0 && info.num_ack_pending == 0 {
                break;
            }
            anyhow::ensure!(
                begun.elapsed() < Duration::from_mins(60),
                "{reader} does not come to an end"
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    Ok(())
}

/// Every event several times, in any order, under no message id.
async fn offer(world: &World, options: &LoadOptions) -> anyhow::Result<()> {
    let jetstream = async_nats::jetstream::new(async_nats::connect(world.stack.nats_url()).await?);
    let mut order: Vec<u64> = (0..options.copies).flat_map(|_| 0..options.events).collect();
    order.shuffle(&mut ChaCha12Rng::seed_from_u64(options.seed));
    let sent = futures_util::stream::iter(order).map(|number| {
        let (jetstream, models) = (&jetstream, &world.models);
        async move {
            let draft = drift(models, number, None)?;
            let id = Cause::Key(format!("trial/{number}")).event_id(draft.event.kind(), "");
            let attributes = Attributes {
                id,
                source: format!("{SOURCE_PREFIX}{DRIFT_MONITOR}"),
                kind: draft.event.kind(),
                time: chrono::Utc::now(),
                model: draft.model.clone(),
                correlation_id: id,
                causation_id: None,
                trace: TraceContext::default(),
            };
            let mut headers = HeaderMap::new();
            for (name, value) in attributes.to_headers() {
                headers.insert(name, value.as_str());
            }
            let subject = draft.event.kind().subject();
            let published = jetstream
                .publish_with_headers(subject, headers, draft.event.to_json()?.into())
                .await?;
            published.await?;
            anyhow::Ok(())
        }
    });
    let mut sent = std::pin::pin!(sent.buffer_unordered(64));
    while let Some(result) = sent.next().await {
        result?;
    }
    Ok(())
}

/// Resident memory of a process, bytes.
fn resident(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}
