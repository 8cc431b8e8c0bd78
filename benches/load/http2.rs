//! A process of HTTP/2 clients: `clients-http2 ADDRESS STREAMS COUNT STALLED PATH`, that many streams a connection.

use std::sync::{Arc, Mutex};

use axum::{body::Body, http::Request};
use http_body_util::BodyExt;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::net::TcpStream;

use super::{child, system, tally::Tally, wire::Decoder};

pub(crate) fn run(arguments: &[String]) {
    let [address, streams, count, _, path] = arguments else {
        panic!("usage: clients-http2 ADDRESS STREAMS COUNT STALLED PATH");
    };
    system::raise_open_files();
    let streams: usize = streams.parse().unwrap();
    let count: usize = count.parse().unwrap();
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let tally = Arc::new(Mutex::new(Tally::new()));
    for command in child::commands() {
        match command["do"].as_str() {
            Some("connect") => {
                tokio.block_on(connect(address, streams, count, path, &tally));
                let tally = tally.lock().unwrap();
                child::reply(&json!({"connected": tally.connected, "failed": tally.failed}));
            }
            Some("report") => child::reply(&tally.lock().unwrap().to_json()),
            Some("reset") => {
                tally.lock().unwrap().reset();
                child::reply(&json!({}));
            }
            _ => return,
        }
    }
}

async fn connect(
    address: &str,
    streams: usize,
    count: usize,
    path: &str,
    tally: &Arc<Mutex<Tally>>,
) {
    for first in (0..count).step_by(streams) {
        let socket = TcpStream::connect(address).await.unwrap();
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(socket));
        let (mut sender, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        for _ in first..count.min(first + streams) {
            let uri = format!("http://{address}{path}");
            let request = Request::get(uri).body(Body::empty()).unwrap();
            let answer = sender.send_request(request).await.unwrap();
            assert_eq!(answer.status(), 200);
            let mut body = answer.into_body();
            let first = body.frame().await;
            assert!(
                matches!(first, Some(Ok(_))),
                "a stream without a first frame"
            );
            tally.lock().unwrap().connected += 1;
            let tally = tally.clone();
            // The sender stays, or the connection would end with its streams.
            let sender = sender.clone();
            tokio::spawn(async move {
                let _sender = sender;
                let mut decoder = Decoder::of_body();
                while let Some(Ok(frame)) = body.frame().await {
                    let Ok(bytes) = frame.into_data() else {
                        continue;
                    };
                    let now = system::now();
                    let mut tally = tally.lock().unwrap();
                    tally.reads += 1;
                    tally.bytes += bytes.len() as u64;
                    decoder.feed(&bytes, now, &mut tally);
                }
                tally.lock().unwrap().closed += 1;
            });
        }
    }
}
