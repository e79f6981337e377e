//! The services as processes, several replicas of each, and the supervisor that starts again whatever has died.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use super::wrong_clock::WrongClock;

/// Pause between a death and the next start, and between looks.
const RESTART_AFTER: Duration = Duration::from_millis(150);

/// One replica of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Replica {
    /// The service's name.
    pub service: &'static str,
    /// From 0.
    pub number: usize,
}

impl std::fmt::Display for Replica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.service, self.number)
    }
}

/// Variables of the next lives of a service, in order; after them a life without any.
pub type Lives = Vec<Vec<(&'static str, String)>>;

#[derive(Debug, Default)]
struct Crew {
    children: BTreeMap<Replica, Child>,
    /// Not started again while they are in here.
    held: Vec<Replica>,
    lives: BTreeMap<Replica, Lives>,
    /// Deaths by a signal, and ends of their own accord by exit code.
    deaths: u64,
    ends: BTreeMap<(Replica, i32), u64>,
    /// Those that stand still, and until when, if that is planned.
    frozen: BTreeMap<Replica, Option<Instant>>,
}

/// All services. Dropping it kills them.
#[derive(Debug)]
pub struct Fleet {
    crew: Arc<Mutex<Crew>>,
    launch: Arc<Launch>,
    replicas: Vec<Replica>,
    supervisor: JoinHandle<()>,
}

#[derive(Debug)]
struct Launch {
    binaries: PathBuf,
    folder: PathBuf,
    environment: Vec<(String, String)>,
    clocks: Option<WrongClock>,
}

impl Launch {
    fn spawn(&self, replica: Replica, variables: &[(&'static str, String)]) -> anyhow::Result<Child> {
        let binary = self.binaries.join(replica.service);
        if !binary.exists() {
            bail!("{} is missing; `cargo xtask faults` builds it", binary.display());
        }
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(log_of(&self.folder, replica))?;
        Command::new(&binary)
            .arg("--config")
            .arg(settings_of(&self.folder, replica))
            .current_dir(&self.folder)
            .envs(self.environment.iter().map(|(key, value)| (key, value)))
            .envs(self.clocks.iter().flat_map(|clocks| clocks.of(replica.number)))
            .envs(variables.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {}", binary.display()))
    }
}

/// Where a replica writes its log.
pub fn log_of(folder: &Path, replica: Replica) -> PathBuf {
    folder.join(format!("{}-{}.log", replica.service, replica.number))
}

/// Where a replica's settings stand.
pub fn settings_of(folder: &Path, replica: Replica) -> PathBuf {
    folder.join(format!("{}-{}.toml", replica.service, replica.number))
}

impl Fleet {
    /// Starts `replicas` of each service; settings are where [`settings_of`] says, logs go there too. `environment` holds for
    /// every life, `lives` for the first ones of some replicas; `clocks` are those of every second replica.
    ///
    /// # Errors
    /// When a binary is missing.
    pub fn start(
        binaries: &Path,
        folder: &Path,
        services: &[&'static str],
        replicas: usize,
        environment: Vec<(String, String)>,
        lives: BTreeMap<Replica, Lives>,
        clocks: Option<WrongClock>,
    ) -> anyhow::Result<Self> {
        let launch = Arc::new(Launch {
            clocks,
            binaries: binaries.to_owned(),
            folder: folder.to_owned(),
            environment,
        });
        let crew = Arc::new(Mutex::new(Crew {
            lives,
            ..Crew::default()
        }));
        let replicas: Vec<Replica> = services
            .iter()
            .flat_map(|service| (0..replicas).map(|number| Replica { service, number }))
            .collect();
        {
            let mut crew = lock(&crew);
            for replica in &replicas {
                let child = launch.spawn(*replica, &next_life(&mut crew, *replica))?;
                crew.children.insert(*replica, child);
            }
        }
        let supervisor = tokio::spawn(supervise(Arc::clone(&crew), Arc::clone(&launch)));
        Ok(Self {
            crew,
            launch,
            replicas,
            supervisor,
        })
    }

    /// All replicas, also those that have just died, in order of the services.
    pub fn replicas(&self) -> Vec<Replica> {
        self.replicas.clone()
    }

    /// `kill -9`; the supervisor starts it again.
    pub fn kill(&self, replica: Replica) {
        self.signal(replica, Signal::KILL);
    }

    /// SIGTERM; the supervisor starts it again.
    pub fn terminate(&self, replica: Replica) {
        self.signal(replica, Signal::TERM);
    }

    /// SIGSTOP.
    pub fn freeze(&self, replica: Replica) {
        self.stop_still(replica, None);
    }

    /// SIGSTOP, and SIGCONT after that time.
    pub fn freeze_for(&self, replica: Replica, time: Duration) {
        self.stop_still(replica, Some(Instant::now() + time));
    }

    fn stop_still(&self, replica: Replica, until: Option<Instant>) {
        if self.signal(replica, Signal::STOP).is_some() {
            lock(&self.crew).frozen.insert(replica, until);
        }
    }

    /// Whether it stands still.
    pub fn stands_still(&self, replica: Replica) -> bool {
        lock(&self.crew).frozen.contains_key(&replica)
    }

    /// SIGCONT.
    pub fn thaw(&self, replica: Replica) {
        self.signal(replica, Signal::CONT);
        lock(&self.crew).frozen.remove(&replica);
    }

    /// SIGCONT for all of them.
    pub fn thaw_all(&self) {
        for replica in &self.replicas {
            self.thaw(*replica);
        }
    }

    fn signal(&self, replica: Replica, signal: Signal) -> Option<u32> {
        let crew = lock(&self.crew);
        let pid = crew.children.get(&replica)?.id()?;
        send(pid, signal);
        Some(pid)
    }

    /// The process of a replica, while it lives.
    pub fn pid(&self, replica: Replica) -> Option<u32> {
        lock(&self.crew).children.get(&replica)?.id()
    }

    /// Kills a replica and does not start it again before [`Fleet::release`].
    ///
    /// # Errors
    /// When it cannot be killed.
    pub async fn hold(&self, replica: Replica) -> anyhow::Result<()> {
        let child = {
            let mut crew = lock(&self.crew);
            crew.held.push(replica);
            crew.children.remove(&replica)
        };
        if let Some(mut child) = child {
            child.kill().await?;
        }
        Ok(())
    }

    /// Starts a replica that was held, with these variables in its next lives.
    pub fn release(&self, replica: Replica, lives: Lives) {
        let mut crew = lock(&self.crew);
        crew.lives.insert(replica, lives);
        crew.held.retain(|held| *held != replica);
    }

    /// Lives with variables that have not begun.
    pub fn lives_left(&self) -> usize {
        lock(&self.crew).lives.values().map(Vec::len).sum()
    }

    /// Deaths by a signal so far.
    pub fn deaths(&self) -> u64 {
        lock(&self.crew).deaths
    }

    /// How often each replica ended by itself, and with which exit code: SIGTERM is a reason, and so are servers that cannot be
    /// reached at a start.
    pub fn ends(&self) -> BTreeMap<(Replica, i32), u64> {
        lock(&self.crew).ends.clone()
    }

    /// Where settings and logs are.
    pub fn folder(&self) -> &Path {
        &self.launch.folder
    }

    /// Kills all of them for good.
    pub async fn stop(self) {
        self.supervisor.abort();
        let children = std::mem::take(&mut lock(&self.crew).children);
        for (_, mut child) in children {
            // A child that is gone is what is wanted.
            let _gone = child.kill().await;
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.supervisor.abort();
    }
}

fn lock(crew: &Mutex<Crew>) -> MutexGuard<'_, Crew> {
    crew.lock().unwrap_or_else(PoisonError::into_inner)
}

fn send(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // A process that has just died needs no signal.
        let _best_effort = kill_process(pid, signal);
    }
}

fn next_life(crew: &mut Crew, replica: Replica) -> Vec<(&'static str, String)> {
    match crew.lives.get_mut(&replica) {
        Some(lives) if !lives.is_empty() => lives.remove(0),
        _ => Vec::new(),
    }
}

async fn supervise(crew: Arc<Mutex<Crew>>, launch: Arc<Launch>) {
    let mut down: BTreeMap<Replica, Instant> = BTreeMap::new();
    loop {
        tokio::time::sleep(RESTART_AFTER / 3).await;
        let mut crew = lock(&crew);
        let awake: Vec<Replica> = crew
            .frozen
            .iter()
            .filter(|(_, until)| until.is_some_and(|until| until <= Instant::now()))
            .map(|(replica, _)| *replica)
            .collect();
        for replica in awake {
            crew.frozen.remove(&replica);
            if let Some(pid) = crew.children.get(&replica).and_then(Child::id) {
                send(pid, Signal::CONT);
            }
        }
        let mut ended = Vec::new();
        for (replica, child) in &mut crew.children {
            if let Ok(Some(status)) = child.try_wait() {
                ended.push((*replica, status));
            }
        }
        for (replica, status) in ended {
            crew.children.remove(&replica);
            crew.frozen.remove(&replica);
            if status.signal().is_some() {
                crew.deaths += 1;
            } else {
                let code = status.code().unwrap_or(-1);
                *crew.ends.entry((replica, code)).or_default() += 1;
            }
            down.insert(replica, Instant::now());
        }
        let held = crew.held.clone();
        let lives: Vec<Replica> = crew.lives.keys().copied().collect();
        for replica in lives {
            // Released ones have never died in our sight.
            if !crew.children.contains_key(&replica) && !held.contains(&replica) {
                down.entry(replica).or_insert_with(Instant::now);
            }
        }
        let due: Vec<Replica> = down
            .iter()
            .filter(|(replica, since)| since.elapsed() >= RESTART_AFTER && !held.contains(replica))
            .map(|(replica, _)| *replica)
            .collect();
        for replica in due {
            let life = next_life(&mut crew, replica);
            match launch.spawn(replica, &life) {
                Ok(child) => {
                    crew.children.insert(replica, child);
                    down.remove(&replica);
                }
                Err(error) => {
                    eprintln!("faults: {} cannot be started: {error:#}", replica.service);
                    down.insert(replica, Instant::now());
                }
            }
        }
    }
}
