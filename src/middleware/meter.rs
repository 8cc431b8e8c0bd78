//! What a handler says about its request: provider, model, user, tokens, cost, outcome.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
};

use super::{ids, recorder::Recorder, seen::Seen};
use crate::collector::{Extra, LabelId, Method, cut};

/// Longest value of a label of the host.
const MAX_VALUE_BYTES: usize = Extra::MAX_VALUE_BYTES;
/// Longest reason of a failure.
const MAX_REASON_BYTES: usize = Extra::MAX_REASON_BYTES;
/// Labels of the host in one record.
const MAX_LABELS: usize = Extra::MAX_LABELS;
/// More tokens than this in one request are a mistake: about a million million.
const MAX_TOKENS: u64 = 1 << 40;
/// Neither can one request cost more than a million of the currency.
const MAX_COST: f64 = 1e6;
const NANOS: f64 = 1e9;

/// Attributes the request at hand: which provider, model, user and tenant it was for, what it used and cost.
///
/// It is there in every recorded request: as an axum extractor (feature `axum`), and as a request extension for
/// everything else. All methods take `&self`, may be called from any thread until the response body has ended, and
/// are chainable. What is not said stays unknown: no tokens is not 0 tokens. Said twice, the last word counts.
///
/// ```
/// # use tower_realtime::{RequestMeter, Usage};
/// fn attribute(meter: &RequestMeter) {
///     meter.provider("openai").model("gpt-4o").user("ana").tenant("acme");
///     meter.tokens(Usage { input: 812, output: 340, cached: 0 });
/// }
/// # attribute(&RequestMeter::detached());
/// ```
///
/// A clone is a reference count. Calls after the end of the response body are ignored and counted
/// (`late_calls`); with a response that is at its end when the head is sent (no body, `HEAD`, 204, 304, an upgrade)
/// that is when the handler returns. Texts are cut to 128 bytes, and each kind has a limit of different texts, beyond
/// which they are counted as `other`; see the limits in the configuration.
///
/// Where no layer records, the extractor yields a [detached](Self::detached) meter, and all calls do nothing.
/// Where two different layers record one request, both get what is said.
#[derive(Clone)]
pub struct RequestMeter {
    state: Option<Arc<MeterState>>,
}

/// Tokens of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Usage {
    /// Tokens that went in, those from a cache included.
    pub input: u64,
    /// Tokens that came out.
    pub output: u64,
    /// The part of `input` that was read from a cache.
    pub cached: u64,
}

/// What one request's meters and its recording share; the one allocation that a request costs.
pub(super) struct MeterState {
    pub(super) recorder: Arc<Recorder>,
    /// The meter of another recorder outside of this one.
    outer: Option<RequestMeter>,
    pub(super) started_us: u64,
    pub(super) request_bytes: Option<u64>,
    pub(super) method: Method,
    pub(super) http2: bool,
    verdict: AtomicU8,
    flags: AtomicU32,
    route: AtomicU32,
    provider: AtomicU32,
    model: AtomicU32,
    tenant: AtomicU32,
    user: AtomicU32,
    input: AtomicU64,
    output: AtomicU64,
    cached: AtomicU64,
    cost_nanos: AtomicU64,
    /// Locked only by the calls that few requests make (`fail`, `label`, a user that found no number), and at the
    /// end where there was one.
    extra: Mutex<Option<Box<Extra>>>,
    pub(super) seen: Seen,
}

/// The record has been made.
const CLOSED: u32 = 1;
const HAS_TOKENS: u32 = 1 << 1;
const HAS_COST: u32 = 1 << 2;
const HAS_EXTRA: u32 = 1 << 3;
const HAS_USER_TEXT: u32 = 1 << 4;
/// Somebody may ask for the id of a request that came without.
const FOLLOWED: u32 = 1 << 5;

const UNDECIDED: u8 = 0;
const FAILED: u8 = 1;
const SUCCEEDED: u8 = 2;

/// All that was said, as it stands when the record is made.
pub(super) struct Said {
    pub(super) route: LabelId,
    pub(super) provider: LabelId,
    pub(super) model: LabelId,
    pub(super) tenant: LabelId,
    pub(super) user: LabelId,
    pub(super) usage: Option<Usage>,
    pub(super) cost_nanos: Option<u64>,
    pub(super) success: Option<bool>,
    pub(super) extra: Option<Box<Extra>>,
}

impl RequestMeter {
    /// A meter that counts nothing, as the extractor yields it where no layer records: for tests of handlers.
    pub fn detached() -> Self {
        Self { state: None }
    }

    pub(super) fn new(state: Arc<MeterState>) -> Self {
        Self { state: Some(state) }
    }

    /// Who answers the request in the end: `openai`, `groq`, the name of an upstream.
    pub fn provider(&self, provider: impl AsRef<str>) -> &Self {
        self.each(|state| {
            let labels = state.recorder.collector().labels();
            state.say(&state.provider, labels.provider.intern(provider.as_ref()));
        })
    }

    /// The model that was asked for. Tokens are priced by it.
    pub fn model(&self, model: impl AsRef<str>) -> &Self {
        self.each(|state| {
            let labels = state.recorder.collector().labels();
            state.say(&state.model, labels.model.intern(model.as_ref()));
        })
    }

    /// The user's id. Ids beyond the limit of different users stay in their record, and share the row `other`.
    pub fn user(&self, user: impl AsRef<str>) -> &Self {
        self.each(|state| {
            let user = user.as_ref();
            let id = state.recorder.collector().labels().user.intern(user);
            if id == LabelId::OTHER {
                let user = Some(cut(user, MAX_VALUE_BYTES).into());
                state.flags.fetch_or(HAS_USER_TEXT, Ordering::Relaxed);
                state.say_extra(|extra| extra.user = user);
            } else if state.flags.load(Ordering::Relaxed) & HAS_USER_TEXT != 0 {
                state.say_extra(|extra| extra.user = None);
            }
            state.say(&state.user, id);
        })
    }

    /// The tenant: viewers that may see one tenant only see what carries its name.
    pub fn tenant(&self, tenant: impl AsRef<str>) -> &Self {
        self.each(|state| {
            let labels = state.recorder.collector().labels();
            state.say(&state.tenant, labels.tenant.intern(tenant.as_ref()));
        })
    }

    /// The route's template, such as `/v1/models/{id}`; never a raw path, which would be a row for each id. For layers
    /// that know more than the outermost one; axum's own `MatchedPath` is used without a call.
    pub fn route(&self, route: impl AsRef<str>) -> &Self {
        self.each(|state| {
            let labels = state.recorder.collector().labels();
            state.say(&state.route, labels.route.intern(route.as_ref()));
        })
    }

    /// The tokens that were used, in all: a later call replaces an earlier one. Priced from the configuration's price
    /// table unless [`cost`](Self::cost) is said. Above 2^40 it is ignored and counted.
    pub fn tokens(&self, usage: Usage) -> &Self {
        let Usage {
            input,
            output,
            cached,
        } = usage;
        self.each(|state| {
            if input.max(output).max(cached) > MAX_TOKENS {
                return state.recorder.collector().invalid_value();
            }
            state.input.store(input, Ordering::Relaxed);
            state.output.store(output, Ordering::Relaxed);
            state.cached.store(cached, Ordering::Relaxed);
            state.publish(HAS_TOKENS);
        })
    }

    /// What the request cost, in US dollars. Where the configured currency is another one, it is ignored and counted:
    /// say [`cost`](Self::cost) there.
    pub fn cost_usd(&self, cost: f64) -> &Self {
        self.each(|state| {
            if state.recorder.counts_dollars() {
                state.say_cost(cost);
            } else {
                state.recorder.collector().invalid_value();
            }
        })
    }

    /// What the request cost, in the configured currency, to a thousand-millionth. Negative, above a million, or not
    /// a number: ignored and counted.
    pub fn cost(&self, cost: f64) -> &Self {
        self.each(|state| state.say_cost(cost))
    }

    /// The request failed, whatever its status says. The reason is shown in the request's row; it is cut to 512 bytes.
    pub fn fail(&self, reason: impl AsRef<str>) -> &Self {
        self.each(|state| {
            let reason = cut(reason.as_ref(), MAX_REASON_BYTES);
            state.verdict.store(FAILED, Ordering::Relaxed);
            state.say_extra(|extra| {
                extra.error_message = (!reason.is_empty()).then(|| reason.into());
            });
        })
    }

    /// The request succeeded, whatever its status says, and though the client may leave early: an open-ended stream
    /// ends no other way. A panic, and an error of the service or of the body, is a failure all the same.
    pub fn success(&self) -> &Self {
        self.each(|state| {
            state.verdict.store(SUCCEEDED, Ordering::Relaxed);
            state.publish(0);
        })
    }

    /// A label of your own in the request's row, up to 8 a request; further ones are ignored and counted. The same
    /// name again replaces the value. Labels are shown, not aggregated.
    pub fn label(&self, name: impl AsRef<str>, value: impl AsRef<str>) -> &Self {
        self.each(|state| {
            let name = cut(name.as_ref(), MAX_VALUE_BYTES);
            let value = cut(value.as_ref(), MAX_VALUE_BYTES);
            state.say_extra(|extra| {
                let known = extra.labels.iter_mut().find(|(known, _)| **known == *name);
                if let Some((_, known)) = known {
                    *known = value.into();
                } else if extra.labels.len() < MAX_LABELS && !name.is_empty() {
                    extra.labels.push((name.into(), value.into()));
                } else {
                    state.recorder.collector().invalid_value();
                }
            });
        })
    }

    /// Whether this recorder watches the request already.
    pub(super) fn belongs_to(&self, recorder: &Arc<Recorder>) -> bool {
        self.states()
            .any(|state| Arc::ptr_eq(&state.recorder, recorder))
    }

    /// Says it to every recorder that watches the request and has not made its record.
    #[inline]
    fn each(&self, say: impl Fn(&MeterState)) -> &Self {
        let mut next = self.state.as_deref();
        while let Some(state) = next {
            // Relaxed: this only spares late calls the work; `publish` decides.
            if state.flags.load(Ordering::Relaxed) & CLOSED == 0 {
                say(state);
            } else {
                state.recorder.collector().late_call();
            }
            next = state.outer();
        }
        self
    }

    fn states(&self) -> impl Iterator<Item = &MeterState> {
        std::iter::successors(self.state.as_deref(), |state| state.outer())
    }
}

impl fmt::Debug for RequestMeter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What was said may name users.
        let recording = self
            .states()
            .any(|state| state.flags.load(Ordering::Relaxed) & CLOSED == 0);
        f.debug_struct("RequestMeter")
            .field("recording", &recording)
            .finish_non_exhaustive()
    }
}

/// Never rejects: without a layer that records, the meter is a [detached](RequestMeter::detached) one.
#[cfg(feature = "axum")]
impl<S: Send + Sync> axum_core::extract::FromRequestParts<S> for RequestMeter {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(
        parts: &mut http::request::Parts,
        _state: &S,
    ) -> Result<Self, Self::Rejection> {
        let meter = parts.extensions.get::<Self>().cloned();
        Ok(meter.unwrap_or_else(Self::detached))
    }
}

impl MeterState {
    pub(super) fn new(
        recorder: Arc<Recorder>,
        outer: Option<RequestMeter>,
        request: RequestHead,
    ) -> Self {
        let extra = request.request_id.map(|id| {
            Box::new(Extra {
                request_id: Some(id),
                ..Extra::default()
            })
        });
        Self {
            started_us: recorder.now_us(),
            recorder,
            outer,
            request_bytes: request.bytes,
            method: request.method,
            http2: request.http2,
            verdict: AtomicU8::new(UNDECIDED),
            flags: AtomicU32::new(
                if extra.is_some() { HAS_EXTRA } else { 0 }
                    | if ids::is_followed() { FOLLOWED } else { 0 },
            ),
            route: AtomicU32::new(request.route.0),
            provider: AtomicU32::new(LabelId::UNSET.0),
            model: AtomicU32::new(LabelId::UNSET.0),
            tenant: AtomicU32::new(LabelId::UNSET.0),
            user: AtomicU32::new(LabelId::UNSET.0),
            input: AtomicU64::new(0),
            output: AtomicU64::new(0),
            cached: AtomicU64::new(0),
            cost_nanos: AtomicU64::new(0),
            extra: Mutex::new(extra),
            seen: Seen::new(),
        }
    }

    /// Whether somebody may ask for the request's id.
    #[inline]
    pub(super) fn may_be_asked(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & (HAS_EXTRA | FOLLOWED) != 0
    }

    /// The id that the request came with; where it came without, one that is given to it now, and is its record's.
    /// `None` where the record has been made, and where somebody holds the lock: this is asked in the midst of anything.
    #[cfg(feature = "tracing")]
    pub(super) fn request_id(&self) -> Option<String> {
        let mut extra = self.extra.try_lock().ok()?;
        let known = extra.as_ref().and_then(|extra| extra.request_id.as_deref());
        if let Some(id) = known {
            return Some(id.to_owned());
        }
        // Not for a record that is made: there would be nobody to take it along.
        if self.flags.load(Ordering::Relaxed) & CLOSED != 0 {
            return None;
        }
        let id = ids::give_id();
        extra.get_or_insert_default().request_id = Some(id.as_str().into());
        drop(extra);
        // As `publish`: who has closed before has not looked for it.
        let before = self.flags.fetch_or(HAS_EXTRA, Ordering::AcqRel);
        (before & CLOSED == 0).then_some(id)
    }

    fn outer(&self) -> Option<&Self> {
        self.outer.as_ref()?.state.as_deref()
    }

    /// Ends the time in which something can be said, and gives what was.
    pub(super) fn close(&self) -> Said {
        // Acquire: everything that was published before is seen below. Release: only for whoever publishes later and
        // finds the flag.
        let flags = self.flags.fetch_or(CLOSED, Ordering::AcqRel);
        let label = |label: &AtomicU32| LabelId(label.load(Ordering::Relaxed));
        let extra = if flags & HAS_EXTRA == 0 {
            None
        } else {
            self.extra
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take()
        };
        Said {
            route: label(&self.route),
            provider: label(&self.provider),
            model: label(&self.model),
            tenant: label(&self.tenant),
            user: label(&self.user),
            usage: (flags & HAS_TOKENS != 0).then(|| Usage {
                input: self.input.load(Ordering::Relaxed),
                output: self.output.load(Ordering::Relaxed),
                cached: self.cached.load(Ordering::Relaxed),
            }),
            cost_nanos: (flags & HAS_COST != 0).then(|| self.cost_nanos.load(Ordering::Relaxed)),
            success: match self.verdict.load(Ordering::Relaxed) {
                FAILED => Some(false),
                SUCCEEDED => Some(true),
                _ => None,
            },
            extra,
        }
    }

    /// Makes what was stored before part of the record, or counts that it came too late.
    #[inline]
    fn publish(&self, flag: u32) {
        // Release: the stores come before it for `close`, which acquires. One of the two changes of the flags is the
        // first: either `close` sees what was said, or we see that it is closed, so nothing is lost without a count.
        if self.flags.fetch_or(flag, Ordering::AcqRel) & CLOSED != 0 {
            self.recorder.collector().late_call();
        }
    }

    #[inline]
    fn say(&self, label: &AtomicU32, id: LabelId) {
        label.store(id.0, Ordering::Relaxed);
        self.publish(0);
    }

    fn say_cost(&self, cost: f64) {
        if !(0.0..=MAX_COST).contains(&cost) {
            return self.recorder.collector().invalid_value();
        }
        let nanos = (cost * NANOS).round() as u64;
        self.cost_nanos.store(nanos, Ordering::Relaxed);
        self.publish(HAS_COST);
    }

    fn say_extra(&self, say: impl FnOnce(&mut Extra)) {
        {
            let mut extra = self.extra.lock().unwrap_or_else(PoisonError::into_inner);
            say(extra.get_or_insert_default());
        }
        self.publish(HAS_EXTRA);
    }
}

/// What is known of a request when it comes.
pub(super) struct RequestHead {
    pub(super) method: Method,
    pub(super) http2: bool,
    pub(super) bytes: Option<u64>,
    pub(super) route: LabelId,
    pub(super) request_id: Option<Box<str>>,
}
