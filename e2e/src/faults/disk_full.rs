//! The disk that NATS and PostgreSQL share is full, again and again, while events flow: a small file system of its own is
//! filled to the last byte and emptied.

use std::future::Future;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use async_nats::jetstream::stream;
use chrono::Utc;
use sqlx::{Connection as _, PgConnection};

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

/// How long a server has to write something large, however busy the machine is.
const WRITE_WITHIN: Duration = Duration::from_mins(1);

/// What became of writing something large.
#[derive(Debug)]
enum Written {
    Yes,
    /// The server said no; in its words.
    Refused(String),
    /// It did not answer, which says nothing about its disk.
    Unanswered,
}

async fn written(writing: impl Future<Output = anyhow::Result<()>>) -> Written {
    match tokio::time::timeout(WRITE_WITHIN, writing).await {
        Ok(Ok(())) => Written::Yes,
        Ok(Err(error)) => Written::Refused(format!("{error:#}")),
        Err(_) => Written::Unanswered,
    }
}

/// Who can write something large. One after the other: what the first gives back, the second must not find.
async fn writers(world: &World) -> [(&'static str, Written); 2] {
    let broker = written(nats_writes(world)).await;
    let database = written(postgres_writes(world)).await;
    [("NATS", broker), ("PostgreSQL", database)]
}

/// PostgreSQL writes 80 MB, more than any file that it may have left over; rows too small to be compressed, and hardly any
/// work for the processor.
async fn postgres_writes(world: &World) -> anyhow::Result<()> {
    // A connection of its own: one that is refused is an answer, and a pool would go on asking. PostgreSQL may have ended itself.
    let mut connection = PgConnection::connect(&world.stack.database_url())
        .await
        .context("it takes no connection")?;
    let mut tx = connection.begin().await?;
    // Whoever stops waiting for it must not leave it writing.
    let patience = format!("set local statement_timeout = '{} s'", WRITE_WITHIN.as_secs());
    sqlx::query(sqlx::AssertSqlSafe(patience))
        .execute(&mut *tx)
        .await?;
    sqlx::query(
        "create temp table large on commit drop as select repeat(md5(n::text), 60) from generate_series(1, 40000) n",
    )
    .execute(&mut *tx)
    .await?;
    tx.rollback().await?;
    Ok(())
}

/// Messages that NATS is to write, count.
const MESSAGES: u64 = 40;
/// A server that has stored nothing more for so long has stopped, however busy the machine is.
const STANDS_STILL: Duration = Duration::from_secs(15);

/// NATS writes forty messages of 900 kB, in a stream of the trial's own. On a full disk it says nothing at all: the number of
/// messages that the stream itself counts tells.
async fn nats_writes(world: &World) -> anyhow::Result<()> {
    let client = async_nats::connect(world.stack.nats_url()).await?;
    let jetstream = async_nats::jetstream::new(client.clone());
    let mut stream = jetstream
        .get_or_create_stream(stream::Config {
            name: "TRIAL_DISK".to_owned(),
            subjects: vec!["trial.disk".to_owned()],
            ..stream::Config::default()
        })
        .await?;
    let before = stream.info().await?.state.messages;
    for _ in 0..MESSAGES {
        client.publish("trial.disk", vec![b'x'; 900_000].into()).await?;
    }
    client.flush().await?;
    let (mut stored, mut progress) = (0, Instant::now());
    while stored < MESSAGES {
        anyhow::ensure!(
            progress.elapsed() < STANDS_STILL,
            "stored {stored} of {MESSAGES} messages and no more"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
        // No answer is no progress.
        let counted = stream.info().await.map_or(0, |info| info.state.messages);
        let now = counted.saturating_sub(before);
        if now > stored {
            (stored, progress) = (now, Instant::now());
        }
    }
    Ok(())
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
        for (server, written) in writers(&world).await {
            if !matches!(written, Written::Yes) {
                missed.push(format!(
                    "{server} could not write on a disk with room: {written:?}"
                ));
            }
        }
        let ballast = tokio::task::block_in_place(|| disk.fill())?;
        let mut refused = Vec::new();
        for (server, written) in writers(&world).await {
            match written {
                Written::Refused(why) => refused.push(format!("{server} ({why})")),
                other => missed.push(format!(
                    "{server} did not refuse to write on a full disk: {other:?}"
                )),
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
        redrives: false,
    };
    let report = conclude(world, pool, producer, story).await?;
    drop(disk);
    Ok(Some(report))
}
