//! `vigie dev`.

use std::process::ExitCode;

use anyhow::Context as _;
use chassis::Sources;
use local_stack::{Stack, StackOptions};
use tokio_util::sync::CancellationToken;

use crate::cli::DevArgs;
use crate::{demo, host};

/// Variables that lead out of this machine: servers, registries and people of production. Nothing here reaches them.
const OUTWARD: [&str; 12] = [
    "FRAUD_DATABASE_URL",
    "NATS_",
    "MLFLOW_",
    "DATABRICKS_",
    "ALERT_",
    "SLACK_",
    "VIGIE__DATABASE__",
    "VIGIE__NATS__",
    "VIGIE__MLFLOW__",
    "VIGIE__DATABRICKS__",
    "VIGIE__TRAINING__BACKEND",
    "VIGIE__NOTIFY__",
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
    let private = format!(
        "[database]\nurl = {:?}\n[nats]\nurl = {:?}\n[artifacts]\ndir = {:?}\n[notify]\nmailbox = {:?}\nslack_webhook = \"\"\n[notify.smtp]\nhost = \"\"\n\
         [mlflow]\ntracking_uri = \"\"\n[training]\nbackend = \"local\"\n",
        database_url,
        stack.nats_url(),
        folder.join("artifacts").display().to_string(),
        folder.join("mail").display().to_string()
    );
    sources
        .overrides
        .push(("vigie dev's private servers".to_owned(), private));
    for variables in [&mut sources.environment, &mut sources.dotenv] {
        variables.retain(|name, _| !OUTWARD.iter().any(|prefix| name.starts_with(prefix)));
    }
    if args.sample {
        let text = demo::sample::load(&database_url)
            .await
            .context("load the sample")?;
        sources.overrides.push(("vigie dev --sample".to_owned(), text));
    }
    host::check_settings(sources)?;
    let config = folder.join("vigie.toml");
    demo::sample::write_settings(sources, &config)?;
    let telemetry = super::init_telemetry(sources)?;
    println!("Vigie runs. Ctrl-C ends it; {} keeps the data.", folder.display());
    println!("  psql '{database_url}'");
    println!("  nats --server {} sub 'drift.>'", stack.nats_url());
    println!("  vigie --config {} events tail", config.display());
    let result = host::run_all(sources.clone(), stop).await;
    telemetry.flush().await;
    result
}
