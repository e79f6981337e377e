//! The policy, as settings; an invalid one cannot be constructed.

use std::time::Duration;

use chassis::slots::{CatchUp, Schedule};
use chassis::{Reader, Section};
use chrono::TimeDelta;
use schemas::events::Priority;
use transactions::{ModelDefinition, SourceAccess, SourceSettings};

use crate::decide::Policy;

/// Checked settings of the decider.
#[derive(Debug, Clone)]
pub struct Config {
    /// The rules' numbers.
    pub policy: Policy,
    /// The daily decision.
    pub schedule: Schedule,
    /// What to do about missed daily slots.
    pub schedule_catch_up: CatchUp,
    /// The models it decides about.
    pub models: Vec<ModelDefinition>,
    /// How their sources are read.
    pub sources: SourceSettings,
    /// Through which connections.
    pub access: SourceAccess,
}

const YEAR: Duration = Duration::from_secs(365 * 86_400);
const HOUR: Duration = Duration::from_secs(3600);

impl Config {
    /// Reads `[policy]`, `[models.*]` and `[transactions]`.
    pub fn read(reader: &Reader<'_>) -> Self {
        let section = reader.section("policy");
        Self {
            policy: Policy {
                cooldown: delta(section.duration("cooldown", Duration::ZERO..=YEAR)),
                failure_cooldown: delta(section.duration("failure_cooldown", Duration::ZERO..=YEAR)),
                new_rows_min: section.integer("new_rows_min", 0..=1_000_000_000_000),
                bypass_cooldown: priorities(&section, "bypass_cooldown"),
                bypass_new_rows: priorities(&section, "bypass_new_rows"),
                breaker_max: u32::try_from(section.integer("breaker_max", 1..=1000)).unwrap_or(1),
                breaker_span: delta(section.duration("breaker_span", HOUR..=YEAR)),
                in_progress_max: delta(
                    section.duration("in_progress_max", HOUR..=Duration::from_secs(30 * 86_400)),
                ),
            },
            schedule: section.cron("schedule"),
            schedule_catch_up: section.choice("schedule_catch_up", CatchUp::CHOICES),
            models: ModelDefinition::read_all(reader),
            sources: SourceSettings::read(reader),
            access: SourceAccess::read(reader),
        }
    }
}

fn delta(duration: Duration) -> TimeDelta {
    // Ranges above end at a year, far below the limit.
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}

fn priorities(section: &Section<'_>, name: &str) -> Vec<Priority> {
    let known = [
        Priority::Scheduled,
        Priority::Medium,
        Priority::High,
        Priority::Immediate,
    ];
    section
        .list(name)
        .iter()
        .filter_map(|word| {
            let found = known.iter().copied().find(|priority| priority.as_str() == word);
            if found.is_none() {
                section.problem(name, "a list of `scheduled`, `medium`, `high`, `immediate`");
            }
            found
        })
        .collect()
}
