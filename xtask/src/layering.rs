//! Who may import whom, and where SQL, clocks and other services' tables may be used.
//!
//! The rules are tables in [`imports`] and [`sources`], and `schemas/src/flow.rs` for [`subscriptions`];
//! a violation names the rule and the file.

mod imports;
mod lock;
mod sources;
mod subscriptions;
mod workspace;

use std::fmt;

use anyhow::bail;

pub(crate) use workspace::Workspace;

/// A rule and the file that breaks it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Violation {
    /// Relative to the workspace, with a line where there is one.
    pub(crate) file: String,
    /// What is wrong there, and what would be right.
    pub(crate) rule: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.rule)
    }
}

/// Checks the workspace.
///
/// # Errors
/// Every violation, one a line.
pub(crate) fn run() -> anyhow::Result<()> {
    let workspace = Workspace::read(&crate::process::root())?;
    let violations = violations(&workspace);
    if !violations.is_empty() {
        let lines: Vec<String> = violations.iter().map(ToString::to_string).collect();
        bail!("{}", lines.join("\n"));
    }
    println!("{} packages keep to the layering", workspace.members.len());
    Ok(())
}

fn violations(workspace: &Workspace) -> Vec<Violation> {
    let mut found = lock::violations(&workspace.lock);
    for member in &workspace.members {
        found.extend(imports::violations(member));
        found.extend(sources::violations(member));
        found.extend(subscriptions::violations(member));
    }
    found.sort();
    found
}
