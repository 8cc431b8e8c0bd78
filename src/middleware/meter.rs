//! The meter: how a handler says whose request it is and what it used.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering}},
};

use super::recorder::Recorder;
use crate::collector::{Extra, LabelId, Method, Outcome, Record};

/// Tokens of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Input (prompt) tokens.
    pub input: u64,
    /// Output (completion) tokens.
    pub output: u64,
    /// Of the input tokens, how many the provider read from its cache.
    pub cached: u64,
}

/// Attributes the request that is being handled: provider, model, user, tenant, tokens, cost, success.
#[derive(Clone)]
pub struct RequestMeter {
    state: Option<Arc<State>>,
}

const UNKNOWN: u64 = u64::MAX;
const MAX_REASON_BYTES: usize = 512;
const MAX_LABELS: usize = 8;

pub(crate) struct State {
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) started_us: u64,
    pub(crate) method: Method,
    pub(crate) request_bytes: Option<u64>,
    route: AtomicU32,
    provider: AtomicU32,
    model: AtomicU32,
    user: AtomicU32,
    tenant: AtomicU32,
    success: AtomicU8,
    ended: AtomicBool,
    input: AtomicU64,
    output: AtomicU64,
    cached: AtomicU64,
    cost_nanos: AtomicU64,
    /// Only for what few requests have.
    extra: Mutex<Option<Box<Extra>>>,
}

impl State {
    pub(crate) fn new(
        recorder: Arc<Recorder>,
        started_us: u64,
        method: Method,
        request_bytes: Option<u64>,
        route: LabelId,
        extra: Option<Box<Extra>>,
    ) -> Self {
        Self {
            recorder,
            started_us,
            method,
            request_bytes,
            route: AtomicU32::new(route.0),
            provider: AtomicU32::new(0),
            model: AtomicU32::new(0),
            user: AtomicU32::new(0),
            tenant: AtomicU32::new(0),
            success: AtomicU8::new(0),
            ended: AtomicBool::new(false),
            input: AtomicU64::new(UNKNOWN),
            output: AtomicU64::new(UNKNOWN),
            cached: AtomicU64::new(UNKNOWN),
            cost_nanos: AtomicU64::new(UNKNOWN),
            extra: Mutex::new(extra),
        }
    }

    /// The one record of the request.
    pub(crate) fn finish(&self, outcome: Outcome, status: Option<u16>, ttfb_us: Option<u64>, bytes: u64, failed: bool) {
        self.ended.store(true, Ordering::Relaxed);
        let ended_us = self.recorder.clock.now_us();
        let known = |value: &AtomicU64| Some(value.load(Ordering::Relaxed)).filter(|value| *value != UNKNOWN);
        let label = |value: &AtomicU32| LabelId(value.load(Ordering::Relaxed));
        let success = match self.success.load(Ordering::Relaxed) {
            1 => true,
            2 => false,
            _ => !failed && outcome == Outcome::Completed && status.is_some_and(|status| status < 400),
        };
        let record = Record {
            ended_us,
            latency_us: ended_us - self.started_us,
            ttfb_us: ttfb_us.map(|at| at - self.started_us),
            status,
            method: self.method,
            outcome,
            success,
            route: label(&self.route),
            provider: label(&self.provider),
            model: label(&self.model),
            tenant: label(&self.tenant),
            user: label(&self.user),
            input_tokens: known(&self.input),
            output_tokens: known(&self.output),
            cached_tokens: known(&self.cached),
            cost_nanos: known(&self.cost_nanos),
            request_bytes: self.request_bytes,
            response_bytes: bytes,
            extra: self.extra.lock().unwrap_or_else(PoisonError::into_inner).take(),
        };
        self.recorder.collector.record(record);
    }
}

impl RequestMeter {
    pub(crate) fn new(state: Arc<State>) -> Self {
        Self { state: Some(state) }
    }

    pub(crate) fn belongs_to(&self, recorder: &Arc<Recorder>) -> bool {
        self.state.as_ref().is_some_and(|state| Arc::ptr_eq(&state.recorder, recorder))
    }

    fn with(&self, set: impl FnOnce(&State)) -> &Self {
        if let Some(state) = &self.state {
            if state.ended.load(Ordering::Relaxed) {
                state.recorder.collector.late_call();
            } else {
                set(state);
            }
        }
        self
    }

    fn extra(state: &State, set: impl FnOnce(&mut Extra)) {
        set(state.extra.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default());
    }

    /// The provider that answers.
    pub fn provider(&self, id: impl AsRef<str>) -> &Self {
        self.with(|state| {
            let id = state.recorder.collector.labels().provider.intern(id.as_ref());
            state.provider.store(id.0, Ordering::Relaxed);
        })
    }

    /// The model.
    pub fn model(&self, id: impl AsRef<str>) -> &Self {
        self.with(|state| {
            let id = state.recorder.collector.labels().model.intern(id.as_ref());
            state.model.store(id.0, Ordering::Relaxed);
        })
    }

    /// The user.
    pub fn user(&self, id: impl AsRef<str>) -> &Self {
        self.with(|state| {
            let label = state.recorder.collector.labels().user.intern(id.as_ref());
            state.user.store(label.0, Ordering::Relaxed);
            if label == LabelId::OTHER {
                let user = crate::collector::cut(id.as_ref(), crate::collector::MAX_LABEL_BYTES);
                Self::extra(state, |extra| extra.user = Some(user.into()));
            }
        })
    }

    /// The tenant.
    pub fn tenant(&self, id: impl AsRef<str>) -> &Self {
        self.with(|state| {
            let id = state.recorder.collector.labels().tenant.intern(id.as_ref());
            state.tenant.store(id.0, Ordering::Relaxed);
        })
    }

    /// The route's template.
    pub fn route(&self, template: impl AsRef<str>) -> &Self {
        self.with(|state| {
            let id = state.recorder.collector.labels().route.intern(template.as_ref());
            state.route.store(id.0, Ordering::Relaxed);
        })
    }

    /// The tokens used.
    pub fn tokens(&self, usage: Usage) -> &Self {
        self.with(|state| {
            state.input.store(usage.input.min(UNKNOWN - 1), Ordering::Relaxed);
            state.output.store(usage.output.min(UNKNOWN - 1), Ordering::Relaxed);
            state.cached.store(usage.cached.min(UNKNOWN - 1), Ordering::Relaxed);
        })
    }

    /// The cost.
    pub fn cost_usd(&self, cost: f64) -> &Self {
        self.with(|state| {
            if cost.is_finite() && (0.0..1e9).contains(&cost) {
                state.cost_nanos.store((cost * 1e9).round() as u64, Ordering::Relaxed);
            } else {
                state.recorder.collector.invalid_value();
            }
        })
    }

    /// A failure, with its reason.
    pub fn fail(&self, reason: impl AsRef<str>) -> &Self {
        self.with(|state| {
            state.success.store(2, Ordering::Relaxed);
            let reason = crate::collector::cut(reason.as_ref(), MAX_REASON_BYTES);
            Self::extra(state, |extra| extra.error_message = Some(reason.into()));
        })
    }

    /// A success, whatever the status.
    pub fn success(&self) -> &Self {
        self.with(|state| state.success.store(1, Ordering::Relaxed))
    }

    /// A label.
    pub fn label(&self, name: impl AsRef<str>, value: impl AsRef<str>) -> &Self {
        self.with(|state| {
            Self::extra(state, |extra| {
                if extra.labels.len() < MAX_LABELS {
                    extra.labels.push((name.as_ref().into(), value.as_ref().into()));
                }
            });
        })
    }
}

impl fmt::Debug for RequestMeter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RequestMeter")
    }
}

#[cfg(feature = "axum")]
impl<S: Sync> axum_core::extract::FromRequestParts<S> for RequestMeter {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut http::request::Parts, _state: &S) -> Result<Self, Self::Rejection> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or(Self { state: None }))
    }
}
