//! Runs a helper program to its end and keeps what it said for the error message.

use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

/// How many of its last lines an error message quotes.
const TAIL_LINES: usize = 8;

/// Runs it and gives its standard output.
///
/// # Errors
/// When it cannot be started or fails; quotes the last lines it wrote to standard error.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("run `{program}`"))?;
    if !output.status.success() {
        let said = [&output.stderr, &output.stdout].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let said = said
            .iter()
            .find(|text| !text.trim().is_empty())
            .map_or("", |text| text.trim_end());
        let lines: Vec<&str> = said.lines().collect();
        let last = &lines[lines.len().saturating_sub(TAIL_LINES)..];
        bail!("`{program}` failed ({}): {}", output.status, last.join("\n    "));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether it can be started and succeeds; what it says is thrown away.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
