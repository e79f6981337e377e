//! All services in one process, or each as a process of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, bail};
use chassis::{Problems, Sources};
use drift_monitor::DriftMonitor;
use notifier::Notifier;
use retrain_decider::RetrainDecider;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use trainer_bridge::TrainerBridge;
use validator::Validator;

/// Names of the services, in the order of the loop.
pub const SERVICES: [&str; 5] = [
    "drift-monitor",
    "retrain-decider",
    "trainer-bridge",
    "validator",
    "notifier",
];

/// Checks every service's settings.
///
/// # Errors
/// All mistakes of all services at once.
pub fn check_settings(sources: &Sources) -> Result<(), Problems> {
    let mut all = Vec::new();
    let results = [
        chassis::service::check::<DriftMonitor>(sources),
        chassis::service::check::<RetrainDecider>(sources),
        chassis::service::check::<TrainerBridge>(sources),
        chassis::service::check::<Validator>(sources),
        chassis::service::check::<Notifier>(sources),
    ];
    for result in results {
        if let Err(Problems(problems)) = result {
            for problem in problems {
                if !all.contains(&problem) {
                    all.push(problem);
                }
            }
        }
    }
    if all.is_empty() {
        Ok(())
    } else {
        Err(Problems(all))
    }
}

/// Runs the five services in this process until `stop` is cancelled or one of them fails.
///
/// # Errors
/// The first service that failed, by name.
pub async fn run_all(sources: Sources, stop: CancellationToken) -> anyhow::Result<()> {
    run_all_then(sources, stop, || ()).await
}

/// Like [`run_all`]; calls `up` once, when all of them are started.
///
/// # Errors
/// The first service that failed, by name.
pub async fn run_all_then(
    sources: Sources,
    stop: CancellationToken,
    up: impl FnOnce() + Send,
) -> anyhow::Result<()> {
    let (sender, mut started) = mpsc::unbounded_channel();
    let mut set: JoinSet<(&'static str, anyhow::Result<()>)> = JoinSet::new();
    macro_rules! spawn {
        ($service:ty, $name:literal) => {{
            let (sources, stop, sender) = (sources.clone(), stop.clone(), sender.clone());
            set.spawn(async move {
                // Nobody listens any more when another service has failed.
                let up = move || {
                    let _heard = sender.send(());
                };
                (
                    $name,
                    chassis::service::launch_then::<$service>(&sources, stop, up).await,
                )
            });
        }};
    }
    spawn!(DriftMonitor, "drift-monitor");
    spawn!(RetrainDecider, "retrain-decider");
    spawn!(TrainerBridge, "trainer-bridge");
    spawn!(Validator, "validator");
    spawn!(Notifier, "notifier");
    drop(sender);
    let (mut up, mut count) = (Some(up), 0);
    let mut first_failure = Ok(());
    loop {
        let ended = tokio::select! {
            Some(()) = started.recv() => {
                count += 1;
                if count == SERVICES.len()
                    && let Some(up) = up.take()
                {
                    up();
                }
                continue;
            }
            ended = set.join_next() => ended,
        };
        let Some(ended) = ended else {
            return first_failure;
        };
        let (name, result) = ended.context("a service panicked")?;
        if let Err(error) = result {
            stop.cancel();
            if first_failure.is_ok() {
                first_failure = Err(error.context(format!("service {name}")));
            }
        }
    }
}

/// Services as processes of their own; killed when dropped.
#[derive(Debug)]
pub struct Processes {
    binaries: PathBuf,
    config: PathBuf,
    logs: PathBuf,
    children: BTreeMap<&'static str, Child>,
}

impl Processes {
    /// Starts all five services with the settings file `config`; their logs go to `logs`.
    ///
    /// # Errors
    /// When a binary is missing or cannot be started.
    pub fn start(binaries: &Path, config: &Path, logs: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(logs).with_context(|| format!("create {}", logs.display()))?;
        let mut processes = Self {
            binaries: binaries.to_owned(),
            config: config.to_owned(),
            logs: logs.to_owned(),
            children: BTreeMap::new(),
        };
        for service in SERVICES {
            processes.spawn(service)?;
        }
        Ok(processes)
    }

    /// The folder of this very program, where the services' binaries lie too.
    ///
    /// # Errors
    /// When the program's own path cannot be found out.
    pub fn own_folder() -> anyhow::Result<PathBuf> {
        let program = std::env::current_exe().context("find this program")?;
        let folder = program.parent().context("find this program's folder")?;
        // Test binaries lie one folder deeper.
        Ok(if folder.ends_with("deps") {
            folder.parent().unwrap_or(folder).to_owned()
        } else {
            folder.to_owned()
        })
    }

    fn spawn(&mut self, service: &'static str) -> anyhow::Result<()> {
        let binary = self.binaries.join(service);
        if !binary.exists() {
            bail!(
                "{} is missing; build it with `cargo build --workspace --bins`",
                binary.display()
            );
        }
        let path = self.logs.join(format!("{service}.log"));
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)?;
        let child = Command::new(&binary)
            .arg("--config")
            .arg(&self.config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {}", binary.display()))?;
        self.children.insert(service, child);
        Ok(())
    }

    /// Kills a service with SIGKILL and waits until it is gone.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn kill(&mut self, service: &'static str) -> anyhow::Result<()> {
        let mut child = self
            .children
            .remove(service)
            .with_context(|| format!("{service} does not run"))?;
        child.kill().await.with_context(|| format!("kill {service}"))
    }

    /// Starts a service that was killed.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn restart(&mut self, service: &'static str) -> anyhow::Result<()> {
        self.spawn(service)
    }

    /// Says so when a service has died by itself.
    ///
    /// # Errors
    /// Names the service, its exit and its log.
    pub fn check(&mut self) -> anyhow::Result<()> {
        for (service, child) in &mut self.children {
            if let Some(status) = child.try_wait()? {
                let path = self.logs.join(format!("{service}.log"));
                let log = std::fs::read_to_string(&path).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(10).collect();
                let tail: Vec<&str> = tail.into_iter().rev().collect();
                bail!(
                    "{service} ended with {status}; the end of {}:\n{}",
                    path.display(),
                    tail.join("\n")
                );
            }
        }
        Ok(())
    }

    /// Kills all of them.
    ///
    /// # Errors
    /// When one cannot be killed.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        for (service, mut child) in std::mem::take(&mut self.children) {
            child.kill().await.with_context(|| format!("stop {service}"))?;
        }
        Ok(())
    }
}
