//! Documents stay true: tests that they name exist, and so do the files that they link to.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// Words after which a document names tests, to the end of the sentence's paragraph or the next full stop.
const PROOF: &str = "Tested by";

/// Checks every document of the workspace.
///
/// # Errors
/// Names every test that is not run and every link that leads nowhere.
pub(crate) fn check(root: &Path) -> anyhow::Result<()> {
    let (mut documents, mut tests) = (Vec::new(), BTreeSet::new());
    walk(root, &mut |path| {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("md") => documents.push(path),
            Some("rs") => tests.extend(test_names(&read(&path)?)),
            _ => {}
        }
        Ok(())
    })?;
    let mut problems = Vec::new();
    for path in &documents {
        let text = read(path)?;
        let shown = path.strip_prefix(root).unwrap_or(path).display();
        let unknown = named_tests(&text)
            .into_iter()
            .filter(|name| !tests.contains(name));
        problems.extend(unknown.map(|name| format!("{shown}: no test `{name}` that is run")));
        let folder = path.parent().unwrap_or(root);
        let dangling = links(&text)
            .into_iter()
            .filter(|link| !folder.join(link).exists());
        problems.extend(dangling.map(|link| format!("{shown}: link to {link} leads nowhere")));
    }
    if !problems.is_empty() {
        problems.sort();
        bail!("{}", problems.join("\n"));
    }
    Ok(())
}

/// Checks that the runbook has a row for each alarm and for each class of dead letters.
///
/// # Errors
/// Names what it says nothing about.
pub(crate) fn check_runbook(root: &Path) -> anyhow::Result<()> {
    let runbook = read(&root.join("docs/operations.md"))?;
    let rules = read(&root.join("compose/prometheus/rules.yml"))?;
    let classes = read(&root.join("chassis/src/dead_letter.rs"))?;
    let (alarms, classes) = (alarms(&rules), words_of_classes(&classes));
    if alarms.is_empty() || classes.is_empty() {
        bail!(
            "compose/prometheus/rules.yml or chassis/src/dead_letter.rs has another form than this check knows"
        );
    }
    let untold: Vec<&str> = alarms
        .into_iter()
        .chain(classes)
        .filter(|name| !runbook.contains(&format!("| `{name}` |")))
        .collect();
    if !untold.is_empty() {
        bail!("docs/operations.md says nothing about {}", untold.join(", "));
    }
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

fn walk(folder: &Path, visit: &mut dyn FnMut(PathBuf) -> anyhow::Result<()>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() {
            // What is built or fetched is not ours.
            if !name.starts_with('.') && name != "target" && name != "node_modules" {
                walk(&path, visit)?;
            }
        } else {
            visit(path)?;
        }
    }
    Ok(())
}

/// Names of alert rules.
fn alarms(rules: &str) -> Vec<&str> {
    rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect()
}

/// Words of the classes of dead letters: what `as_str` of `Class` says.
fn words_of_classes(source: &str) -> Vec<&str> {
    let body = source
        .split_once("pub const fn as_str")
        .map_or("", |(_, body)| body);
    let body = body.split_once("\n    }\n").map_or(body, |(body, _)| body);
    body.split('"').skip(1).step_by(2).collect()
}

/// Functions that follow a `#[test]` or a test attribute of a runtime, also inside `proptest!`; what is ignored
/// proves nothing.
fn test_names(text: &str) -> Vec<String> {
    let (mut names, mut is_test) = (Vec::new(), false);
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[test]") || (line.starts_with("#[") && line.contains("::test")) {
            is_test = true;
        } else if line.starts_with("#[ignore") {
            is_test = false;
        } else if let Some((_, rest)) = line.split_once("fn ").filter(|_| is_test) {
            names.push(
                rest.chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect(),
            );
            is_test = false;
        }
    }
    names
}

/// What a document names after the words of proof, or in the column `proof` of a table.
fn named_tests(text: &str) -> Vec<String> {
    let paragraphs = text.split("\n\n").flat_map(|paragraph| paragraph.split("\n* "));
    let mut names = Vec::new();
    for paragraph in paragraphs {
        for proof in paragraph.split(PROOF).skip(1) {
            let list = proof.split('.').next().unwrap_or_default();
            names.extend(quoted(list));
        }
    }
    let mut column: Option<usize> = None;
    for line in text.lines() {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        if !line.starts_with('|') {
            column = None;
        } else if let Some(column) = column {
            names.extend(cells.get(column).into_iter().flat_map(|cell| quoted(cell)));
        } else {
            column = cells.iter().position(|cell| *cell == "proof");
        }
    }
    names
}

/// Words between backticks.
fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Targets of `[text](target)` that are files here.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut in_code = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        for rest in line.split("](").skip(1) {
            let target = rest.split([')', '#']).next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:") {
                found.push(target.to_owned());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_runbook_does_not_tell_is_named() {
        let root = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put(
            "docs/operations.md",
            "| `Known` | it is |\n| `undecodable` | rubbish |\n",
        );
        put(
            "compose/prometheus/rules.yml",
            "rules:\n      - alert: Known\n        expr: up\n      - alert: New\n",
        );
        put(
            "chassis/src/dead_letter.rs",
            "    pub const fn as_str(self) -> &'static str {\n        match self {\n            A => \"undecodable\",\n            \
             B => \"strange\",\n        }\n    }\n    \"no class\"\n",
        );
        let error = check_runbook(root.path()).unwrap_err().to_string();
        assert_eq!(error, "docs/operations.md says nothing about New, strange");
    }

    #[test]
    fn tests_that_do_not_exist_and_links_that_lead_nowhere_are_named() {
        let root = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| std::fs::write(root.path().join(name), text).unwrap();
        put(
            "a.rs",
            "#[test]\nfn it_holds() {}\n#[tokio::test(flavor = \"multi_thread\")]\n#[expect(x)]\nasync fn it_waits() {}\nfn helper() {}\n#[test]\n#[ignore = \"slow\"]\nfn aside() {}\n",
        );
        put(
            "b.md",
            "* It holds. Tested by `it_holds`,\n  `it_waits`. Not by `anything`.\n* Other. Checked by `cargo x`.\n[a](a.rs), [web](https://x.example/y), [b](a.rs#here)\n",
        );
        check(root.path()).unwrap();
        put(
            "c.md",
            "Tested by `it_holds`, `gone`,\n`helper`, `aside`.\n\n[x](missing.md)\n```\n[y](in_code.md)\n```\n\n\
             | promise | proof | figure |\n| --- | --- | --- |\n| `a` | `it_waits`; else: `no_more` | `b` |\n",
        );
        let error = check(root.path()).unwrap_err().to_string();
        let expected = [
            "c.md: link to missing.md leads nowhere",
            "c.md: no test `aside` that is run",
            "c.md: no test `gone` that is run",
            "c.md: no test `helper` that is run",
            "c.md: no test `no_more` that is run",
        ];
        assert_eq!(error.lines().collect::<Vec<_>>(), expected);
    }
}
