//! Windows, thresholds and evidence, as settings; invalid ones cannot be constructed.

use std::time::Duration;

use chassis::slots::{CatchUp, Schedule};
use chassis::{Reader, settings::Problem};
use chrono::TimeDelta;
use drift_stats::binning::BinSettings;
use transactions::{ModelDefinition, SourceAccess, SourceSettings};

use crate::judge::{Aggregate, Limits};

/// Checked settings of the monitor.
#[derive(Debug, Clone)]
pub struct Config {
    /// When models are checked.
    pub schedule: Schedule,
    /// What to do about missed checks.
    pub catch_up: CatchUp,
    /// Spans that are looked at.
    pub windows: Windows,
    /// Thresholds and evidence.
    pub limits: Limits,
    /// How reference bins are made.
    pub bins: BinSettings,
    /// Rows of the reference that bin edges are taken from at most.
    pub sample_rows_max: usize,
    /// The models it watches.
    pub models: Vec<ModelDefinition>,
    /// How their sources are read.
    pub sources: SourceSettings,
    /// Through which connections.
    pub access: SourceAccess,
}

/// Spans that are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// Of data drift.
    pub data: TimeDelta,
    /// Of target drift.
    pub target: TimeDelta,
    /// Of concept drift.
    pub concept: TimeDelta,
    /// How late rows may arrive.
    pub lateness: TimeDelta,
}

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

impl Config {
    /// Reads `[drift]`, `[models.*]` and `[transactions]`.
    pub fn read(reader: &Reader<'_>) -> Self {
        let section = reader.section("drift");
        let bins = reader.section("drift.bins");
        let data_threshold = section.number("data_threshold", 0.01..=10.0);
        let data_threshold_high = section.number("data_threshold_high", 0.01..=100.0);
        if data_threshold_high < data_threshold {
            reader.report(Problem {
                key: "drift.data_threshold_high".to_owned(),
                value: Some(data_threshold_high.to_string()),
                expected: format!("a number of at least `drift.data_threshold` ({data_threshold})"),
                source: "the settings in force".to_owned(),
            });
        }
        Self {
            schedule: section.cron("schedule"),
            catch_up: section.choice("catch_up", CatchUp::CHOICES),
            windows: Windows {
                data: delta(section.duration("window", HOUR..=90 * DAY)),
                target: delta(section.duration("target_window", HOUR..=90 * DAY)),
                concept: delta(section.duration("concept_window", HOUR..=365 * DAY)),
                lateness: delta(section.duration("lateness", Duration::ZERO..=7 * DAY)),
            },
            limits: Limits {
                data_tell: section.number("data_tell", 0.0..=10.0),
                data_threshold,
                data_threshold_high,
                aggregate: section.choice(
                    "data_aggregate",
                    &[
                        ("max", Aggregate::Max),
                        ("mean", Aggregate::Mean),
                        ("share_of_features", Aggregate::ShareOfFeatures),
                    ],
                ),
                share_threshold: section.number("share_threshold", 0.01..=1.0),
                target_threshold: section.number("target_threshold", 0.05..=100.0),
                recall_threshold: section.number("concept_threshold", 0.005..=1.0),
                precision_threshold: section.number("precision_threshold", 0.005..=1.0),
                rows_min: section.integer("rows_min", 50..=1_000_000_000),
                frauds_min: section.integer("frauds_min", 10..=1_000_000),
                false_alarm_rate: section.number("false_alarm_rate", 1e-6..=0.2),
                confidence: section.number("confidence", 0.5..=0.9999),
            },
            bins: BinSettings {
                coarse_bins: usize::try_from(bins.integer("coarse", 4..=50)).unwrap_or(10),
                dominating_share: bins.number("dominating_share", 0.01..=1.0),
                ..BinSettings::default()
            },
            sample_rows_max: usize::try_from(bins.integer("sample_rows_max", 1_000..=10_000_000))
                .unwrap_or(1_000),
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

#[cfg(test)]
mod tests {
    use chassis::{Service as _, Settings, Sources};

    use super::*;
    use crate::DriftMonitor;

    fn read(sources: &Sources) -> Result<Config, String> {
        let definition = DriftMonitor::DEFINITION;
        let settings = Settings::load(definition.defaults, definition.aliases, sources)
            .map_err(|problems| problems.to_string())?;
        let reader = Reader::new(&settings);
        let config = Config::read(&reader);
        reader.finish().map_err(|problems| problems.to_string())?;
        Ok(config)
    }

    #[test]
    fn the_defaults_are_what_the_document_says_and_its_names_work() {
        let config = read(&Sources::default()).unwrap();
        assert_eq!(
            (config.limits.data_threshold, config.limits.data_threshold_high),
            (0.3, 0.5)
        );
        assert_eq!(config.limits.recall_threshold, 0.05);
        assert_eq!(config.windows.data, TimeDelta::hours(24));
        let environment = [
            ("DATA_DRIFT_THRESHOLD", "0.2"),
            ("CONCEPT_DRIFT_THRESHOLD", "0.1"),
        ];
        let environment = environment
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let config = read(&Sources {
            environment,
            ..Sources::default()
        })
        .unwrap();
        assert_eq!(
            (config.limits.data_threshold, config.limits.recall_threshold),
            (0.2, 0.1)
        );
    }

    #[test]
    fn every_mistake_is_reported_at_once_with_its_range() {
        let text = "[drift]\nwindow = \"1m\"\ndata_threshold = 0.6\nfalse_alarm_rate = 0\ndata_aggregate = \"median\"\n\
                    schedule = \"hourly\"\n[drift.bins]\ncoarse = 1\n";
        let overrides = vec![("test.toml".to_owned(), text.to_owned())];
        let problems = read(&Sources {
            overrides,
            ..Sources::default()
        })
        .unwrap_err();
        for part in [
            "`drift.window` is `1m` in test.toml; expected a duration between 1h and",
            "`drift.data_threshold_high` is `0.5`",
            "a number of at least `drift.data_threshold` (0.6)",
            "`drift.false_alarm_rate`",
            "one of `max`, `mean`, `share_of_features`",
            "`drift.schedule` is `hourly`",
            "`drift.bins.coarse` is `1` in test.toml; expected a whole number between 4 and 50",
        ] {
            assert!(problems.contains(part), "{part:?} is missing in\n{problems}");
        }
    }
}
