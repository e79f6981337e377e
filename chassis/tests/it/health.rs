//! Alive means: our own loops move. Ready means: work can be done now.

use std::net::SocketAddr;

use chassis::Context;
use local_stack::proxy::{Line, Proxy};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{Bench, Running, eventually, handled, obliging, send_sample};

/// A free port of loopback; nobody else gets it between here and the bind, or the test says so.
fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

async fn get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer))
}

async fn until(address: SocketAddr, path: &str, status: u16) -> String {
    eventually(&format!("{path} answers {status}"), async || {
        get(address, path)
            .await
            .filter(|(found, _)| *found == status)
            .map(|(_, text)| text)
    })
    .await
}

fn serve(context: &Context) -> (SocketAddr, Running) {
    let address = free_address();
    (
        address,
        Running::spawn(context, chassis::health::serve(context.clone(), address)),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_only_when_work_can_be_done_and_alive_all_the_time() {
    let bench = Bench::new().await;
    let nats = Proxy::to_url(&bench.env.nats_url).await.unwrap();
    let database = Proxy::to_url(&bench.env.database_url).await.unwrap();
    let toy = bench
        .replica_of(
            "toy",
            "toy",
            &nats.instead_of(&bench.env.nats_url).unwrap(),
            &database.instead_of(&bench.env.database_url).unwrap(),
        )
        .await;
    let (address, server) = serve(&toy);
    let text = until(address, "/readyz", 503).await;
    assert!(
        text.contains("no fetch answered yet"),
        "nothing is consumed yet: {text}"
    );
    let consumer = Running::consumer(&toy, obliging());
    until(address, "/readyz", 200).await;

    database.set(Line::Cut);
    let text = until(address, "/readyz", 503).await;
    assert!(text.contains("PostgreSQL"), "{text}");
    assert_eq!(
        get(address, "/healthz").await.unwrap().0,
        200,
        "a restart would not help"
    );
    database.set(Line::Pass);
    until(address, "/readyz", 200).await;

    nats.set(Line::Cut);
    let text = until(address, "/readyz", 503).await;
    assert!(text.contains("NATS"), "{text}");
    assert_eq!(get(address, "/healthz").await.unwrap().0, 200);
    nats.set(Line::Pass);
    until(address, "/readyz", 200).await;
    consumer.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_what_happened() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    let (address, server) = serve(&toy);
    let consumer = Running::consumer(&toy, obliging());
    let event = send_sample(&toy.bus).await;
    handled(&toy.pool, event).await;
    crate::support::send(&toy.bus, async_nats::HeaderMap::new(), "rubbish").await;
    let expected = [
        "vigie_events_handled_total{service=\"toy\",subject=\"drift.check.requested\",outcome=\"done\"} 1",
        "vigie_events_handled_total{service=\"toy\",subject=\"drift.check.requested\",outcome=\"parked\"} 1",
        "vigie_messages_parked_total{service=\"toy\",class=\"undecodable\"} 1",
        "vigie_dead_letters{service=\"toy\"} 1",
        // Nobody publishes here: the announcement of the dead letter waits.
        "vigie_outbox_unpublished{service=\"toy\"} 1",
        "vigie_event_handle_seconds_count{service=\"toy\",subject=\"drift.check.requested\"} 2",
    ];
    let text = eventually("everything is counted", async || {
        let (_, text) = get(address, "/metrics").await?;
        expected.iter().all(|line| text.contains(line)).then_some(text)
    })
    .await;
    assert!(
        text.contains("vigie_outbox_oldest_age_seconds{service=\"toy\"}")
            && text.contains("vigie_event_log_unsealed{service=\"toy\"}"),
        "{text}"
    );
    let offset = text
        .split("vigie_clock_offset_seconds{service=\"toy\"} ")
        .nth(1)
        .unwrap();
    let offset: f64 = offset.lines().next().unwrap().parse().unwrap();
    assert!(offset.abs() < 60.0, "one machine has one clock: {offset}");
    assert!(
        text.contains("content-type: application/openmetrics-text"),
        "{text}"
    );
    assert!(text.trim_end().ends_with("# EOF"), "{text}");
    consumer.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn alive_before_anything_is_done_and_nothing_else_is_served() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    let (address, server) = serve(&toy);
    assert_eq!(until(address, "/healthz", 200).await.lines().last(), Some("ok"));
    assert_eq!(
        get(address, "/nothing").await.map(|(status, _)| status),
        Some(404)
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_taken_is_named_with_its_setting() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = format!("{:#}", chassis::health::serve(toy, address).await.unwrap_err());
    assert!(
        error.contains(&address.to_string()) && error.contains("http.toy"),
        "{error}"
    );
}
