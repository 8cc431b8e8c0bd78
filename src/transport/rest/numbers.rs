//! Numbers: what the aggregator knows, over a window or a range.

use serde_json::json;

use super::{Ask, placed};
use crate::{
    aggregator::{Dimension, Window},
    transport::{
        answer::{Answer, Refusal},
        params,
    },
};

/// The longest list of requests.
const MAX_LIMIT: u64 = 500;

pub(super) fn metrics(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    let window = params::window(ask.query)?.unwrap_or_default();
    Ok(placed(ask, ask.runtime.aggregator.snapshot(window, ask.tenant())))
}

pub(super) fn series(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    ask.require_no_tenant()?;
    let range = range(ask)?;
    let step = match ask.query.get_text("step") {
        None => None,
        Some(_) => Some(params::number(ask.query, "step", 1, 1, 3600)?),
    };
    let series = ask.runtime.aggregator.series(range, step);
    series
        .map(|series| placed(ask, series))
        .ok_or_else(|| Refusal::bad_request("step", "takes 1, 2, 5, 10, 15, 30 or 60 (seconds), whole minutes for ranges over an hour"))
}

pub(super) fn breakdown(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    ask.require_no_tenant()?;
    let by = ask.query.get_text("by").unwrap_or("route");
    let dimension = [Dimension::Route, Dimension::Model, Dimension::User, Dimension::Provider, Dimension::Tenant]
        .into_iter()
        .find(|dimension| dimension.as_str() == by)
        .ok_or_else(|| Refusal::bad_request("by", "takes route, model, user, provider or tenant"))?;
    let range = range(ask)?;
    Ok(placed(ask, ask.runtime.aggregator.breakdown(dimension, Window::covering(range))))
}

pub(super) fn errors(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    let limit = params::number(ask.query, "limit", 100, 1, 100)?;
    let filter = params::filter(ask.query)?;
    let rows = ask.runtime.aggregator.errors(&filter, ask.tenant(), limit as usize);
    Ok(placed(ask, json!({"errors": rows, "count": rows.len()})))
}

pub(super) fn slow(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    let limit = params::number(ask.query, "limit", 20, 1, 20)?;
    let filter = params::filter(ask.query)?;
    let window = Window::covering(range(ask)?);
    let rows = ask.runtime.aggregator.slow(window, &filter, ask.tenant(), limit as usize);
    Ok(placed(ask, json!({"slow": rows, "count": rows.len()})))
}

pub(super) fn requests(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    let limit = params::number(ask.query, "limit", 100, 1, MAX_LIMIT)?;
    let filter = params::filter(ask.query)?;
    let rows = ask.runtime.aggregator.recent(&filter, ask.tenant(), limit as usize);
    Ok(placed(ask, json!({"requests": rows, "count": rows.len()})))
}

pub(super) fn providers(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    Ok(placed(ask, ask.runtime.aggregator.providers(ask.tenant())))
}

pub(super) fn provider(ask: &Ask<'_>, id: &str) -> Result<Answer, Refusal> {
    ask.require_no_tenant()?;
    let id = segment(id)?;
    let provider = ask.runtime.aggregator.provider(&id);
    provider.map(|provider| placed(ask, provider)).ok_or_else(|| unknown_provider(&id))
}

pub(super) fn provider_metrics(ask: &Ask<'_>, id: &str) -> Result<Answer, Refusal> {
    ask.require_no_tenant()?;
    let id = segment(id)?;
    let window = params::window(ask.query)?.unwrap_or_default();
    let metrics = ask.runtime.aggregator.provider_metrics(&id, window);
    metrics.map(|metrics| placed(ask, metrics)).ok_or_else(|| unknown_provider(&id))
}

fn unknown_provider(id: &str) -> Refusal {
    let id: String = id.chars().filter(|c| !c.is_control()).take(64).collect();
    Refusal::not_found(format!("provider '{id}' is neither registered nor seen in traffic"))
}

/// A path segment, percent-decoded.
fn segment(segment: &str) -> Result<String, Refusal> {
    let decoded = crate::transport::query::decode(&segment.replace('+', "%2B"));
    decoded.ok_or_else(|| Refusal::bad_request("id", "the value is not UTF-8"))
}

/// Seconds, up to a day.
fn range(ask: &Ask<'_>) -> Result<u64, Refusal> {
    params::number(ask.query, "range", 3600, 60, 86_400)
}
