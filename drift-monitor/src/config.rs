//! Windows, thresholds and evidence, as settings; invalid ones cannot be constructed.

use std::time::Duration;

use chassis::slots::{CatchUp, Schedule};
use chassis::{Reader, Section, settings::Problem};
use chrono::{DateTime, TimeDelta, Utc};
use drift_stats::binning::BinSettings;
use schemas::Window;
use transactions::{ModelDefinition, SourceAccess, SourceSettings};

use crate::judge::{Aggregate, Evidence, Limits};

/// Checked settings of the monitor.
#[derive(Debug, Clone)]
pub struct Config {
    /// When models are checked.
    pub schedule: Schedule,
    /// What to do about missed checks.
    pub catch_up: CatchUp,
    /// Spans that are looked at.
    pub windows: Windows,
    /// What windows of data drift are compared with.
    pub reference: ReferenceKind,
    /// Thresholds and evidence of checks that are repeated.
    pub limits: Limits,
    /// Evidence of a single comparison, of two files.
    pub once: Evidence,
    /// Share of the reference's rows an hour below which a stream has collapsed, 0 to 1; 0 is never.
    pub volume_min: f64,
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

/// What windows of data drift are compared with. Bins always come from the champion's training window, or from the fixed one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReferenceKind {
    /// The rows that the champion was trained on.
    ChampionTraining,
    /// The rows of one window, whoever is champion.
    Fixed(Window),
    /// The rows of so long before the window.
    Rolling(TimeDelta),
    /// The same hours of the week in so many weeks before the window.
    SameHourOfWeek(u32),
}

impl ReferenceKind {
    /// How long before the window its rows begin, where they lie just before it.
    pub fn span(self) -> Option<TimeDelta> {
        match self {
            Self::ChampionTraining | Self::Fixed(_) => None,
            Self::Rolling(span) => Some(span),
            Self::SameHourOfWeek(weeks) => Some(TimeDelta::weeks(i64::from(weeks))),
        }
    }
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
        let schedule = section.cron("schedule");
        let windows = Windows {
            data: delta(section.duration("window", HOUR..=90 * DAY)),
            target: delta(section.duration("target_window", HOUR..=90 * DAY)),
            concept: delta(section.duration("concept_window", HOUR..=365 * DAY)),
            lateness: delta(section.duration("lateness", Duration::ZERO..=7 * DAY)),
        };
        let alarms = section.number("false_alarms_per_month", 0.001..=100.0);
        let false_alarm_rate = section.number("false_alarm_rate", 1e-6..=0.2);
        let confidence = section.number("confidence", 0.5..=0.9999);
        let clear = section.number("clear", 0.1..=1.0);
        let evidence = budget(&schedule, &windows, alarms, clear);
        Self {
            reference: read_reference(&section),
            volume_min: section.number("volume_min", 0.0..=1.0),
            once: Evidence::once(false_alarm_rate, confidence),
            catch_up: section.choice("catch_up", CatchUp::CHOICES),
            schedule,
            windows,
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
                clear,
                consecutive: u32::try_from(section.integer("consecutive", 1..=168)).unwrap_or(1),
                evidence,
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

/// Thirty days: a month of the budget of false alarms.
const MONTH: TimeDelta = TimeDelta::days(30);

/// The clear level up to which a run of alarms counts as one ([`drift_stats::budget`]).
const CLEAR_MAX: f64 = 0.8;

/// How much evidence keeps checks by this schedule within so many false alarms a month.
fn budget(schedule: &Schedule, windows: &Windows, alarms: f64, clear: f64) -> Evidence {
    let from = DateTime::UNIX_EPOCH;
    let slots = std::iter::successors(schedule.next_after(from), |at| schedule.next_after(*at))
        .take_while(|at| *at <= from + MONTH)
        .count();
    let checks = slots.max(1) as f64;
    // A run of alarms that ends at the line itself flickers, and each time is one.
    let flickers = clear > CLEAR_MAX;
    let in_window = |window: TimeDelta| {
        if flickers {
            1.0
        } else {
            checks * window.num_seconds() as f64 / MONTH.num_seconds() as f64
        }
    };
    // An index over many bins goes up and down more often than one sum: each check counts for itself.
    Evidence::within(
        alarms,
        checks,
        1.0,
        [in_window(windows.target), in_window(windows.concept)],
    )
}

fn read_reference(section: &Section<'_>) -> ReferenceKind {
    let span = delta(section.duration("reference_span", DAY..=366 * DAY));
    let weeks = u32::try_from(span.num_weeks()).unwrap_or(0);
    let fixed = || {
        let instant = |name: &str| {
            let text = section.optional_text(name).unwrap_or_default();
            let instant = text.parse::<DateTime<Utc>>().ok();
            if instant.is_none() {
                let expected = "an instant such as `2026-01-31T00:00:00Z`, for `reference = \"fixed\"`";
                section.problem(name, expected);
            }
            instant
        };
        let (start, end) = (instant("reference_start"), instant("reference_end"));
        let window = Window::new(start?, end?);
        if window.is_err() {
            section.problem("reference_end", "an instant after `drift.reference_start`");
        }
        window.ok()
    };
    let chosen = section.choice(
        "reference",
        &[
            ("champion_training", "champion_training"),
            ("fixed", "fixed"),
            ("rolling", "rolling"),
            ("same_hour_of_week", "same_hour_of_week"),
        ],
    );
    match chosen {
        "fixed" => fixed().map_or(ReferenceKind::ChampionTraining, ReferenceKind::Fixed),
        "rolling" => ReferenceKind::Rolling(span),
        "same_hour_of_week" => {
            if weeks == 0 {
                section.problem(
                    "reference_span",
                    "a week or more, for `reference = \"same_hour_of_week\"`",
                );
            }
            ReferenceKind::SameHourOfWeek(weeks.max(1))
        }
        _ => ReferenceKind::ChampionTraining,
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
        let settings = Settings::load(definition.defaults, &definition.aliases.concat(), sources)
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

    fn with(text: &str) -> Result<Config, String> {
        read(&Sources {
            overrides: vec![("test.toml".to_owned(), text.to_owned())],
            ..Sources::default()
        })
    }

    #[test]
    fn evidence_follows_from_the_budget_of_false_alarms_and_the_schedule() {
        let hourly = read(&Sources::default()).unwrap().limits.evidence;
        assert!((hourly.data - 1.0 / 3.0 / 720.0).abs() < 1e-9, "{hourly:?}");
        // A week of hourly checks looks at much the same labels.
        assert!(
            hourly.target > hourly.data * 4.0 && hourly.concept > hourly.data * 4.0,
            "{hourly:?}"
        );
        assert!(hourly.target < 0.02 && hourly.concept < 0.01, "{hourly:?}");
        let daily = with("[drift]\nschedule = \"0 2 * * *\"").unwrap().limits.evidence;
        assert!((daily.data - 1.0 / 3.0 / 30.0).abs() < 1e-9, "{daily:?}");
        let strict = with("[drift]\nfalse_alarms_per_month = 0.1")
            .unwrap()
            .limits
            .evidence;
        assert!((strict.data * 10.0 - hourly.data).abs() < 1e-9);
        assert!(strict.target < hourly.target && strict.concept < hourly.concept);
        let flickering = with("[drift]\nclear = 1.0").unwrap().limits.evidence;
        assert!(
            flickering.target < hourly.target / 4.0,
            "each crossing is an alarm"
        );
    }

    #[test]
    fn the_reference_is_one_of_four() {
        let of = |text: &str| with(&format!("[drift]\n{text}")).map(|config| config.reference);
        assert_eq!(of(""), Ok(ReferenceKind::ChampionTraining));
        assert_eq!(
            of("reference = \"rolling\""),
            Ok(ReferenceKind::Rolling(TimeDelta::days(28)))
        );
        let weekly = "reference = \"same_hour_of_week\"\nreference_span = \"21d\"";
        assert_eq!(of(weekly), Ok(ReferenceKind::SameHourOfWeek(3)));
        let fixed = "reference = \"fixed\"\nreference_start = \"2026-01-01T00:00:00Z\"\nreference_end = ";
        let window = Window::new(
            "2026-01-01T00:00:00Z".parse().unwrap(),
            "2026-02-01T00:00:00Z".parse().unwrap(),
        );
        assert_eq!(
            of(&format!("{fixed}\"2026-02-01T00:00:00Z\"")),
            Ok(ReferenceKind::Fixed(window.unwrap()))
        );
        for (text, part) in [
            (
                format!("{fixed}\"2025-02-01T00:00:00Z\""),
                "an instant after `drift.reference_start`",
            ),
            ("reference = \"fixed\"".to_owned(), "`drift.reference_start`"),
            (format!("{fixed}\"yesterday\""), "such as `2026-01-31T00:00:00Z`"),
            ("reference = \"last_year\"".to_owned(), "`same_hour_of_week`"),
            (
                "reference = \"same_hour_of_week\"\nreference_span = \"3d\"".to_owned(),
                "a week or more",
            ),
        ] {
            let problems = of(&text).unwrap_err();
            assert!(problems.contains(part), "{part:?} is missing in\n{problems}");
        }
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
