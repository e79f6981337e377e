//! How results are written.

use serde::Serialize;

use crate::cli::Output;

/// Prints a result: JSON as it is, or the text that `describe` makes.
///
/// # Errors
/// When it cannot be expressed as JSON.
pub fn print<T: Serialize>(
    output: Output,
    value: &T,
    describe: impl FnOnce(&T) -> String,
) -> anyhow::Result<()> {
    match output {
        Output::Json => println!("{}", serde_json::to_string_pretty(value)?),
        Output::Text => println!("{}", describe(value).trim_end()),
    }
    Ok(())
}

/// Reports an error the way the output is written: a JSON object, or a sentence; both on standard error.
pub fn report(output: Output, error: &anyhow::Error) {
    match output {
        Output::Json => eprintln!("{}", serde_json::json!({ "error": format!("{error:#}") })),
        Output::Text => eprintln!("error: {error:#}"),
    }
}
