//! Taken: which parameters a path looks at. One that would mean something elsewhere is refused where it means
//! nothing: passed over in silence, it would look as if the answer were about it. Others, such as those against caches,
//! are nobody's business.

use crate::{
    refusal::Refusal,
    transport::{query::Query, route::Route},
};

const FILTERS: [&str; 9] = [
    "provider_id",
    "model_id",
    "user_id",
    "tenant_id",
    "route",
    "only_errors",
    "component",
    "type",
    "level",
];
/// All that mean something somewhere on this surface, filters aside.
const OTHERS: [&str; 11] = [
    "window", "range", "step", "by", "limit", "period", "metrics", "interval", "since", "max_rate",
    "channels",
];

/// What a path takes: names, and whether a filter.
fn taken(route: Route<'_>) -> (&'static [&'static str], bool) {
    match route {
        Route::Metrics | Route::Overview | Route::ProviderMetrics(_) => (&["window"], false),
        Route::Series => (&["range", "step"], false),
        Route::Breakdown => (&["by", "range"], false),
        Route::Errors | Route::Requests => (&["limit"], true),
        Route::Slow => (&["limit", "range"], true),
        _ => (&[], false),
    }
}

/// 400 with the first that the path does not take, and what it takes.
pub(super) fn check(route: Route<'_>, query: &Query) -> Result<(), Refusal> {
    let (names, filtered) = taken(route);
    let is_taken = |name: &str| names.contains(&name) || filtered && FILTERS.contains(&name);
    let means_something = |name: &str| OTHERS.contains(&name) || FILTERS.contains(&name);
    for (name, _) in query.pairs() {
        if means_something(name) && !is_taken(name) {
            let mut takes = names.to_vec();
            if filtered {
                takes.extend(FILTERS);
            }
            let what = match takes.is_empty() {
                true => "is not taken by this path, which takes none".to_owned(),
                false => format!(
                    "is not taken by this path, which takes {}",
                    takes.join(", ")
                ),
            };
            return Err(Refusal::bad_request(name, &what));
        }
    }
    Ok(())
}
