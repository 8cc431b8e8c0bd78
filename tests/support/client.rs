//! One connection to a host, HTTP/1.1 or HTTP/2, without a pool or retries in between.

use std::net::SocketAddr;

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, Method, Response, header},
};
use http_body_util::BodyExt;
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
};

use super::{Answer, Stream, soon};

pub type Request = axum::http::Request<Body>;

pub fn request(method: Method, path: &str) -> Request {
    let mut request = Request::new(Body::empty());
    *request.method_mut() = method;
    *request.uri_mut() = path
        .parse()
        .unwrap_or_else(|error| panic!("{path}: {error}"));
    request
}

pub fn get(path: &str) -> Request {
    request(Method::GET, path)
}

pub fn post(path: &str, body: impl Into<Bytes>) -> Request {
    request(Method::POST, path).map(|_| Body::from(body.into()))
}

/// Writes bytes as they are and reads until the server closes.
pub async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let mut answer = Vec::new();
    let exchange = async {
        // A server that has seen enough may close before all was written.
        let _ = socket.write_all(bytes).await;
        let _ = socket.read_to_end(&mut answer).await;
    };
    soon("the server to answer and close", exchange).await;
    String::from_utf8_lossy(&answer).into_owned()
}

pub struct Connection {
    sender: Sender,
    address: SocketAddr,
    /// Only the first of those that share a connection has it.
    driver: Option<JoinHandle<()>>,
}

enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

impl Connection {
    pub async fn http1(address: SocketAddr) -> Self {
        let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
        let (sender, driver) = http1::handshake(io).await.unwrap();
        let driver = tokio::spawn(async move { drop(driver.await) });
        Self {
            sender: Sender::Http1(sender),
            address,
            driver: Some(driver),
        }
    }

    /// With prior knowledge, as gRPC clients do.
    pub async fn http2(address: SocketAddr) -> Self {
        let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
        let (sender, driver) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
        let driver = tokio::spawn(async move { drop(driver.await) });
        Self {
            sender: Sender::Http2(sender),
            address,
            driver: Some(driver),
        }
    }

    /// Another stream of the same HTTP/2 connection.
    pub fn share(&self) -> Self {
        let Sender::Http2(sender) = &self.sender else {
            panic!("an HTTP/1.1 connection has one stream only");
        };
        Self {
            sender: Sender::Http2(sender.clone()),
            address: self.address,
            driver: None,
        }
    }

    /// The head of the answer; the body is still to be read. `None` where the server closed instead.
    pub async fn try_open(&mut self, mut request: Request) -> Option<Response<Incoming>> {
        let asked = asked(&request);
        let authority = self.address.to_string();
        let response = match &mut self.sender {
            Sender::Http1(sender) => {
                let headers = request.headers_mut();
                headers
                    .entry(header::HOST)
                    .or_insert_with(|| authority.parse().unwrap());
                soon(&asked, sender.send_request(request)).await
            }
            Sender::Http2(sender) => {
                let path = request.uri().path_and_query().unwrap();
                let uri = format!("http://{authority}{path}");
                *request.uri_mut() = uri.parse().unwrap();
                soon(&asked, sender.send_request(request)).await
            }
        };
        response.ok()
    }

    pub async fn open(&mut self, request: Request) -> Response<Incoming> {
        let asked = asked(&request);
        match self.try_open(request).await {
            Some(response) => response,
            None => panic!("{asked}: the connection was closed without an answer"),
        }
    }

    /// Reads the answer to its end.
    pub async fn send(&mut self, request: Request) -> Answer {
        let asked = asked(&request);
        let (head, mut body) = self.open(request).await.into_parts();
        let mut answer = Answer {
            asked,
            status: head.status,
            headers: head.headers,
            body: Vec::new(),
            trailers: None,
            broken: false,
        };
        while let Some(frame) = soon(&answer.asked, body.frame()).await {
            match frame.map(|frame| frame.into_data()) {
                Ok(Ok(data)) => answer.body.extend_from_slice(&data),
                Ok(Err(frame)) => answer.trailers = frame.into_trailers().ok(),
                Err(_) => {
                    answer.broken = true;
                    break;
                }
            }
        }
        answer
    }

    /// Opens an event stream and reads its first frame. The stream keeps the connection.
    pub async fn stream(mut self, request: Request) -> Stream {
        let asked = asked(&request);
        let response = self.open(request).await;
        Stream::open(asked, self, response).await
    }

    /// The headers of `HEAD` and of streams that are not read on.
    pub async fn head(&mut self, request: Request) -> (u16, HeaderMap) {
        let (head, _) = self.open(request).await.into_parts();
        (head.status.as_u16(), head.headers)
    }

    /// Leaves at once, as a closed browser tab does.
    pub fn leave(self) {}
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(driver) = &self.driver {
            driver.abort();
        }
    }
}

fn asked(request: &Request) -> String {
    format!("{} {}", request.method(), request.uri())
}
