//! Who asks: credentials, what they allow, and how long.

use super::*;

#[tokio::test]
async fn credentials_come_in_five_ways() {
    let host = host_with(RealtimeConfig::new(Access::bearer("see-me"))).await;
    let mut request = request(axum::http::Method::POST, "/api/realtime/ticket");
    request
        .headers_mut()
        .insert("authorization", "Bearer see-me".parse().unwrap());
    let ticket = host.send(request).await.data()["ticket"]
        .as_str()
        .unwrap()
        .to_owned();
    let by_ticket = format!("/ws/news?ticket={ticket}");
    for (path, headers) in [
        ("/ws/news", vec![("authorization", "Bearer see-me")]),
        ("/ws/news", vec![("cookie", "realtime_token=see-me")]),
        (&by_ticket, vec![]),
        (
            "/ws/news",
            vec![("sec-websocket-protocol", "bearer.see-me, json")],
        ),
    ] {
        let mut socket = Socket::open_with(host.address, path, &headers).await;
        assert_eq!(
            socket.next().await["type"],
            "connection_established",
            "{headers:?}"
        );
    }
    let mut socket = Socket::open(host.address, "/ws/news").await;
    socket.ask("ping", json!({})).await;
    socket
        .ask("subscribe", json!({"channels": ["requests"]}))
        .await;
    socket.ask("auth", json!({"token": "see-me"})).await;
    assert_eq!(socket.next().await["type"], "pong");
    assert_eq!(socket.next().await["data"]["code"], "unauthorized");
    let first = socket.next().await;
    assert_eq!(
        (&first["type"], &first["data"]["channels"]),
        (&json!("connection_established"), &json!(["news"]))
    );
    publish(&host, 1);
    assert_eq!(items(&mut socket, 1).await, [1]);

    for headers in [
        ("authorization", "Bearer no"),
        ("sec-websocket-protocol", "bearer.no, json"),
    ] {
        let (status, _) = Socket::try_open(host.address, "/ws/news", &[headers])
            .await
            .err()
            .unwrap();
        assert_eq!(status, 401);
    }
    let mut socket = Socket::open(host.address, "/ws/news").await;
    socket.ask("auth", json!({"token": "no"})).await;
    let (envelopes, closed) = socket.rest().await;
    assert_eq!(types(&envelopes), ["error"]);
    assert_eq!(closed.code, Some(4001));
}

#[tokio::test]
async fn messages_behind_a_slow_check_keep_their_order() {
    let (asked, answer) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let access = {
        let (asked, answer) = (asked.clone(), answer.clone());
        Access::check(move |parts| {
            let (asked, answer) = (asked.clone(), answer.clone());
            async move {
                if parts.headers.get("authorization").is_none() {
                    return Err(Denied::unauthenticated());
                }
                asked.notify_one();
                answer.notified().await;
                Ok(Principal::viewer("ana"))
            }
        })
    };
    let host = host_with(RealtimeConfig::new(access)).await;
    let mut socket = Socket::open(host.address, "/ws").await;
    socket.ask("auth", json!({"token": "any"})).await;
    socket.ask("subscribe", json!({"channels": ["news"]})).await;
    socket.ask("ping", json!({})).await;
    socket.ask("auth", json!({"token": "again"})).await;
    socket
        .ask("unsubscribe", json!({"channels": ["news"]}))
        .await;
    soon("the check to begin", asked.notified()).await;
    // A protocol ping does not wait for it.
    socket.send_raw(Message::Ping("x".into())).await;
    assert_eq!(socket.next_raw().await, Some(Message::Pong("x".into())));
    answer.notify_one();
    soon("the second check to begin", asked.notified()).await;
    for kind in ["connection_established", "subscribed", "pong"] {
        assert_eq!(socket.next().await["type"], kind);
    }
    answer.notify_one();
    for kind in ["subscribed", "unsubscribed"] {
        assert_eq!(socket.next().await["type"], kind);
    }
}

#[tokio::test]
async fn a_path_shows_one_tenant_and_a_message_does_not_widen_it() {
    let access = Access::check(|parts| async move {
        let who = parts
            .headers
            .get("x-who")
            .and_then(|who| who.to_str().ok())
            .unwrap_or("")
            .to_owned();
        match who.as_str() {
            "root" => Ok(Principal::admin("root")),
            "narrow" => Ok(Principal::viewer("narrow").channels(["stats"])),
            tenant => Ok(Principal::viewer("v").tenant(tenant)),
        }
    });
    let host = host_with(RealtimeConfig::new(access)).await;
    let mut by_path =
        Socket::open_with(host.address, "/ws/tenant/acme", &[("x-who", "acme")]).await;
    let mut root = Socket::open_with(host.address, "/ws/tenant/acme", &[("x-who", "root")]).await;
    for socket in [&mut by_path, &mut root] {
        socket.wait_for("connection_established").await;
    }
    host.get("/broken").await;
    host.get("/chat").await;
    host.rt
        .publish(Event::new("news", "Item", &json!({"n": 1})))
        .unwrap();
    host.rt
        .publish(Event::new("news", "Item", &json!({"n": 2})).tenant("other"))
        .unwrap();
    host.rt
        .publish(Event::new("news", "Item", &json!({"n": 3})).tenant("acme"))
        .unwrap();
    for socket in [&mut by_path, &mut root] {
        let mut seen = (false, false);
        while seen != (true, true) {
            let envelope = socket.next().await;
            match envelope["type"].as_str().unwrap() {
                "request" => {
                    assert_eq!(envelope["data"]["tenant_id"], "acme", "{envelope:#}");
                    seen.0 = true;
                }
                "Item" => {
                    assert_eq!(envelope["data"]["n"], 3, "{envelope:#}");
                    seen.1 = true;
                }
                "stats_update" => assert_eq!(envelope["data"]["tenant_id"], "acme", "{envelope:#}"),
                "providers" | "subscribed" => {}
                kind => panic!("{kind}: {envelope:#}"),
            }
        }
    }
    // The wall is in the token, too: whoever sees all tenants gets no more by coming back.
    root.ask("unsubscribe", json!({"channels": ["stats", "providers"]}))
        .await;
    let token = root.wait_for("unsubscribed").await["data"]["reconnect_token"].clone();
    drop(root);
    let path = format!("/ws/reconnect?token={}", token.as_str().unwrap());
    let mut back = Socket::open_with(host.address, &path, &[("x-who", "root")]).await;
    back.wait_for("connection_established").await;
    for (n, tenant) in [(4, "other"), (5, "acme")] {
        let event = Event::new("news", "Item", &json!({"n": n})).tenant(tenant);
        host.rt.publish(event).unwrap();
    }
    assert_eq!(back.wait_for("Item").await["data"]["n"], 5);
    let (status, body) = Socket::try_open(host.address, "/ws/tenant/acme", &[("x-who", "other")])
        .await
        .err()
        .unwrap();
    assert_eq!(
        (status.as_u16(), &body["code"]),
        (403, &json!("foreign_tenant"))
    );
    // A message does not widen it.
    let mut narrow = Socket::open_with(host.address, "/ws/stats", &[("x-who", "narrow")]).await;
    narrow.wait_for("connection_established").await;
    narrow
        .ask("subscribe", json!({"channels": ["requests"]}))
        .await;
    assert_eq!(
        narrow.wait_for("error").await["data"]["code"],
        "channel_forbidden"
    );
}

#[tokio::test]
async fn credentials_that_run_out_end_the_connection() {
    let access = Access::check(|_| async {
        Ok::<_, Denied>(
            Principal::viewer("ana").expires_at(SystemTime::now() + Duration::from_millis(300)),
        )
    });
    let host = host_with(RealtimeConfig::new(access)).await;
    let (envelopes, closed) = Socket::open(host.address, "/ws").await.rest().await;
    assert_eq!(types(&envelopes), ["connection_established", "drain"]);
    // The same client is not to come back, so it is not told when.
    assert_eq!(envelopes[1]["data"], json!({"reason": "expired"}));
    assert_eq!(closed.code, Some(4001));
}

#[tokio::test]
async fn a_socket_is_a_connection_like_a_stream() {
    let access = Access::check(|parts| async move {
        let name = parts
            .headers
            .get("x-user")
            .and_then(|name| name.to_str().ok());
        let name = name.ok_or_else(Denied::unauthenticated)?.to_owned();
        Ok(match name.as_str() {
            "root" => Principal::admin(name),
            _ => Principal::viewer(name),
        })
    });
    let host = host_with(RealtimeConfig::new(access).max_clients_per_user(2)).await;
    let ana = [("x-user", "ana")];
    let mut socket = Socket::open_with(host.address, "/ws/news", &ana).await;
    let first = socket.next().await;
    let (id, token) = (
        &first["data"]["connection_id"],
        &first["data"]["reconnect_token"],
    );
    let id = id.as_str().unwrap();
    let ask = async |method: &str, path: &str, body: Value| {
        let mut request = support::post(&format!("/api/realtime/{path}"), body.to_string());
        *request.method_mut() = method.parse().unwrap();
        request
            .headers_mut()
            .insert("x-user", "root".parse().unwrap());
        host.send(request).await.data()
    };
    let listed = ask("GET", "connections", json!({})).await["connections"][0].clone();
    assert_fields(
        &listed,
        json!({"id": id, "transport": "websocket", "user_id": "ana", "channels": ["news"]}),
    );

    // What is changed from outside and what is changed by a message are the same.
    let change = |kind: &str| format!("connections/{id}/{kind}");
    ask(
        "POST",
        &change("subscribe"),
        json!({"channels": ["logs"], "filter": {"level": "warn"}}),
    )
    .await;
    socket
        .ask("subscribe", json!({"channels": ["alerts"]}))
        .await;
    let subscribed = socket.wait_for("subscribed").await["data"].clone();
    assert_fields(
        &subscribed,
        json!({"channels": ["news", "logs", "alerts"], "filter": {"level": "warn"}}),
    );
    host.rt.log(Level::Error, "a", "yes");
    assert_eq!(socket.wait_for("log").await["data"]["message"], "yes");
    ask(
        "POST",
        &change("unsubscribe"),
        json!({"channels": ["logs"]}),
    )
    .await;
    let listed = ask("GET", "connections", json!({})).await["connections"][0].clone();
    assert_eq!(listed["channels"], json!(["news", "alerts"]));

    // The same session on another connection ends this one, and takes its place.
    let again = format!("/ws?token={}", token.as_str().unwrap());
    let other = Socket::open_with(host.address, "/ws", &ana).await;
    let (status, body) = Socket::try_open(host.address, "/ws", &ana)
        .await
        .err()
        .unwrap();
    assert_eq!(
        (status.as_u16(), &body["code"]),
        (429, &json!("too_many_clients_of_user"))
    );
    let mut taken = Socket::open_with(host.address, &again, &ana).await;
    let (envelopes, closed) = socket.rest().await;
    assert_eq!(
        envelopes.last().unwrap()["data"],
        json!({"reason": "replaced"})
    );
    assert_eq!(closed.code, Some(4009));
    drop(other);

    let id = taken.next().await["data"]["connection_id"].clone();
    ask(
        "DELETE",
        &format!("connections/{}", id.as_str().unwrap()),
        json!({}),
    )
    .await;
    let (envelopes, closed) = taken.rest().await;
    assert_eq!(
        envelopes.last().unwrap()["data"],
        json!({"reason": "kicked"})
    );
    assert_eq!(closed.code, Some(4008));
}

#[tokio::test]
async fn a_new_token_for_the_same_one_prolongs_and_one_for_another_does_not() {
    let access = Access::check(|parts| async move {
        let token = parts
            .headers
            .get("authorization")
            .and_then(|token| token.to_str().ok());
        let lifetime = match token {
            Some("Bearer short") => Duration::from_millis(1500),
            Some("Bearer long") => Duration::from_secs(3600),
            Some(_) => return Ok(Principal::viewer("bob")),
            None => return Err(Denied::unauthenticated()),
        };
        Ok(Principal::viewer("ana").expires_at(SystemTime::now() + lifetime))
    });
    let host = host_with(RealtimeConfig::new(access)).await;
    let short = [("authorization", "Bearer short")];
    let mut kept = Socket::open_with(host.address, "/ws/news", &short).await;
    let mut ended = Socket::open_with(host.address, "/ws/news", &short).await;
    kept.ask("auth", json!({"token": "long"})).await;
    kept.wait_for("subscribed").await;
    ended.ask("auth", json!({"token": "bob"})).await;
    assert_eq!(
        ended.wait_for("error").await["data"]["code"],
        "another_principal"
    );
    assert_eq!(ended.rest().await.1.code, Some(4001));
    publish(&host, 1);
    assert_eq!(items(&mut kept, 1).await, [1]);
}

#[tokio::test]
async fn a_check_sees_all_of_the_handshake_and_less_at_an_auth() {
    #[derive(Clone)]
    struct OfTheHost;

    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let access = {
        let seen = seen.clone();
        Access::check(move |parts| {
            let has = |name: &str| parts.headers.contains_key(name);
            let extension = parts.extensions.get::<OfTheHost>().is_some();
            let known = has("authorization");
            let sees = (has("cookie"), has("user-agent"), has("x-who"), extension);
            seen.lock().unwrap().push(sees);
            async move {
                match known {
                    true => Ok(Principal::viewer("ana")),
                    false => Err(Denied::unauthenticated()),
                }
            }
        })
    };
    let host = Host::mounted(RealtimeConfig::new(access), |realtime| {
        app().layer(realtime).layer(axum::Extension(OfTheHost))
    })
    .await;
    let headers = [("cookie", "a=b"), ("user-agent", "u"), ("x-who", "w")];
    let mut socket = Socket::open_with(host.address, "/ws", &headers).await;
    socket.ask("auth", json!({"token": "first"})).await;
    socket.wait_for("connection_established").await;
    socket.ask("auth", json!({"token": "prolongs"})).await;
    socket.wait_for("subscribed").await;
    assert_eq!(
        *seen.lock().unwrap(),
        [
            (true, true, true, true),
            (false, false, true, true),
            (false, false, true, false)
        ]
    );
}
