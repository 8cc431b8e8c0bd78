//! Taken: which parameters a path looks at. One that would mean something elsewhere is refused where it means
//! nothing, and so is one that is given twice: passed over in silence, it would look as if the answer were about it.
//! Others, such as those against caches, are nobody's business.

use crate::{
    refusal::Refusal,
    transport::{
        params::{CRITERIA, PACE},
        query::Query,
        route::Route,
    },
};

/// All that mean something somewhere, criteria and pace aside. Credentials and positions are not among them: a ticket
/// is refused by who looks at it, and a position is never an error.
const OTHERS: [&str; 7] = [
    "range", "step", "by", "limit", "period", "channels", "metrics",
];

/// What a path takes: names of its own, and whether the criteria of a filter.
fn taken(route: Route<'_>) -> (&'static [&'static str], bool) {
    const LISTED: [&str; 5] = ["channels", "metrics", "window", "interval", "max_rate"];
    match route {
        Route::Metrics | Route::Overview | Route::ProviderMetrics(_) => (&["window"], false),
        Route::Series => (&["range", "step"], false),
        Route::Breakdown => (&["by", "range"], false),
        Route::Errors | Route::Requests => (&["limit"], true),
        Route::Slow => (&["limit", "range"], true),
        Route::Connections => (&["limit"], false),
        Route::Stream | Route::StreamReconnect | Route::Ws("" | "/" | "/reconnect") => {
            (&LISTED, true)
        }
        // The path says the channel.
        Route::StreamChannel(_) | Route::Ws(_) => (&PACE, true),
        _ => (&[], false),
    }
}

/// 400 with the first that the path does not take, and what it takes; or that stands there more than once.
pub(super) fn check(route: Route<'_>, query: &Query) -> Result<(), Refusal> {
    let (names, filtered) = taken(route);
    let is_taken = |name: &str| names.contains(&name) || filtered && CRITERIA.contains(&name);
    let means_something =
        |name: &str| OTHERS.contains(&name) || PACE.contains(&name) || CRITERIA.contains(&name);
    let mut seen: Vec<&str> = Vec::new();
    for (name, _) in query.pairs().filter(|(name, _)| means_something(name)) {
        if !is_taken(name) {
            let mut takes = names.to_vec();
            if filtered {
                takes.extend(CRITERIA);
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
        // Two names of one list.
        let name = if name == "metrics" { "channels" } else { name };
        if seen.contains(&name) {
            return Err(Refusal::bad_request(name, "is given more than once"));
        }
        seen.push(name);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(route: Route<'_>, query: &str) -> Option<String> {
        let query = Query::parse(Some(query)).unwrap();
        let refusal = check(route, &query).err()?;
        Some(refusal.sentence().to_owned())
    }

    #[test]
    fn what_means_something_is_taken_or_refused_and_once() {
        for (route, query) in [
            (Route::Metrics, "window=1h&_=1&_=2&utm_source=x"),
            (
                Route::Stream,
                "channels=a&level=warn&since=1-2&since=&ticket=x",
            ),
            (Route::Ws(""), "metrics=a&max_rate=5"),
            (
                Route::StreamChannel("stats"),
                "window=1h&interval=5&token=t",
            ),
            (Route::Ticket, "_=1"),
        ] {
            assert_eq!(said(route, query), None, "{query}");
        }
        for (route, query, name, what) in [
            (
                Route::Metrics,
                "window=1h&window=5m",
                "'window'",
                "more than once",
            ),
            (
                Route::Requests,
                "route=a&route=a",
                "'route'",
                "more than once",
            ),
            (
                Route::Stream,
                "channels=a&channels=b",
                "'channels'",
                "more than once",
            ),
            (
                Route::Stream,
                "channels=a&metrics=b",
                "'channels'",
                "more than once",
            ),
            (
                Route::StreamChannel("a"),
                "channels=b",
                "'channels'",
                "takes window",
            ),
            (Route::Ws("/a"), "metrics=b", "'metrics'", "takes window"),
            (Route::Stream, "limit=5", "'limit'", "max_rate"),
            // Whoever believes to have confined a ticket shall not hold one for everything.
            (Route::Ticket, "channels=a", "'channels'", "takes none"),
        ] {
            let said = said(route, query).unwrap_or_else(|| panic!("{query} is taken"));
            assert!(
                said.contains(name) && said.contains(what),
                "{query}: {said}"
            );
        }
    }
}
