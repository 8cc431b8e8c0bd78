//! A process of clients: `clients ADDRESS TRANSPORT COUNT STALLED PATH`.
//!
//! One thread and one loop over all sockets, so that the clients cost little beside the server. The first `STALLED`
//! of them read the head of the answer, and nothing after it. Told what to do line by line, as [`super::child`] says.

use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::mpsc::{self, Receiver},
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, Waker, net::TcpStream};
use serde_json::{Value, json};
use socket2::{Domain, SockAddr, Socket, Type};

use super::{
    child, system,
    tally::Tally,
    wire::{Decoder, Fed},
};

/// Handshakes at a time: as many as a listener's backlog takes by far.
const IN_FLIGHT: usize = 100;
/// Connections of one source address, so that its ports suffice.
const PER_ADDRESS: usize = 8_000;

pub(crate) fn run(arguments: &[String]) {
    let [address, transport, count, stalled, path] = arguments else {
        panic!("usage: clients ADDRESS TRANSPORT COUNT STALLED PATH");
    };
    system::raise_open_files();
    let mut poll = Poll::new().unwrap();
    let waker = Waker::new(poll.registry(), Token(usize::MAX)).unwrap();
    let (commands_tx, commands) = mpsc::channel();
    std::thread::spawn(move || {
        for command in child::commands() {
            if commands_tx.send(command).is_err() || waker.wake().is_err() {
                return;
            }
        }
    });
    let count: usize = count.parse().unwrap();
    let stalled: usize = stalled.parse().unwrap();
    let clients = (0..count).map(|index| Client {
        socket: None,
        waits: false,
        asked: false,
        stalls: index < stalled,
        decoder: Decoder::of_connection(),
    });
    let mut crowd = Crowd {
        address: address.parse().unwrap(),
        transport: transport.clone(),
        path: path.clone(),
        clients: clients.collect(),
        to_open: Vec::new(),
        in_flight: 0,
        times: 0,
        came: 0,
        tally: Tally::new(),
        buffer: vec![0; 256 * 1024],
    };
    crowd.run(&mut poll, &commands);
}

struct Client {
    socket: Option<TcpStream>,
    /// The answer's head has not come yet.
    waits: bool,
    asked: bool,
    stalls: bool,
    decoder: Decoder,
}

struct Crowd {
    address: SocketAddr,
    transport: String,
    path: String,
    clients: Vec<Client>,
    /// Who is to connect, and when; the next one is the last.
    to_open: Vec<(Instant, usize)>,
    in_flight: usize,
    /// How often everybody was called.
    times: usize,
    /// How many came since the last command, or did not get in.
    came: usize,
    tally: Tally,
    buffer: Vec<u8>,
}

impl Crowd {
    fn run(&mut self, poll: &mut Poll, commands: &Receiver<Value>) {
        let mut events = Events::with_capacity(1024);
        let mut all_came: Option<Instant> = None;
        loop {
            match commands.try_recv() {
                Ok(command) => match command["do"].as_str() {
                    Some("connect") => {
                        self.call(Duration::ZERO);
                        all_came = Some(Instant::now());
                    }
                    Some("storm") => {
                        let within = command["within_ms"].as_u64().unwrap_or_default();
                        for client in &mut self.clients {
                            client.socket = None;
                            client.decoder.reconnect();
                        }
                        self.tally.connected = 0;
                        self.call(Duration::from_millis(within));
                        all_came = Some(Instant::now());
                    }
                    Some("report") => child::reply(&self.report()),
                    Some("reset") => {
                        self.tally.reset();
                        child::reply(&json!({}));
                    }
                    _ => return,
                },
                Err(mpsc::TryRecvError::Disconnected) => return,
                Err(mpsc::TryRecvError::Empty) => {}
            }
            while self.in_flight < IN_FLIGHT
                && self
                    .to_open
                    .pop_if(|(when, _)| *when <= Instant::now())
                    .map(|(_, index)| self.open(poll, index))
                    .is_some()
            {}
            if let Some(since) = all_came
                && self.came == self.clients.len()
            {
                all_came = None;
                child::reply(&json!({
                    "connected": self.tally.connected,
                    "failed": self.tally.failed,
                    "seconds": since.elapsed().as_secs_f64(),
                }));
            }
            let patience = match self.to_open.is_empty() {
                true => Duration::from_secs(1),
                false => Duration::from_millis(1),
            };
            if let Err(error) = poll.poll(&mut events, Some(patience)) {
                assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
                continue;
            }
            for event in &events {
                let Token(index) = event.token();
                if index == usize::MAX {
                    continue;
                }
                if event.is_writable() && !self.clients[index].asked {
                    self.ask(index);
                }
                if event.is_readable() || event.is_read_closed() {
                    self.read(index, event.is_read_closed());
                }
            }
        }
    }

    /// Lets everybody come, evenly spread in a random order over some time.
    fn call(&mut self, within: Duration) {
        let now = Instant::now();
        let count = self.clients.len();
        self.came = 0;
        self.times += 1;
        self.to_open = (0..count)
            // Steps of a prime walk through all places in an order that looks random.
            .map(|place| {
                (
                    now + within.mul_f64(place as f64 / count as f64),
                    place * 7919 % count,
                )
            })
            .collect();
        // A count that the prime divides would visit some twice.
        assert_ne!(count % 7919, 0, "another number of clients, please");
        self.to_open.reverse();
    }

    fn open(&mut self, poll: &Poll, index: usize) {
        self.in_flight += 1;
        let client = &mut self.clients[index];
        client.waits = true;
        client.asked = false;
        match connect(self.address, index, self.times) {
            Ok(mut socket) => {
                let interest = Interest::READABLE | Interest::WRITABLE;
                poll.registry()
                    .register(&mut socket, Token(index), interest)
                    .unwrap();
                client.socket = Some(socket);
            }
            Err(_) => self.came_in(index, false),
        }
    }

    /// Sends the request, once the connection is there.
    fn ask(&mut self, index: usize) {
        let client = &mut self.clients[index];
        let Some(socket) = &mut client.socket else {
            return;
        };
        client.asked = true;
        let mut request = format!("GET {} HTTP/1.1\r\nhost: 127.0.0.1\r\n", self.path);
        request += match &*self.transport {
            "ws" => {
                "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                 sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            }
            _ => "accept: text/event-stream\r\n",
        };
        if !client.decoder.last_id().is_empty() {
            let id = String::from_utf8_lossy(client.decoder.last_id());
            request += &format!("last-event-id: {id}\r\n");
        }
        request += "\r\n";
        if socket.write_all(request.as_bytes()).is_err() {
            self.came_in(index, false);
        }
    }

    fn came_in(&mut self, index: usize, is_in: bool) {
        let client = &mut self.clients[index];
        if !std::mem::take(&mut client.waits) {
            return;
        }
        self.in_flight -= 1;
        self.came += 1;
        if is_in {
            self.tally.connected += 1;
        } else {
            client.socket = None;
            self.tally.failed += 1;
        }
    }

    fn read(&mut self, index: usize, to_the_end: bool) {
        loop {
            let client = &mut self.clients[index];
            if client.stalls && !client.waits {
                return;
            }
            let Some(socket) = &mut client.socket else {
                return;
            };
            let length = match socket.read(&mut self.buffer) {
                Ok(0) => {
                    self.leave(index);
                    return;
                }
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::NotConnected => return,
                Err(_) => {
                    self.leave(index);
                    return;
                }
            };
            self.tally.reads += 1;
            self.tally.bytes += length as u64;
            let bytes = &self.buffer[..length];
            match client.decoder.feed(bytes, system::now(), &mut self.tally) {
                Fed::Accepted => self.came_in(index, true),
                Fed::Refused => self.came_in(index, false),
                Fed::More => {}
            }
            let client = &mut self.clients[index];
            if let Some(pong) = client.decoder.take_pong()
                && let Some(socket) = &mut client.socket
            {
                let _ = socket.write_all(pong);
            }
            // A short read has emptied the socket: the next bytes are an event of their own.
            if length < self.buffer.len() && !to_the_end {
                return;
            }
        }
    }

    fn leave(&mut self, index: usize) {
        if self.clients[index].waits {
            return self.came_in(index, false);
        }
        self.clients[index].socket = None;
        self.tally.closed += 1;
    }

    fn report(&self) -> Value {
        let mut report = self.tally.to_json();
        let readers = self.clients.iter().filter(|client| !client.stalls);
        // Who has seen least: up to where everybody has come.
        let last = readers.map(|client| client.decoder.last_number().unwrap_or_default());
        report["last_of_all"] = json!(last.min());
        report
    }
}

/// From one of several addresses of this machine: a single one has 28,000 ports. Another one each time, because a
/// port that has just been left may be known to the server still, and is answered only when it is asked again.
fn connect(address: SocketAddr, index: usize, time: usize) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking().cloexec(), None)?;
    #[cfg(target_os = "linux")]
    {
        let group = (std::process::id() as usize % 50) * 4 + time % 2 * 2 + index / PER_ADDRESS;
        let source = Ipv4Addr::new(127, 0, 1, 1 + group as u8);
        socket.set_reuse_address(true)?;
        socket.bind(&SockAddr::from(SocketAddr::new(IpAddr::V4(source), 0)))?;
    }
    match socket.connect(&SockAddr::from(address)) {
        // EINPROGRESS
        Err(error) if error.raw_os_error() != Some(115) => return Err(error),
        _ => {}
    }
    Ok(TcpStream::from_std(socket.into()))
}
