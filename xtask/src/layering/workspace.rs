//! The workspace as the rules see it: manifests, sources and the lock file, read once.

use std::path::Path;

use anyhow::Context as _;
use toml::{Table, Value};

/// Everything that the rules look at.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    pub(crate) members: Vec<Member>,
    /// Names of all packages in `Cargo.lock`.
    pub(crate) lock: Vec<String>,
}

/// One package of the workspace.
#[derive(Debug, Default)]
pub(crate) struct Member {
    pub(crate) name: String,
    /// Folder relative to the workspace.
    pub(crate) folder: String,
    pub(crate) dependencies: Vec<Dependency>,
    /// Rust files under `src` and SQL files under `migrations`.
    pub(crate) sources: Vec<Source>,
}

/// One dependency, by the name of the package rather than a name it is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dependency {
    pub(crate) package: String,
    pub(crate) kind: Kind,
}

/// For what it is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal,
    Dev,
    Build,
}

/// One file, its path relative to the workspace with `/`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    pub(crate) fn is_sql(&self) -> bool {
        Path::new(&self.path)
            .extension()
            .is_some_and(|extension| extension == "sql")
    }
}

impl Workspace {
    /// Reads the workspace in `root`.
    ///
    /// # Errors
    /// When a file cannot be read or understood.
    pub(crate) fn read(root: &Path) -> anyhow::Result<Self> {
        let manifest = read_table(&root.join("Cargo.toml"))?;
        let shared = manifest
            .get("workspace")
            .and_then(|workspace| workspace.get("dependencies"));
        let shared = shared.and_then(Value::as_table).cloned().unwrap_or_default();
        let members = manifest
            .get("workspace")
            .and_then(|workspace| workspace.get("members"));
        let members = members
            .and_then(Value::as_array)
            .context("`workspace.members` in Cargo.toml")?;
        let folders = members.iter().filter_map(Value::as_str);
        let members = folders
            .map(|folder| Member::read(root, folder, &shared))
            .collect::<Result<_, _>>()?;
        let lock = match std::fs::read_to_string(root.join("Cargo.lock")) {
            Ok(text) => locked_names(&text.parse().context("understand Cargo.lock")?),
            Err(_) => Vec::new(),
        };
        Ok(Self { members, lock })
    }
}

impl Member {
    fn read(root: &Path, folder: &str, shared: &Table) -> anyhow::Result<Self> {
        let manifest = read_table(&root.join(folder).join("Cargo.toml"))?;
        let name = manifest
            .get("package")
            .and_then(|package| package.get("name"))
            .and_then(Value::as_str);
        let name = name
            .with_context(|| format!("`package.name` in {folder}/Cargo.toml"))?
            .to_owned();
        let mut sources = Vec::new();
        for (part, extension) in [("src", "rs"), ("migrations", "sql")] {
            read_sources(
                &root.join(folder).join(part),
                &format!("{folder}/{part}"),
                extension,
                &mut sources,
            )?;
        }
        sources.sort_by(|left, right| left.path.cmp(&right.path));
        Ok(Self {
            name,
            folder: folder.to_owned(),
            dependencies: dependencies(&manifest, shared),
            sources,
        })
    }
}

fn read_table(path: &Path) -> anyhow::Result<Table> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    text.parse()
        .with_context(|| format!("understand {}", path.display()))
}

/// All dependencies of a manifest, those for single platforms included.
pub(crate) fn dependencies(manifest: &Table, shared: &Table) -> Vec<Dependency> {
    let platforms = manifest
        .get("target")
        .and_then(Value::as_table)
        .into_iter()
        .flat_map(Table::values);
    let tables = std::iter::once(manifest).chain(platforms.filter_map(Value::as_table));
    let mut found = Vec::new();
    for table in tables {
        for (key, kind) in [
            ("dependencies", Kind::Normal),
            ("dev-dependencies", Kind::Dev),
            ("build-dependencies", Kind::Build),
        ] {
            for (name, entry) in table.get(key).and_then(Value::as_table).into_iter().flatten() {
                let from_workspace = entry.get("workspace").is_some();
                let entry = if from_workspace {
                    shared.get(name)
                } else {
                    Some(entry)
                };
                let renamed = entry
                    .and_then(|entry| entry.get("package"))
                    .and_then(Value::as_str);
                found.push(Dependency {
                    package: renamed.unwrap_or(name).to_owned(),
                    kind,
                });
            }
        }
    }
    found
}

fn read_sources(folder: &Path, shown: &str, extension: &str, found: &mut Vec<Source>) -> anyhow::Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in std::fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let shown = format!("{shown}/{name}");
        if path.is_dir() {
            read_sources(&path, &shown, extension, found)?;
        } else if path.extension().is_some_and(|found| found == extension) {
            let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            found.push(Source { path: shown, text });
        }
    }
    Ok(())
}

fn locked_names(lock: &Table) -> Vec<String> {
    let packages = lock
        .get("package")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    packages
        .filter_map(|package| Some(package.get("name")?.as_str()?.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_found_in_every_table_and_under_their_real_name() {
        let manifest: Table = r#"
            [dependencies]
            plain = "1"
            nats = { package = "async-nats", version = "1" }
            shared.workspace = true
            [dev-dependencies]
            proptest = { workspace = true }
            [build-dependencies]
            cc = "1"
            [target.'cfg(unix)'.dependencies]
            rustix = "1"
        "#
        .parse()
        .unwrap();
        let shared: Table = r#"shared = { package = "sqlx", version = "1" }"#.parse().unwrap();
        let mut found: Vec<(String, Kind)> = dependencies(&manifest, &shared)
            .into_iter()
            .map(|dependency| (dependency.package, dependency.kind))
            .collect();
        found.sort_by(|left, right| left.0.cmp(&right.0));
        let expected = [
            ("async-nats", Kind::Normal),
            ("cc", Kind::Build),
            ("plain", Kind::Normal),
            ("proptest", Kind::Dev),
            ("rustix", Kind::Normal),
            ("sqlx", Kind::Normal),
        ];
        assert_eq!(found, expected.map(|(name, kind)| (name.to_owned(), kind)));
    }

    #[test]
    fn this_workspace_is_read_with_its_sources_and_lock_file() {
        let workspace = Workspace::read(&crate::process::root()).unwrap();
        let chassis = workspace
            .members
            .iter()
            .find(|member| member.name == "chassis")
            .unwrap();
        assert!(chassis.dependencies.contains(&Dependency {
            package: "sqlx".to_owned(),
            kind: Kind::Normal
        }));
        assert!(
            chassis
                .sources
                .iter()
                .any(|source| source.path == "chassis/src/lib.rs")
        );
        assert!(
            chassis
                .sources
                .iter()
                .any(|source| source.path.starts_with("chassis/migrations/"))
        );
        assert!(workspace.lock.iter().any(|name| name == "sqlx"));
    }
}
