//! REST: snapshots and lists, under one prefix, in one envelope.

mod admin;
mod broadcast;
mod live;
mod numbers;
mod probe;
mod ticket;

use std::sync::Arc;

use http::StatusCode;

pub(crate) use admin::{Change, change, connections, kick, limit_rate, limit_reads};
pub(crate) use broadcast::broadcast;
pub(crate) use probe::test_connection;
pub(crate) use ticket::ticket;

use super::{
    answer::{self, Answer, Refusal},
    caller::Caller,
    query::Query,
    route::{Mounts, Route},
};
use crate::{hub::Position, runtime::Runtime};

/// What a handler of this surface is given.
struct Ask<'a> {
    runtime: &'a Arc<Runtime>,
    mounts: &'a Mounts,
    caller: &'a Caller<'a>,
    query: &'a Query,
    /// Read before any number: a stream that begins here continues without a hole.
    position: Position,
}

impl Ask<'_> {
    /// The tenant whose numbers the caller may see; `None` for all.
    fn tenant(&self) -> Option<&str> {
        self.caller.principal.tenant_id()
    }

    /// For what speaks of everybody.
    fn require_no_tenant(&self) -> Result<(), Refusal> {
        match self.tenant() {
            None => Ok(()),
            Some(_) => Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "not_for_tenants",
                "this speaks of all tenants, and the principal belongs to one",
            )),
        }
    }
}

/// Answers everything that is read with GET.
pub(crate) fn answer(
    runtime: &Arc<Runtime>,
    mounts: &Mounts,
    caller: &Caller<'_>,
    route: Route<'_>,
    query: &Query,
) -> Result<Answer, Refusal> {
    let position = runtime.hub.position();
    runtime.aggregator.refresh();
    let ask = Ask {
        runtime,
        mounts,
        caller,
        query,
        position,
    };
    match route {
        Route::Info => live::info(&ask),
        Route::HubStats => live::hub_stats(&ask),
        Route::Overview => live::overview(&ask),
        Route::Metrics => numbers::metrics(&ask),
        Route::Series => numbers::series(&ask),
        Route::Breakdown => numbers::breakdown(&ask),
        Route::Errors => numbers::errors(&ask),
        Route::Slow => numbers::slow(&ask),
        Route::Requests => numbers::requests(&ask),
        Route::Providers => numbers::providers(&ask),
        Route::Provider(id) => numbers::provider(&ask, id),
        Route::ProviderMetrics(id) => numbers::provider_metrics(&ask, id),
        _ => Err(Refusal::not_found("there is nothing at this path")),
    }
}

/// 503 as soon as the drain has begun, so that balancers send traffic elsewhere.
pub(crate) fn ready(runtime: &Runtime) -> Result<Answer, Refusal> {
    if runtime.is_shutting_down() {
        return Err(Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "shutting_down",
            "the server is shutting down",
        ));
    }
    Ok(answer::data(serde_json::json!({"status": "ready"})))
}

/// An object with the position beside its members.
fn placed(ask: &Ask<'_>, data: impl serde::Serialize) -> Answer {
    #[derive(serde::Serialize)]
    struct Placed<T> {
        #[serde(flatten)]
        data: T,
        position: Position,
    }
    answer::data(Placed {
        data,
        position: ask.position,
    })
}
