//! A broker that takes every connection and drops it is not stormed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chassis::bus::Bus;
use chassis::settings::{COMMON_ALIASES, COMMON_DEFAULTS};
use chassis::{Reader, Settings, Sources};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Greets as nats-server does, and answers until `drops` says that it has had enough.
async fn greet(connection: TcpStream, drops: bool) -> std::io::Result<()> {
    let mut connection = BufReader::new(connection);
    let info = "INFO {\"server_id\":\"x\",\"version\":\"2.12.0\",\"proto\":1,\"headers\":true,\"jetstream\":true,\"max_payload\":1048576}\r\n";
    connection.write_all(info.as_bytes()).await?;
    let mut line = String::new();
    while connection.read_line(&mut line).await? > 0 {
        if line.starts_with("PING") {
            connection.write_all(b"PONG\r\n").await?;
            if drops {
                return Ok(());
            }
        }
        line.clear();
    }
    Ok(())
}

#[tokio::test]
async fn a_broker_that_takes_every_connection_and_drops_it_is_not_stormed() {
    chassis::install_crypto();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    let taken = Arc::new(AtomicUsize::new(0));
    let seen = taken.clone();
    let serving = tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let number = seen.fetch_add(1, Ordering::SeqCst);
            // The first lasts until the service is up.
            if number == 0 {
                let _ = tokio::time::timeout(Duration::from_millis(500), greet(connection, false)).await;
            } else {
                let _ = greet(connection, true).await;
            }
        }
    });
    let sources = Sources {
        overrides: vec![("test.toml".to_owned(), format!("[nats]\nurl = {url:?}\n"))],
        ..Sources::default()
    };
    let settings = Settings::load(&[COMMON_DEFAULTS], COMMON_ALIASES, &sources).unwrap();
    let nats = chassis::bus::NatsSettings::read(&Reader::new(&settings));
    let bus = Bus::connect(&nats, "stormy").await.unwrap();
    for _ in 0..100 {
        if taken.load(Ordering::SeqCst) >= 8 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (early, start) = (taken.load(Ordering::SeqCst), tokio::time::Instant::now());
    assert!(early >= 8, "it goes on trying: {early}");
    tokio::time::sleep(Duration::from_secs(4)).await;
    let (late, lasted) = (taken.load(Ordering::SeqCst), start.elapsed());
    // Hundreds without a pause.
    assert!(late - early < 10, "{} connections in {lasted:?}", late - early);
    drop(bus);
    serving.abort();
}
