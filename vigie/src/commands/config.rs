//! `vigie config check` and `vigie config show`.

use std::process::ExitCode;

use chassis::settings::{COMMON_ALIASES, COMMON_DEFAULTS, render, render_json};
use chassis::{Alias, Problems, Reader, Service as _, Settings, Sources};
use drift_monitor::DriftMonitor;
use notifier::Notifier;
use retrain_decider::RetrainDecider;
use trainer_bridge::TrainerBridge;
use transactions::ModelDefinition;
use validator::Validator;

use crate::cli::Output;
use crate::{host, output};

/// Checks the settings of all services.
pub fn check(output: Output, sources: &Sources) -> anyhow::Result<ExitCode> {
    host::check_settings(sources)?;
    let settings = load(sources)?;
    let models: Vec<String> = ModelDefinition::read_all(&Reader::new(&settings))
        .into_iter()
        .map(|definition| definition.model.to_string())
        .collect();
    let answer = serde_json::json!({ "ok": true, "services": host::SERVICES, "models": models });
    output::print(output, &answer, |_| {
        let watched = if models.is_empty() {
            "no model is watched: describe one under `[models.NAME]` (the README shows how)".to_owned()
        } else {
            format!("models: {}", models.join(", "))
        };
        format!("settings are fine for {}\n{watched}", host::SERVICES.join(", "))
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Shows the settings in force.
pub fn show(output: Output, sources: &Sources) -> anyhow::Result<ExitCode> {
    let settings = load(sources)?;
    output::print(output, &render_json(&settings), |_| render(&settings))?;
    Ok(ExitCode::SUCCESS)
}

/// Mistakes for programs.
pub fn mistakes(problems: &Problems) -> serde_json::Value {
    let list = problems.0.iter().map(|problem| {
        serde_json::json!({
            "key": problem.key,
            "value": problem.value,
            "expected": problem.expected,
            "source": problem.source,
        })
    });
    serde_json::json!({ "ok": false, "mistakes": list.collect::<Vec<_>>() })
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
        aliases.extend(definition.aliases.concat());
    }
    Ok(Settings::load(&defaults, &aliases, sources)?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use chassis::settings::SECTIONS;

    use super::*;

    #[test]
    fn every_section_of_every_service_is_known_to_all_and_no_other() {
        let settings = load(&Sources {
            overrides: vec![("models".to_owned(), "[models.m]\nsource = \"parquet\"".to_owned())],
            ..Sources::default()
        })
        .unwrap();
        let shown = render_json(&settings);
        let read: BTreeSet<&str> = shown.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(read, BTreeSet::from(SECTIONS));
    }
}
