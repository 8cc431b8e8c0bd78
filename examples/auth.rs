//! Who may look: your own users, each tenant at its own requests only.
//!
//! Run with: `cargo run --example auth`, make some traffic, and look as different people:
//!
//! ```sh
//! curl -H 'x-api-key: key-of-ana' http://127.0.0.1:3000/work                              # a request of acme
//! curl -H 'x-api-key: key-of-bob' http://127.0.0.1:3000/work                              # a request of globex
//! curl -H 'x-api-key: key-of-ana' http://127.0.0.1:3000/api/realtime/requests             # sees acme's only
//! curl -H 'x-api-key: key-of-ops' http://127.0.0.1:3000/api/realtime/requests             # sees both
//! curl http://127.0.0.1:3000/api/realtime/requests                                        # 401
//! ```
//!
//! With `-- bearer` there are two tokens instead, `viewer-secret` and `admin-secret`: `-H 'authorization: Bearer …'`.
#![allow(clippy::print_stdout)]

use axum::{
    Router, extract::Request, http::HeaderMap, middleware, response::Response, routing::get,
};
use tower_realtime::{Access, Denied, Principal, RealtimeConfig, RealtimeLayer, RequestMeter};

#[derive(Clone, Copy)]
struct User {
    name: &'static str,
    key: &'static str,
    /// Operators belong to no tenant and see all of them.
    tenant: Option<&'static str>,
}

const USERS: [User; 3] = [
    User {
        name: "ana",
        key: "key-of-ana",
        tenant: Some("acme"),
    },
    User {
        name: "bob",
        key: "key-of-bob",
        tenant: Some("globex"),
    },
    User {
        name: "ops",
        key: "key-of-ops",
        tenant: None,
    },
];

/// Stands for a look into a session store or a database.
fn user_of(headers: &HeaderMap) -> Option<User> {
    let key = headers.get("x-api-key")?;
    USERS.into_iter().find(|user| user.key == key)
}

fn access() -> Access {
    if std::env::args().any(|arg| arg == "bearer") {
        return Access::bearer("viewer-secret").admin("admin-secret");
    }
    // Asked for every stream, socket and call before anything is answered; `await` whatever it takes.
    Access::check(|parts| async move {
        let user = user_of(&parts.headers).ok_or_else(Denied::unauthenticated)?;
        Ok(match user.tenant {
            Some(tenant) => Principal::viewer(user.name).tenant(tenant),
            None => Principal::admin(user.name),
        })
    })
}

/// The host's own guard knows who asks: the best place to say so.
async fn attribute(meter: RequestMeter, request: Request, next: middleware::Next) -> Response {
    if let Some(user) = user_of(request.headers()) {
        meter.user(user.name);
        if let Some(tenant) = user.tenant {
            meter.tenant(tenant);
        }
    }
    next.run(request).await
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let realtime = RealtimeLayer::new(RealtimeConfig::new(access()));
    let rt = realtime.handle();
    let app = Router::new()
        .route("/work", get(|| async { "done\n" }))
        .layer(middleware::from_fn(attribute))
        .layer(realtime);

    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://127.0.0.1:3000/work");
    axum::serve(rt.guard(listener), app).await
}
