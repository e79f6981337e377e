//! Apache Spark as the engine of a SQL warehouse: what a statement means there is what it means on Databricks.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::statements::Answer;

const PROGRAM: &str = include_str!("spark.py");

/// A Spark that runs statements, one after the other. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Spark {
    folder: tempfile::TempDir,
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Spark {
    /// `python` has PySpark 4 and PyArrow. The rows of `file`, which is Parquet, become the table `bank.payment`.
    pub(super) async fn start(python: &Path, file: &Path, zone: bool) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let program = folder.path().join("spark.py");
        std::fs::write(&program, PROGRAM)?;
        let mut child = Command::new(python)
            .arg(&program)
            .arg(file)
            .arg(if zone { "zone" } else { "no zone" })
            .arg(folder.path())
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start Spark with {}", python.display()))?;
        let input = child.stdin.take().context("Spark has no input")?;
        let output = child.stdout.take().context("Spark has no output")?;
        let mut spark = Self {
            folder,
            child,
            input,
            output: BufReader::new(output).lines(),
        };
        let ready = spark.line().await?;
        if ready["ready"] != json!(true) {
            bail!("Spark says {ready}");
        }
        Ok(spark)
    }

    async fn line(&mut self) -> anyhow::Result<Value> {
        match self.output.next_line().await? {
            Some(line) => Ok(serde_json::from_str(&line)?),
            None => bail!("Spark ended: {:?}", self.child.wait().await?),
        }
    }

    /// The answer to a statement, or the class of its error and what was said.
    pub(super) async fn run(
        &mut self,
        statement: &str,
        chunk_rows: usize,
    ) -> anyhow::Result<Result<Answer, (String, String)>> {
        let asked = json!({ "sql": statement, "into": self.folder.path(), "chunk_rows": chunk_rows });
        self.input.write_all(format!("{asked}\n").as_bytes()).await?;
        self.input.flush().await?;
        let told = self.line().await?;
        let text = |key: &str| told[key].as_str().unwrap_or_default().to_owned();
        if !told["sql_state"].is_null() {
            return Ok(Err((text("sql_state"), text("message"))));
        }
        let mut answer = Answer {
            columns: told["columns"].as_array().cloned().unwrap_or_default(),
            ..Answer::default()
        };
        for (number, rows) in told["chunks"].as_array().into_iter().flatten().enumerate() {
            let bytes = std::fs::read(self.folder.path().join(format!("{number}.arrow")))?;
            answer
                .chunks
                .push((rows.as_u64().unwrap_or_default() as usize, bytes));
        }
        Ok(Ok(answer))
    }
}
