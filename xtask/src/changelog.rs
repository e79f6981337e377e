//! What users notice is written down: `CHANGELOG.md` for releases, `changelog.d/` for what comes next.

use std::path::Path;

use anyhow::{Context as _, bail};

const KINDS: &[&str] = &["breaking", "feature", "fix", "security"];

/// Checks that the changelog is there and that every fragment has a kind and says something.
///
/// # Errors
/// Names everything that is wrong.
pub(crate) fn check(root: &Path) -> anyhow::Result<()> {
    let mut problems = Vec::new();
    let log = std::fs::read_to_string(root.join("CHANGELOG.md")).unwrap_or_default();
    if log.trim().is_empty() {
        problems.push("CHANGELOG.md is missing or empty".to_owned());
    }
    let folder = root.join("changelog.d");
    let entries = std::fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name == "README.md" {
            continue;
        }
        let parts: Vec<&str> = name.split('.').collect();
        if !matches!(parts[..], [what, kind, "md"] if !what.is_empty() && KINDS.contains(&kind)) {
            problems.push(format!(
                "changelog.d/{name} is not named <what>.<{}>.md",
                KINDS.join("|")
            ));
        }
        if std::fs::read_to_string(&path)
            .unwrap_or_default()
            .trim()
            .is_empty()
        {
            problems.push(format!("changelog.d/{name} is empty"));
        }
    }
    if !problems.is_empty() {
        problems.sort();
        bail!("{}", problems.join("\n"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_wrong_is_named_at_once() {
        let root = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| std::fs::write(root.path().join(name), text).unwrap();
        std::fs::create_dir(root.path().join("changelog.d")).unwrap();
        put("changelog.d/README.md", "how");
        put("changelog.d/good.feature.md", "You can now …");
        put("changelog.d/odd.improvement.md", "text");
        put("changelog.d/hollow.fix.md", " \n");
        let error = check(root.path()).unwrap_err().to_string();
        assert_eq!(error.lines().count(), 3, "{error}");
        for part in [
            "CHANGELOG.md is missing",
            "odd.improvement.md is not named",
            "hollow.fix.md is empty",
        ] {
            assert!(error.contains(part), "{error}");
        }
        put("CHANGELOG.md", "# Changelog");
        std::fs::remove_file(root.path().join("changelog.d/odd.improvement.md")).unwrap();
        std::fs::remove_file(root.path().join("changelog.d/hollow.fix.md")).unwrap();
        check(root.path()).unwrap();
    }
}
