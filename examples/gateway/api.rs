//! The gateway's own routes: OpenAI's, answered by the simulated providers.

use axum::{
    Json, Router,
    extract::{Path, State, rejection::JsonRejection},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use tower_realtime::{Level, LogLine, RealtimeHandle, RequestMeter, Usage};

use crate::{
    provider::{self, PROVIDERS, Provider},
    random::Random,
    reply::{self, Failure},
};

pub(crate) fn router(rt: &RealtimeHandle) -> Router {
    provider::register(rt);
    Router::new()
        .route("/", get(|| async { Redirect::temporary("/realtime/") }))
        .route("/v1/chat/completions", post(chat))
        .route("/v1/embeddings", post(embeddings))
        .route("/v1/models", get(models))
        .route("/v1/models/{id}", get(model))
        .with_state(rt.clone())
}

type JsonBody = Result<Json<Value>, JsonRejection>;

async fn chat(
    State(rt): State<RealtimeHandle>,
    meter: RequestMeter,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<Response, Failure> {
    let request = Question::read(&meter, &headers, body)?;
    let streams = request.body["stream"].as_bool().unwrap_or(false);
    let limit = request.body["max_tokens"].as_u64().unwrap_or(2048);
    let output = (Random::fresh().around(130.0) as u64).clamp(1, limit.max(1));
    let prompt = request.body["messages"].to_string().len();

    let mut answer = request.provider.answer(prompt, output).await;
    if let Err(failure) = &answer
        && failure.status == StatusCode::SERVICE_UNAVAILABLE
        && let Some(groq) = provider::by_id("groq")
    {
        // Overload is answered at once, so there is time to ask somebody else. The request counts for the one who
        // answered.
        let message = format!("{}; fallback to {}", failure.message, groq.id);
        rt.log_line(
            LogLine::new(Level::Warn, "router", message)
                .provider(request.provider.id)
                .field("model", &request.model),
        );
        meter
            .provider(groq.id)
            .model(groq.models[0].id)
            .label("fallback", "true");
        answer = groq.answer(prompt, output).await;
    }
    let answer = answer.inspect_err(|failure| {
        meter.fail(failure.code);
        let (level, component) = match failure.status {
            StatusCode::TOO_MANY_REQUESTS => (Level::Info, "quota"),
            _ => (Level::Error, "router"),
        };
        rt.log_line(LogLine::new(level, component, &failure.message).provider(request.provider.id));
    })?;
    Ok(if streams {
        reply::completion_stream(meter, request.model, answer).await
    } else {
        reply::completion(meter, request.model, answer).await
    })
}

async fn embeddings(
    meter: RequestMeter,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<Response, Failure> {
    let request = Question::read(&meter, &headers, body)?;
    let input = request.body["input"].to_string();
    let answer = request.provider.answer(input.len(), 0).await?;
    tokio::time::sleep(answer.first_token / 4).await;
    let usage = Usage {
        input: answer.usage.input,
        output: 0,
        cached: 0,
    };
    let answer = json!({
        "object": "list",
        "model": request.model,
        "data": [{"object": "embedding", "index": 0, "embedding": [0.011, -0.027, 0.043]}],
        "usage": reply::usage_json(&usage),
    });
    meter.tokens(usage);
    Ok(Json(answer).into_response())
}

async fn models() -> Json<Value> {
    let all = PROVIDERS.iter().flat_map(|provider| {
        let models = provider.models.iter();
        models.map(|model| json!({"id": model.id, "object": "model", "owned_by": provider.id}))
    });
    Json(json!({"object": "list", "data": all.collect::<Vec<_>>()}))
}

async fn model(Path(id): Path<String>) -> Result<Json<Value>, Failure> {
    let provider = provider::of_model(&id)
        .ok_or_else(|| Failure::not_found(format!("the model {id:?} does not exist")))?;
    Ok(Json(
        json!({"id": id, "object": "model", "owned_by": provider.id}),
    ))
}

/// A request that was understood and attributed.
struct Question {
    body: Value,
    model: String,
    provider: &'static Provider,
}

impl Question {
    /// Says who asks for what as early as it is known: what fails later is attributed too.
    fn read(meter: &RequestMeter, headers: &HeaderMap, body: JsonBody) -> Result<Self, Failure> {
        if let Some(tenant) = headers
            .get("openai-organization")
            .and_then(|t| t.to_str().ok())
        {
            meter.tenant(tenant);
        }
        let Json(body) = body.map_err(|rejection| Failure::invalid(rejection.body_text()))?;
        if let Some(user) = body["user"].as_str() {
            meter.user(user);
        }
        let model = body["model"]
            .as_str()
            .ok_or_else(|| Failure::invalid("you must provide a model parameter"))?
            .to_owned();
        let provider = provider::of_model(&model)
            .ok_or_else(|| Failure::not_found(format!("the model {model:?} does not exist")))?;
        meter.provider(provider.id).model(&model);
        Ok(Self {
            body,
            model,
            provider,
        })
    }
}
