//! `vigie provision`: what an administrator does once, before the services come with small rights of their own.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use chassis::bus::{Bus, NatsSettings};
use chassis::db::DatabaseSettings;
use chassis::settings::{COMMON_ALIASES, COMMON_DEFAULTS};
use chassis::{Reader, Settings, Sources};
use schemas::rights::PROVISIONER;
use tokio_util::sync::CancellationToken;
use transactions::{ModelDefinition, SourceDefinition, SourceSettings};

use crate::cli::{Output, ProvisionCommand, ProvisionNatsArgs, ProvisionPostgresArgs, ProvisionStreamsArgs};
use crate::output;
use crate::provision::{nats, postgres};

/// How often `--watch` looks.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Runs a command that provisions.
pub async fn run(output: Output, command: ProvisionCommand, sources: &Sources) -> anyhow::Result<ExitCode> {
    match command {
        ProvisionCommand::Nats(args) => keys(output, &args),
        ProvisionCommand::Streams(args) => streams(output, &args, sources).await,
        ProvisionCommand::Postgres(args) => roles(output, &args, sources),
        ProvisionCommand::Schemas => schemas(output, sources).await,
    }
}

fn keys(output: Output, args: &ProvisionNatsArgs) -> anyhow::Result<ExitCode> {
    let identities = nats::identities(&args.seeds)?;
    let text = nats::configuration(&identities);
    let mut told = String::new();
    for identity in &identities {
        // Writing to a String cannot fail.
        let _ = writeln!(
            told,
            "{:<16} {} {} ({})",
            identity.rights.identity,
            identity.public_keys[0],
            identity.seed_file.display(),
            if identity.fresh { "new" } else { "kept" }
        );
    }
    let Some(file) = &args.out else {
        eprint!("{told}");
        output::say(text.trim_end())?;
        return Ok(ExitCode::SUCCESS);
    };
    nats::write(file, &text)?;
    let summary = serde_json::json!({
        "configuration": file,
        "identities": identities.iter().map(|identity| serde_json::json!({
            "identity": identity.rights.identity,
            "public_key": identity.public_keys[0],
            "seed_file": identity.seed_file,
            "fresh": identity.fresh,
        })).collect::<Vec<_>>(),
    });
    output::print(output, &summary, |_| {
        format!(
            "{told}\n{} is written. Include it in nats-server's configuration, reload the server, and give each service its \
             own seed (NATS_NKEY_FILE).",
            file.display()
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

fn roles(output: Output, args: &ProvisionPostgresArgs, sources: &Sources) -> anyhow::Result<ExitCode> {
    let settings = Settings::load(
        &[COMMON_DEFAULTS, transactions::DEFAULTS],
        COMMON_ALIASES,
        sources,
    )?;
    let reader = Reader::new(&settings);
    let (models, timeout) = (
        ModelDefinition::read_all(&reader),
        SourceSettings::read(&reader).statement_timeout,
    );
    reader.finish()?;
    let tables: Vec<postgres::SourceTable> = models
        .into_iter()
        .filter_map(|model| match model.source {
            SourceDefinition::Postgres { schema, table } => Some((schema, table)),
            SourceDefinition::File(_) | SourceDefinition::Databricks { .. } => None,
        })
        .collect();
    let text = postgres::whole(&tables, timeout);
    match &args.out {
        None => output::say(text.trim_end())?,
        Some(file) => {
            std::fs::write(file, &text).with_context(|| format!("write {}", file.display()))?;
            let written = serde_json::json!({ "written": file });
            output::print(output, &written, |_| {
                format!("{} is written; run it as an administrator", file.display())
            })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn schemas(output: Output, sources: &Sources) -> anyhow::Result<ExitCode> {
    let settings = Settings::load(&[COMMON_DEFAULTS], COMMON_ALIASES, sources)?;
    let reader = Reader::new(&settings);
    let database = DatabaseSettings::read(&reader);
    reader.finish()?;
    let telemetry = super::init_telemetry(sources)?;
    let result = async {
        let pool = chassis::db::connect(&database, "provision", "public").await?;
        postgres::bring_up_to_date(&pool).await
    }
    .await;
    telemetry.flush().await;
    result?;
    let done = serde_json::json!({ "provisioned": true });
    output::print(output, &done, |_| {
        "the tables of all services are those of this release".to_owned()
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn streams(output: Output, args: &ProvisionStreamsArgs, sources: &Sources) -> anyhow::Result<ExitCode> {
    let settings = Settings::load(&[COMMON_DEFAULTS], COMMON_ALIASES, sources)?;
    let reader = Reader::new(&settings);
    let nats = NatsSettings::read(&reader);
    reader.finish()?;
    let telemetry = super::init_telemetry(sources)?;
    let result = provision(output, args, &nats).await;
    telemetry.flush().await;
    result.map(|()| ExitCode::SUCCESS)
}

async fn provision(output: Output, args: &ProvisionStreamsArgs, nats: &NatsSettings) -> anyhow::Result<()> {
    let bus = Bus::connect(nats, PROVISIONER).await?;
    chassis::provision::everything(&bus, nats).await?;
    let done = serde_json::json!({ "provisioned": true });
    output::print(output, &done, |_| {
        "streams and consumers are as the settings and this release ask for".to_owned()
    })?;
    if !args.watch {
        return Ok(());
    }
    let stop = CancellationToken::new();
    tokio::spawn(chassis::service::cancel_on_signal(stop.clone()));
    let mut well = true;
    while !stop.is_cancelled() {
        tokio::select! {
            () = tokio::time::sleep(LOOK_AGAIN) => {}
            () = stop.cancelled() => break,
        }
        match chassis::provision::everything(&bus, nats).await {
            Ok(()) if !well => {
                well = true;
                tracing::info!("streams and consumers are as asked again");
            }
            Ok(()) => {}
            Err(error) => {
                well = false;
                tracing::warn!("streams and consumers cannot be looked after: {error:#}");
            }
        }
    }
    Ok(())
}
