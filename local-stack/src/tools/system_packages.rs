//! Debian packages, for root and for those whom `sudo -n` lets through. Never asks anything.

use std::process::Command;

use anyhow::{Context as _, bail};

use super::{Tools, command, path_folders};

impl Tools {
    /// Installs Debian packages with `apt-get`, after `apt-get update`.
    ///
    /// # Errors
    /// When there is no apt-get, we may not use it, or it fails. One sentence on what to install by hand.
    pub(crate) fn install_system_packages(&self, what: &str, packages: &[&str]) -> anyhow::Result<()> {
        let by_hand = format!(
            "install {what} (Debian: `apt-get install {}`)",
            packages.join(" ")
        );
        let has = |program: &str| path_folders().iter().any(|folder| folder.join(program).is_file());
        if !has("apt-get") {
            bail!("this machine has no apt-get; {by_hand}");
        }
        if !(rustix::process::geteuid().is_root()
            || has("sudo") && command::succeeds(&mut as_root(&["true"])))
        {
            bail!("neither root nor a sudo without password; {by_hand}");
        }
        let apt_get = |arguments: &[&str]| {
            let head = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q"];
            command::output(&mut as_root(&[&head, arguments].concat()))
        };
        self.progress()
            .tell(&format!("installing {} with apt-get", packages.join(", ")));
        let done = apt_get(&["update"]).and_then(|_| {
            let options = [
                "install",
                "-y",
                "--no-install-recommends",
                "-o",
                "Dpkg::Options::=--force-confold",
            ];
            apt_get(&[&options, packages].concat())
        });
        done.with_context(|| by_hand)?;
        Ok(())
    }

    /// Installs Debian's PostgreSQL without the cluster that its packages would make and start on port 5432.
    pub(crate) fn install_postgres(&self) -> anyhow::Result<()> {
        if path_folders()
            .iter()
            .any(|folder| folder.join("apt-get").is_file())
        {
            // Fails for those who may not install either, which the installation reports.
            command::succeeds(&mut as_root(&["sh", "-c", NO_CLUSTER]));
        }
        self.install_system_packages("PostgreSQL", &["postgresql"])
    }
}

/// Leaves the setting of a machine that has one.
const NO_CLUSTER: &str = "file=/etc/postgresql-common/createcluster.conf; [ -e $file ] || \
    { mkdir -p ${file%/*} && echo 'create_main_cluster = false' >$file; }";

fn as_root(words: &[&str]) -> Command {
    if rustix::process::geteuid().is_root() {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        command
    } else {
        let mut command = Command::new("sudo");
        command.arg("-n").args(words);
        command
    }
}
