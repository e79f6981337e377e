//! What is wrong with the settings.

/// One mistake: the key, what was found where, and what would be accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// E.g. `policy.cooldown`; empty when the source as a whole cannot be read.
    pub key: String,
    /// The value found, masked when secret; none when it is missing.
    pub value: Option<String>,
    /// What would be accepted, e.g. `a duration between 1h and 30d`.
    pub expected: String,
    /// Where the value came from, e.g. `vigie.toml` or `environment variable DATA_DRIFT_THRESHOLD`.
    pub source: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.value {
            Some(value) if self.key.is_empty() => {
                write!(f, "{}: {value}; expected {}", self.source, self.expected)
            }
            Some(value) => {
                write!(
                    f,
                    "`{}` is `{}` in {}; expected {}",
                    self.key, value, self.source, self.expected
                )
            }
            None => write!(f, "`{}` is not set; expected {}", self.key, self.expected),
        }
    }
}

/// Every mistake found; never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl std::fmt::Display for Problems {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count = self.0.len();
        writeln!(
            f,
            "{count} setting{} wrong:",
            if count == 1 { " is" } else { "s are" }
        )?;
        for problem in &self.0 {
            writeln!(f, "  - {problem}")?;
        }
        Ok(())
    }
}
