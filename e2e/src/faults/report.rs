//! What came of a trial, for people and as JSON.

use std::time::Duration;

use serde_json::{Value, json};

use super::auditor::Findings;
use super::nemesis::{Fault, counted};

/// What came of a trial.
#[derive(Debug, Clone)]
pub struct Report {
    /// Which trial.
    pub trial: String,
    /// Its seed, if it has one.
    pub seed: Option<u64>,
    /// How long faults went on.
    pub faulty: Duration,
    /// How long everything took, starts included.
    pub whole: Duration,
    /// From the last fault until nothing was under way; none when that did not come.
    pub settled: Option<Duration>,
    /// Processes that died.
    pub deaths: u64,
    /// Processes that ended by themselves: which, exit code, how often.
    pub ends: Vec<(String, i32, u64)>,
    /// From the end of each fault until a new event took effect, sorted.
    pub recoveries: Vec<Duration>,
    /// The faults.
    pub faults: Vec<Fault>,
    /// What the auditor found.
    pub findings: Findings,
    /// Answers that a peer was to fail with and nobody asked for, count.
    pub unmet: usize,
    /// What was planned and did not happen.
    pub missed: Vec<String>,
}

impl Report {
    /// Whether every invariant holds and everything that was planned happened.
    pub fn holds(&self) -> bool {
        self.findings.violations.is_empty() && self.missed.is_empty() && self.settled.is_some()
    }

    /// Faults that hit something, count.
    pub fn hits(&self) -> usize {
        self.faults
            .iter()
            .filter(|fault| fault.hit())
            .count()
            .saturating_sub(self.unmet)
    }

    /// The recovery time that this share of the faults did not exceed.
    pub fn recovery(&self, share: f64) -> Option<Duration> {
        let last = self.recoveries.len().checked_sub(1)?;
        Some(self.recoveries[((last as f64) * share).round() as usize])
    }

    /// As JSON.
    pub fn to_json(&self) -> Value {
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
        let counts = &self.findings.counts;
        let by_kind: Value = counted(&self.faults)
            .into_iter()
            .map(|(kind, count)| (format!("{kind:?}"), json!(count)))
            .collect::<serde_json::Map<_, _>>()
            .into();
        json!({
            "trial": self.trial, "seed": self.seed, "holds": self.holds(),
            "faults": self.faults.len(), "hits": self.hits(), "unmet": self.unmet, "faults_by_kind": by_kind, "deaths": self.deaths,
            "ends": self.ends.iter().map(|(who, code, times)| json!({ "who": who, "code": code, "times": times })).collect::<Vec<_>>(),
            "faulty_seconds": self.faulty.as_secs_f64(), "whole_seconds": self.whole.as_secs_f64(),
            "settled_seconds": seconds(self.settled),
            "recovery_seconds": {
                "p50": seconds(self.recovery(0.5)), "p99": seconds(self.recovery(0.99)), "max": seconds(self.recovery(1.0)),
            },
            "commits": counts.commits, "decisions": counts.decisions, "runs": counts.runs,
            "decisions_ended": counts.ends.iter().map(|(how, count)| json!({ "how": how, "count": count })).collect::<Vec<_>>(),
            "promotions": counts.promotions, "alerts": counts.alerts, "told_twice": counts.told_twice,
            "duplicates": counts.duplicates, "dead_letters": counts.dead_letters, "redriven": counts.redriven,
            "offered_again": counts.offered_again, "witnessed": counts.witnessed, "pointed_again": counts.pointed_again,
            "violations": self.findings.violations.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "missed": self.missed,
        })
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let counts = &self.findings.counts;
        let seconds = |time: Option<Duration>| {
            time.map_or_else(|| "-".to_owned(), |time| format!("{:.1} s", time.as_secs_f64()))
        };
        write!(f, "{}", self.trial)?;
        if let Some(seed) = self.seed {
            write!(f, ", seed {seed}")?;
        }
        writeln!(
            f,
            ": {} faults in {:.0} s, of which {} hit something; {} processes died",
            self.faults.len(),
            self.faulty.as_secs_f64(),
            self.hits(),
            self.deaths
        )?;
        for (kind, count) in counted(&self.faults) {
            writeln!(f, "  {:<18} {count:>6}", format!("{kind:?}"))?;
        }
        for (who, code, times) in &self.ends {
            writeln!(f, "  {who} ended by itself with {code}, times: {times}")?;
        }
        writeln!(
            f,
            "  {} acknowledged commits, {} decisions, {} external runs, {} promotions, {} alerts told ({} of them again)",
            counts.commits,
            counts.decisions,
            counts.runs,
            counts.promotions,
            counts.alerts,
            counts.told_twice
        )?;
        for (how, count) in &counts.ends {
            writeln!(f, "    {count} decisions {how}")?;
        }
        writeln!(
            f,
            "  {} further deliveries, {} parked messages, {} events offered again by the sweep",
            counts.duplicates, counts.dead_letters, counts.offered_again
        )?;
        if counts.redriven > 0 {
            writeln!(
                f,
                "  {} messages met their last delivery, because their reader died each time, and were redriven",
                counts.redriven
            )?;
        }
        if counts.witnessed > 0 {
            writeln!(f, "  {} events were counted by the witness", counts.witnessed)?;
        }
        if !self.recoveries.is_empty() {
            writeln!(
                f,
                "  a new event took effect after a fault within {} (p50), {} (p99), {} (max)",
                seconds(self.recovery(0.5)),
                seconds(self.recovery(0.99)),
                seconds(self.recovery(1.0))
            )?;
        }
        match self.settled {
            Some(time) => writeln!(
                f,
                "  nothing was under way {:.1} s after the last fault",
                time.as_secs_f64()
            )?,
            None => writeln!(f, "  SOMETHING WAS STILL UNDER WAY when the bound had passed")?,
        }
        for missed in &self.missed {
            writeln!(f, "  MISSED {missed}")?;
        }
        for violation in &self.findings.violations {
            writeln!(f, "  VIOLATED {violation}")?;
        }
        write!(
            f,
            "  {}",
            if self.holds() {
                "all invariants hold"
            } else {
                "NOT ALL INVARIANTS HOLD"
            }
        )
    }
}
