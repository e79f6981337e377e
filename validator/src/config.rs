//! The gates, as settings.

use std::path::PathBuf;
use std::time::Duration;

use chassis::{Reader, Secret, Section};
use transactions::{ModelDefinition, SourceAccess, SourceSettings};
use url::Url;

use crate::judge::{GateOn, Gates};

/// Checked settings of the validator.
#[derive(Debug, Clone)]
pub struct Config {
    /// What a candidate must reach.
    pub gates: Gates,
    /// Confidence of the intervals, 0.5 to 0.999.
    pub confidence: f64,
    /// The folder that candidates lie in.
    pub artifacts: PathBuf,
    /// A tracking server that may hold candidates.
    pub mlflow: Option<Mlflow>,
    /// The models it validates.
    pub models: Vec<ModelDefinition>,
    /// How their sources are read.
    pub sources: SourceSettings,
    /// Through which connections.
    pub access: SourceAccess,
}

/// A tracking server.
#[derive(Debug, Clone)]
pub struct Mlflow {
    /// Its base address.
    pub uri: Url,
    /// What it wants to know of us.
    pub login: Login,
    /// Longest wait for an answer.
    pub timeout: Duration,
}

/// How to log in.
#[derive(Debug, Clone)]
pub enum Login {
    /// Not at all.
    None,
    /// With a bearer token.
    Token(Secret),
    /// With name and password.
    Basic(String, Secret),
}

impl Config {
    /// Reads `[validation]`, `[mlflow]`, `[models.*]` and `[transactions]`.
    pub fn read(reader: &Reader<'_>) -> Self {
        let section = reader.section("validation");
        Self {
            gates: Gates {
                recall_min: section.number("recall_min", 0.0..=1.0),
                precision_min: section.number("precision_min", 0.0..=1.0),
                on: section.choice(
                    "gate_on",
                    &[
                        ("estimate", GateOn::Estimate),
                        ("lower_bound", GateOn::LowerBound),
                    ],
                ),
                rows_min: section.integer("rows_min", 1..=1_000_000_000),
                frauds_min: section.integer("frauds_min", 1..=1_000_000_000),
                reported_tolerance: section.number("reported_tolerance", 0.0..=1.0),
            },
            confidence: section.number("confidence", 0.5..=0.999),
            artifacts: reader
                .section("artifacts")
                .text("dir", "a folder, e.g. `/var/lib/vigie/artifacts`")
                .into(),
            mlflow: Mlflow::read(&reader.section("mlflow")),
            models: ModelDefinition::read_all(reader),
            sources: SourceSettings::read(reader),
            access: SourceAccess::read(reader),
        }
    }
}

impl Mlflow {
    fn read(section: &Section<'_>) -> Option<Self> {
        let timeout = section.duration("timeout", Duration::from_secs(1)..=Duration::from_secs(600));
        let (token, username) = (
            section.optional_secret("token"),
            section.optional_text("username"),
        );
        let login = match (token, username, section.optional_secret("password")) {
            (None, None, None) => Login::None,
            (Some(token), None, None) => Login::Token(token),
            (None, Some(username), Some(password)) => Login::Basic(username, password),
            _ => {
                section.problem(
                    "username",
                    "a token alone, or `mlflow.username` and `mlflow.password`, or nothing",
                );
                Login::None
            }
        };
        let uri = section.optional_url("tracking_uri", &["http", "https"]);
        chassis::outgoing::check_http(section, "tracking_uri", uri.as_ref());
        Some(Self {
            uri: uri?,
            login,
            timeout,
        })
    }
}
