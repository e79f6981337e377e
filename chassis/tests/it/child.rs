//! A whole toy service, run inside the test or as a process of its own that can be killed.

use std::time::Duration;

use chassis::outbox::{self, Draft};
use chassis::service::cancel_on_signal;
use chassis::{
    Cause, Context, Definition, HandleError, Handler, Reader, Service, Sources, Tasks, Tx, launch,
};
use schemas::events::{DriftCheckRequested, RetrainAsked};
use schemas::flow::VIGIE;
use schemas::{Event, EventId, EventKind, Received};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::support::{self, KINDS, MIGRATOR, effect};

/// Begins the `reason` of an event whose handler waits for a gate; the gate's name follows.
pub const WAIT_FOR: &str = "wait for ";

/// Handles `drift.check.requested`: an effect, and `retrain.asked` in its wake.
pub struct Toy;

impl Service for Toy {
    const DEFINITION: Definition = Definition {
        name: "toy",
        schema: "toy",
        about: "A service for tests.",
        defaults: &[
            "[toy]\n# How long a handler waits for its gate, 1s to 1h.\npatience = \"5m\"\n[http]\ntoy = \"\"\n",
        ],
        aliases: &[],
        migrator: &MIGRATOR,
    };
    type Config = Duration;

    fn configure(reader: &Reader<'_>) -> Duration {
        reader
            .section("toy")
            .duration("patience", Duration::from_secs(1)..=Duration::from_secs(3600))
    }

    async fn start(patience: Duration, context: Context, tasks: &mut Tasks) -> anyhow::Result<()> {
        let handler = ToyHandler {
            pool: context.pool.clone(),
            patience,
        };
        tasks.spawn(
            "consume",
            chassis::consume::run(context, KINDS, std::sync::Arc::new(handler)),
        );
        Ok(())
    }
}

/// Leaves a visit at once, waits for a gate if told to, and has its effects in the transaction.
pub struct ToyHandler {
    pub pool: PgPool,
    pub patience: Duration,
}

impl Handler for ToyHandler {
    type Prepared = ();

    async fn handle(&self, tx: &mut Tx, received: &Received, (): &()) -> Result<(), HandleError> {
        let Event::DriftCheckRequested(body) = &received.event else {
            return Err(HandleError::permanent("not what this service reads"));
        };
        let id = received.attributes.id;
        effect(tx, id, "toy").await?;
        sqlx::query("insert into visit (event_id) values ($1)")
            .bind(id.uuid())
            .execute(&self.pool)
            .await?;
        if let Some(gate) = body.reason.strip_prefix(WAIT_FOR) {
            tokio::time::timeout(self.patience, passed(&self.pool, gate))
                .await
                .map_err(|_| anyhow::anyhow!("gate `{gate}` stayed closed"))??;
        }
        let asked = RetrainAsked {
            as_of: body.as_of,
            requested_by: "toy".to_owned(),
            reason: "test".to_owned(),
            force: false,
        };
        outbox::append(
            tx,
            VIGIE,
            Draft::new(&received.attributes.model, Cause::event(received), asked),
        )
        .await?;
        Ok(())
    }
}

async fn passed(pool: &PgPool, gate: &str) -> sqlx::Result<()> {
    loop {
        let open: Option<(i32,)> = sqlx::query_as("select 1 from gate where name = $1")
            .bind(gate)
            .fetch_optional(pool)
            .await?;
        if open.is_some() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub async fn open_gate(pool: &PgPool, gate: &str) {
    sqlx::query("insert into gate (name) values ($1)")
        .bind(gate)
        .execute(pool)
        .await
        .unwrap();
}

/// Waits until a handler has begun with the event for the `times`-th time.
pub async fn visited(pool: &PgPool, event: EventId, times: i64) {
    support::eventually(&format!("event {event} is visited {times} times"), async || {
        let (visits,): (i64,) = sqlx::query_as("select count(*) from visit where event_id = $1")
            .bind(event.uuid())
            .fetch_one(pool)
            .await
            .unwrap();
        (visits >= times).then_some(())
    })
    .await;
}

/// An event whose handler waits for `gate`; returns its id.
pub async fn send_waiting(bus: &chassis::bus::Bus, gate: &str) -> EventId {
    let (attributes, _) = support::sample();
    let body = DriftCheckRequested {
        as_of: attributes.time,
        requested_by: "test".to_owned(),
        reason: format!("{WAIT_FOR}{gate}"),
    };
    let body = Event::from(body).to_json().unwrap();
    support::send(bus, support::headers_of(&attributes), body).await;
    attributes.id
}

/// The follow-up events in the outbox.
pub async fn follow_ups(pool: &PgPool, event: EventId) -> i64 {
    let (count,): (i64,) =
        sqlx::query_as("select count(*) from outbox where causation_id = $1 and event_type = $2")
            .bind(event.uuid())
            .bind(EventKind::RetrainAsked.ce_type())
            .fetch_one(pool)
            .await
            .unwrap();
    count
}

/// Settings of a toy on the servers of a test.
pub fn sources(nats_url: &str, database_url: &str) -> Sources {
    let environment = [
        ("NATS_URL", nats_url),
        ("FRAUD_DATABASE_URL", database_url),
        // The smallest that is allowed, so that the redelivery after a crash comes soon.
        ("VIGIE__NATS__ACK_WAIT", "5s"),
        ("VIGIE__SHUTDOWN__DRAIN_TIMEOUT", "30s"),
    ];
    Sources {
        environment: environment
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        ..Sources::default()
    }
}

const CHILD_NATS: &str = "VIGIE_TEST_TOY_NATS";
const CHILD_DATABASE: &str = "VIGIE_TEST_TOY_DATABASE";

/// The toy as a process of its own: this test binary, asked for the test below alone.
pub fn spawn(nats_url: &str, database_url: &str) -> tokio::process::Child {
    tokio::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "child::the_toy_as_a_process",
            "--ignored",
            "--nocapture",
        ])
        .env(CHILD_NATS, nats_url)
        .env(CHILD_DATABASE, database_url)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "no test: other tests run it as a process of its own, to be killed"]
async fn the_toy_as_a_process() {
    let (Ok(nats), Ok(database)) = (std::env::var(CHILD_NATS), std::env::var(CHILD_DATABASE)) else {
        return;
    };
    chassis::install_crypto();
    let stop = CancellationToken::new();
    tokio::spawn(cancel_on_signal(stop.clone()));
    launch::<Toy>(&sources(&nats, &database), stop).await.unwrap();
}
