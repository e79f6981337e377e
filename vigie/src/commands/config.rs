//! `vigie config check` and `vigie config show`.

use std::process::ExitCode;

use chassis::settings::{COMMON_ALIASES, COMMON_DEFAULTS, render};
use chassis::{Alias, Service as _, Settings, Sources};
use drift_monitor::DriftMonitor;
use notifier::Notifier;
use retrain_decider::RetrainDecider;
use trainer_bridge::TrainerBridge;
use validator::Validator;

use crate::cli::Output;
use crate::{host, output};

/// Checks the settings of all services.
pub fn check(output: Output, sources: &Sources) -> anyhow::Result<ExitCode> {
    host::check_settings(sources)?;
    let foreign = load(sources)?.foreign_sections();
    anyhow::ensure!(
        foreign.is_empty(),
        "sections that no service knows: {}",
        foreign
            .iter()
            .map(|name| format!("[{name}]"))
            .collect::<Vec<_>>()
            .join(", ")
    );
    let answer = serde_json::json!({ "ok": true, "services": host::SERVICES });
    output::print(output, &answer, |_| {
        format!("settings are fine for {}", host::SERVICES.join(", "))
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Shows the settings in force.
pub fn show(sources: &Sources) -> anyhow::Result<ExitCode> {
    print!("{}", render(&load(sources)?));
    Ok(ExitCode::SUCCESS)
}

fn load(sources: &Sources) -> anyhow::Result<Settings> {
    let definitions = [
        DriftMonitor::DEFINITION,
        RetrainDecider::DEFINITION,
        TrainerBridge::DEFINITION,
        Validator::DEFINITION,
        Notifier::DEFINITION,
    ];
    let mut defaults = vec![COMMON_DEFAULTS];
    let mut aliases: Vec<Alias> = COMMON_ALIASES.to_vec();
    for definition in &definitions {
        defaults.extend_from_slice(definition.defaults);
        aliases.extend_from_slice(definition.aliases);
    }
    Ok(Settings::load(&defaults, &aliases, sources)?)
}
