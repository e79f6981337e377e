//! The loop under identities that can do nothing but their work.

use std::path::Path;
use std::time::Duration;

use chassis::bus::{Bus, NatsSettings};
use chassis::redrive::{self, Because, Decision, Which};
use chassis::settings::{COMMON_ALIASES, COMMON_DEFAULTS};
use chassis::{Reader, Service, Settings, Sources};
use chrono::Utc;
use drift_monitor::DriftMonitor;
use local_stack::TestEnv;
use notifier::Notifier;
use schemas::events::DriftCheckRequested;
use schemas::{Event, EventKind, ModelName};
use sqlx::{AssertSqlSafe, Executor as _, PgPool};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use vigie::operator::Operator;
use vigie::provision::{nats, postgres};

use crate::roles::as_role;

/// Longest wait for anything; reached only when the test fails.
const PATIENCE: Duration = Duration::from_secs(90);

/// Settings of one identity.
fn sources(env: &TestEnv, seeds: &Path, identity: &str) -> Sources {
    let seed = std::fs::read_to_string(seeds.join(format!("{identity}.nk"))).unwrap();
    let settings = format!(
        "[database]\nurl = {:?}\nmigrate = false\n[transactions]\nurl = {:?}\n[nats]\nurl = {:?}\nnkey = {:?}\nprovision = false\nstream_bytes_max = 16777216\n\
         [http]\ndrift_monitor = \"\"\nnotifier = \"\"\n[notify]\nmailbox = {:?}\n\
         [models.cards]\nsource = \"postgres\"\ntable = \"payment\"\nid = \"id\"\ntime = \"at\"\nlabel = \"fraud\"\n\
         label_time = \"known_at\"\nscore = \"score\"\nfeatures = [\"amount\"]\n",
        as_role(&env.database_url, &postgres::role_of(identity)),
        as_role(&env.database_url, postgres::SOURCE),
        env.nats.url(),
        seed.trim(),
        seeds.join("mails").display().to_string(),
    );
    Sources {
        overrides: vec![("test".to_owned(), settings)],
        ..Sources::default()
    }
}

fn launch<S: Service>(sources: Sources, stop: &CancellationToken) -> JoinHandle<anyhow::Result<()>> {
    let stop = stop.clone();
    tokio::spawn(async move { chassis::launch::<S>(&sources, stop).await })
}

fn nats_settings(sources: &Sources) -> NatsSettings {
    let settings = Settings::load(&[COMMON_DEFAULTS], COMMON_ALIASES, sources);
    // Sections of services stay unread here.
    NatsSettings::read(&Reader::new(&settings.unwrap()))
}

async fn until(pool: &PgPool, query: &'static str) {
    let asking = async {
        loop {
            if let Ok((true,)) = sqlx::query_as::<_, (bool,)>(query).fetch_one(pool).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let answered = tokio::time::timeout(PATIENCE, asking).await;
    answered.unwrap_or_else(|_| panic!("waited in vain for {query}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_goes_through_services_that_can_do_nothing_but_their_work() {
    chassis::install_crypto();
    let env = TestEnv::new().await;
    let folder = tempfile::tempdir().unwrap();
    let seeds = folder.path();
    let identities = nats::identities(seeds).unwrap();
    env.nats.restart_with(&nats::configuration(&identities)).unwrap();
    let pool = PgPool::connect(&env.database_url).await.unwrap();
    pool.execute("create table payment (id bigint, at timestamptz, fraud boolean, known_at timestamptz, score real, amount float8)")
        .await
        .unwrap();

    let payments = [("public".to_owned(), "payment".to_owned())];
    let roles = postgres::whole(&payments, PATIENCE);
    pool.execute(AssertSqlSafe(roles)).await.unwrap();
    let owner = PgPool::connect(&as_role(&env.database_url, postgres::OWNER))
        .await
        .unwrap();
    postgres::bring_up_to_date(&owner).await.unwrap();

    // They come before anybody has made streams, say what to do, and wait.
    let stop = CancellationToken::new();
    let services = [
        launch::<DriftMonitor>(sources(&env, seeds, "drift-monitor"), &stop),
        launch::<Notifier>(sources(&env, seeds, "notifier"), &stop),
    ];
    let monitor = nats_settings(&sources(&env, seeds, "drift-monitor"));
    let bus = Bus::connect(&monitor, "drift-monitor").await.unwrap();
    let told = chassis::provision::streams(&bus, &monitor)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        told.contains("stream VIGIE is missing; run `vigie provision streams`"),
        "{told}"
    );
    // The very same service may not help itself.
    let greedy = NatsSettings {
        provision: true,
        ..monitor
    };
    chassis::provision::streams(&bus, &greedy).await.unwrap_err();

    let provisioner = nats_settings(&sources(&env, seeds, "provisioner"));
    let provisioning = Bus::connect(&provisioner, "provisioner").await.unwrap();
    for _ in 0..2 {
        chassis::provision::everything(&provisioning, &provisioner)
            .await
            .unwrap();
    }

    let operator = Operator::connect(&sources(&env, seeds, "operator"))
        .await
        .unwrap();
    let wish = DriftCheckRequested {
        as_of: Utc::now(),
        requested_by: "cli:test".to_owned(),
        reason: String::new(),
    };
    let model = ModelName::new("cards").unwrap();
    let answer = operator
        .ask(&model, wish, &[EventKind::DriftChecked], PATIENCE)
        .await
        .unwrap();
    assert!(matches!(answer.event, Event::DriftChecked(_)));
    until(&pool, "select exists (select from notifier.outbox where subject = 'alert.sent' and published_at is not null)").await;
    for query in [
        "select count(*) = 0 from drift_monitor.dead_letter",
        "select count(*) = 0 from notifier.dead_letter",
    ] {
        until(&pool, query).await;
    }

    // What is parked is offered once more by its publisher, the only one that may say it.
    let jetstream = bus.jetstream();
    let published = jetstream.publish("drift.checked", "no event".into());
    published.await.unwrap().await.unwrap();
    until(
        &pool,
        "select exists (select from notifier.dead_letter where state = 'parked')",
    )
    .await;
    let letters = redrive::letters(operator.pool(), &Which::default(), 10)
        .await
        .unwrap();
    let because = Because {
        by: "cli:test",
        why: "to see who publishes it",
    };
    redrive::decide(
        operator.pool(),
        letters[0].dead_letter_id,
        Decision::Redrive,
        because,
    )
    .await
    .unwrap();
    until(
        &pool,
        "select exists (select from drift_monitor.outbox where redriven = 1 and published_at is not null)",
    )
    .await;
    until(
        &pool,
        "select exists (select from notifier.dead_letter where state = 'parked') and exists (select from notifier.event_log where what = 'redriven')",
    )
    .await;

    // What somebody deletes is made again, and the loop goes on.
    let stream = provisioning.jetstream().get_stream("VIGIE").await.unwrap();
    stream.delete_consumer("notifier").await.unwrap();
    chassis::provision::everything(&provisioning, &provisioner)
        .await
        .unwrap();
    until(
        &pool,
        "select exists (select from notifier.inbox where deliveries > 1)",
    )
    .await;

    stop.cancel();
    for service in services {
        service.await.unwrap().unwrap();
    }
}
