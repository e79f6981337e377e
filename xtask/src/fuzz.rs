//! Broken inputs by the million, more than the suite has time for.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use anyhow::{Context as _, bail};

use crate::process::{cargo, shown};

/// First word of the lines with figures.
const MARK: &str = "bad-input\t";

/// Runs the targets whose tests' names contain `target`, and prints a table.
///
/// # Errors
/// When a property does not hold; the input is shown.
pub(crate) fn run_fuzz(inputs: u64, seed: u64, target: Option<&str>) -> anyhow::Result<()> {
    eprintln!(
        "xtask: {inputs} inputs for each target from seed {seed}; building them takes some minutes the first time"
    );
    let mut command = cargo();
    command
        .args([
            "test",
            "--profile",
            "trial",
            "--package",
            "bad-input",
            "--test",
            "it",
            "--quiet",
        ])
        .args(target)
        .args(["--", "--nocapture"])
        .env("VIGIE_FUZZ_INPUTS", inputs.to_string())
        .env("VIGIE_FUZZ_SEED", seed.to_string())
        .stdout(Stdio::piped());
    let what = shown(&command);
    let mut child = command.spawn().with_context(|| format!("start `{what}`"))?;
    let mut rows = Vec::new();
    for line in BufReader::new(child.stdout.take().context("standard output")?).lines() {
        let line = line?;
        // The runner writes its dots without a line break.
        match line.split_once(MARK) {
            Some((_, row)) => rows.push(row.split('\t').map(str::to_owned).collect::<Vec<_>>()),
            None if line.trim().is_empty() => {}
            None => eprintln!("{line}"),
        }
    }
    let status = child.wait()?;
    println!("{}", table(&rows));
    if !status.success() {
        bail!("`{what}` failed ({status})");
    }
    if rows.is_empty() {
        bail!("no target is called `{}`", target.unwrap_or_default());
    }
    Ok(())
}

fn table(rows: &[Vec<String>]) -> String {
    let heads = [
        "target",
        "inputs",
        "accepted",
        "refused, by class",
        "slowest, ms",
        "seconds",
    ];
    let heads = heads.map(str::to_owned).to_vec();
    let line = |cells: &Vec<String>| format!("| {} |", cells.join(" | "));
    let mut lines = vec![
        line(&heads),
        "| --- | ---: | ---: | --- | ---: | ---: |".to_owned(),
    ];
    lines.extend(rows.iter().map(line));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn figures_become_a_table() {
        let row = ["body", "3", "1", "schema_invalid 2", "0.1", "0"]
            .map(str::to_owned)
            .to_vec();
        let text = table(&[row]);
        assert!(
            text.ends_with("| body | 3 | 1 | schema_invalid 2 | 0.1 | 0 |"),
            "{text}"
        );
    }
}
