//! A proxy between a client and a host that does what networks do: stall, drip, cut, go half open, reset.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// What happens to what the host sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// It passes.
    Free,
    /// Nothing is read from the host any more, and nothing is closed.
    Stalled,
    /// So many bytes at a time, with a pause after each.
    Drip(usize, Duration),
    /// Both ends are closed, wherever the stream is just then.
    Cut,
    /// The client's end is closed; the host's stays open, and nobody reads it.
    HalfOpen,
    /// The host's end is reset, the client's closed.
    Reset,
}

pub struct Proxy {
    pub address: SocketAddr,
    flow: Arc<watch::Sender<Flow>>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Proxy {
    pub async fn to(host: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let flow = Arc::new(watch::Sender::new(Flow::Free));
        let faults = flow.clone();
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let Ok((client, _)) = listener.accept().await else {
                    return;
                };
                connections.spawn(pass(client, host, faults.subscribe()));
                while connections.try_join_next().is_some() {}
            }
        });
        Self {
            address,
            flow,
            accepting,
        }
    }

    /// For all connections from now on, those that are open included.
    pub fn set(&self, flow: Flow) {
        self.flow.send_replace(flow);
    }

    /// Cuts, resets or half-closes what is open now; what comes later passes.
    pub async fn strike(&self, flow: Flow) {
        self.set(flow);
        // Each connection has seen it when it has let go of its receiver.
        super::soon("the connections to be struck", self.flow.closed()).await;
        self.set(Flow::Free);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn pass(client: TcpStream, host: SocketAddr, mut flow: watch::Receiver<Flow>) {
    let Ok(server) = TcpStream::connect(host).await else {
        return;
    };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let struck = tokio::select! {
        struck = downwards(&mut from_server, &mut to_client, &mut flow) => struck,
        // The client has left: no client here closes one direction only.
        _ = tokio::io::copy(&mut from_client, &mut to_server) => None,
    };
    match struck {
        Some(Flow::HalfOpen) => {
            drop((from_client, to_client, flow));
            // Both halves towards the host stay, unread, as long as the proxy does.
            std::future::pending::<()>().await;
        }
        Some(Flow::Reset) => {
            #[allow(
                deprecated,
                reason = "zero never blocks, which is what the deprecation is about"
            )]
            let _ = to_server.as_ref().set_linger(Some(Duration::ZERO));
        }
        _ => {}
    }
}

/// Until the host closes, or something strikes; what it was then.
async fn downwards(
    from: &mut tokio::net::tcp::OwnedReadHalf,
    to: &mut tokio::net::tcp::OwnedWriteHalf,
    flow: &mut watch::Receiver<Flow>,
) -> Option<Flow> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let now = *flow.borrow_and_update();
        let at_once = match now {
            Flow::Cut | Flow::HalfOpen | Flow::Reset => return Some(now),
            Flow::Stalled => {
                flow.changed().await.ok()?;
                continue;
            }
            Flow::Free => buffer.len(),
            Flow::Drip(bytes, pause) => {
                tokio::time::sleep(pause).await;
                bytes
            }
        };
        let read = tokio::select! {
            changed = flow.changed() => {
                changed.ok()?;
                continue;
            }
            read = from.read(&mut buffer[..at_once]) => read.ok()?,
        };
        if read == 0 {
            return None;
        }
        // A client that does not read holds only its own connection, and a strike frees it.
        tokio::select! {
            written = to.write_all(&buffer[..read]) => written.ok()?,
            changed = flow.wait_for(|flow| matches!(flow, Flow::Cut | Flow::HalfOpen | Flow::Reset)) => {
                return changed.ok().map(|flow| *flow);
            }
        }
    }
}
