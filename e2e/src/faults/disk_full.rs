//! The disk that NATS and PostgreSQL share is full, again and again, while events flow: a small file system of its own is
//! filled to the last byte and emptied.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chrono::Utc;

use super::conclude::{Story, conclude};
use super::nemesis::{Fault, Kind};
use super::producer::{Producer, monitors_pool};
use super::report::Report;
use super::world::{World, WorldOptions};

/// Size of the file system.
const SIZE: &str = "768m";

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
    let mut faults = Vec::new();
    for _ in 0..options.times {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let ballast = tokio::task::block_in_place(|| disk.fill())?;
        tokio::time::sleep(options.full).await;
        std::fs::remove_file(&ballast).context("remove the ballast")?;
        tokio::task::block_in_place(|| {
            // A stream that met a full disk takes nothing until its server is restarted; PostgreSQL may have ended itself.
            world.stack.nats().restart()?;
            world.stack.postgres().restart()
        })?;
        faults.push(Fault {
            kind: Kind::DiskFull,
            detail: format!("{} ms", options.full.as_millis()),
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
        missed: Vec::new(),
    };
    let report = conclude(world, pool, producer, story).await?;
    drop(disk);
    Ok(Some(report))
}
