//! All set-up on a fresh machine, then every test, by whichever runner there is.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::Stdio;

use crate::process::{become_command, cargo, command, root, run, target, works};

/// Packages whose tests start the services as processes, and so need their binaries.
const SPAWNING: &[&str] = &["e2e", "vigie"];

/// Which program runs the tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Runner {
    Nextest,
    Cargo,
}

/// Builds what the tests need and becomes the runner: the last line is its own, and so is the exit code.
///
/// # Errors
/// When something does not build, or a documented example fails.
pub(crate) fn run_tests(arguments: &[OsString]) -> anyhow::Result<()> {
    if builds_services(arguments) {
        eprintln!("xtask: building the services and the tests (several minutes the first time)");
        run(cargo().args(["build", "--workspace", "--bins", "--tests"]))?;
        fetch_servers()?;
    }
    let runner = if works(cargo().args(["nextest", "--version"])) {
        Runner::Nextest
    } else {
        Runner::Cargo
    };
    if runner == Runner::Nextest && arguments.is_empty() {
        // nextest does not run the examples in documentation; these packages have some.
        for package in packages_with_examples(&root())? {
            run(cargo().args(["test", "--quiet", "--doc", "--package", &package]))?;
        }
    }
    become_command(cargo().args(runner_arguments(runner, arguments)))
}

/// Starts the private servers once and stops them: what is missing is fetched now, in one place and visibly,
/// and not by the first test of each binary.
fn fetch_servers() -> anyhow::Result<()> {
    eprintln!("xtask: looking for nats-server and PostgreSQL, fetching what is missing");
    let program = target().join("debug").join("local-stack");
    // It stops at the end of its input.
    run(command(program).stdin(Stdio::null()).stdout(Stdio::null()))
}

fn runner_arguments(runner: Runner, arguments: &[OsString]) -> Vec<OsString> {
    let mut all: Vec<OsString> = match runner {
        Runner::Nextest => vec!["nextest".into(), "run".into()],
        // Goes on after a failing test binary, as nextest does, so that one run names everything.
        Runner::Cargo => vec!["test".into()],
    };
    if selected(arguments).is_empty() {
        all.push("--workspace".into());
    }
    if !arguments.iter().any(|argument| argument == "--no-fail-fast") {
        all.push("--no-fail-fast".into());
    }
    all.extend(arguments.iter().cloned());
    all
}

/// The packages named by `-p` and `--package`.
fn selected(arguments: &[OsString]) -> Vec<&OsStr> {
    let own = arguments.iter().take_while(|argument| *argument != "--");
    let words: Vec<&OsString> = own.collect();
    let mut packages = Vec::new();
    for (index, word) in words.iter().enumerate() {
        let text = word.to_string_lossy();
        if text == "-p" || text == "--package" {
            packages.extend(words.get(index + 1).map(|next| next.as_os_str()));
        } else if text.starts_with("--package=") || (text.starts_with("-p") && !text.starts_with("--")) {
            packages.push(word.as_os_str());
        }
    }
    packages
}

fn builds_services(arguments: &[OsString]) -> bool {
    let packages = selected(arguments);
    packages.is_empty()
        || packages.iter().any(|package| {
            SPAWNING
                .iter()
                .any(|name| package.to_string_lossy().ends_with(name))
        })
}

/// Packages with a fenced example in a doc comment.
fn packages_with_examples(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut packages = Vec::new();
    for member in crate::layering::Workspace::read(root)?.members {
        let has_example = member.sources.iter().any(|source| {
            let fences = source.text.lines().map(str::trim_start).filter_map(|line| {
                let text = line.strip_prefix("///").or_else(|| line.strip_prefix("//!"))?;
                text.trim().strip_prefix("```")
            });
            // Opening fences are every other one; `text`, `toml` and the like are no Rust.
            fences
                .step_by(2)
                .any(|language| ["", "rust", "no_run", "should_panic"].contains(&language))
        });
        if has_example {
            packages.push(member.name);
        }
    }
    Ok(packages)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(Into::into).collect()
    }

    #[test]
    fn the_whole_workspace_is_tested_unless_packages_are_named() {
        let cases = [
            ("", "nextest run --workspace --no-fail-fast"),
            ("golden", "nextest run --workspace --no-fail-fast golden"),
            (
                "-p schemas golden",
                "nextest run --no-fail-fast -p schemas golden",
            ),
            (
                "--package=schemas",
                "nextest run --no-fail-fast --package=schemas",
            ),
            ("--no-fail-fast", "nextest run --workspace --no-fail-fast"),
            ("-- -p", "nextest run --workspace --no-fail-fast -- -p"),
        ];
        for (given, expected) in cases {
            assert_eq!(
                runner_arguments(Runner::Nextest, &words(given)),
                words(expected),
                "{given}"
            );
        }
        assert_eq!(
            runner_arguments(Runner::Cargo, &[]),
            words("test --workspace --no-fail-fast")
        );
    }

    #[test]
    fn services_are_built_when_a_story_may_start_them() {
        for (given, builds) in [
            ("", true),
            ("golden", true),
            ("-p schemas", false),
            ("-p schemas -p e2e", true),
            ("-pe2e", true),
            ("--package=vigie", true),
        ] {
            assert_eq!(builds_services(&words(given)), builds, "{given}");
        }
    }

    #[test]
    fn only_packages_with_rust_examples_are_documentation_tested() {
        let root = tempfile::tempdir().unwrap();
        let member = |name: &str, text: &str| {
            std::fs::create_dir_all(root.path().join(name).join("src")).unwrap();
            std::fs::write(
                root.path().join(name).join("Cargo.toml"),
                format!("[package]\nname = \"{name}\"\n"),
            )
            .unwrap();
            std::fs::write(root.path().join(name).join("src/lib.rs"), text).unwrap();
        };
        std::fs::write(
            root.path().join("Cargo.toml"),
            "[workspace]\nmembers = [\"none\", \"text\", \"rust\"]\n",
        )
        .unwrap();
        member("none", "//! Plain.\n// ```\n");
        member("text", "//! ```text\n//! picture\n//! ```\n");
        member(
            "rust",
            "/// ```text\n/// a\n/// ```\n/// ```\n/// assert!(true);\n/// ```\npub fn a() {}\n",
        );
        assert_eq!(packages_with_examples(root.path()).unwrap(), ["rust"]);
    }
}
