//! `vigie dev`.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use chassis::Sources;
use chrono::Utc;
use local_stack::{Stack, StackOptions};
use tokio_util::sync::CancellationToken;

use crate::cli::DevArgs;
use crate::{demo, host, operator, output};

/// Variables that lead out of this machine: servers, registries, collectors and people of production. Nothing here
/// reaches them.
const OUTWARD: [&str; 15] = [
    "FRAUD_DATABASE_URL",
    "NATS_",
    "MLFLOW_",
    "DATABRICKS_",
    "ALERT_",
    "SLACK_",
    "OTEL_",
    "VIGIE__DATABASE__",
    "VIGIE__NATS__",
    "VIGIE__TRANSACTIONS__URL",
    "VIGIE__MLFLOW__",
    "VIGIE__DATABRICKS__",
    "VIGIE__TRAINING__BACKEND",
    "VIGIE__NOTIFY__",
    "VIGIE__TELEMETRY__OTLP_ENDPOINT",
];
/// Those of them that lead other commands elsewhere, too.
const SERVERS: [&str; 4] = [
    "FRAUD_DATABASE_URL",
    "NATS_",
    "VIGIE__DATABASE__",
    "VIGIE__NATS__",
];

/// Starts private servers and all services, until Ctrl-C.
pub async fn run(args: DevArgs, mut sources: Sources) -> anyhow::Result<ExitCode> {
    std::fs::create_dir_all(&args.folder).with_context(|| format!("create {}", args.folder.display()))?;
    let folder = args
        .folder
        .canonicalize()
        .with_context(|| format!("find {}", args.folder.display()))?;
    let stop = CancellationToken::new();
    tokio::spawn(chassis::service::cancel_on_signal(stop.clone()));
    let stack = Stack::start(StackOptions::kept_in(folder.join("servers")))
        .await
        .context("start the private servers")?;
    let result = serve(&args, &mut sources, &folder, &stack, stop).await;
    let stopped = stack.stop().await.context("stop the private servers");
    result?;
    stopped?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(
    args: &DevArgs,
    sources: &mut Sources,
    folder: &std::path::Path,
    stack: &Stack,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let database_url = stack.database_url();
    let elsewhere = names(sources, &SERVERS);
    stay_inside(sources, folder, &database_url, &stack.nats_url());
    if args.sample {
        let text = demo::sample::load(&database_url, Utc::now())
            .await
            .context("load the sample")?;
        sources.overrides.push(("vigie dev --sample".to_owned(), text));
    }
    host::check_settings(sources)?;
    demo::sample::write_settings(sources, &folder.join("vigie.toml"))?;
    let telemetry = super::init_telemetry(sources)?;
    let welcome = welcome(
        args,
        operator::models(sources)?.first().map(String::as_str),
        &elsewhere,
        (&database_url, &stack.nats_url()),
    );
    let up = || {
        // The services go on when nobody reads this.
        let _read = output::say(welcome.trim_end());
    };
    let result = host::run_all_then(sources.clone(), stop, up).await;
    telemetry.flush().await;
    result
}

/// Lays the private servers over the settings and takes away what leads out of this machine.
fn stay_inside(sources: &mut Sources, folder: &Path, database_url: &str, nats_url: &str) {
    let private = format!(
        "[database]\nurl = {database_url:?}\nmigrate = true\n[transactions]\nurl = \"\"\n[nats]\nurl = {nats_url:?}\ncredentials = \"\"\nnkey = \"\"\nca_file = \"\"\nprovision = true\n[artifacts]\ndir = {:?}\n\
         [notify]\nmailbox = {:?}\nslack_webhook = \"\"\n[notify.smtp]\nhost = \"\"\n[mlflow]\ntracking_uri = \"\"\n\
         [training]\nbackend = \"local\"\n[telemetry]\notlp_endpoint = \"\"\n\
         [http]\ndrift_monitor = \"127.0.0.1:0\"\nretrain_decider = \"127.0.0.1:0\"\ntrainer_bridge = \"127.0.0.1:0\"\n\
         validator = \"127.0.0.1:0\"\nnotifier = \"127.0.0.1:0\"\n",
        folder.join("artifacts").display().to_string(),
        folder.join("mail").display().to_string()
    );
    sources
        .overrides
        .push(("vigie dev's private servers".to_owned(), private));
    for variables in [&mut sources.environment, &mut sources.dotenv] {
        variables.retain(|name, _| !begins_with(name, &OUTWARD));
    }
}

/// Settings are found under their names in any case.
fn begins_with(name: &str, prefixes: &[&str]) -> bool {
    let name = name.to_ascii_uppercase();
    prefixes.iter().any(|prefix| name.starts_with(prefix))
}

fn names(sources: &Sources, prefixes: &[&str]) -> Vec<String> {
    let variables = sources.environment.keys().chain(sources.dotenv.keys());
    let mut names: Vec<String> = variables
        .filter(|name| begins_with(name, prefixes))
        .cloned()
        .collect();
    names.sort();
    names.dedup();
    names
}

/// What to try next.
fn welcome(
    args: &DevArgs,
    model: Option<&str>,
    elsewhere: &[String],
    (database_url, nats_url): (&str, &str),
) -> String {
    let config = quoted(&args.folder.join("vigie.toml").display().to_string());
    let mut text = format!(
        "Vigie runs. Ctrl-C ends it; {} keeps the data. To try, from another terminal in this folder:\n",
        args.folder.display()
    );
    // Writing to a String cannot fail.
    if let Some(model) = model.map(quoted) {
        let _ = writeln!(text, "  vigie --config {config} check {model}");
        let _ = writeln!(
            text,
            "  vigie --config {config} retrain {model} --reason \"to see the rules\""
        );
    }
    let _ = writeln!(text, "  vigie --config {config} events tail");
    let _ = writeln!(text, "  psql '{database_url}'");
    let _ = writeln!(text, "  nats --server {nats_url} sub 'drift.>'");
    if !elsewhere.is_empty() {
        let _ = writeln!(
            text,
            "There, do not set {}: it is stronger than the file and leads to other servers.",
            elsewhere.join(", ")
        );
    }
    text
}

/// A word of a shell's command.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use chassis::settings::{COMMON_ALIASES, COMMON_DEFAULTS, render};
    use chassis::{Settings, Sources};

    use super::*;

    #[test]
    fn nothing_that_leads_out_of_the_machine_is_left() {
        let outside = "outside.example.org";
        let variables = [
            "FRAUD_DATABASE_URL",
            "FRAUD_DATABASE_URL_FILE",
            "NATS_URL",
            "NATS_CREDENTIALS",
            "MLFLOW_TRACKING_URI",
            "DATABRICKS_HOST",
            "DATABRICKS_TOKEN",
            "ALERT_EMAIL_SMTP_HOST",
            "SLACK_WEBHOOK_URL",
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "OTEL_EXPORTER_OTLP_ENDPOINT_FILE",
            "VIGIE__DATABASE__URL",
            "VIGIE__nats__url",
            "VIGIE__MLFLOW__TRACKING_URI",
            "VIGIE__NOTIFY__SLACK_WEBHOOK",
            "VIGIE__TELEMETRY__OTLP_ENDPOINT",
            "VIGIE__TELEMETRY__OTLP_ENDPOINT_FILE",
        ];
        let variables: std::collections::BTreeMap<String, String> = variables
            .iter()
            .map(|name| ((*name).to_owned(), format!("http://{outside}/")))
            .chain([("VIGIE__TELEMETRY__LOG".to_owned(), "debug".to_owned())])
            .collect();
        let mut sources = Sources {
            overrides: vec![(
                "a file".to_owned(),
                format!(
                    "[telemetry]\notlp_endpoint = \"http://{outside}:4318\"\n[nats]\ncredentials = \"/{outside}\"\n\
                     [mlflow]\ntracking_uri = \"http://{outside}\"\n"
                ),
            )],
            dotenv: variables.clone(),
            environment: variables,
            ..Sources::default()
        };
        let url = "postgres://vigie@127.0.0.1:1/private";
        stay_inside(&mut sources, Path::new("/folder"), url, "nats://127.0.0.1:2");
        for variables in [&sources.environment, &sources.dotenv] {
            assert_eq!(variables.keys().collect::<Vec<_>>(), ["VIGIE__TELEMETRY__LOG"]);
        }
        let shown = render(&Settings::load(&[COMMON_DEFAULTS], COMMON_ALIASES, &sources).unwrap());
        assert!(!shown.contains(outside), "{shown}");
        assert!(
            shown.contains(url) && shown.contains("log = \"debug\""),
            "{shown}"
        );
        assert!(!shown.contains("127.0.0.1:910"), "ports are free ones: {shown}");
    }

    #[test]
    fn what_to_try_names_the_settings_file_and_what_would_win_over_it() {
        let args = DevArgs {
            folder: ".vigie/dev".into(),
            sample: true,
        };
        let text = welcome(
            &args,
            Some("fraud cards"),
            &["NATS_URL".to_owned()],
            ("postgres://p", "nats://n"),
        );
        for part in [
            "vigie --config .vigie/dev/vigie.toml check 'fraud cards'",
            "vigie --config .vigie/dev/vigie.toml retrain 'fraud cards'",
            "do not set NATS_URL",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
    }
}
