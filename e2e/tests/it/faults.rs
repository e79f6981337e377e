//! The short tier of the trial of faults: fixed seeds, every place to die at, and every guard left out once.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use chassis::trial::Guard;
use e2e::faults::controls::{self, CONTROLS};
use e2e::faults::crash_points::{
    ALERTS, COMMON, CrashOptions, FAILURE, PROMOTION, REFUSAL, SLOTS, TRAINING, places_in_sources,
};
use e2e::faults::disk_full::{self, DiskFullOptions};
use e2e::faults::outage::{self, OutageOptions};
use e2e::faults::random::{self, RandomOptions};
use e2e::faults::world::WorldOptions;
use e2e::faults::{crash_points, planted, report::Report};

/// Faults that each seed must bring, and how many of them must have hit something for sure: of the answers that a peer was to fail
/// with, nobody may have asked for some.
const FAULTS_MIN: usize = 110;
const HITS_MIN: usize = 70;

fn assert_holds(report: &Report) {
    assert!(report.holds(), "{report}");
    assert!(
        report.findings.counts.commits > 0 && report.findings.counts.promotions > 0,
        "{report}"
    );
}

async fn random(seed: u64) {
    let options = RandomOptions {
        seed,
        time: Duration::from_secs(75),
        pause: Duration::from_millis(200),
        pace: Duration::from_millis(200),
        tell: false,
        faults_min: FAULTS_MIN,
        world: WorldOptions {
            wrong_clocks: true,
            ..WorldOptions::default()
        },
    };
    let report = Box::pin(random::run(options)).await.expect("the trial goes on");
    eprintln!("{report}");
    assert_holds(&report);
    assert!(
        report.faults.len() >= FAULTS_MIN && report.hits() >= HITS_MIN,
        "{report}"
    );
    assert!(report.findings.counts.witnessed > 0, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_invariant_holds_under_the_faults_of_seed_1() {
    random(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_invariant_holds_under_the_faults_of_seed_2() {
    random(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_invariant_holds_under_the_faults_of_seed_3() {
    random(3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_dies_at_any_boundary_loses_nothing_and_doubles_nothing() {
    let options = CrashOptions {
        deepest: 8,
        pairs: false,
        patience: Duration::from_mins(15),
        world: WorldOptions::default(),
    };
    let report = Box::pin(crash_points::run(options))
        .await
        .expect("the trial goes on");
    eprintln!("{report}");
    assert_holds(&report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_outage_of_the_broker_everything_goes_on_and_no_process_has_ended() {
    let options = OutageOptions {
        away: Duration::from_secs(10),
        wiped: false,
        pace: Duration::from_millis(200),
        // Patience; what is measured stands in the documents.
        within: Duration::from_mins(2),
        world: WorldOptions::default(),
    };
    let outage = Box::pin(outage::run(options)).await.expect("the trial goes on");
    eprintln!("{}", outage.report);
    assert!(outage.report.holds(), "{}", outage.report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_disk_was_full_everything_goes_on() {
    let options = DiskFullOptions {
        times: 2,
        full: Duration::from_secs(2),
        world: WorldOptions::default(),
    };
    let Some(report) = Box::pin(disk_full::run(options))
        .await
        .expect("the trial goes on")
    else {
        assert!(
            !rustix::process::geteuid().is_root(),
            "root may mount a file system in memory"
        );
        eprintln!("skipped: this machine does not permit to mount a file system in memory, as root may");
        return;
    };
    eprintln!("{report}");
    assert!(report.holds(), "{report}");
    assert!(report.findings.counts.commits > 0, "{report}");
}

#[test]
fn every_boundary_of_the_sources_is_a_place_to_die_at() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let known: BTreeSet<String> = [
        COMMON.as_slice(),
        &SLOTS,
        &TRAINING,
        &FAILURE,
        &PROMOTION,
        &ALERTS,
        &REFUSAL,
    ]
    .concat()
    .into_iter()
    .map(str::to_owned)
    .collect();
    assert_eq!(places_in_sources(&workspace).expect("sources"), known);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_auditor_names_every_invariant_that_is_spoilt() {
    let (quiet, spoilt) = Box::pin(planted::run(&WorldOptions::default()))
        .await
        .expect("the trial goes on");
    assert!(quiet.violations.is_empty(), "{:?}", quiet.violations);
    for invariant in planted::INVARIANTS {
        assert!(
            spoilt.violates(invariant),
            "{invariant} was spoilt and still holds: {:?}",
            spoilt.violations
        );
    }
}

async fn fails_as_named(guard: Guard) {
    let (_, invariant) = CONTROLS
        .into_iter()
        .find(|(known, _)| *known == guard)
        .expect("a control");
    let findings = Box::pin(controls::run(guard, true, &WorldOptions::default()))
        .await
        .expect("the trial goes on");
    assert!(
        findings.violates(invariant),
        "without {guard:?} {invariant} still holds: {:?}",
        findings.violations
    );
}

async fn holds_with(guard: Guard) {
    let findings = Box::pin(controls::run(guard, false, &WorldOptions::default()))
        .await
        .expect("the trial goes on");
    assert!(
        findings.violations.is_empty(),
        "with {guard:?}: {:?}",
        findings.violations
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_receipts_events_take_effect_twice() {
    fails_as_named(Guard::Inbox).await;
    holds_with(Guard::Inbox).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_sweep_what_the_broker_forgot_is_lost() {
    fails_as_named(Guard::Sweep).await;
    holds_with(Guard::Sweep).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_epoch_rule_a_loss_of_power_loses_events() {
    fails_as_named(Guard::Epoch).await;
    holds_with(Guard::Epoch).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_guarded_updates_a_late_process_reopens_what_has_ended() {
    fails_as_named(Guard::State).await;
    holds_with(Guard::State).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_committed_token_one_decision_has_two_runs() {
    fails_as_named(Guard::Token).await;
    holds_with(Guard::Token).await;
}
