//! The disk that NATS and PostgreSQL share is full, again and again, while events flow: a small file system of its own is
//! filled to the last byte and emptied.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use async_nats::jetstream::stream;
use chrono::Utc;

use super::conclude::{Story, conclude};
use super::nemesis::{Fault, Kind};
use super::producer::{Producer, monitors_pool};
use super::report::Report;
use super::world::{World, WorldOptions};

/// Size of the file system.
const SIZE: &str = "1024m";

/// What to do.
#[derive(Debug, Clone)]
pub struct DiskFullOptions {
    /// How often the disk is filled.
    pub times: u32,
    /// How long it stays full.
    pub full: Duration,
    /// The world.
    pub world: WorldOptions,
}

/// A file system in memory. Dropping it unmounts it.
#[derive(Debug)]
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one; none when this machine does not permit it.
    fn mount(folder: &Path) -> Option<Self> {
        let status = Command::new("mount")
            .args([
                "-t",
                "tmpfs",
                "-o",
                &format!("size={SIZE},mode=0711"),
                "vigie-faults",
            ])
            .arg(folder)
            .status();
        status
            .is_ok_and(|status| status.success())
            .then(|| Self(folder.to_owned()))
    }

    /// Writes a file until nothing fits any more.
    fn fill(&self) -> anyhow::Result<PathBuf> {
        let path = self.0.join("ballast");
        let mut file = std::fs::File::create(&path).context("create the ballast")?;
        for piece in [vec![0_u8; 1 << 20], vec![0_u8; 1 << 12]] {
            while file.write_all(&piece).is_ok() {}
        }
        Ok(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("faults: {} is still mounted", self.0.display());
        }
    }
}

/// How long a server has to write something large.
const WRITE_WITHIN: Duration = Duration::from_secs(15);

/// Who can write something large.
async fn writers(world: &World) -> [(&'static str, bool); 2] {
    let (database, broker) = tokio::join!(postgres_writes(world), nats_writes(world));
    [("PostgreSQL", database), ("NATS", broker)]
}

/// Whether PostgreSQL can write 65 MB, more than any file that it may have left over.
async fn postgres_writes(world: &World) -> bool {
    let write = sqlx::query(
        "create temp table large on commit drop as select md5(n::text) from generate_series(1, 1000000) n",
    );
    let written = async {
        let mut tx = world.pool.begin().await?;
        write.execute(&mut *tx).await?;
        tx.rollback().await
    };
    matches!(tokio::time::timeout(WRITE_WITHIN, written).await, Ok(Ok(())))
}

/// Whether NATS can write forty messages of 900 kB, in a stream of the trial's own.
async fn nats_writes(world: &World) -> bool {
    let written = async {
        let client = async_nats::connect(world.stack.nats_url()).await?;
        let jetstream = async_nats::jetstream::new(client);
        jetstream
            .get_or_create_stream(stream::Config {
                name: "TRIAL_DISK".to_owned(),
                subjects: vec!["trial.disk".to_owned()],
                max_bytes: 50 << 20,
                discard: stream::DiscardPolicy::Old,
                ..stream::Config::default()
            })
            .await?;
        for _ in 0..40 {
            let stored = jetstream
                .publish("trial.disk", vec![b'x'; 900_000].into())
                .await?;
            stored.await?;
        }
        anyhow::Ok(())
    };
    matches!(tokio::time::timeout(WRITE_WITHIN, written).await, Ok(Ok(())))
}

/// Runs the trial; none when this machine does not permit to mount a file system.
///
/// # Errors
/// When the trial itself cannot go on; what the system does wrong stands in the report.
pub async fn run(options: DiskFullOptions) -> anyhow::Result<Option<Report>> {
    let begun = Instant::now();
    let folder = tempfile::Builder::new().prefix("vigie-small-disk-").tempdir()?;
    let Some(disk) = SmallDisk::mount(folder.path()) else {
        return Ok(None);
    };
    let world = World::start(WorldOptions {
        stack_folder: Some(folder.path().join("stack")),
        ..options.world.clone()
    })
    .await?;
    let pool = monitors_pool(&world.stack.database_url()).await?;
    let producer = Producer::start(pool.clone(), world.models.clone(), Duration::from_millis(100));
    let faulty = Instant::now();
    let (mut faults, mut missed) = (Vec::new(), Vec::new());
    for _ in 0..options.times {
        tokio::time::sleep(Duration::from_secs(3)).await;
        // What cannot be written anyway would prove nothing.
        for (server, writes) in writers(&world).await {
            if !writes {
                missed.push(format!("{server} could not write on a disk with room"));
            }
        }
        let ballast = tokio::task::block_in_place(|| disk.fill())?;
        let mut refused = Vec::new();
        for (server, writes) in writers(&world).await {
            if writes {
                missed.push(format!("{server} wrote something large on a disk that is full"));
            } else {
                refused.push(server);
            }
        }
        tokio::time::sleep(options.full).await;
        std::fs::remove_file(&ballast).context("remove the ballast")?;
        tokio::task::block_in_place(|| {
            // A stream that met a full disk takes nothing until its server is restarted; PostgreSQL may have ended itself.
            world.stack.nats().restart()?;
            world.stack.postgres().restart()
        })?;
        faults.push(Fault {
            kind: Kind::DiskFull,
            detail: format!(
                "{} ms; what could not write: {}",
                options.full.as_millis(),
                refused.join(", ")
            ),
            ended: Utc::now(),
        });
    }
    let faulty = faulty.elapsed();
    world.heal().await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let story = Story {
        trial: "disk full".to_owned(),
        seed: None,
        begun,
        faulty,
        faults,
        unmet: 0,
        missed,
    };
    let report = conclude(world, pool, producer, story).await?;
    drop(disk);
    Ok(Some(report))
}
