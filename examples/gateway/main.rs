//! An OpenAI-compatible gateway that shows its own traffic, live.
//!
//! Run with: `cargo run --release --example gateway` and open the page it prints; `-- --help` lists the flags.
//!
//! Out of the box it answers by itself: a few simulated providers (one of them overloaded most of the time), streaming
//! answers, and clients that keep it busy. With `--upstream URL` it passes `/v1/*` on to a real server instead.
//! Everything that makes it live is in this file: one layer, one handle.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod api;
mod flags;
mod provider;
mod random;
mod reply;
mod traffic;
mod upstream;

use std::{
    convert::Infallible,
    error::Error,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{extract::Request, http::Uri, response::IntoResponse};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::{Service, util::MapRequest};
use tower_realtime::{
    Access, ChannelConfig, Event, Level, Priority, RealtimeConfig, RealtimeHandle, RealtimeLayer,
    RealtimeRoutes,
};

use flags::{Command, Flags};
use random::Random;

/// How long answers that are still under way get after Ctrl-C. Streams of the page end at once.
const GRACE: Duration = Duration::from_millis(1500);

#[tokio::main]
async fn main() -> ExitCode {
    let flags = match flags::parse(std::env::args_os().skip(1)) {
        Ok(Command::Run(flags)) => flags,
        Ok(Command::Help) => {
            print!("{}", flags::HELP);
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            eprintln!("gateway: {message}\nTry `gateway --help`.");
            return ExitCode::from(2);
        }
    };
    let shutdown = CancellationToken::new();
    let config = match config(&flags, shutdown.clone()) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("gateway: {error}");
            return ExitCode::from(2);
        }
    };
    match run(&flags, config, shutdown).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gateway: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Flags win over the environment, and the environment over the defaults.
fn config(flags: &Flags, shutdown: CancellationToken) -> Result<RealtimeConfig, Box<dyn Error>> {
    let access = match &flags.tokens {
        None => Access::loopback(),
        Some((viewer, None)) => Access::bearer(viewer),
        Some((viewer, Some(admin))) => Access::bearer(viewer).admin(admin),
    };
    let mut config = RealtimeConfig::new(access)
        .prices(provider::prices())
        .compression(cfg!(feature = "compression"))
        .shutdown(shutdown)
        .from_vars(variables()?)?;
    if let Some(max_clients) = flags.max_clients {
        config = config.max_clients(max_clients);
    }
    if let Some(stall_timeout) = flags.stall_timeout {
        config = config.stall_timeout(stall_timeout);
    }
    config.validate()?;
    Ok(config)
}

/// The environment without those who say who may look: that is for the flags alone, because a forgotten variable must
/// not open what a flag has closed. One that is set is an error, lest somebody believes that it closed something.
fn variables() -> Result<Vec<(String, String)>, Box<dyn Error>> {
    let mut vars = Vec::new();
    for (name, value) in std::env::vars_os() {
        let Ok(name) = name.into_string() else {
            continue;
        };
        let value = match value.into_string() {
            Ok(value) => value,
            Err(_) if name.starts_with("REALTIME_") => {
                return Err(format!("{name} is not UTF-8 text").into());
            }
            Err(value) => value.to_string_lossy().into_owned(),
        };
        let about_access = name.starts_with("REALTIME_ACCESS")
            || name.starts_with("REALTIME_JWT")
            || name.starts_with("REALTIME_") && name.ends_with("_TOKEN");
        if about_access && !value.trim().is_empty() {
            let what = "is not taken here: --token and --admin-token say who may look";
            return Err(format!("{name} {what}").into());
        }
        vars.push((name, value));
    }
    Ok(vars)
}

async fn run(
    flags: &Flags,
    config: RealtimeConfig,
    shutdown: CancellationToken,
) -> Result<(), Box<dyn Error>> {
    let realtime = RealtimeLayer::new(config);
    let rt = realtime.handle();
    // What the program logs with `tracing`, its viewers see.
    #[cfg(feature = "tracing")]
    {
        use tracing_subscriber::{layer::SubscriberExt, util::SubscriberInitExt};
        let layer = rt.tracing_layer(Level::Info);
        tracing_subscriber::registry().with(layer).init();
    }
    let host = match &flags.upstream {
        Some(url) => upstream::router(url, &rt),
        None => api::router(&rt),
    };
    // The layer goes on last, so that the fallback's 404s are counted too.
    let app = host
        .route_service(
            "/admin/ws/broadcast",
            alias(realtime.routes(), "/api/realtime/broadcast"),
        )
        .fallback(|| async { reply::Failure::not_found("no such path; try /v1/models") })
        .layer(realtime);

    let listener = TcpListener::bind(&flags.addr)
        .await
        .map_err(|error| format!("--addr {}: {error}", flags.addr))?;
    let address = reachable(listener.local_addr()?);
    let who = match flags.tokens {
        Some(_) => "token required",
        None => "loopback only",
    };
    tracing::info!(target: "gateway", %address, access = who, "listening");
    println!("tower-realtime dashboard: http://{address}/realtime/ ({who})");

    tokio::spawn(end_on_signal(shutdown.clone()));
    rt.channel(
        "campaigns",
        ChannelConfig::stream()
            .retain(4096)
            .priority(Priority::High),
    )?;
    let sent = Arc::new(AtomicU64::new(0));
    let gauge = Arc::clone(&sent);
    rt.gauge("campaign_messages_sent", move || {
        gauge.load(Ordering::Relaxed) as f64
    })?;
    tokio::spawn(campaigns(rt.clone(), sent, shutdown.clone()));
    // A real upstream may cost money: only simulated providers get traffic without being asked.
    let default_traffic = if flags.upstream.is_some() { 0.0 } else { 40.0 };
    let traffic = flags.traffic.unwrap_or(default_traffic);
    if traffic > 0.0 {
        let clients = traffic::Clients::new(address, app.clone());
        tokio::spawn(traffic::run(traffic, clients, shutdown.clone()));
    }

    let service = app.into_make_service_with_connect_info::<SocketAddr>();
    let server = axum::serve(rt.guard(listener), service)
        .with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let out_of_patience = async {
        shutdown.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        served = server => served?,
        () = out_of_patience => tracing::warn!(target: "gateway", "answers under way were cut off"),
    }
    Ok(())
}

/// Another address for one of the layer's own paths, for clients that know it by that.
fn alias(
    routes: RealtimeRoutes,
    path: &'static str,
) -> impl Service<Request, Response: IntoResponse, Error = Infallible, Future: Send + 'static>
+ Clone
+ Send
+ Sync
+ 'static {
    MapRequest::new(routes, move |mut request: Request| {
        *request.uri_mut() = Uri::from_static(path);
        request
    })
}

/// What a browser on this machine can open: a listener on every address is reached through loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => {
            address.set_ip(Ipv4Addr::LOCALHOST.into())
        }
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => {
            address.set_ip(Ipv6Addr::LOCALHOST.into())
        }
        _ => {}
    }
    address
}

async fn end_on_signal(shutdown: CancellationToken) {
    let interrupt = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};

        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => {
                tokio::select! {
                    _ = interrupt => {}
                    _ = terminate.recv() => {}
                }
            }
            Err(_) => drop(interrupt.await),
        }
    }
    #[cfg(not(unix))]
    drop(interrupt.await);
    shutdown.cancel();
}

/// What a host shows besides requests: a channel with events of its own, a gauge, log lines.
async fn campaigns(rt: RealtimeHandle, sent_total: Arc<AtomicU64>, shutdown: CancellationToken) {
    let mut random = Random::fresh();
    let names = ["Welcome series", "Spring sale", "Win-back", "Release notes"];
    let mut sent = [0u64; 4];
    let mut ticks = tokio::time::interval(Duration::from_secs(3));
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.cancelled() => return,
        }
        let index = random.below(names.len());
        let batch = 20 + random.below(400) as u64;
        sent[index] += batch;
        sent_total.fetch_add(batch, Ordering::Relaxed);
        let id = format!("c-{}", index + 1);
        let update = json!({
            "campaign_id": id,
            "name": names[index],
            "sent": sent[index],
            "opened": sent[index] * 31 / 100,
        });
        // A full inbox is counted by the hub and shown on the page; the next update has the newer numbers anyway.
        let _ = rt.publish(
            Event::new("campaigns", "CampaignUpdate", &update)
                .tenant("acme")
                .key(&id),
        );
        if random.chance(0.2) {
            rt.log(
                Level::Info,
                "campaigns",
                format!("{} finished a batch of {batch}", names[index]),
            );
        }
    }
}
