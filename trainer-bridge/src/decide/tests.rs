//! The job's rules as a table, and two properties that hold whatever the backend answers.

use std::collections::BTreeMap;

use proptest::prelude::*;
use schemas::events::Artifact;
use schemas::{DecisionId, EventId, JobId, Share, TraceContext};

use super::*;
use crate::job::{BackendKind, JobState, Order, Origin, SplitLengths, Stages};

const RETRY: Retry = Retry {
    first: Duration::from_secs(1),
    longest: Duration::from_mins(1),
};

const PACE: Pace = Pace {
    poll_first: Duration::from_secs(10),
    poll_longest: Duration::from_mins(1),
    sticky: false,
};

fn at(minute: i64) -> DateTime<Utc> {
    "2026-03-01T00:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::minutes(minute)
}

fn policy() -> Policy {
    Policy {
        attempts_max: 2,
        cancel_grace: Duration::from_mins(10),
        retry: RETRY,
        slice_min: TimeDelta::days(2),
    }
}

/// A job accepted at minute 0 with an hour to go, as it is at `minute`.
fn job(state: JobState, minute: i64) -> Job {
    let lengths = SplitLengths {
        training: TimeDelta::days(14),
        threshold: TimeDelta::days(3),
        holdout: TimeDelta::days(4),
    };
    Job {
        order: Order {
            job_id: JobId::of_key("job"),
            model: "fraud-cards".parse().unwrap(),
            decision_id: DecisionId::of_key("decision"),
            as_of: at(0),
            plan: Plan::new(at(0), TimeDelta::days(1), lengths, 42).unwrap(),
        },
        backend: BackendKind::Databricks,
        state,
        revision: 1,
        attempt: 1,
        token: None,
        run: None,
        failure: None,
        candidate: None,
        deadline: at(60),
        retries: 0,
        asks: 1,
        fence: 1,
        origin: Origin {
            event_id: EventId::of_key("event"),
            correlation_id: EventId::of_key("event"),
            trace: TraceContext::default(),
        },
        since: at(0),
        now: at(minute),
    }
}

fn run() -> RunRef {
    RunRef {
        run_id: "1".to_owned(),
        url: None,
    }
}

fn candidate() -> Box<Candidate> {
    Box::new(Candidate {
        algorithm: "x".to_owned(),
        artifact: Artifact {
            uri: "file:///x".to_owned(),
            sha256: scoring::digest_of(b"x"),
            bytes: 1,
            format: scoring::FORMAT.to_owned(),
        },
        training_rows: 1,
        training_frauds: 1,
        operating_threshold: Share::new(0.5).unwrap(),
        seed: 1,
        stages: Stages {
            load_seconds: None,
            train_seconds: 1.0,
        },
        reported: Vec::new(),
        notes: BTreeMap::new(),
        mlflow_run_id: None,
    })
}

fn transient() -> BackendError {
    BackendError::transient("the line is cut")
}

fn failed(retryable: bool) -> Observation {
    Observation::Failed {
        retryable,
        kind: TrainingFailure::RunFailed,
        detail: "it broke".to_owned(),
    }
}

/// What a step comes to, in a word.
fn word(step: &Step) -> &'static str {
    match step {
        Step::Wait { error: None, .. } => "look again",
        Step::Wait { error: Some(_), .. } => "try again",
        Step::Abort => "abort",
        Step::Move(Move::Submit { .. }) => "submit",
        Step::Move(Move::Run(_)) => "run",
        Step::Move(Move::Succeed(_)) => "succeed",
        Step::Move(Move::Fail(_)) => "fail",
        Step::Move(Move::Cancel(_)) => "cancel",
        Step::Move(Move::TimeOut(_)) => "time out",
    }
}

#[test]
fn what_a_backend_answers_decides_what_follows_until_the_deadline_does() {
    let cancelled = || Observation::Cancelled {
        detail: String::new(),
    };
    let stopped = || Observation::TimedOut {
        detail: String::new(),
    };
    let running = || Observation::InProgress {
        detail: String::new(),
    };
    let refused = || BackendError::Permanent("no".to_owned());
    let cases = [
        // minute, answer                      → step
        (1, Ok(running()), "look again"),
        (1, Ok(Observation::Finished(candidate())), "succeed"),
        (1, Ok(failed(true)), "submit"), // the platform's fault: another attempt
        (1, Ok(failed(false)), "fail"),
        (1, Ok(cancelled()), "cancel"),
        (1, Ok(stopped()), "time out"),
        (1, Err(transient()), "try again"),
        (1, Err(refused()), "fail"),
        // At the deadline (inclusive) what has ended counts, what has not is stopped.
        (60, Ok(Observation::Finished(candidate())), "succeed"),
        (60, Ok(failed(true)), "fail"),
        (60, Ok(running()), "abort"),
        (60, Err(transient()), "abort"),
        (59, Ok(running()), "look again"),
    ];
    for (minute, answer, expected) in cases {
        let shown = format!("minute {minute}: {answer:?}");
        let step = observed(&job(JobState::Running, minute), answer, &policy(), PACE);
        assert_eq!(word(&step), expected, "{shown}");
    }
    let last_attempt = Job {
        attempt: 2,
        ..job(JobState::Running, 1)
    };
    assert_eq!(
        word(&observed(&last_attempt, Ok(failed(true)), &policy(), PACE)),
        "fail"
    );
}

#[test]
fn a_submission_is_repeated_under_its_token_until_the_grace_after_the_deadline_ends() {
    let submit = |minute, answer| word(&submitted(&job(JobState::Submitting, minute), answer, &policy()));
    assert_eq!(submit(1, Ok(run())), "run");
    assert_eq!(submit(1, Err(transient())), "try again");
    assert_eq!(submit(1, Err(BackendError::Permanent("no".to_owned()))), "fail");
    // Overdue: the run may exist, so it is looked for to be stopped; a found one goes to `running` and is aborted there.
    assert_eq!(submit(61, Ok(run())), "run");
    assert_eq!(submit(61, Err(transient())), "try again");
    assert_eq!(submit(70, Err(transient())), "time out");
}

#[test]
fn a_refused_token_ends_a_training_that_was_never_submitted_and_no_other() {
    let refused = || BackendError::Unauthorised("HTTP 401".to_owned());
    let first = job(JobState::Submitting, 1);
    assert_eq!(word(&submitted(&first, Err(refused()), &policy())), "fail");
    let asked_before = Job { asks: 2, ..first };
    assert_eq!(
        word(&submitted(&asked_before, Err(refused()), &policy())),
        "try again"
    );
    let running = job(JobState::Running, 1);
    assert_eq!(
        word(&observed(&running, Err(refused()), &policy(), PACE)),
        "try again"
    );
    let late = job(JobState::Running, 61);
    assert_eq!(word(&observed(&late, Err(refused()), &policy(), PACE)), "abort");
    assert_eq!(word(&aborted(&late, Err(refused()), &policy())), "try again");
}

#[test]
fn a_run_that_cannot_be_cancelled_is_given_up_after_the_grace_and_that_is_said() {
    let abort = |minute, answer| aborted(&job(JobState::Running, minute), answer, &policy());
    assert_eq!(word(&abort(61, Ok(()))), "time out");
    assert_eq!(word(&abort(61, Err(transient()))), "try again");
    let Step::Move(Move::TimeOut(failure)) = abort(70, Err(transient())) else {
        panic!("not given up")
    };
    assert!(
        failure.detail.contains("may still be running"),
        "{}",
        failure.detail
    );
}

#[test]
fn a_job_begins_when_its_history_is_known_and_long_enough() {
    let begin = |minute, oldest| begin(&job(JobState::Accepted, minute), oldest, &policy());
    let day = |day: i64| at(day * 24 * 60);
    let plan = job(JobState::Accepted, 1).order.plan;
    assert_eq!(
        begin(1, Ok(Some(day(-100)))),
        Step::Move(Move::Submit { attempt: 1, plan })
    );
    let Step::Move(Move::Submit { plan: shrunk, .. }) = begin(1, Ok(Some(day(-11)))) else {
        panic!("not begun")
    };
    assert_eq!(shrunk.training.start(), day(-11));
    assert_eq!(word(&begin(1, Ok(Some(day(-5))))), "fail");
    assert_eq!(word(&begin(1, Ok(None))), "fail");
    assert_eq!(
        word(&begin(1, Err(LoadError::Transient("away".to_owned())))),
        "try again"
    );
    assert_eq!(
        word(&begin(60, Err(LoadError::Transient("away".to_owned())))),
        "time out"
    );
}

#[test]
fn looks_become_rarer_within_bounds_and_one_comes_right_after_the_deadline() {
    let delay = |minute, since| {
        let job = Job {
            since: at(since),
            ..job(JobState::Running, minute)
        };
        let running = Ok(Observation::InProgress {
            detail: String::new(),
        });
        match observed(&job, running, &policy(), PACE) {
            Step::Wait { after, .. } => after.as_secs(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(delay(0, 0), 10);
    assert_eq!(delay(5, 0), 30);
    assert_eq!(delay(30, 0), 60);
    assert_eq!(delay(59, -600), 60);
}

#[test]
fn pauses_double_and_a_servers_wish_goes_first() {
    let seconds =
        |retries, asked: Option<u64>| retry_delay(RETRY, retries, asked.map(Duration::from_secs)).as_secs();
    assert_eq!(
        [0, 1, 2, 5, 6, 60].map(|retries| seconds(retries, None)),
        [1, 2, 4, 32, 60, 60]
    );
    assert_eq!(seconds(0, Some(7)), 7);
    assert_eq!(seconds(9, Some(7)), 7);
    assert_eq!(
        seconds(0, Some(0)),
        1,
        "a server that asks for nothing is not hammered"
    );
}

#[test]
fn no_wish_of_a_server_carries_a_job_past_its_deadline() {
    let waits = |minute, seconds| {
        let error = BackendError::Transient {
            detail: String::new(),
            retry_after: Some(Duration::from_secs(seconds)),
        };
        match submitted(&job(JobState::Submitting, minute), Err(error), &policy()) {
            Step::Wait { after, .. } => after.as_secs(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(waits(10, 600), 600);
    assert_eq!(waits(58, 600), 120);
    assert_eq!(waits(61, 600), 60);
}

/// One answer of a backend that misbehaves.
#[derive(Debug, Clone, Copy)]
enum Mood {
    Works,
    Cut,
    Refuses,
    Runs,
    Breaks { retryable: bool },
    Finishes,
}

fn any_mood() -> impl Strategy<Value = Mood> {
    prop_oneof![
        3 => Just(Mood::Works),
        4 => Just(Mood::Cut),
        1 => Just(Mood::Refuses),
        6 => Just(Mood::Runs),
        1 => any::<bool>().prop_map(|retryable| Mood::Breaks { retryable }),
        1 => Just(Mood::Finishes),
    ]
}

fn answer<T>(mood: Mood, works: T) -> Result<T, BackendError> {
    match mood {
        Mood::Cut => Err(transient()),
        Mood::Refuses => Err(BackendError::Permanent("no".to_owned())),
        Mood::Works | Mood::Runs | Mood::Breaks { .. } | Mood::Finishes => Ok(works),
    }
}

fn observation(mood: Mood) -> Result<Observation, BackendError> {
    let observed = match mood {
        Mood::Finishes => Observation::Finished(candidate()),
        Mood::Breaks { retryable } => failed(retryable),
        _ => Observation::InProgress {
            detail: String::new(),
        },
    };
    answer(mood, observed)
}

/// Plays a job against a backend's moods; gives the moves made and when it ended.
fn play(moods: &[Mood]) -> (Vec<&'static str>, DateTime<Utc>) {
    let mut job = job(JobState::Accepted, 0);
    let mut moves = Vec::new();
    for mood in moods.iter().cycle() {
        let step = match job.state {
            JobState::Accepted => begin(&job, Ok(Some(at(-1_000_000))), &policy()),
            JobState::Submitting => submitted(&job, answer(*mood, run()), &policy()),
            JobState::Running => match observed(&job, observation(*mood), &policy(), PACE) {
                Step::Abort => aborted(&job, answer(*mood, ()), &policy()),
                other => other,
            },
            _ => return (moves, job.now),
        };
        match &step {
            Step::Wait { after, error } => {
                job.now += TimeDelta::from_std(*after).unwrap();
                job.retries = if error.is_some() { job.retries + 1 } else { 0 };
                continue;
            }
            Step::Abort => unreachable!("carried out above"),
            Step::Move(step) => {
                job.state = match step {
                    Move::Submit { attempt, .. } => {
                        job.attempt = *attempt;
                        JobState::Submitting
                    }
                    Move::Run(_) => JobState::Running,
                    Move::Succeed(_) => JobState::Succeeded,
                    Move::Fail(_) => JobState::Failed,
                    Move::Cancel(_) => JobState::Cancelled,
                    Move::TimeOut(_) => JobState::TimedOut,
                };
                (job.since, job.retries) = (job.now, 0);
            }
        }
        moves.push(word(&step));
    }
    (moves, job.now)
}

proptest! {
    #[test]
    fn every_job_ends_shortly_after_its_deadline_whatever_the_backend_does(
        moods in prop::collection::vec(any_mood(), 1..40)
    ) {
        let (moves, ended) = play(&moods);
        // An hour to the deadline, ten minutes of grace, one longest pause.
        prop_assert!(ended <= at(60 + 10 + 1), "{moves:?} ended at {ended}");
        prop_assert!(["succeed", "fail", "cancel", "time out"].contains(moves.last().unwrap()));
    }

    #[test]
    fn a_job_has_at_most_as_many_tokens_as_attempts(moods in prop::collection::vec(any_mood(), 1..40)) {
        let (moves, _) = play(&moods);
        let submissions = moves.iter().filter(|step| **step == "submit").count();
        prop_assert!((1..=2).contains(&submissions), "{moves:?}");
    }
}
