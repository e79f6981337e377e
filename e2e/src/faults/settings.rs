//! What the services are told in a trial: short pauses, lenient gates, every connection over its line.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::canaries::{self, with_password};

/// Where a service finds everybody else.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// NATS, over the service's own line.
    pub nats: String,
    /// PostgreSQL, over the service's own line.
    pub database: String,
    /// Databricks, over its line.
    pub databricks: String,
    /// Token of Databricks; a canary: it must never be printed.
    pub databricks_token: String,
    /// MLflow, over its line.
    pub mlflow: String,
    /// Slack's webhook, over its line; a canary too.
    pub slack: String,
    /// The mail server.
    pub mail: MailServer,
}

/// A mail server that demands STARTTLS and a login.
#[derive(Debug, Clone)]
pub struct MailServer {
    /// Port, over its line.
    pub port: u16,
    /// Name for the login.
    pub user: &'static str,
    /// Password for it; a canary too.
    pub password: &'static str,
    /// Who vouches for its certificate.
    pub authority: PathBuf,
}

/// How patient the services are; what a trial is about decides.
#[derive(Debug, Clone)]
pub struct Patience {
    /// `nats.receipt_overdue`.
    pub receipt_overdue: &'static str,
    /// `nats.sweep_every`.
    pub sweep_every: &'static str,
    /// `training.lease`.
    pub lease: &'static str,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            receipt_overdue: "10s",
            sweep_every: "2s",
            lease: "2s",
        }
    }
}

/// The table that every model of a trial reads.
pub const TABLE: &str = "bank.payment";
/// The experiment that the notebook logs to.
pub const NOTEBOOK_EXPERIMENT: &str = "/Shared/vigie-training";
/// Who is told by mail.
pub const RECIPIENT: &str = "fraud-team@bank.example";

/// The settings file of one service; `told`: whether people are told.
pub fn file(
    addresses: &Addresses,
    artifacts: &Path,
    models: &[String],
    patience: &Patience,
    told: bool,
) -> String {
    let Addresses {
        nats,
        database,
        databricks,
        databricks_token,
        mlflow,
        slack,
        mail,
    } = addresses;
    let source = with_password(database, canaries::SOURCE);
    let Patience {
        receipt_overdue,
        sweep_every,
        lease,
    } = patience;
    let (recipients, host) = if told {
        (
            format!("recipients = [{RECIPIENT:?}]\nslack_webhook = {slack:?}"),
            "127.0.0.1",
        )
    } else {
        (String::new(), "")
    };
    let MailServer {
        port,
        user,
        password,
        authority,
    } = mail;
    let (mlflow_token, authority) = (canaries::MLFLOW, authority.display());
    let artifacts = artifacts.display();
    let mut text = format!(
        r#"[database]
url = {database:?}
acquire_timeout = "5s"

[nats]
url = {nats:?}
stream_bytes_max = 1073741824
ack_wait = "5s"
receipt_overdue = {receipt_overdue:?}
sweep_every = {sweep_every:?}

[transactions]
statement_timeout = "15s"
url = {source:?}

[http]
drift_monitor = ""
retrain_decider = ""
trainer_bridge = ""
validator = ""
notifier = ""

[drift]
schedule = "* * * * *"
catch_up = "all"

[policy]
schedule = "0 0 1 1 *"
cooldown = "0s"
failure_cooldown = "0s"
new_rows_min = 0
in_progress_max = "1h"

[training]
backend = "databricks"
deadline = "3m"
attempts_max = 3
register_within = "5m"
lease = {lease:?}
retry_first = "200ms"
retry_longest = "2s"

[validation]
recall_min = 0.0
precision_min = 0.0
rows_min = 1
frauds_min = 1

[artifacts]
dir = "{artifacts}"

[mlflow]
tracking_uri = {mlflow:?}
token = {mlflow_token:?}
timeout = "3s"

[databricks]
host = {databricks:?}
token = {databricks_token:?}
notebook_path = "/Shared/vigie/train"
experiment = {NOTEBOOK_EXPERIMENT:?}
tracking_uri = {mlflow:?}
poll_first = "100ms"
poll_longest = "300ms"
timeout = "3s"

[notify]
{recipients}
attempts_max = 50
backoff_first = "200ms"
backoff_max = "2s"
probe_every = "3s"
timeout = "2s"

[notify.smtp]
host = {host:?}
port = {port}
encryption = "starttls"
username = {user:?}
password = {password:?}
ca_file = "{authority}"
"#
    );
    for model in models {
        // Writing to a text cannot fail.
        let _infallible = write!(
            text,
            "\n[models.{model}]\nsource = \"postgres\"\ntable = {TABLE:?}\ntime = \"tx_time\"\nid = \"id\"\n\
             label = \"is_fraud\"\nlabel_time = \"labelled_at\"\nlabel_delay = \"1d\"\nfeatures = [\"tx_amount\", \"pace\"]\n"
        );
    }
    text
}
