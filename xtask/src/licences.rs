//! What `deny.toml` asks of licences and sources, checked on every package that may be built, wherever the checks run.
//!
//! `cargo deny` checks more (and says it better) where it is installed.

use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use spdx::{Expression, ParseMode};

use crate::process::{cargo, shown};

/// What `deny.toml` allows.
#[derive(Debug)]
struct Allowed {
    licences: Vec<String>,
    registries: Vec<String>,
}

/// Checks every package of the lock file.
///
/// # Errors
/// Names the packages that do not fit, each with its licence or source.
pub(crate) fn check(root: &Path) -> anyhow::Result<()> {
    let file = root.join("deny.toml");
    let text = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    let allowed = Allowed::of(&text)?;
    let mut command = cargo();
    command.args(["metadata", "--format-version", "1", "--locked", "--all-features"]);
    let output = command
        .output()
        .with_context(|| format!("start `{}`", shown(&command)))?;
    ensure!(
        output.status.success(),
        "`{}` failed: {}",
        shown(&command),
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).context("read the list of packages")?;
    let packages = metadata["packages"].as_array().context("a list of packages")?;
    let wrong: Vec<String> = packages
        .iter()
        .filter_map(|package| allowed.refuses(package))
        .collect();
    if !wrong.is_empty() {
        bail!("deny.toml does not allow\n{}", wrong.join("\n"));
    }
    println!(
        "{} packages are licensed and come from where deny.toml allows",
        packages.len()
    );
    Ok(())
}

impl Allowed {
    fn of(text: &str) -> anyhow::Result<Self> {
        let file: toml::Table = text.parse().context("read deny.toml")?;
        let list = |section: &str, name: &str| -> anyhow::Result<Vec<String>> {
            let list = file
                .get(section)
                .and_then(|section| section.get(name)?.as_array());
            let list = list.with_context(|| format!("deny.toml has no list `{section}.{name}`"))?;
            let text = |value: &toml::Value| value.as_str().map(str::to_owned);
            let texts: Option<Vec<String>> = list.iter().map(text).collect();
            texts.with_context(|| format!("`{section}.{name}` of deny.toml holds something else than texts"))
        };
        Ok(Self {
            licences: list("licenses", "allow")?,
            registries: list("sources", "allow-registry")?,
        })
    }

    /// Why a package may not be used; our own may.
    fn refuses(&self, package: &Value) -> Option<String> {
        let source = package["source"].as_str()?;
        let name = format!(
            "{} {}",
            package["name"].as_str().unwrap_or("?"),
            package["version"].as_str().unwrap_or("?")
        );
        let known = source
            .strip_prefix("registry+")
            .is_some_and(|registry| self.registries.iter().any(|allowed| allowed == registry));
        if !known {
            return Some(format!("{name}: it comes from {source}"));
        }
        let Some(licence) = package["license"].as_str() else {
            return Some(format!("{name}: it names no licence"));
        };
        // Older packages write `MIT/Apache-2.0`.
        match Expression::parse_mode(licence, ParseMode::LAX) {
            Ok(expression) => {
                let fits = expression.evaluate(|wanted| {
                    let id = wanted.license.id().map(|id| id.name);
                    wanted.addition.is_none()
                        && id.is_some_and(|id| self.licences.iter().any(|ours| ours == id))
                });
                (!fits).then(|| format!("{name}: its licence is {licence}"))
            }
            Err(error) => Some(format!("{name}: its licence `{licence}` cannot be read: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::Allowed;

    const HOME: &str = "registry+https://github.com/rust-lang/crates.io-index";

    fn refused(source: Option<&str>, licence: Option<&str>) -> Option<String> {
        let allowed = Allowed::of(
            "[licenses]\nallow = [\"MIT\", \"ISC\"]\n[sources]\n\
             allow-registry = [\"https://github.com/rust-lang/crates.io-index\"]\n",
        )
        .unwrap();
        let package: Value = json!({ "name": "x", "version": "1.0.0", "source": source, "license": licence });
        allowed.refuses(&package)
    }

    #[test]
    fn a_package_needs_an_allowed_licence_and_source() {
        for good in [
            "MIT",
            "MIT OR Apache-2.0",
            "Apache-2.0/MIT",
            "MIT AND ISC",
            "(GPL-3.0 OR ISC) AND MIT",
        ] {
            assert_eq!(refused(Some(HOME), Some(good)), None, "{good}");
        }
        for bad in [
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "Apache-2.0 WITH LLVM-exception",
            "no licence at all",
        ] {
            assert!(
                refused(Some(HOME), Some(bad)).is_some_and(|why| why.contains(bad)),
                "{bad}"
            );
        }
        assert!(refused(Some(HOME), None).is_some_and(|why| why.contains("no licence")));
        let elsewhere = "git+https://example.com/x";
        assert!(refused(Some(elsewhere), Some("MIT")).is_some_and(|why| why.contains(elsewhere)));
        assert_eq!(refused(None, None), None, "ours");
    }

    #[test]
    fn a_file_without_lists_is_a_mistake() {
        for text in ["", "[licenses]\nallow = [1]\n[sources]\nallow-registry = []\n"] {
            assert!(Allowed::of(text).is_err(), "{text}");
        }
    }
}
