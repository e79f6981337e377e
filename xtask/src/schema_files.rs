//! Writes the generated files of `schemas`, or says which are stale.

use std::path::Path;

use anyhow::{Context as _, bail};
use schemas::generate::{GeneratedFile, generated_files};

use crate::process::root;

/// Writes the files, or with `check` compares them.
///
/// # Errors
/// When a file cannot be written; with `check`, when one is stale.
pub(crate) fn run(check: bool) -> anyhow::Result<()> {
    let folder = root().join("schemas");
    let files = generated_files();
    let stale = stale(&folder, &files)?;
    if check {
        if !stale.is_empty() {
            bail!(
                "generated files are stale: {}; run `cargo xtask schemas` and commit",
                stale.join(", ")
            );
        }
        println!("{} generated files are fresh", files.len());
        return Ok(());
    }
    write(&folder, &files)?;
    println!(
        "{} generated files, {} changed{}{}",
        files.len(),
        stale.len(),
        if stale.is_empty() { "" } else { ": " },
        stale.join(", ")
    );
    Ok(())
}

fn write(folder: &Path, files: &[GeneratedFile]) -> anyhow::Result<()> {
    for file in files {
        let path = folder.join(&file.path);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
        }
        std::fs::write(&path, &file.contents).with_context(|| format!("write {}", path.display()))?;
    }
    for path in left_over(folder, files)? {
        std::fs::remove_file(folder.join(&path)).with_context(|| format!("remove schemas/{path}"))?;
    }
    Ok(())
}

/// Files that are missing, differ, or belong to no event any more.
fn stale(folder: &Path, files: &[GeneratedFile]) -> anyhow::Result<Vec<String>> {
    let differs = |file: &&GeneratedFile| {
        std::fs::read_to_string(folder.join(&file.path)).ok().as_ref() != Some(&file.contents)
    };
    let mut stale: Vec<String> = files
        .iter()
        .filter(differs)
        .map(|file| format!("schemas/{}", file.path))
        .collect();
    stale.extend(
        left_over(folder, files)?
            .into_iter()
            .map(|path| format!("schemas/{path}")),
    );
    Ok(stale)
}

fn left_over(folder: &Path, files: &[GeneratedFile]) -> anyhow::Result<Vec<String>> {
    let json = folder.join("json");
    if !json.is_dir() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&json).with_context(|| format!("read {}", json.display()))? {
        let path = format!("json/{}", entry?.file_name().to_string_lossy());
        if !files.iter().any(|file| file.path == path) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_edited_and_left_over_files_are_stale_until_written() {
        let folder = tempfile::tempdir().unwrap();
        let files: Vec<GeneratedFile> = ["json/a.json", "json/b.json", "asyncapi.json"]
            .map(|path| GeneratedFile {
                path: path.to_owned(),
                contents: format!("{path}\n"),
            })
            .into();
        assert_eq!(stale(folder.path(), &files).unwrap().len(), 3);
        write(folder.path(), &files).unwrap();
        assert_eq!(stale(folder.path(), &files).unwrap(), Vec::<String>::new());
        std::fs::write(folder.path().join("json/a.json"), "edited").unwrap();
        std::fs::write(folder.path().join("json/old.json"), "{}").unwrap();
        assert_eq!(
            stale(folder.path(), &files).unwrap(),
            ["schemas/json/a.json", "schemas/json/old.json"]
        );
        write(folder.path(), &files).unwrap();
        assert_eq!(stale(folder.path(), &files).unwrap(), Vec::<String>::new());
    }
}
