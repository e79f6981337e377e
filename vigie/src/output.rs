//! How results are written.

use std::io::Write as _;

use anyhow::Context as _;
use serde::Serialize;

use crate::cli::Output;

/// Arguments that are wrong; the exit code is 64, as for settings.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// Nobody reads the output any more, as with `| head`: the command ends, and nothing is wrong.
#[derive(Debug, thiserror::Error)]
#[error("the reader of standard output is gone")]
pub struct ReaderGone;

/// Writes lines to standard output.
///
/// # Errors
/// [`ReaderGone`], or whatever else keeps them from being written.
pub fn say(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(ReaderGone.into()),
        written => written.context("write to standard output"),
    }
}

/// Prints a result: JSON as it is, or the text that `describe` makes.
///
/// # Errors
/// When it cannot be expressed as JSON, and as [`say`].
pub fn print<T: Serialize>(
    output: Output,
    value: &T,
    describe: impl FnOnce(&T) -> String,
) -> anyhow::Result<()> {
    match output {
        Output::Json => say(&serde_json::to_string_pretty(value)?),
        Output::Text => say(describe(value).trim_end()),
    }
}

/// What a hostile message may not do to a terminal.
pub use chassis::text::visible as one_line;

/// Reports an error the way the output is written: a JSON object, or a sentence; both on standard error.
pub fn report(output: Output, error: &anyhow::Error) {
    match output {
        Output::Json => eprintln!("{}", serde_json::json!({ "error": format!("{error:#}") })),
        Output::Text => eprintln!("error: {error:#}"),
    }
}
