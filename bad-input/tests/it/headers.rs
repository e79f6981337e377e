//! Headers as bytes: what the client library reads, and what we say that it reads.

use std::time::Duration;

use async_nats::{HeaderName, HeaderValue};
use bad_input::{Target, Verdict, mutated};
use chassis::unreadable::readable;
use futures_util::StreamExt as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufStream};
use tokio::net::TcpListener;

const WORDS: &[&str] = &[
    "NATS/1.0",
    "NATS/1.0\r\n",
    "\r\n",
    "\r",
    "\n ",
    "\r\n\t",
    ": ",
    ":",
    "ce-id: x\r\n",
    "Nats-Msg-Id: y\r\n",
    " 503",
    " 100 Idle Heartbeat",
    "\u{85}",
    "\u{a0}",
    "\u{2028}",
    "é: x\r\n",
];
/// As much as the broker takes.
const BYTES_MAX: usize = 65_536;

/// Names and values as the client puts them together.
fn fields(text: &str) -> Vec<(String, String)> {
    let mut fields: Vec<(String, String)> = Vec::new();
    let mut folds = false;
    for line in text.lines().skip(1) {
        if line.is_empty() {
            folds = false;
        } else if folds && line.starts_with(char::is_whitespace) {
            fields.last_mut().unwrap().1.push_str(line);
        } else {
            let (name, value) = line.split_once(':').unwrap();
            fields.push((name.to_owned(), value.trim_start().to_owned()));
            folds = true;
        }
    }
    for (_, value) in &mut fields {
        value.truncate(value.trim_end().len());
    }
    fields
}

fn read(input: &[u8]) -> Verdict {
    if let Err(reason) = readable(input) {
        return Err(reason.replace(' ', "_"));
    }
    let text = std::str::from_utf8(input).unwrap();
    let fields = fields(text);
    for (name, value) in &fields {
        // What is read can be written again: to the dead letters, and when it is redriven.
        name.parse::<HeaderName>().unwrap();
        value.parse::<HeaderValue>().unwrap();
    }
    let pairs = fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let body = br#"{"as_of":"2026-01-01T00:00:00Z","requested_by":"x","reason":""}"#;
    match schemas::decode(pairs, body) {
        Ok(_) => Ok(()),
        Err(refusal) => Err(refusal.class().to_owned()),
    }
}

#[test]
fn any_headers_are_read_or_refused_for_a_reason() {
    let target = Target {
        name: "headers",
        words: WORDS,
        samples: Vec::new(),
        bytes_max: BYTES_MAX,
        slow: false,
        read: &read,
    };
    target.run();
}

/// Whether a client of the library gets the message as one of somebody's, from a server that sends exactly these bytes.
async fn client_reads(header: &[u8]) -> bool {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let header = header.to_vec();
    let server = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufStream::new(stream);
        let info =
            br#"INFO {"server_id":"S","version":"2.15.1","max_payload":1048576,"headers":true,"proto":1}"#;
        stream.write_all(&[info, &b"\r\n"[..]].concat()).await.unwrap();
        stream.flush().await.unwrap();
        let mut line = Vec::new();
        let mut sent = false;
        loop {
            line.clear();
            // A client that hangs up connects again, and one that is dead closes its connection.
            let read = tokio::select! {
                read = stream.read_until(b'\n', &mut line) => read.unwrap_or(0),
                _ = listener.accept() => 0,
            };
            if read == 0 {
                return false;
            }
            if line.starts_with(b"PONG") && sent {
                return true;
            }
            if line.starts_with(b"PING") {
                stream.write_all(b"PONG\r\n").await.unwrap();
            }
            if line.starts_with(b"SUB") {
                let sid = String::from_utf8_lossy(&line)
                    .trim()
                    .rsplit(' ')
                    .next()
                    .unwrap()
                    .to_owned();
                let size = format!("HMSG s {sid} {} {}\r\n", header.len(), header.len() + 1);
                stream
                    .write_all(&[size.as_bytes(), &header, b"x\r\nPING\r\n"].concat())
                    .await
                    .unwrap();
                sent = true;
            }
            stream.flush().await.unwrap();
        }
    };
    let client = async {
        let options = async_nats::ConnectOptions::new().max_reconnects(1);
        let client = options.connect(address.to_string()).await.unwrap();
        (client.subscribe("s").await.unwrap(), client)
    };
    let (alive, (mut subscription, _client)) = tokio::join!(server, client);
    if !alive {
        return false;
    }
    let message = tokio::time::timeout(Duration::from_secs(30), subscription.next())
        .await
        .unwrap();
    message.is_some_and(|message| message.status.is_none())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_library_reads_what_we_say_that_it_reads() {
    // The library's own panics are what is looked for, and need not be told.
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panic.to_string().contains("invalid header value") {
            told(panic);
        }
    }));
    let count: u32 = std::env::var("VIGIE_FUZZ_INPUTS").map_or(300, |text| text.parse().unwrap());
    let seed: u64 = std::env::var("VIGIE_FUZZ_SEED").map_or(1, |text| text.parse().unwrap());
    let mut rng = StdRng::seed_from_u64(seed);
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/headers");
    let pool: Vec<Vec<u8>> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
        .collect();
    let mut inputs = pool.clone();
    inputs.sort();
    let pool = inputs.clone();
    // Connections are slow: a hundredth of what the pure targets get.
    for _ in 0..count.min(300).max(count / 100) {
        inputs.push(mutated(&pool, WORDS, 4_096, &mut rng));
    }
    let (mut read, mut refused) = (0, 0);
    for header in inputs.iter().filter(|header| !header.is_empty()) {
        let ours = readable(header);
        assert_eq!(
            client_reads(header).await,
            ours.is_ok(),
            "{ours:?}: {}",
            header.escape_ascii()
        );
        *(if ours.is_ok() { &mut read } else { &mut refused }) += 1;
    }
    assert!(read > 0 && refused > 0);
    println!(
        "bad-input\tclient\t{}\t{read}\tunreadable {refused}\t-\t-",
        read + refused
    );
}
