//! The simulated providers: who there is, what their models cost, and how an answer of theirs goes.

use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

use axum::http::StatusCode;
use tower_realtime::{Price, PriceTable, RealtimeHandle, Usage};

use crate::{random::Random, reply::Failure};

#[derive(Debug)]
pub(crate) struct Provider {
    pub(crate) id: &'static str,
    name: &'static str,
    kind: &'static str,
    pub(crate) models: &'static [Model],
    /// Median wait for the first token.
    first_token_ms: f64,
    tokens_per_second: f64,
    /// Share of requests that it refuses because the quota is used up.
    quota: f64,
    /// Overloaded most of the time: slow, and failing now and then.
    degraded: bool,
}

#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) id: &'static str,
    /// Dollars a million tokens: input, cached input, output. What runs on a machine of one's own has no price.
    price: Option<[f64; 3]>,
}

const fn model(id: &'static str, price: [f64; 3]) -> Model {
    Model {
        id,
        price: Some(price),
    }
}

pub(crate) static PROVIDERS: [Provider; 5] = [
    Provider {
        id: "openai",
        name: "OpenAI",
        kind: "paid",
        models: &[
            model("gpt-4o-mini", [0.15, 0.075, 0.60]),
            model("gpt-4o", [2.50, 1.25, 10.00]),
            model("text-embedding-3-small", [0.02, 0.02, 0.0]),
        ],
        first_token_ms: 310.0,
        tokens_per_second: 95.0,
        quota: 0.006,
        degraded: false,
    },
    Provider {
        id: "anthropic",
        name: "Anthropic",
        kind: "paid",
        models: &[
            model("claude-sonnet-4", [3.00, 0.30, 15.00]),
            model("claude-haiku-3.5", [0.80, 0.08, 4.00]),
        ],
        first_token_ms: 420.0,
        tokens_per_second: 80.0,
        quota: 0.004,
        degraded: false,
    },
    Provider {
        id: "groq",
        name: "Groq",
        kind: "free",
        models: &[
            model("llama-3.1-8b-instant", [0.05, 0.05, 0.08]),
            model("llama-3.3-70b-versatile", [0.59, 0.59, 0.79]),
        ],
        first_token_ms: 85.0,
        tokens_per_second: 420.0,
        quota: 0.05,
        degraded: false,
    },
    Provider {
        id: "mistral",
        name: "Mistral",
        kind: "paid",
        models: &[
            model("mistral-small", [0.10, 0.10, 0.30]),
            model("mistral-large", [2.00, 2.00, 6.00]),
        ],
        first_token_ms: 240.0,
        tokens_per_second: 120.0,
        quota: 0.003,
        degraded: false,
    },
    Provider {
        id: "local",
        name: "Our own GPU box",
        kind: "local",
        models: &[Model {
            id: "qwen2.5-7b",
            price: None,
        }],
        first_token_ms: 160.0,
        tokens_per_second: 60.0,
        quota: 0.0,
        degraded: true,
    },
];

pub(crate) fn prices() -> PriceTable {
    let priced = PROVIDERS
        .iter()
        .flat_map(|provider| provider.models)
        .filter_map(|model| Some((model.id, model.price?)));
    priced.fold(PriceTable::new(), |table, (id, [input, cached, output])| {
        table.model(id, Price::new(input, output).cached(cached))
    })
}

/// Tells the page whom to expect. Their status is left to be derived from the traffic.
pub(crate) fn register(rt: &RealtimeHandle) {
    for provider in &PROVIDERS {
        rt.provider(provider.id)
            .name(provider.name)
            .kind(provider.kind)
            .models(provider.models.len() as u32)
            .supports_streaming(true)
            .supports_tools(!provider.degraded)
            .upsert();
    }
}

pub(crate) fn of_model(id: &str) -> Option<&'static Provider> {
    PROVIDERS
        .iter()
        .find(|provider| provider.models.iter().any(|model| model.id == id))
}

pub(crate) fn by_id(id: &str) -> Option<&'static Provider> {
    PROVIDERS.iter().find(|provider| provider.id == id)
}

/// How one answer will go: when its words come, and what it uses.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) first_token: Duration,
    pub(crate) per_token: Duration,
    pub(crate) usage: Usage,
    /// The connection to the provider breaks in the middle of the answer.
    pub(crate) breaks: bool,
}

impl Provider {
    /// Waits as long as this provider takes to make up its mind. `prompt` is the length of the question in bytes.
    pub(crate) async fn answer(&self, prompt: usize, output: u64) -> Result<Answer, Failure> {
        let mut random = Random::fresh();
        let overloaded = self.degraded && is_rush_hour();
        if random.chance(self.quota) {
            tokio::time::sleep(Duration::from_millis(12)).await;
            return Err(Failure::quota(self.name));
        }
        if overloaded && random.chance(0.14) {
            let (status, after_ms) = match random.below(3) {
                0 => (StatusCode::GATEWAY_TIMEOUT, 3000),
                1 => (StatusCode::BAD_GATEWAY, 700),
                _ => (StatusCode::SERVICE_UNAVAILABLE, 40),
            };
            tokio::time::sleep(Duration::from_millis(after_ms)).await;
            return Err(Failure::provider(status, self.name));
        }
        let slowness = if overloaded { 7.0 } else { 1.0 };
        let input = 12 + prompt as u64 / 4;
        Ok(Answer {
            first_token: millis(random.around(self.first_token_ms * slowness)),
            per_token: millis(random.around(1000.0 / self.tokens_per_second) * slowness.sqrt()),
            usage: Usage {
                input,
                output,
                cached: if random.chance(0.3) { input / 2 } else { 0 },
            },
            breaks: overloaded && random.chance(0.03),
        })
    }
}

fn millis(ms: f64) -> Duration {
    Duration::from_secs_f64(ms / 1000.0)
}

/// Four minutes of overload, then one to recover in: the page shows the change both ways.
fn is_rush_hour() -> bool {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed().as_secs() % 300 < 240
}
