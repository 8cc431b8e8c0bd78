//! Numbers: what the aggregator knows, over a window or a range.

use http::StatusCode;

use super::{Ask, placed};
use crate::{
    aggregator::{Dimension, Window},
    hub::Filter,
    refusal::shown,
    transport::{
        answer::{Answer, Refusal},
        params,
    },
};

/// The longest list of requests.
const MAX_LIMIT: u64 = 500;

pub(super) fn metrics(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    let window = params::window(ask.query)?.unwrap_or_default();
    Ok(placed(
        ask,
        ask.runtime.aggregator.snapshot(window, ask.tenant()),
    ))
}

pub(super) fn series(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    ask.require_no_tenant()?;
    let range = range(ask)?;
    let step = match ask.query.get("step") {
        None => usual_step(range),
        Some(text) => match text.parse() {
            Ok(step) if STEPS.contains(&step) => step,
            _ => {
                return Err(Refusal::bad_request(
                    "step",
                    "takes 1, 2, 5, 10, 15, 30, 60, 300, 900 or 1800 (seconds)",
                ));
            }
        },
    };
    Ok(placed(ask, ask.runtime.aggregator.series(range, step)))
}

const STEPS: [u64; 10] = [1, 2, 5, 10, 15, 30, 60, 300, 900, 1800];

/// The finest step with at most 180 points.
fn usual_step(range: u64) -> u64 {
    STEPS
        .into_iter()
        .find(|step| range / step <= 180)
        .unwrap_or(1800)
}

pub(super) fn breakdown(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    ask.require_no_tenant()?;
    let by = ask.query.get("by").unwrap_or("route");
    let dimension = [
        Dimension::Route,
        Dimension::Model,
        Dimension::User,
        Dimension::Provider,
        Dimension::Tenant,
    ]
    .into_iter()
    .find(|dimension| dimension.as_str() == by)
    .ok_or_else(|| Refusal::bad_request("by", "takes route, model, user, provider or tenant"))?;
    let range = range(ask)?;
    Ok(placed(
        ask,
        ask.runtime
            .aggregator
            .breakdown(dimension, Window::covering(range), None),
    ))
}

pub(super) fn errors(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    let limit = params::number(ask.query, "limit", 100, 1, 100)?;
    Ok(placed(
        ask,
        ask.runtime.aggregator.errors(&filter(ask)?, limit as usize),
    ))
}

pub(super) fn slow(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    let limit = params::number(ask.query, "limit", 20, 1, 20)?;
    let window = Window::covering(range(ask)?);
    Ok(placed(
        ask,
        ask.runtime
            .aggregator
            .slow(window, &filter(ask)?, limit as usize),
    ))
}

pub(super) fn requests(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    let limit = params::number(ask.query, "limit", 100, 1, MAX_LIMIT)?;
    Ok(placed(
        ask,
        ask.runtime.aggregator.recent(&filter(ask)?, limit as usize),
    ))
}

/// What is asked for, within what may be seen.
fn filter(ask: &Ask<'_>) -> Result<Filter, Refusal> {
    let mut filter = params::filter(ask.query)?;
    match (ask.tenant(), filter.tenant.as_deref()) {
        (Some(own), Some(asked)) if own != asked => {
            return Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "foreign_tenant",
                "parameter 'tenant_id': the principal belongs to another tenant",
            ));
        }
        (Some(own), _) => filter.tenant = Some(own.into()),
        (None, _) => {}
    }
    Ok(filter)
}

pub(super) fn providers(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    Ok(placed(ask, ask.runtime.aggregator.providers(ask.tenant())))
}

pub(super) fn provider(ask: &Ask<'_>, id: &str) -> Result<Answer, Refusal> {
    let id = segment(id)?;
    let provider = ask.runtime.aggregator.provider(&id, ask.tenant());
    provider
        .map(|provider| placed(ask, provider))
        .ok_or_else(|| unknown_provider(&id))
}

pub(super) fn provider_metrics(ask: &Ask<'_>, id: &str) -> Result<Answer, Refusal> {
    ask.require_no_tenant()?;
    let id = segment(id)?;
    let window = params::window(ask.query)?.unwrap_or_default();
    let metrics = ask.runtime.aggregator.provider_metrics(&id, window);
    metrics
        .map(|metrics| placed(ask, metrics))
        .ok_or_else(|| unknown_provider(&id))
}

fn unknown_provider(id: &str) -> Refusal {
    let id = shown(id);
    Refusal::not_found(format!(
        "provider '{id}' is neither registered nor seen in traffic"
    ))
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
