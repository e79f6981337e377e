use proptest::prelude::*;
use schemas::EventId;

use super::*;

fn policy() -> Policy {
    Policy {
        cooldown: TimeDelta::hours(48),
        failure_cooldown: TimeDelta::hours(6),
        new_rows_min: 10_000,
        bypass_cooldown: vec![Priority::Immediate],
        bypass_new_rows: vec![Priority::Immediate],
        breaker_max: 2,
        breaker_span: TimeDelta::hours(24),
        in_progress_max: TimeDelta::hours(24),
    }
}

/// An hour of the story; hour 0 is midnight of 1 January 2026.
fn at(hour: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_454) + TimeDelta::hours(hour)
}

fn version(name: &str) -> ModelVersion {
    ModelVersion::new(name).unwrap()
}

fn drift_of(severity: DriftSeverity, champion: &str) -> Drift {
    Drift {
        check_id: CheckId::of_key("check"),
        as_of: at(100),
        champion: version(champion),
        kinds: vec![DriftKind::Data],
        severity,
        summary: "data drift: PSI 0.41 (amount)".to_owned(),
    }
}

fn drift(severity: DriftSeverity) -> Trigger {
    Trigger::Drift(drift_of(severity, "v1"))
}

/// Trained at `hour`, with `rows` new transactions since.
fn trained(hour: i64, rows: u64) -> Facts {
    Facts {
        last_completed_at: Some(at(hour)),
        new_rows: Some(rows),
        champion: Some(version("v1")),
        ..Facts::default()
    }
}

fn running(facts: Facts, since: i64) -> Facts {
    Facts {
        running: Some(Running {
            decision_id: DecisionId::of_key("d"),
            since: at(since),
        }),
        ..facts
    }
}

fn outcome(facts: &Facts, trigger: &Trigger) -> Result<Priority, DeclineReason> {
    match decide(&policy(), facts, trigger, at(100)).verdict {
        Verdict::Train { priority, .. } => Ok(priority),
        Verdict::Decline { reason, .. } => Err(reason),
    }
}

#[test]
fn the_documents_rules_hold() {
    use DeclineReason::{AlertOnly, BreakerOpen, Cooldown, NotEnoughNewRows, Superseded, TrainingInProgress};
    use DriftSeverity::{High, Immediate, Medium};
    let operator = |force| Trigger::Operator {
        requested_by: "cli:ana".into(),
        reason: "new terminal".into(),
        force,
    };
    let twice = |facts: Facts, first, second| Facts {
        immediate_trainings: vec![at(first), at(second)],
        ..facts
    };
    let failed = |facts: Facts, hour| Facts {
        last_failed_at: Some(at(hour)),
        ..facts
    };
    // All as of hour 100.
    let cases = [
        // the daily slot
        (
            "never trained",
            Facts::default(),
            Trigger::Schedule,
            Ok(Priority::High),
        ),
        (
            "48 h ago, enough rows: the end is inclusive",
            trained(52, 10_000),
            Trigger::Schedule,
            Ok(Priority::Scheduled),
        ),
        ("47 h ago", trained(53, 99_999), Trigger::Schedule, Err(Cooldown)),
        (
            "one row short",
            trained(0, 9_999),
            Trigger::Schedule,
            Err(NotEnoughNewRows),
        ),
        (
            "both: the first rule names the reason",
            trained(99, 0),
            Trigger::Schedule,
            Err(Cooldown),
        ),
        // drift
        (
            "medium, rested",
            trained(0, 20_000),
            drift(Medium),
            Ok(Priority::Medium),
        ),
        (
            "high, rested",
            trained(0, 20_000),
            drift(High),
            Ok(Priority::High),
        ),
        (
            "high does not skip the cooldown",
            trained(99, 20_000),
            drift(High),
            Err(Cooldown),
        ),
        (
            "high does not skip the rows",
            trained(0, 20),
            drift(High),
            Err(NotEnoughNewRows),
        ),
        (
            "immediate skips both",
            trained(99, 0),
            drift(Immediate),
            Ok(Priority::Immediate),
        ),
        (
            "only the fraud rate",
            trained(0, 20_000),
            drift(DriftSeverity::AlertOnly),
            Err(AlertOnly),
        ),
        // one training at a time
        (
            "immediate while one runs",
            running(trained(0, 20_000), 99),
            drift(Immediate),
            Err(TrainingInProgress),
        ),
        (
            "the daily slot while one runs",
            running(Facts::default(), 99),
            Trigger::Schedule,
            Err(TrainingInProgress),
        ),
        (
            "a lost training stops counting",
            running(trained(0, 20_000), 75),
            drift(High),
            Ok(Priority::High),
        ),
        (
            "… but not a minute early",
            running(trained(0, 20_000), 76),
            drift(High),
            Err(TrainingInProgress),
        ),
        // the breaker
        (
            "third immediate within 24 h",
            twice(trained(90, 0), 80, 90),
            drift(Immediate),
            Err(BreakerOpen),
        ),
        (
            "the first has left the span",
            twice(trained(90, 0), 76, 90),
            drift(Immediate),
            Ok(Priority::Immediate),
        ),
        (
            "the breaker binds immediate only",
            twice(trained(0, 20_000), 80, 90),
            drift(High),
            Ok(Priority::High),
        ),
        // a champion that was replaced meanwhile
        (
            "about an old champion",
            trained(0, 20_000),
            Trigger::Drift(drift_of(High, "v0")),
            Err(Superseded),
        ),
        (
            "waited, and replaced",
            trained(0, 20_000),
            Trigger::TrainingEnded(drift_of(Immediate, "v0")),
            Err(Superseded),
        ),
        (
            "waited, and still there",
            trained(0, 20_000),
            Trigger::TrainingEnded(drift_of(High, "v1")),
            Ok(Priority::High),
        ),
        // an operator
        ("rested", trained(0, 20_000), operator(false), Ok(Priority::High)),
        ("too soon", trained(99, 20_000), operator(false), Err(Cooldown)),
        (
            "too soon, forced",
            trained(99, 0),
            operator(true),
            Ok(Priority::High),
        ),
        (
            "force does not start a second training",
            running(trained(0, 0), 99),
            operator(true),
            Err(TrainingInProgress),
        ),
        // failures
        (
            "failed 5 h ago",
            failed(trained(0, 20_000), 95),
            drift(High),
            Err(Cooldown),
        ),
        (
            "failed 6 h ago",
            failed(trained(0, 20_000), 94),
            drift(High),
            Ok(Priority::High),
        ),
        (
            "never succeeded, failed 1 h ago",
            failed(Facts::default(), 99),
            Trigger::Schedule,
            Err(Cooldown),
        ),
    ];
    for (case, facts, trigger, expected) in cases {
        assert_eq!(outcome(&facts, &trigger), expected, "{case}");
    }
}

#[test]
fn rows_that_cannot_be_counted_never_pass_for_enough() {
    let facts = Facts {
        new_rows: None,
        ..trained(0, 0)
    };
    assert_eq!(
        outcome(&facts, &drift(DriftSeverity::High)),
        Err(DeclineReason::NotEnoughNewRows)
    );
    assert_eq!(
        outcome(&facts, &drift(DriftSeverity::Immediate)),
        Ok(Priority::Immediate)
    );
}

#[test]
fn every_rule_is_recorded_whatever_the_verdict() {
    let names = [
        "severity",
        "training_in_progress",
        "superseded",
        "cooldown",
        "new_rows",
        "breaker",
    ];
    for (facts, trigger) in [
        (Facts::default(), Trigger::Schedule),
        (trained(99, 5), drift(DriftSeverity::High)),
    ] {
        let decision = decide(&policy(), &facts, &trigger, at(100));
        let recorded: Vec<&str> = decision.rules.iter().map(|rule| rule.rule.as_str()).collect();
        assert_eq!(recorded, names);
    }
}

#[test]
fn a_refusal_says_what_would_have_changed_it() {
    let decision = decide(
        &policy(),
        &trained(69, 8_412),
        &drift(DriftSeverity::High),
        at(100),
    );
    let changes: Vec<&str> = decision
        .counterfactuals
        .iter()
        .map(|c| c.change.as_str())
        .collect();
    assert_eq!(changes[0], "17 h pass and 1588 more transactions arrive");
    assert_eq!(changes.len(), 3, "{changes:?}");
    assert_eq!(decision.counterfactuals[0].rules, ["cooldown", "new_rows"]);
}

#[test]
fn durations_are_spoken_as_people_do() {
    for (minutes, text) in [
        (0, "0 min"),
        (45, "45 min"),
        (60, "1 h"),
        (95, "1 h 35 min"),
        (1440, "1 d"),
        (3000, "2 d 2 h"),
    ] {
        assert_eq!(spoken(TimeDelta::minutes(minutes)), text);
    }
}

fn any_facts() -> impl Strategy<Value = Facts> {
    let hour = 0..100_i64;
    (
        proptest::option::of(hour.clone()),
        proptest::option::of(hour.clone()),
        proptest::option::of(hour.clone()),
        proptest::option::of(0..20_000_u64),
        proptest::option::of(prop_oneof!["v0", "v1"]),
        proptest::collection::vec(hour, 0..4),
    )
        .prop_map(
            |(running_since, completed, failed, new_rows, champion, mut immediate)| {
                immediate.sort_unstable();
                Facts {
                    running: running_since.map(|since| Running {
                        decision_id: DecisionId::derived(EventId::of_key("x").uuid(), "d"),
                        since: at(since),
                    }),
                    last_completed_at: completed.map(at),
                    last_failed_at: failed.map(at),
                    new_rows,
                    champion: champion.map(|name| version(&name)),
                    immediate_trainings: immediate.into_iter().map(at).collect(),
                }
            },
        )
}

fn any_trigger() -> impl Strategy<Value = Trigger> {
    let severity = prop_oneof![
        Just(DriftSeverity::AlertOnly),
        Just(DriftSeverity::Medium),
        Just(DriftSeverity::High),
        Just(DriftSeverity::Immediate)
    ];
    prop_oneof![
        severity.clone().prop_map(drift),
        severity.prop_map(|severity| Trigger::TrainingEnded(drift_of(severity, "v1"))),
        Just(Trigger::Schedule),
        any::<bool>().prop_map(|force| Trigger::Operator {
            requested_by: "a".into(),
            reason: "b".into(),
            force
        }),
    ]
}

/// Changes the facts exactly as the blocked rule asks.
fn unblock(rule: &str, facts: &mut Facts, trigger: &mut Trigger, as_of: &mut DateTime<Utc>) {
    match rule {
        "severity" => {
            if let Trigger::Drift(drift) | Trigger::TrainingEnded(drift) = trigger {
                drift.severity = DriftSeverity::Medium;
            }
        }
        "training_in_progress" => facts.running = None,
        "superseded" => {
            if let (Trigger::Drift(drift) | Trigger::TrainingEnded(drift), Some(champion)) =
                (trigger, &facts.champion)
            {
                drift.champion = champion.clone();
            }
        }
        "cooldown" => *as_of = at(200),
        "new_rows" => facts.new_rows = Some(10_000),
        "breaker" => facts.immediate_trainings.clear(),
        other => panic!("unknown rule {other}"),
    }
}

proptest! {
    #[test]
    fn a_decision_trains_exactly_when_no_rule_blocks(facts in any_facts(), trigger in any_trigger()) {
        let decision = decide(&policy(), &facts, &trigger, at(100));
        let blocked = decision.rules.iter().any(|rule| rule.result == RuleResult::Blocked);
        prop_assert_eq!(blocked, matches!(decision.verdict, Verdict::Decline { .. }));
        prop_assert_eq!(decision.counterfactuals.is_empty(), !blocked);
        prop_assert_eq!(decide(&policy(), &facts, &trigger, at(100)), decision);
    }

    #[test]
    fn the_first_counterfactual_flips_the_decision_and_nothing_less_does(facts in any_facts(), trigger in any_trigger()) {
        let decision = decide(&policy(), &facts, &trigger, at(100));
        if let Some(first) = decision.counterfactuals.first() {
            let apply = |left_out: Option<&str>| {
                let (mut facts, mut trigger, mut as_of) = (facts.clone(), trigger.clone(), at(100));
                for rule in first.rules.iter().filter(|rule| Some(rule.as_str()) != left_out) {
                    unblock(rule, &mut facts, &mut trigger, &mut as_of);
                }
                matches!(decide(&policy(), &facts, &trigger, as_of).verdict, Verdict::Train { .. })
            };
            // An alert-only drift that becomes medium meets the rules it was exempt from before: none, so it flips too.
            prop_assert!(apply(None), "{:?}", decision);
            for rule in &first.rules {
                // Time also cures the breaker and a lost training; only those two may make a part enough.
                let time_helps = first.rules.iter().any(|rule| rule == "cooldown");
                if !(time_helps && (rule == "breaker" || rule == "training_in_progress")) {
                    prop_assert!(!apply(Some(rule)), "without {}: {:?}", rule, decision);
                }
            }
        }
    }
}
