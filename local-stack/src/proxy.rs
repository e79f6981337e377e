//! A TCP line between a service and what it talks to, which can be made bad and good again while connections are open.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// How a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// Everything passes.
    Pass,
    /// Each piece is late by this much, give or take half of it.
    Delay(Duration),
    /// So many bytes a second, each way.
    Throttle(u32),
    /// Half open: connections stand and are accepted, nothing arrives at either end until the line is good again.
    Silent,
    /// What is asked arrives, answers are lost: done, and nobody knows. Such a connection never recovers.
    AnswersLost,
    /// What is asked is lost, and the other end goes on saying what it says of itself. Such a connection never recovers.
    QuestionsLost,
    /// Answers end after so many bytes, and the connection with them.
    Truncate(u32),
    /// Connections are reset and none is accepted.
    Cut,
}

/// A line on a free loopback port. Dropping it cuts it.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: watch::Sender<State>,
    accepting: JoinHandle<()>,
    opened: Arc<AtomicU64>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    line: Line,
    /// Connections of an older generation are reset.
    generation: u64,
}

impl Proxy {
    /// A line to `target`, good at first, on the current runtime.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn to(target: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .context("find a free loopback port")?;
        let address = listener.local_addr()?;
        let (state, watched) = watch::channel(State {
            line: Line::Pass,
            generation: 0,
        });
        let opened = Arc::new(AtomicU64::new(0));
        let accepting = tokio::spawn(accept(listener, target, watched, Arc::clone(&opened)));
        Ok(Self {
            address,
            state,
            accepting,
            opened,
        })
    }

    /// A line to the server that a URL names.
    ///
    /// # Errors
    /// When the URL names no loopback address and port, or no port is free.
    pub async fn to_url(url: &str) -> anyhow::Result<Self> {
        Self::to(address_of(url)?).await
    }

    /// Where to connect.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL with this line in place of its server.
    ///
    /// # Errors
    /// When the URL names no loopback address and port.
    pub fn instead_of(&self, url: &str) -> anyhow::Result<String> {
        let target = address_of(url)?;
        Ok(url.replacen(&target.to_string(), &self.address.to_string(), 1))
    }

    /// Makes the line so from now on, also for connections that are open.
    pub fn set(&self, line: Line) {
        self.state.send_modify(|state| state.line = line);
    }

    /// Makes the line so for that time, unless somebody makes it otherwise meanwhile.
    pub fn set_for(&self, line: Line, time: Duration) {
        self.set(line);
        let state = self.state.clone();
        tokio::spawn(async move {
            tokio::time::sleep(time).await;
            state.send_if_modified(|now| {
                let same = now.line == line;
                if same {
                    now.line = Line::Pass;
                }
                same
            });
        });
    }

    /// Resets every open connection; new ones are as the line is.
    pub fn reset(&self) {
        self.state.send_modify(|state| state.generation += 1);
    }

    /// Connections that were opened so far.
    pub fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Its connections are tasks of the accepting one and end with it.
        self.accepting.abort();
    }
}

fn address_of(url: &str) -> anyhow::Result<SocketAddr> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    host.parse()
        .with_context(|| format!("`{url}` names no address and port, such as 127.0.0.1:4222"))
}

async fn accept(
    listener: TcpListener,
    target: SocketAddr,
    state: watch::Receiver<State>,
    opened: Arc<AtomicU64>,
) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((client, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        opened.fetch_add(1, Ordering::Relaxed);
        connections.spawn(carry(client, target, state.clone()));
    }
}

/// Carries one connection until an end closes it or the line breaks it.
async fn carry(client: TcpStream, target: SocketAddr, mut state: watch::Receiver<State>) {
    let State { line, generation } = *state.borrow_and_update();
    if line == Line::Cut {
        reset_on_close(&client);
        return;
    }
    let Ok(server) = TcpStream::connect(target).await else {
        reset_on_close(&client);
        return;
    };
    for stream in [&client, &server] {
        // Small pieces go at once: the line's own delays are enough.
        if stream.set_nodelay(true).is_err() {
            return;
        }
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let watched = state.clone();
    let broken = async {
        loop {
            let now = *state.borrow_and_update();
            if now.line == Line::Cut || now.generation != generation || state.changed().await.is_err() {
                return;
            }
        }
    };
    let (mut from_client, mut to_client, mut from_server, mut to_server) =
        (from_client, to_client, from_server, to_server);
    let carried = async {
        let up = pump(&mut from_client, &mut to_server, watched.clone(), Way::Ask);
        let down = pump(&mut from_server, &mut to_client, watched.clone(), Way::Answer);
        tokio::select! {
            // An answer that ends ends the connection; a question that ends leaves its answer to come.
            () = down => {}
            () = async { up.await; std::future::pending().await } => {}
        }
    };
    let is_broken = tokio::select! {
        () = broken => true,
        () = carried => false,
    };
    if is_broken {
        for stream in [to_client.as_ref(), to_server.as_ref()] {
            reset_on_close(stream);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Ask,
    Answer,
}

async fn pump(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    mut state: watch::Receiver<State>,
    way: Way,
) {
    let mut buffer = vec![0; 16 * 1024];
    let mut turn = 0_u32;
    let mut left: Option<u32> = None;
    let mut lost = false;
    loop {
        let Ok(length @ 1..) = from.read(&mut buffer).await else {
            // The other end may still have something to say.
            let _closed = to.shutdown().await;
            return;
        };
        let mut piece = &buffer[..length];
        loop {
            let line = state.borrow_and_update().line;
            // What once was lost makes a stream that nobody can read on.
            lost |= matches!(
                (line, way),
                (Line::AnswersLost, Way::Answer) | (Line::QuestionsLost, Way::Ask)
            );
            if lost {
                break;
            }
            match line {
                Line::Silent => {
                    if state.changed().await.is_err() {
                        return;
                    }
                    continue;
                }
                Line::Delay(late) => {
                    turn = turn.wrapping_mul(1_103_515_245).wrapping_add(12_345);
                    tokio::time::sleep(late / 2 + late * ((turn >> 16) % 100) / 100).await;
                }
                Line::Throttle(bytes) => {
                    let seconds = piece.len() as f64 / f64::from(bytes.max(1));
                    tokio::time::sleep(Duration::from_secs_f64(seconds.min(5.0))).await;
                }
                Line::Truncate(bytes) if way == Way::Answer => {
                    let rest = left.get_or_insert(bytes);
                    let take = piece.len().min(*rest as usize);
                    *rest -= u32::try_from(take).unwrap_or(u32::MAX);
                    piece = &piece[..take];
                }
                Line::Truncate(_) | Line::Pass | Line::AnswersLost | Line::QuestionsLost | Line::Cut => {}
            }
            if to.write_all(piece).await.is_err() || left == Some(0) {
                return;
            }
            break;
        }
    }
}

/// The far end sees a reset when the stream is dropped, not an orderly end.
fn reset_on_close(stream: &TcpStream) {
    let _best_effort = stream.set_zero_linger();
}
