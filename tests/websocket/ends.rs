//! The end: by shutdown, and by silence.

use super::*;

#[tokio::test]
async fn a_shutdown_says_so_and_waits_for_nobody() {
    let host = host_with(RealtimeConfig::new(Access::bearer("see-me"))).await;
    let known = Socket::open_with(
        host.address,
        "/ws/news",
        &[("authorization", "Bearer see-me")],
    )
    .await;
    let unknown = Socket::open(host.address, "/ws/news").await;
    // One that never reads, nor closes.
    let deaf = Socket::open_with(
        host.address,
        "/ws/news",
        &[("authorization", "Bearer see-me")],
    )
    .await;
    publish(&host, 1);
    let rt = host.rt.clone();
    let drained = tokio::spawn(async move { rt.drain(Duration::from_millis(50)).await });
    let (envelopes, closed) = known.rest().await;
    assert_eq!(
        types(&envelopes),
        ["connection_established", "Item", "drain"]
    );
    assert!(
        envelopes[2]["data"]["retry_ms"].as_u64().is_some(),
        "{envelopes:#?}"
    );
    assert_eq!(
        closed,
        Closed {
            code: Some(1001),
            reason: "shutdown".into()
        }
    );
    let (envelopes, closed) = unknown.rest().await;
    assert_eq!(
        (types(&envelopes), closed.code),
        (vec!["drain"], Some(1001))
    );
    soon("the drain to end", drained).await.unwrap();
    drop(deaf);
}

#[tokio::test]
async fn silence_is_pinged_then_ended() {
    let quick = config()
        .ws_ping_interval(Duration::from_millis(100))
        .ws_timeout(Duration::from_millis(400));
    let host = host_with(quick).await;
    let mut answering = Socket::open(host.address, "/ws").await;
    // Half-open: it reads, so that it sees the end, and answers nothing.
    let mut silent = TcpStream::connect(host.address).await.unwrap();
    let head = "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: test\r\n\r\n";
    silent.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let both = async {
        let ended = silent.read_to_end(&mut answer);
        tokio::pin!(ended);
        loop {
            tokio::select! {
                ended = &mut ended => return ended.unwrap(),
                // Reading answers the pings.
                message = answering.next_raw() => assert!(message.is_some(), "the one that answers was let go"),
            }
        }
    };
    soon("the silent one to be let go", both).await;
    assert!(
        answer.windows(2).any(|window| window == [0x89, 0]),
        "pinged"
    );
    assert!(
        answer
            .windows(4)
            .any(|window| window[0] == 0x88 && window[2..] == 4101_u16.to_be_bytes()),
        "closed"
    );
    answering.until_pong().await;
}
