//! A service whose only effect is a row that nothing keeps single: what it counts is what the receipts promise.

use std::sync::Arc;

use chassis::{Context, Definition, HandleError, Handler, Reader, Service, Tasks, Tx};
use schemas::{EventKind, Received};
use sqlx::migrate::Migrator;

static MIGRATOR: Migrator = sqlx::migrate!("./migrations");

/// The events it reads.
const SUBSCRIPTION: &[EventKind] = &[EventKind::DriftDetected];

/// Its name.
pub const WITNESS: &str = "witness";

/// The service.
#[derive(Debug)]
pub struct Witness;

impl Service for Witness {
    const DEFINITION: Definition = Definition {
        name: WITNESS,
        schema: "witness",
        about: "counts how often each event takes effect, in trials",
        defaults: &[],
        aliases: &[],
        migrator: &MIGRATOR,
    };
    type Config = ();

    fn configure(_: &Reader<'_>) {}

    async fn start((): (), context: Context, tasks: &mut Tasks) -> anyhow::Result<()> {
        let handler = Arc::new(Counting);
        tasks.spawn("consume", chassis::consume::run(context, SUBSCRIPTION, handler));
        Ok(())
    }
}

struct Counting;

impl Handler for Counting {
    type Prepared = ();

    async fn handle(&self, tx: &mut Tx, received: &Received, (): &()) -> Result<(), HandleError> {
        sqlx::query("insert into effect (event_id) values ($1)")
            .bind(received.attributes.id.uuid())
            .execute(&mut **tx)
            .await?;
        Ok(())
    }
}
