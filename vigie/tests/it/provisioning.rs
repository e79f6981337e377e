//! `vigie provision streams --watch`: what somebody deletes comes back, and SIGTERM ends it.

use std::process::Stdio;

use chassis::bus::{STREAM, STREAM_DEAD};
use local_stack::TestEnv;
use schemas::flow::RETRAIN_DECIDER;
use service_bench::eventually;
use tokio::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_is_made_again_until_told_to_stop() {
    let env = TestEnv::new().await;
    let folder = tempfile::tempdir().unwrap();
    let mut watcher = Command::new(env!("CARGO_BIN_EXE_vigie"))
        .current_dir(folder.path())
        .env_clear()
        .env("NATS_URL", &env.nats_url)
        .args(["provision", "streams", "--watch"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let jetstream = async_nats::jetstream::new(async_nats::connect(&env.nats_url).await.unwrap());
    let there = async || {
        eventually("both streams and the decider's consumer", async || {
            jetstream.get_stream(STREAM_DEAD).await.ok()?;
            let stream = jetstream.get_stream(STREAM).await.ok()?;
            stream.consumer_info(RETRAIN_DECIDER).await.ok()
        })
        .await;
    };
    there().await;
    let stream = jetstream.get_stream(STREAM).await.unwrap();
    assert!(stream.delete_consumer(RETRAIN_DECIDER).await.unwrap().success);
    there().await;
    for stream in [STREAM, STREAM_DEAD] {
        assert!(jetstream.delete_stream(stream).await.unwrap().success);
    }
    there().await;

    let pid = rustix::process::Pid::from_raw(i32::try_from(watcher.id().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(watcher.wait().await.unwrap().success());
}
