//! A service under test: inside the test's process, or as its own binary.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use chassis::{Service, Sources};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A service inside this process.
#[derive(Debug)]
#[must_use = "a replica that is dropped goes on running"]
pub struct Replica {
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Replica {
    /// Starts it; it may not be up yet.
    pub fn launch<S: Service>(sources: Sources) -> Self {
        let stop = CancellationToken::new();
        let token = stop.clone();
        let task = tokio::spawn(async move { chassis::launch::<S>(&sources, token).await });
        Self { stop, task }
    }

    /// Stops politely; a failure of the service fails the test.
    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("no panic").expect("a clean end");
    }

    /// Ends it wherever it stands, as `kill -9` would.
    pub async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.is_err(), "it had ended before");
    }
}

/// A service in a process of its own; killed when dropped.
#[derive(Debug)]
pub struct Process(Child);

impl Process {
    /// Starts `binary` in `folder`, with the settings of `sources` in a file there.
    pub fn spawn(binary: &Path, folder: &Path, sources: &Sources) -> Self {
        let file = folder.join("vigie.toml");
        let text: Vec<&str> = sources.overrides.iter().map(|(_, text)| text.as_str()).collect();
        std::fs::write(&file, text.concat()).expect("write the settings");
        let child = Command::new(binary)
            .arg("--config")
            .arg(&file)
            .current_dir(folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("start {}: {error}", binary.display()));
        Self(child)
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.0.kill().expect("kill");
        self.0.wait().expect("wait");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already dead is fine.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
