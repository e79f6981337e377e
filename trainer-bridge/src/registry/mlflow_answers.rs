//! What MLflow answers, as far as training and registration read it.

use serde::Deserialize;
use serde_json::Value;

/// Key and value, as MLflow writes them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Tag {
    /// Key.
    pub key: String,
    /// Value.
    #[serde(default)]
    pub value: String,
}

/// A metric of a run.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Metric {
    /// Its name.
    pub key: String,
    /// The latest value; `None` when it is not a number.
    #[serde(default, deserialize_with = "finite")]
    pub value: Option<f64>,
}

/// A tracking run.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Run {
    /// Who it is.
    pub info: RunInfo,
    /// What was logged.
    #[serde(default)]
    pub data: RunData,
}

/// Who a run is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RunInfo {
    /// The run.
    pub run_id: String,
    /// Its experiment.
    pub experiment_id: String,
    /// `RUNNING`, `FINISHED`, `FAILED`, `KILLED`, `SCHEDULED`.
    #[serde(default)]
    pub status: String,
    /// Where its artefacts are.
    #[serde(default)]
    pub artifact_uri: String,
}

/// What a run logged.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct RunData {
    /// Metrics.
    #[serde(default)]
    pub metrics: Vec<Metric>,
    /// Parameters.
    #[serde(default)]
    pub params: Vec<Tag>,
    /// Tags.
    #[serde(default)]
    pub tags: Vec<Tag>,
}

impl Run {
    /// A tag's value.
    pub fn tag(&self, key: &str) -> Option<&str> {
        self.data
            .tags
            .iter()
            .find(|tag| tag.key == key)
            .map(|tag| tag.value.as_str())
    }

    /// A metric's value.
    pub fn metric(&self, key: &str) -> Option<f64> {
        self.data
            .metrics
            .iter()
            .find(|metric| metric.key == key)
            .and_then(|metric| metric.value)
    }
}

/// A version of a registered model.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Version {
    /// The registered model.
    pub name: String,
    /// Its number, as text.
    pub version: String,
    /// `PENDING_REGISTRATION`, `READY` or `FAILED_REGISTRATION`.
    #[serde(default)]
    pub status: String,
    /// Why registration failed.
    #[serde(default)]
    pub status_message: String,
    /// The run it came from.
    #[serde(default)]
    pub run_id: String,
    /// Its tags.
    #[serde(default)]
    pub tags: Vec<Tag>,
}

impl Version {
    /// A tag's value.
    pub fn tag(&self, key: &str) -> Option<&str> {
        self.tags
            .iter()
            .find(|tag| tag.key == key)
            .map(|tag| tag.value.as_str())
    }
}

/// MLflow writes NaN and infinities as words.
fn finite<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    Ok(Value::deserialize(deserializer)?.as_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_that_is_no_number_is_none() {
        let metric: Metric = serde_json::from_str(r#"{"key":"psi","value":"NaN","timestamp":1}"#).unwrap();
        assert_eq!(metric.value, None);
    }
}
