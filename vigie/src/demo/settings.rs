//! The demo's settings file: what a user would write, with the private servers filled in.

use std::path::Path;

use anyhow::Context as _;
use chrono::{DateTime, TimeDelta, Utc};

use super::{Options, table};

/// The decider's default: the daily decision besides the drift triggers.
pub const DAILY: &str = "0 2 * * *";

/// The model of a demo.
#[derive(Debug, Clone)]
pub struct DemoModel {
    /// Its name.
    pub name: String,
    /// Columns that it is trained on.
    pub features: Vec<String>,
    /// Columns that are not watched for drift.
    pub not_monitored: Vec<String>,
    /// How long after a payment its label is known.
    pub label_delay: TimeDelta,
    /// When the first training is decided.
    pub first_training: DateTime<Utc>,
}

/// The model's own section.
pub fn render_model(model: &DemoModel) -> String {
    let list = |names: &[String]| {
        names
            .iter()
            .map(|name| format!("{name:?}"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    format!(
        "[models.{name}]\nsource = \"postgres\"\ntable = \"{table}\"\nid = \"transaction_id\"\ntime = \"tx_time\"\n\
         label = \"is_fraud\"\nlabel_time = \"labelled_at\"\nlabel_delay = \"{delay}s\"\nscore = \"score\"\n\
         features = [{features}]\n# Calendar flags: a day against two weeks always differs.\nnot_monitored = [{not_monitored}]\n",
        name = model.name,
        table = table::TABLE,
        delay = model.label_delay.num_seconds(),
        features = list(&model.features),
        not_monitored = list(&model.not_monitored),
    )
}

/// The settings file.
pub fn render(
    model: &DemoModel,
    options: &Options,
    folder: &Path,
    database_url: &str,
    nats_url: &str,
) -> String {
    format!(
        "# Settings of the demo. Everything not named here has its default; see `vigie --config FILE config show`.\n\n\
         [database]\nurl = {database_url:?}\n\n\
         [nats]\nurl = {nats_url:?}\nstream_bytes_max = 268435456\n\n\
         [http]\ndrift_monitor = \"127.0.0.1:0\"\nretrain_decider = \"127.0.0.1:0\"\ntrainer_bridge = \"127.0.0.1:0\"\n\
         validator = \"127.0.0.1:0\"\nnotifier = \"127.0.0.1:0\"\n\n\
         # The services' slots follow the replayed time.\n[clock]\nsource = \"replay\"\n\n\
         [telemetry]\nlog = \"warn\"\n\n\
         {model}\n\
         # With the default of 48 h the calendar alone would retrain every second day, and little would be left for drift.\n\
         [policy]\ncooldown = \"7d\"\n\n\
         [artifacts]\ndir = {artifacts:?}\n\n\
         [training]\nseed = {seed}\nlease = \"5s\"\nthreshold_window = \"2d\"\nholdout_window = \"2d\"\n\n\
         [notify]\nmailbox = {mail:?}\nrecipients = [\"fraud-team@example.org\"]\n",
        model = render_model(model),
        artifacts = folder.join("artifacts").display().to_string(),
        seed = options.seed,
        mail = folder.join("mail").display().to_string(),
    )
}

/// Merges further settings over a settings file.
///
/// # Errors
/// When one of the two is no TOML.
pub fn merge(base: &str, over: &str) -> anyhow::Result<String> {
    fn lay_over(base: &mut toml::Table, over: toml::Table) {
        for (name, value) in over {
            match (base.get_mut(&name), value) {
                (Some(toml::Value::Table(inner)), toml::Value::Table(over)) => lay_over(inner, over),
                (_, value) => {
                    base.insert(name, value);
                }
            }
        }
    }
    let mut table: toml::Table = base.parse().context("read the demo's settings")?;
    lay_over(&mut table, over.parse().context("read the overrides")?);
    toml::to_string(&table).context("write the merged settings")
}
