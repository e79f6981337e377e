//! Keys and permissions for nats-server.
//!
//! The seed of each identity lies in a file of its own that only its owner can read; the server's configuration holds public
//! keys only. A seed that is there is kept for ever: a second run writes the same configuration.

use std::fmt::Write as _;
use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use nkeys::{KeyPair, KeyPairType};
use schemas::rights::{self, Rights};

/// First line of the configuration, by which a file is known as ours.
pub const HEAD: &str = "# Written by `vigie provision nats`; it writes the same again, so do not edit.";

/// An identity, the files of its seeds, and the keys that the server is to know.
#[derive(Debug)]
pub struct Identity {
    /// What it may do.
    pub rights: Rights,
    /// Its seed.
    pub seed_file: PathBuf,
    /// Whether the seed was made just now.
    pub fresh: bool,
    /// Public keys: its own, and during a rotation the one before.
    pub public_keys: Vec<String>,
}

/// Reads the seeds in `folder` and makes those that are missing.
///
/// # Errors
/// When the folder cannot be written, or a file in it is no user's seed.
pub fn identities(folder: &Path) -> anyhow::Result<Vec<Identity>> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.with_context(|| format!("create the folder {}", folder.display()))?;
    rights::all()
        .into_iter()
        .map(|rights| identity(folder, rights))
        .collect()
}

fn identity(folder: &Path, rights: Rights) -> anyhow::Result<Identity> {
    let seed_file = folder.join(format!("{}.nk", rights.identity));
    let fresh = !seed_file.exists();
    if fresh {
        write_seed(&seed_file)?;
    }
    let mut public_keys = vec![public_key(&seed_file)?];
    let before = folder.join(format!("{}.old.nk", rights.identity));
    if before.exists() {
        public_keys.push(public_key(&before)?);
    }
    Ok(Identity {
        rights,
        seed_file,
        fresh,
        public_keys,
    })
}

fn write_seed(file: &Path) -> anyhow::Result<()> {
    let seed = KeyPair::new_user().seed().context("make a key")?;
    // Never over a file that somebody else has made meanwhile.
    let mut opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .with_context(|| format!("create {}", file.display()))?;
    opened
        .write_all(format!("{seed}\n").as_bytes())
        .and_then(|()| opened.sync_all())
        .with_context(|| format!("write {}", file.display()))
}

fn public_key(file: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    // Neither the text nor the library's words about it: it may be half a secret.
    match KeyPair::from_seed(text.trim()) {
        Ok(pair) if matches!(pair.key_pair_type(), KeyPairType::User) => Ok(pair.public_key()),
        _ => bail!(
            "{} holds no user's seed; move it away, and a new one is made",
            file.display()
        ),
    }
}

/// The block of nats-server's configuration: one account, one user for each key. Nobody without a key gets in.
pub fn configuration(identities: &[Identity]) -> String {
    let mut text = format!(
        "{HEAD}\n# Everything that is not allowed here is denied. Include it: `include \"vigie-accounts.conf\"`.\n\
         accounts {{\n  VIGIE {{\n    jetstream: enabled\n    users: [\n"
    );
    for identity in identities {
        for (at, key) in identity.public_keys.iter().enumerate() {
            let note = if at == 0 { "" } else { ", the key before this one" };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "      # {}{note}", identity.rights.identity);
            let _ = writeln!(text, "      {{ nkey: {key}, permissions: {{");
            text.push_str(&permissions(&identity.rights));
            text.push_str("      } }\n");
        }
    }
    text.push_str("    ]\n  }\n}\n");
    text
}

fn permissions(rights: &Rights) -> String {
    let list = |subjects: &[String]| {
        let quoted: Vec<String> = subjects.iter().map(|subject| format!("{subject:?}")).collect();
        format!("[{}]", quoted.join(", "))
    };
    // An empty list would allow everything.
    let rule = |allowed: &[String], denied: &[String]| match (allowed, denied) {
        ([], _) => "{ deny: [\">\"] }".to_owned(),
        (allowed, []) => format!("{{ allow: {} }}", list(allowed)),
        (allowed, denied) => format!("{{ allow: {}, deny: {} }}", list(allowed), list(denied)),
    };
    format!(
        "        publish: {}\n        subscribe: {}\n",
        rule(&rights.publish, &rights.publish_denied),
        rule(&rights.subscribe, &[])
    )
}

/// Writes the configuration to a file, over an older one of ours only.
///
/// # Errors
/// When the file is somebody else's, or cannot be written.
pub fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    match std::fs::read_to_string(file) {
        Ok(there) if !there.starts_with(HEAD) => bail!(
            "{} is there and was not written by `vigie provision nats`; nothing was changed",
            file.display()
        ),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("read {}", file.display())),
    }
    std::fs::write(file, text).with_context(|| format!("write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn seeds(folder: &Path) -> Vec<(PathBuf, String)> {
        let files = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let mut seeds: Vec<_> = files
            .map(|file| {
                let text = std::fs::read_to_string(&file).unwrap();
                (file, text)
            })
            .collect();
        seeds.sort();
        seeds
    }

    #[test]
    fn seeds_are_kept_readable_by_their_owner_alone_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("keys");
        let first = identities(&folder).unwrap();
        assert!(first.iter().all(|identity| identity.fresh));
        let before = seeds(&folder);
        assert_eq!(before.len(), rights::all().len());
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        let text = configuration(&first);
        for (file, seed) in &before {
            assert_eq!(mode(file), 0o600, "{}", file.display());
            assert!(seed.starts_with("SU") && !text.contains(seed.trim()));
        }
        let again = identities(&folder).unwrap();
        assert!(again.iter().all(|identity| !identity.fresh));
        assert_eq!(configuration(&again), text);
        assert_eq!(seeds(&folder), before);
    }

    #[test]
    fn during_a_rotation_both_keys_have_the_same_rights() {
        let folder = tempfile::tempdir().unwrap();
        let before = identities(folder.path()).unwrap();
        let file = folder.path().join("validator.nk");
        std::fs::rename(&file, folder.path().join("validator.old.nk")).unwrap();
        let during = identities(folder.path()).unwrap();
        let of = |identities: &[Identity]| {
            let found = identities
                .iter()
                .find(|identity| identity.rights.identity == "validator");
            found.unwrap().public_keys.clone()
        };
        let (old, both) = (of(&before), of(&during));
        assert_eq!((old.len(), both.len()), (1, 2));
        assert_eq!(both[1], old[0]);
        assert_ne!(both[0], old[0]);
        let text = configuration(&during);
        assert!(both.iter().all(|key| text.contains(key.as_str())));
        assert_eq!(
            text.matches("\"model.validated\"").count(),
            2 + 1,
            "both keys, and the reader"
        );
    }

    #[test]
    fn what_is_no_seed_and_what_is_somebody_elses_file_is_refused_and_left() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("notifier.nk");
        std::fs::write(&file, "half-a-secret").unwrap();
        let refused = format!("{:#}", identities(folder.path()).unwrap_err());
        assert!(
            refused.contains("notifier.nk") && !refused.contains("half-a-secret"),
            "{refused}"
        );
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "half-a-secret");

        let conf = folder.path().join("nats.conf");
        std::fs::write(&conf, "port: 4222\n").unwrap();
        let refused = write(&conf, "x").unwrap_err().to_string();
        assert!(refused.contains("nothing was changed"), "{refused}");
        assert_eq!(std::fs::read_to_string(&conf).unwrap(), "port: 4222\n");
        std::fs::write(&conf, format!("{HEAD}\nolder")).unwrap();
        write(&conf, "newer").unwrap();
        assert_eq!(std::fs::read_to_string(&conf).unwrap(), "newer");
    }
}
