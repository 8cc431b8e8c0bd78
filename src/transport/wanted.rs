//! What a stream or a socket is asked for: by its URL, by its headers, by a reconnect token.

use std::sync::Arc;

use http::request::Parts;

use super::{
    answer::Refusal,
    caller::Caller,
    connections::{Known, Selection, Session},
    params,
    query::{self, Query},
};
use crate::{
    access::{Resume, TokenError},
    hub::{Hub, Start},
};

/// What a stream is asked for.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(super) selection: Selection,
    pub(super) query: Query,
    pub(super) start: Start,
    /// Of the token that it goes on with.
    pub(super) session: Option<Session>,
    /// Why the token that it was to go on with is not taken.
    pub(super) refused: Option<TokenError>,
}

impl Wanted {
    pub(crate) fn new(names: Vec<String>, query: Query, parts: &Parts) -> Self {
        let start = params::start(&parts.headers, &query).unwrap_or(Start::Latest);
        let selection = Selection {
            names,
            query: lasting(&query),
            tenant: None,
        };
        Self {
            selection,
            query,
            start,
            session: None,
            refused: None,
        }
    }

    /// What a reconnect token stands for: what its session reads now and how far its client surely is, where the session
    /// is known, and otherwise what the token says itself. A position that the client brings is newer, and wins.
    pub(crate) fn by_token(
        token: &str,
        caller: &Caller<'_>,
        hub: &Hub,
        names: Vec<String>,
        query: Query,
        parts: &Parts,
    ) -> Result<Self, Refusal> {
        let tokens = caller.gate.reconnect_tokens();
        let resume = match tokens.verify(&caller.principal, token) {
            Ok(resume) => resume,
            Err(why) => return Ok(Self::lost(why, names, query, parts)),
        };
        let session = session_of(&resume.subscription);
        match session.and_then(|session| caller.connections.recall(session)) {
            Some(Known { selection, told }) => Ok(Self {
                start: params::start(&parts.headers, &query)
                    .unwrap_or_else(|| Start::After(hub.position_of(told))),
                query: Query::parse(Some(&selection.query))?,
                selection,
                session,
                refused: None,
            }),
            None if resume.is_expired => Ok(Self::lost(TokenError::Expired, names, query, parts)),
            None => Self::said(resume, &query, parts),
        }
    }

    /// What a token says.
    fn said(resume: Resume, query: &Query, parts: &Parts) -> Result<Self, Refusal> {
        let start =
            params::start(&parts.headers, query).unwrap_or_else(|| Start::parse(&resume.position));
        let query = Query::parse(Some(&resume.subscription))?;
        let session = session_of(&resume.subscription);
        let selection = Selection {
            names: params::channels(&query)?,
            query: lasting(&query),
            // A client's own `tenant` is none: see `lasting`.
            tenant: query.get("tenant").map(Arc::from),
        };
        Ok(Self {
            selection,
            query,
            start,
            session,
            refused: None,
        })
    }

    /// The token is not good any more: a fresh session that says so. It reads what the request itself asks for, from
    /// where the request itself says; what stood in the token is not known.
    fn lost(why: TokenError, names: Vec<String>, query: Query, parts: &Parts) -> Self {
        let start = params::start(&parts.headers, &query).unwrap_or(Start::Unknown);
        Self {
            start,
            refused: Some(why),
            ..Self::new(names, query, parts)
        }
    }
}

/// The session in what a token says. Nobody but us has written it there: [`lasting`] leaves out a client's own.
pub(crate) fn session_of(subscription: &str) -> Option<Session> {
    subscription
        .split('&')
        .find_map(|pair| pair.strip_prefix("session="))
        .and_then(Session::parse)
}

/// What of a query lasts as long as the connection, and goes into its token: criteria and pace. Nothing else of a
/// client's is kept.
pub(super) fn lasting(query: &Query) -> String {
    let lasts = |name: &str| params::CRITERIA.contains(&name) || params::PACE.contains(&name);
    let mut text = String::new();
    for (name, value) in query.pairs().filter(|(name, _)| lasts(name)) {
        if !text.is_empty() {
            text.push('&');
        }
        query::encode(name, &mut text);
        text.push('=');
        query::encode(value, &mut text);
    }
    text
}

#[cfg(test)]
mod tests {
    use http::Request;
    use proptest::prelude::*;

    use super::*;
    use crate::clock::Clock;

    /// What a token brings back of what went into it.
    fn there_and_back(names: &[&str], query: &str) -> (Wanted, Session) {
        let session = Session::random(Clock::new());
        let query = Query::parse(Some(query)).unwrap();
        let (parts, ()) = Request::new(()).into_parts();
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let wanted = Wanted::new(names, query, &parts);
        let resume = Resume {
            subscription: wanted.selection.to_query(session),
            position: "1-2".to_owned(),
            is_expired: false,
        };
        let nothing = Query::default();
        (Wanted::said(resume, &nothing, &parts).unwrap(), session)
    }

    #[test]
    fn what_a_client_names_adds_nothing_to_its_token() {
        let names = [
            "session=0000000000000007",
            "a&session=0000000000000007&channels=all",
            "b%26c",
            "d+e f",
            "ü=#",
        ];
        let hostile = "provider_id=p%26session%3D7&session=7&%73ession=7&%63hannels=all&channels=all&type=a,b&x=y";
        let (back, session) = there_and_back(&names, hostile);
        assert_eq!(back.selection.names, names);
        assert_eq!(back.session, Some(session));
        assert_eq!(back.selection.query, "provider_id=p%26session%3D7&type=a,b");
        assert_eq!(back.query.get("provider_id"), Some("p&session=7"));
    }

    #[test]
    fn nothing_but_criteria_and_pace_is_kept() {
        let of = |text| lasting(&Query::parse(Some(text)).unwrap());
        let long = format!("utm_source={}&level=warn&_=1", "x".repeat(9000));
        assert_eq!(of(&long), "level=warn");
        let fleeting = "since=1-2&lastEventId=3&token=t&ticket=t&channels=a&metrics=b&session=7";
        assert_eq!(of(fleeting), "");
        let all = "window=1h&interval=5&max_rate=9&only_errors=true&route=%2Fa%2F%7Bid%7D";
        assert_eq!(of(all), all);
    }

    proptest! {
        #[test]
        fn names_come_back_as_they_were(names in prop::collection::vec("[^,\\s]{1,16}", 1..5)) {
            let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
            names.sort_unstable();
            names.dedup();
            let (back, session) = there_and_back(&names, "");
            prop_assert_eq!(back.selection.names, names);
            prop_assert_eq!(back.session, Some(session));
        }
    }
}
