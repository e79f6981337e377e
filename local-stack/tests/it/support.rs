//! What the tests here share.

use std::path::Path;
use std::time::Duration;

use async_nats::jetstream;
use sqlx::{Connection as _, PgConnection};

/// Polls until `holds`, for at most a minute.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1200 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not within a minute: {what}");
}

/// Whether any live process names `folder` in its command line.
pub fn runs_below(folder: &Path) -> bool {
    let folder = folder.to_string_lossy().into_owned();
    Path::new("/proc").read_dir().unwrap().any(|entry| {
        let entry = entry.unwrap();
        let is_process = entry
            .file_name()
            .to_string_lossy()
            .bytes()
            .all(|b| b.is_ascii_digit());
        let command_line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        is_process && String::from_utf8_lossy(&command_line).contains(&folder)
    })
}

pub async fn database(url: &str) -> PgConnection {
    PgConnection::connect(url)
        .await
        .unwrap_or_else(|error| panic!("connect to {url}: {error}"))
}

pub async fn jetstream(url: &str) -> jetstream::Context {
    let client = async_nats::connect(url)
        .await
        .unwrap_or_else(|error| panic!("connect to {url}: {error}"));
    jetstream::new(client)
}

/// Publishes one message to a stream of its own and waits for the acknowledgement.
pub async fn store_message(url: &str) {
    let jetstream = jetstream(url).await;
    let config = jetstream::stream::Config {
        name: "KEPT".into(),
        subjects: vec!["kept.>".into()],
        max_bytes: 64 * 1024 * 1024,
        ..Default::default()
    };
    jetstream.create_stream(config).await.unwrap();
    jetstream
        .publish("kept.one", "payload".into())
        .await
        .unwrap()
        .await
        .unwrap();
}

pub async fn stored_message(url: &str) -> Vec<u8> {
    let stream = jetstream(url).await.get_stream("KEPT").await.unwrap();
    stream.get_raw_message(1).await.unwrap().payload.to_vec()
}

/// Must come before the first TLS client of any kind.
pub fn install_crypto() {
    // The second call fails, which is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
}

pub fn http_client() -> reqwest::Client {
    install_crypto();
    reqwest::Client::new()
}
