//! Plays the notebook on Databricks: whatever run comes to be logs a model to MLflow, once per token.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use local_stack::peers::databricks::{Databricks, RunRecord};
use local_stack::peers::tracking::Tracking;
use schemas::{ModelName, Window};
use scoring::{Body, Encoding, FORMAT, Feature, Logistic, ModelArtifact, digest_of};
use serde_json::Value;
use tokio::task::JoinHandle;

use super::settings::NOTEBOOK_EXPERIMENT;

/// How often it looks for new runs.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The player. Dropping it ends it.
#[derive(Debug)]
pub struct Notebook(JoinHandle<()>);

impl Notebook {
    /// Begins to play.
    pub fn start(databricks: Arc<Databricks>, tracking: Arc<Tracking>) -> Self {
        Self(tokio::spawn(async move {
            let mut played = HashSet::new();
            loop {
                for run in databricks.runs() {
                    if played.insert(run.run_id)
                        && let Err(error) = play(&run, &tracking)
                    {
                        eprintln!("faults: the notebook of run {} fails: {error:#}", run.run_id);
                    }
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }))
    }
}

impl Drop for Notebook {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn play(run: &RunRecord, tracking: &Tracking) -> anyhow::Result<()> {
    let given = &run.request["tasks"][0]["notebook_task"]["base_parameters"];
    let text = |key: &str| {
        let value = given.get(key).and_then(Value::as_str);
        value.ok_or_else(|| anyhow::anyhow!("no parameter `{key}` in {given}"))
    };
    let at = |key: &str| anyhow::Ok(text(key)?.parse::<DateTime<Utc>>()?);
    let document = ModelArtifact {
        format: FORMAT.to_owned(),
        model: ModelName::new(text("model")?)?,
        algorithm: "spark_logistic_regression".to_owned(),
        created: at("as_of")?,
        seed: text("seed")?.parse()?,
        training_window: Window::new(at("training_start")?, at("training_end")?)?,
        operating_threshold: 0.4,
        features: vec![Feature {
            name: "tx_amount".to_owned(),
            encoding: Encoding::Numeric {
                impute: 1.0,
                standardise: None,
            },
        }],
        body: Body::Logistic(Logistic {
            intercept: -1.0,
            coefficients: vec![0.1],
        }),
        notes: BTreeMap::new(),
    };
    let bytes = document.to_bytes()?;
    tracking.log_run(
        NOTEBOOK_EXPERIMENT,
        ("vigie.token", text("vigie_token")?),
        &[
            ("vigie.artifact", "model/model.json".to_owned()),
            ("vigie.sha256", digest_of(&bytes).to_string()),
        ],
        &[("training_rows", 2_800.0), ("training_frauds", 112.0)],
        ("model/model.json", bytes),
    );
    Ok(())
}
