//! An event is done or parked, never both.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chassis::{HandleError, Handler, Tx};
use schemas::Received;

use crate::consumer::waste_deliveries;
use crate::support::{Bench, Running, count, dead_letters, eventually, receipt, send_sample};

/// Notes whether it was told to give up.
#[derive(Clone, Default)]
struct Told(Arc<AtomicBool>);

impl Handler for Told {
    type Prepared = ();

    async fn handle(&self, _: &mut Tx, _: &Received, (): &()) -> Result<(), HandleError> {
        Ok(())
    }

    async fn given_up(&self, _: &mut Tx, _: &Received, _: &str) -> anyhow::Result<()> {
        self.0.store(true, Ordering::SeqCst);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_done_while_another_gives_it_up_is_not_parked() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    let event = send_sample(&toy.bus).await;
    // A replica that was stopped in the middle of its transaction, while the event was delivered again and again.
    let mut slow = toy.pool.begin().await.unwrap();
    receipt(&mut slow, "toy", event).await;
    waste_deliveries(&toy, 9).await;
    let told = Told::default();
    let consumer = Running::consumer(&toy, told.clone());
    let waits = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    eventually("the other waits for the receipt", async || {
        (count(&toy.pool, waits).await >= 1).then_some(())
    })
    .await;
    slow.commit().await.unwrap();
    eventually("the broker has its answer", async || {
        let stream = toy
            .bus
            .jetstream()
            .get_stream(chassis::bus::STREAM)
            .await
            .unwrap();
        let reader = stream.consumer_info("toy").await.unwrap();
        (reader.num_ack_pending == 0 && reader.num_pending == 0).then_some(())
    })
    .await;
    consumer.stop().await;
    assert!(dead_letters(&toy.pool).await.is_empty());
    assert!(
        !told.0.load(Ordering::SeqCst),
        "whoever waits is not told of a failure"
    );
}
