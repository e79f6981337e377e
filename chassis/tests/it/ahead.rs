//! A consumer whose state outlived the tail of its stream. Newer servers put that right by themselves when they start, so a
//! server that still has one is played: it speaks NATS, passes every question of the API on to the real one, and says of a
//! consumer that it was delivered messages which the stream never had, until it has been deleted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_nats::Client;
use bytes::Bytes;
use chassis::bus::{Bus, NatsSettings};
use chassis::provision;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::support::{Bench, KINDS, send_sample};

/// What it says that the consumer was delivered; the stream of the test ends long before.
const NEVER_THERE: u64 = 1_000;

/// The server that is played. Dropping it ends it.
struct OldServer {
    port: u16,
    /// Consumers that were deleted through it.
    deleted: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl OldServer {
    async fn before(real: &Client) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let deleted = Arc::new(AtomicUsize::new(0));
        let (seen, real) = (Arc::clone(&deleted), real.clone());
        let task = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(converse(connection, real.clone(), Arc::clone(&seen)));
            }
        });
        Self { port, deleted, task }
    }

    fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }
}

impl Drop for OldServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Speaks with one client until it goes: as much of the protocol as requests need.
async fn converse(connection: TcpStream, real: Client, deleted: Arc<AtomicUsize>) -> Option<()> {
    let (reading, mut writing) = connection.into_split();
    let mut reading = BufReader::new(reading);
    let info = serde_json::json!({
        "server_id": "old", "server_name": "old", "version": "2.12.0", "go": "go1", "host": "127.0.0.1", "port": 4222,
        "proto": 1, "headers": true, "jetstream": true, "max_payload": 1 << 20, "client_id": 1,
    });
    writing
        .write_all(format!("INFO {info}\r\n").as_bytes())
        .await
        .ok()?;
    // The client asks with one inbox for all its questions.
    let mut inboxes: Vec<(String, String)> = Vec::new();
    loop {
        let mut line = String::new();
        if reading.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["PING"] => writing.write_all(b"PONG\r\n").await.ok()?,
            ["SUB", subject, .., id] => inboxes.push(((*subject).to_owned(), (*id).to_owned())),
            ["PUB", subject, reply, size] => {
                let mut question = vec![0; size.parse::<usize>().ok()? + 2];
                reading.read_exact(&mut question).await.ok()?;
                question.truncate(question.len() - 2);
                let answer = real
                    .request((*subject).to_owned(), Bytes::from(question))
                    .await
                    .ok()?;
                if subject.starts_with("$JS.API.CONSUMER.DELETE.") {
                    deleted.fetch_add(1, Ordering::SeqCst);
                }
                let said = if deleted.load(Ordering::SeqCst) == 0 {
                    ahead(&answer.payload)
                } else {
                    answer.payload.to_vec()
                };
                let inbox = inboxes
                    .iter()
                    .find(|(inbox, _)| reply.starts_with(inbox.trim_end_matches('*')));
                let (_, id) = inbox?;
                let head = format!("MSG {reply} {id} {}\r\n", said.len());
                writing
                    .write_all(&[head.as_bytes(), &said, b"\r\n"].concat())
                    .await
                    .ok()?;
            }
            // CONNECT, UNSUB, PONG. Questions with headers (HPUB) are not asked here.
            _ => {}
        }
    }
}

/// The answer, and if it is about a consumer, with what was never there.
fn ahead(answer: &[u8]) -> Vec<u8> {
    let mut answer: serde_json::Value = serde_json::from_slice(answer).unwrap();
    if let Some(delivered) = answer.pointer_mut("/delivered/stream_seq") {
        *delivered = NEVER_THERE.into();
    }
    answer.to_string().into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_ahead_of_its_stream_is_made_again() {
    let bench = Bench::new().await;
    let toy = bench.replica().await;
    provision::consumer(&toy.bus, &toy.nats, "toy", KINDS)
        .await
        .unwrap();
    send_sample(&toy.bus).await;
    let old = OldServer::before(&toy.bus.client()).await;
    let settings = bench.nats_settings(&old.url());
    let bus = Bus::connect(&settings, "toy").await.unwrap();

    // Who may not make consumers says what is wrong, and what to do.
    let looks_only = NatsSettings {
        provision: false,
        ..settings.clone()
    };
    let refused = provision::consumer(&bus, &looks_only, "toy", KINDS).await;
    let refused = format!("{:#}", refused.unwrap_err());
    for word in [
        "lost acknowledged data",
        "1000",
        "ends at 1",
        "vigie provision streams",
    ] {
        assert!(refused.contains(word), "{word:?} in {refused}");
    }
    assert_eq!(old.deleted.load(Ordering::SeqCst), 0);

    // Who may makes it again, from the beginning.
    let mut consumer = provision::consumer(&bus, &settings, "toy", KINDS).await.unwrap();
    assert_eq!(old.deleted.load(Ordering::SeqCst), 1);
    let info = consumer.info().await.unwrap();
    assert_eq!(info.delivered.stream_sequence, 0);
    assert_eq!(info.num_pending, 1, "what was there before is offered again");

    // And once only: it is not ahead any more.
    provision::consumer(&bus, &settings, "toy", KINDS).await.unwrap();
    assert_eq!(old.deleted.load(Ordering::SeqCst), 1);
}
