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

/// Prints a result: JSON as it is, or the text that `describe` makes, in which only line breaks and tabs move the cursor.
/// Names inside of one line still need [`one_line`], or they could begin a line of their own.
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
        Output::Text => say(&several_lines(describe(value).trim_end())),
    }
}

/// What a hostile message may not do to a terminal.
pub use chassis::text::visible as one_line;

/// [`one_line`] for text whose line breaks and tabs are meant.
pub fn several_lines(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for piece in text.split_inclusive(['\n', '\t']) {
        let end = piece.len() - usize::from(piece.ends_with(['\n', '\t']));
        shown.push_str(&one_line(&piece[..end]));
        shown.push_str(&piece[end..]);
    }
    shown
}

/// Reports an error the way the output is written: a JSON object, or a sentence; both on standard error.
pub fn report(output: Output, error: &anyhow::Error) {
    match output {
        Output::Json => eprintln!("{}", serde_json::json!({ "error": format!("{error:#}") })),
        Output::Text => eprintln!("error: {}", several_lines(&format!("{error:#}"))),
    }
}

#[cfg(test)]
mod tests {
    use local_stack::hostile::NAMES;

    use super::*;

    #[test]
    fn nothing_but_line_breaks_and_tabs_moves_the_cursor() {
        assert_eq!(several_lines("a\n\tb\u{1b}[2J\r\n"), "a\n\tb\\u{1b}[2J\\r\n");
        for name in NAMES {
            let shown = several_lines(name);
            let moves = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
            assert!(!shown.contains(moves), "{shown:?}");
            assert!(!one_line(name).contains(char::is_control), "{shown:?}");
        }
    }
}
