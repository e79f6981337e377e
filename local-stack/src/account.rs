//! As whom a server runs. PostgreSQL refuses to run as root, and a broker needs no root either.
//!
//! An ordinary user starts servers as itself. Root drops to an unprivileged account when that account can reach the
//! server's folder and programs (below `/root` it cannot); else it runs the server in a user namespace, in which
//! root's files seem to belong to an ordinary account. Both are tried for real, not guessed from permission bits.

use std::ffi::OsStr;
use std::os::unix::fs::{MetadataExt as _, lchown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

/// Enters `$1`, then demands that every further argument is an executable file.
const REACH: &str = r#"cd "$1" || exit 1; shift; for program; do [ -x "$program" ] || exit 1; done"#;

/// The identity of a server process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunAs {
    /// The account we have ourselves.
    Ourselves,
    /// Another account, dropped to from root.
    Account { uid: u32, gid: u32 },
    /// Our own account, which looks like this one inside a user namespace.
    Namespace { uid: u32, gid: u32 },
}

impl RunAs {
    /// Chooses for a server that keeps its files in `folder` and starts `programs`. `owner` is the uid of the data
    /// when there are some already: a folder keeps its account.
    ///
    /// # Errors
    /// When the data belong to somebody we cannot become, or nothing but root could reach the folder.
    pub(crate) fn choose(folder: &Path, programs: &[&Path], owner: Option<u32>) -> anyhow::Result<Self> {
        let us = rustix::process::geteuid().as_raw();
        let accounts = read_accounts();
        if us != 0 {
            if let Some(owner) = owner.filter(|owner| *owner != us) {
                bail!(
                    "`{}` belongs to user id {owner}, and we are {us}",
                    folder.display()
                );
            }
            // initdb looks its account up; a container may run under a number that has no name.
            if accounts.iter().any(|account| account.uid == us) {
                return Ok(Self::Ourselves);
            }
            return Ok(namespace(&accounts)
                .filter(|choice| choice.reaches(folder, programs))
                .unwrap_or(Self::Ourselves));
        }
        let drop = match owner {
            Some(0) => None,
            Some(owner) => {
                let gid = accounts.iter().find(|a| a.uid == owner).map_or(owner, |a| a.gid);
                Some(Self::Account { uid: owner, gid })
            }
            None => unprivileged(&accounts).map(|a| Self::Account {
                uid: a.uid,
                gid: a.gid,
            }),
        };
        let choices = [
            drop,
            if owner.is_some_and(|owner| owner != 0) {
                None
            } else {
                namespace(&accounts)
            },
        ];
        choices.into_iter().flatten().find(|choice| choice.reaches(folder, programs)).with_context(|| {
            format!(
                "started as root, and neither an unprivileged account nor a user namespace can reach `{}` and {}; \
                 choose a folder that other accounts may enter",
                folder.display(),
                programs.iter().map(|p| format!("`{}`", p.display())).collect::<Vec<_>>().join(", "),
            )
        })
    }

    /// A command that will run as this identity.
    pub(crate) fn command(self, program: impl AsRef<OsStr>) -> Command {
        match self {
            Self::Ourselves => Command::new(program),
            Self::Account { uid, gid } => {
                let mut command = Command::new(program);
                command.uid(uid).gid(gid).env("HOME", "/");
                command
            }
            Self::Namespace { uid, gid } => {
                let mut command = Command::new("unshare");
                command.args([
                    "--user",
                    &format!("--map-user={uid}"),
                    &format!("--map-group={gid}"),
                    "--",
                ]);
                command.arg(program).env("HOME", "/");
                command
            }
        }
    }

    /// Makes `folder` and all in it belong to this identity.
    pub(crate) fn take(self, folder: &Path) -> std::io::Result<()> {
        let Self::Account { uid, gid } = self else {
            return Ok(());
        };
        let mut pending = vec![folder.to_owned()];
        while let Some(path) = pending.pop() {
            let metadata = path.symlink_metadata()?;
            if metadata.uid() != uid || metadata.gid() != gid {
                lchown(&path, Some(uid), Some(gid))?;
            }
            if metadata.is_dir() {
                for entry in path.read_dir()? {
                    pending.push(entry?.path());
                }
            }
        }
        Ok(())
    }

    fn reaches(self, folder: &Path, programs: &[&Path]) -> bool {
        let mut command = self.command("/bin/sh");
        command
            .args(["-c", REACH, "sh"])
            .arg(folder)
            .args(programs)
            .current_dir("/");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Account {
    name: String,
    uid: u32,
    gid: u32,
}

fn read_accounts() -> Vec<Account> {
    // Without the file there is nobody to drop to, which `choose` reports.
    parse_accounts(&std::fs::read_to_string("/etc/passwd").unwrap_or_default())
}

fn parse_accounts(passwd: &str) -> Vec<Account> {
    let account = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        Some(Account {
            name,
            uid: fields.nth(1)?.parse().ok()?,
            gid: fields.next()?.parse().ok()?,
        })
    };
    passwd.lines().filter_map(account).collect()
}

fn unprivileged(accounts: &[Account]) -> Option<&Account> {
    let named = |name| {
        accounts
            .iter()
            .find(|account| account.name == name && account.uid != 0)
    };
    named("postgres")
        .or_else(|| named("nobody"))
        .or_else(|| accounts.iter().find(|account| account.uid != 0))
}

fn namespace(accounts: &[Account]) -> Option<RunAs> {
    unprivileged(accounts).map(|account| RunAs::Namespace {
        uid: account.uid,
        gid: account.gid,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn postgres_is_preferred_and_root_is_never_chosen() {
        let cases = [
            (
                "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\npostgres:x:101:104::/:/bin/sh",
                Some(101),
            ),
            (
                "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false",
                Some(65534),
            ),
            ("root:x:0:0::/root:/bin/sh\ndaemon:x:1:1::/:/bin/false", Some(1)),
            ("root:x:0:0::/root:/bin/sh\npostgres:x:0:0::/:/bin/sh", None),
            ("broken line\n\nroot:x:zero:0", None),
        ];
        for (passwd, uid) in cases {
            assert_eq!(
                unprivileged(&parse_accounts(passwd)).map(|a| a.uid),
                uid,
                "{passwd}"
            );
        }
    }
}
