//! Settings `[training]`, `[artifacts]`, `[mlflow]` and `[databricks]`.

use std::path::PathBuf;
use std::time::Duration;

use chassis::rest::Credentials;
use chassis::{Alias, Reader, Section, outgoing, transport};
use chrono::TimeDelta;
use transactions::{ModelDefinition, SourceAccess, SourceSettings};
use url::Url;

use crate::backend::databricks::{Compute, What};
use crate::decide::Retry;
use crate::job::{BackendKind, SplitLengths};
use crate::training::{ForestParameters, LogisticParameters, Parameters, ThresholdRule};

/// Names that the replaced pipelines used.
pub const ALIASES: &[Alias] = &[
    Alias {
        name: "MLFLOW_TRACKING_URI",
        key: "mlflow.tracking_uri",
    },
    Alias {
        name: "MLFLOW_TRACKING_TOKEN",
        key: "mlflow.token",
    },
    Alias {
        name: "MLFLOW_TRACKING_USERNAME",
        key: "mlflow.username",
    },
    Alias {
        name: "MLFLOW_TRACKING_PASSWORD",
        key: "mlflow.password",
    },
    Alias {
        name: "MLFLOW_EXPERIMENT_NAME",
        key: "mlflow.experiment",
    },
    Alias {
        name: "DATABRICKS_HOST",
        key: "databricks.host",
    },
    Alias {
        name: "DATABRICKS_TOKEN",
        key: "databricks.token",
    },
    Alias {
        name: "DATABRICKS_TRAINING_JOB_ID",
        key: "databricks.job_id",
    },
];

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;

/// Checked settings.
#[derive(Debug, Clone)]
pub struct BridgeSettings {
    /// Where new trainings run.
    pub backend: BackendKind,
    /// Length of the spans.
    pub lengths: SplitLengths,
    /// Shortest threshold and holdout span on a short history.
    pub slice_min: TimeDelta,
    /// Everything else that shapes a local training.
    pub parameters: Parameters,
    /// From the request to the end.
    pub deadline: Duration,
    /// Attempts of one training.
    pub attempts_max: u32,
    /// Time for registration and for promotion.
    pub register_within: Duration,
    /// How long a claim holds.
    pub lease: Duration,
    /// Pauses after errors that may pass.
    pub retry: Retry,
    /// Folder of artefacts.
    pub artifacts: PathBuf,
    /// The tracking server, if one is used.
    pub mlflow: Option<MlflowSettings>,
    /// The workspace, if one is set.
    pub databricks: Option<DatabricksAccess>,
    /// The models.
    pub models: Vec<ModelDefinition>,
    /// How their rows are read.
    pub sources: SourceSettings,
    /// Through which connections.
    pub access: SourceAccess,
}

/// How to reach MLflow.
#[derive(Debug, Clone)]
pub struct MlflowSettings {
    /// The server.
    pub uri: Url,
    /// Who we are.
    pub credentials: Credentials,
    /// Experiment of our runs.
    pub experiment: String,
    /// Longest wait for an answer.
    pub timeout: Duration,
}

/// How to reach Databricks, and what to run there.
#[derive(Debug, Clone)]
pub struct DatabricksAccess {
    /// The workspace.
    pub host: Url,
    /// Who we are.
    pub credentials: Credentials,
    /// Job or notebook.
    pub what: What,
    /// Experiment that it logs to.
    pub experiment: String,
    /// Where it logs to.
    pub tracking: Tracking,
    /// First pause between looks.
    pub poll_first: Duration,
    /// Longest pause.
    pub poll_longest: Duration,
    /// Longest wait for an answer.
    pub timeout: Duration,
}

/// Where a notebook logs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tracking {
    /// The server that models are registered in, else the workspace.
    AsRegistry,
    /// The workspace's own.
    Workspace,
    /// This server, without credentials.
    At(Url),
}

impl BridgeSettings {
    /// Reads the sections; mistakes are collected by the reader.
    pub fn read(reader: &Reader<'_>) -> Self {
        let section = reader.section("training");
        let backend = section.choice(
            "backend",
            &[
                ("local", BackendKind::Local),
                ("databricks", BackendKind::Databricks),
            ],
        );
        let databricks = DatabricksAccess::read(reader, backend == BackendKind::Databricks);
        let seconds = |section: &Section<'_>, name, from, to| {
            section.duration(name, Duration::from_secs(from)..=Duration::from_secs(to))
        };
        let retry = Retry {
            first: section.duration(
                "retry_first",
                Duration::from_millis(100)..=Duration::from_mins(10),
            ),
            longest: section.duration("retry_longest", Duration::from_secs(1)..=Duration::from_hours(1)),
        };
        if retry.longest < retry.first {
            section.problem(
                "retry_longest",
                "a duration not shorter than `training.retry_first`",
            );
        }
        let span = |name, from, to| {
            let length = seconds(&section, name, from, to);
            TimeDelta::from_std(length).unwrap_or_else(|_| unreachable!("within the range just checked"))
        };
        Self {
            backend,
            lengths: SplitLengths {
                training: span("window", DAY, 366 * DAY),
                threshold: span("threshold_window", HOUR, 90 * DAY),
                holdout: span("holdout_window", HOUR, 90 * DAY),
            },
            slice_min: span("slice_min", HOUR, 30 * DAY),
            parameters: parameters(reader),
            deadline: seconds(&section, "deadline", 1, 30 * DAY),
            attempts_max: count(&section, "attempts_max", 1, 10) as u32,
            register_within: seconds(&section, "register_within", 1, 30 * DAY),
            lease: seconds(&section, "lease", 1, 600),
            retry,
            artifacts: reader
                .section("artifacts")
                .text("dir", "a folder, e.g. `/var/lib/vigie/artifacts`")
                .into(),
            mlflow: MlflowSettings::read(reader),
            databricks,
            models: ModelDefinition::read_all(reader),
            sources: SourceSettings::read(reader),
            access: SourceAccess::read(reader),
        }
    }
}

fn count(section: &Section<'_>, name: &str, from: u64, to: u64) -> usize {
    usize::try_from(section.integer(name, from..=to)).unwrap_or(usize::MAX)
}

fn parameters(reader: &Reader<'_>) -> Parameters {
    let section = reader.section("training");
    let algorithms = section.list("algorithms");
    let known = ["logistic_regression", "random_forest"];
    let unknown = algorithms.iter().any(|name| !known.contains(&name.as_str()));
    if algorithms.is_empty() || unknown {
        section.problem("algorithms", "`logistic_regression`, `random_forest`, or both");
    }
    let asked = |name: &str| algorithms.iter().any(|algorithm| algorithm == name);
    let logistic = LogisticParameters {
        l2: reader
            .section("training.logistic_regression")
            .number("l2", 0.0..=1_000_000.0),
    };
    let section_forest = reader.section("training.random_forest");
    let inputs_per_split = count(&section_forest, "inputs_per_split", 0, 1_000);
    let forest = ForestParameters {
        trees: count(&section_forest, "trees", 1, 2_000),
        depth_max: u16::try_from(section_forest.integer("depth_max", 1..=40)).unwrap_or(1),
        inputs_per_split: (inputs_per_split > 0).then_some(inputs_per_split),
        leaf_rows_min: count(&section_forest, "leaf_rows_min", 1, 100_000),
    };
    let precision_min = section.number("threshold_precision_min", 0.0..=1.0);
    let recall_min = section.number("threshold_recall_min", 0.0..=1.0);
    let threshold_rule = section.choice(
        "threshold_rule",
        &[
            ("best_recall", ThresholdRule::BestRecall { precision_min }),
            ("best_f1", ThresholdRule::BestF1),
            (
                "widest_margin",
                ThresholdRule::WidestMargin {
                    recall_min,
                    precision_min,
                },
            ),
        ],
    );
    let (rows_min, rows_max) = (
        count(&section, "rows_min", 10, 10_000_000),
        count(&section, "rows_max", 100, 10_000_000),
    );
    if rows_max < rows_min {
        section.problem("rows_max", "a number not smaller than `training.rows_min`");
    }
    let threads = match count(&section, "threads", 0, 1_024) {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        threads => threads,
    };
    Parameters {
        logistic: asked("logistic_regression").then_some(logistic),
        forest: asked("random_forest").then_some(forest),
        threshold_rule,
        rows_min,
        rows_max,
        frauds_min: count(&section, "frauds_min", 1, 1_000_000),
        threshold_frauds_min: count(&section, "threshold_frauds_min", 1, 1_000_000),
        levels_max: count(&section, "levels_max", 1, 10_000),
        threads,
        seed: section.integer("seed", 0..=u64::from(u32::MAX)),
    }
}

fn answer_within(section: &Section<'_>) -> Duration {
    section.duration("timeout", Duration::from_secs(1)..=Duration::from_mins(10))
}

impl MlflowSettings {
    fn read(reader: &Reader<'_>) -> Option<Self> {
        let section = reader.section("mlflow");
        let timeout = answer_within(&section);
        let experiment = section.text("experiment", "the name of an MLflow experiment");
        let credentials = match (
            section.optional_secret("token"),
            section.optional_text("username"),
            section.optional_secret("password"),
        ) {
            (None, None, None) => Credentials::None,
            (Some(token), None, None) => Credentials::Bearer(token),
            (None, Some(user), Some(password)) => Credentials::Basic { user, password },
            _ => {
                section.problem(
                    "token",
                    "a token alone, or `mlflow.username` and `mlflow.password`, or nothing",
                );
                Credentials::None
            }
        };
        let uri = section.optional_url("tracking_uri", &["http", "https"]);
        outgoing::check_http(&section, "tracking_uri", uri.as_ref());
        let uri = uri?;
        Some(Self {
            uri,
            credentials,
            experiment,
            timeout,
        })
    }
}

impl DatabricksAccess {
    /// `needed`: new trainings run there, so nothing may be missing.
    fn read(reader: &Reader<'_>, needed: bool) -> Option<Self> {
        let section = reader.section("databricks");
        let timeout = answer_within(&section);
        let pause = Duration::from_millis(100)..=Duration::from_secs(HOUR);
        let (poll_first, poll_longest) = (
            section.duration("poll_first", pause.clone()),
            section.duration("poll_longest", pause),
        );
        if poll_longest < poll_first {
            section.problem(
                "poll_longest",
                "a duration not shorter than `databricks.poll_first`",
            );
        }
        let experiment = section.text("experiment", "the name of an MLflow experiment");
        let job_id = section.integer("job_id", 0..=i64::MAX.unsigned_abs());
        let notebook = section.optional_text("notebook_path");
        let compute = match (
            section.optional_text("cluster_id"),
            section.optional_text("new_cluster"),
        ) {
            (None, None) => Compute::Serverless,
            (Some(cluster), None) => Compute::Existing(cluster),
            (None, Some(text)) => {
                if let Ok(cluster @ serde_json::Value::Object(_)) = serde_json::from_str(&text) {
                    Compute::New(cluster)
                } else {
                    section.problem(
                        "new_cluster",
                        "a JSON object as the API takes it, e.g. `{\"num_workers\": 1, …}`",
                    );
                    Compute::Serverless
                }
            }
            (Some(_), Some(_)) => {
                section.problem("new_cluster", "nothing, because `databricks.cluster_id` is set");
                Compute::Serverless
            }
        };
        let what = match (job_id, notebook) {
            (0, Some(path)) => Some(What::Notebook { path, compute }),
            (0, None) => {
                if needed {
                    section.problem("job_id", "a job, or a notebook in `databricks.notebook_path`, because `training.backend` is `databricks`");
                }
                None
            }
            (job_id, None) => Some(What::Job { job_id }),
            (_, Some(_)) => {
                section.problem("notebook_path", "nothing, because `databricks.job_id` is set");
                None
            }
        };
        if needed && !section.is_set("host") {
            section.problem("host", "the workspace, e.g. `https://adb-1.2.azuredatabricks.net`, because `training.backend` is `databricks`");
        }
        if needed && !section.is_set("token") {
            section.problem("token", "a token, because `training.backend` is `databricks`");
        }
        let tracking = match section.optional_text("tracking_uri").as_deref() {
            None => Tracking::AsRegistry,
            Some("workspace") => Tracking::Workspace,
            Some(_) => section
                .optional_url("tracking_uri", &["https", "http"])
                .map_or(Tracking::Workspace, Tracking::At),
        };
        let host = section.optional_url("host", &["https", "http"])?;
        outgoing::check_address(&section, "host", Some(&host));
        if transport::is_exposed_http(&host) {
            // A token travels to where anybody may be in between: there is no leave for that.
            section.problem("host", "an `https://` URL; `http://` only to a loopback address");
        }
        if host.path() != "/" || host.query().is_some() {
            section.problem(
                "host",
                "scheme and host only, e.g. `https://adb-1.2.azuredatabricks.net`: the paths of the API are added to it",
            );
        }
        let credentials = Credentials::Bearer(section.optional_secret("token")?);
        Some(Self {
            host,
            credentials,
            what: what?,
            experiment,
            tracking,
            poll_first,
            poll_longest,
            timeout,
        })
    }
}
