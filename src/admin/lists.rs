//! What there is: sessions, bindings, routes; and ending sessions.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::answer::{Answer, Refusal};
use super::{Desk, Table};
use crate::protocol::Close;
use crate::route::Rule;
use crate::session::orders::{Order, Page, Which};
use crate::units::Interval;

/// Entries of one page, unless `limit` says otherwise.
const PAGE: usize = 100;
/// Most entries of one page.
const LARGEST_PAGE: usize = 1000;

impl Desk {
    /// `?client=` narrows it down, `?limit=` and `?after=` page through it.
    pub(super) async fn sessions(&self, query: Option<&str>) -> Result<Answer, Refusal> {
        let query = Query::read(query, &["client", "limit", "after"])?;
        let mut page = query.page(query.which()?)?;
        let mut sessions = Vec::new();
        for orders in &self.reach.orders {
            let more = self.order(orders, |reply| Order::Sessions(page.clone(), reply)).await?;
            page.limit -= more.len().min(page.limit);
            sessions.extend(more);
            if page.limit == 0 {
                break;
            }
        }
        let next = sessions.last().filter(|_| page.limit == 0).map(|last| last.id.to_string());
        Ok(Answer::json(&json!({"sessions": sessions, "next": next})))
    }

    /// `?session=`, `?client=` and `?uri=` narrow it down. A session's bindings stay together.
    pub(super) async fn bindings(&self, query: Option<&str>) -> Result<Answer, Refusal> {
        let query = Query::read(query, &["session", "client", "uri", "limit", "after"])?;
        let uri = query.uri()?;
        let mut page = query.page(query.which()?)?;
        let mut bindings = Vec::new();
        for orders in &self.reach.orders {
            let uri = uri.clone();
            let more =
                self.order(orders, |reply| Order::Bindings(page.clone(), uri, reply)).await?;
            page.limit -= more.len().min(page.limit);
            bindings.extend(more);
            if page.limit == 0 {
                break;
            }
        }
        let next = bindings.last().filter(|_| page.limit == 0).map(|last| last.session.to_string());
        Ok(Answer::json(&json!({"bindings": bindings, "next": next})))
    }

    pub(super) async fn end_session(
        &self,
        id: &str,
        query: Option<&str>,
    ) -> Result<Answer, Refusal> {
        let id = id.parse().map_err(|_| Refusal::bad_request("a session's id is a number"))?;
        let query = Query::read(query, &["reconnect"])?;
        match self.end(Which::One(id), &query).await? {
            0 => Err(Refusal::not_found()),
            ended => Ok(Answer::json(&json!({"ended": ended}))),
        }
    }

    /// `?client=` or `?all=true` must say which, so that no slip of the hand ends all.
    pub(super) async fn end_sessions(&self, query: Option<&str>) -> Result<Answer, Refusal> {
        let query = Query::read(query, &["client", "all", "reconnect"])?;
        let which = match (query.which()?, query.flag("all")?) {
            (Which::All, false) => {
                return Err(Refusal::bad_request("?client=ADDRESS or ?all=true is needed"));
            }
            (Which::All, true) => Which::All,
            (_, true) => return Err(Refusal::bad_request("client and all contradict each other")),
            (which, false) => which,
        };
        Ok(Answer::json(&json!({"ended": self.end(which, &query).await?})))
    }

    async fn end(&self, which: Which, query: &Query) -> Result<usize, Refusal> {
        let close = match query.flag("reconnect")? {
            true => Close::GoingAway { retry_after: Some(1) },
            false => Close::Ended,
        };
        let mut ended = 0;
        for orders in &self.reach.orders {
            ended += self.order(orders, |reply| Order::End(which, close.clone(), reply)).await?;
        }
        tracing::info!(?which, ended, code = close.code(), "an operator ended sessions");
        Ok(ended)
    }

    pub(super) fn routes(&self) -> Answer {
        let routes: Vec<Value> = self.subject().tables.iter().flat_map(listed).collect();
        Answer::json(&json!({"routes": routes}))
    }
}

/// The routes of a table, and what holds for all other paths.
fn listed(table: &Table) -> Vec<Value> {
    let mut routes: Vec<Value> = table.routes.rules().iter().map(described).collect();
    let mut implied = described(&Rule::default());
    implied["path"] = Value::Null;
    routes.push(implied);
    for (number, route) in routes.iter_mut().enumerate() {
        let counted = table.counted.as_ref().and_then(|counted| counted.get(number));
        if !table.namespace.is_default() {
            route["namespace"] = json!(table.namespace.as_str());
        }
        route["label"] = json!(counted.map(|counted| counted.label()));
        route["requests"] = json!(counted.map(|counted| counted.requests()));
    }
    routes
}

fn described(rule: &Rule) -> Value {
    json!({
        "path": rule.path,
        "realtime": rule.realtime,
        "autobind": rule.autobind,
        "visibility": format!("{:?}", rule.visibility).to_lowercase(),
        "push": format!("{:?}", rule.push).to_lowercase(),
        "affects": rule.affects,
        "affects_only": rule.affects_only,
        "update_method": rule.update_method.as_str(),
        "min_interval": rule.min_interval.map(|it| Interval(it).to_string()),
        "poll": rule.poll.map(|it| Interval(it).to_string()),
        "settle": rule.settle.iter().map(|it| Interval(*it).to_string()).collect::<Vec<_>>(),
        "ttl": rule.ttl.map(|it| Interval(it).to_string()),
        "rate": rule.rate.map(|rate| rate.to_string()),
        "items": rule.items.at,
        "item_id": rule.items.id,
        "item_uri": rule.items.uri,
        "item_data": format!("{:?}", rule.items.data).to_lowercase(),
    })
}

/// The parameters of a request, each at most once.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn read(text: Option<&str>, known: &[&str]) -> Result<Self, Refusal> {
        let url = format!("http://admin/?{}", text.unwrap_or_default());
        let url = reqwest::Url::parse(&url)
            .map_err(|_| Refusal::bad_request("the query is malformed"))?;
        let mut pairs: Vec<(String, String)> = Vec::new();
        for (name, value) in url.query_pairs() {
            if !known.contains(&&*name) || pairs.iter().any(|(other, _)| *other == name) {
                let known = known.join(", ");
                let text = format!("the query may have, once each: {known}");
                return Err(Refusal::bad_request(text));
            }
            pairs.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(pairs))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Refusal> {
        let bad = |_| Refusal::bad_request(format!("{name} must be a number"));
        self.get(name).map(|text| text.parse().map_err(|_| bad(()))).transpose()
    }

    fn flag(&self, name: &str) -> Result<bool, Refusal> {
        match self.get(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Refusal::bad_request(format!("{name} must be true or false"))),
        }
    }

    /// In the spelling that bindings are kept under.
    fn uri(&self) -> Result<Option<String>, Refusal> {
        let parsed = self.get("uri").map(crate::uri::Uri::parse).transpose();
        let uri = parsed.map_err(|error| Refusal::bad_request(error.to_string()))?;
        Ok(uri.map(|uri| uri.as_str().to_owned()))
    }

    fn which(&self) -> Result<Which, Refusal> {
        match (self.number("session")?, self.get("client")) {
            (Some(_), Some(_)) => {
                Err(Refusal::bad_request("session and client contradict each other"))
            }
            (Some(id), None) => Ok(Which::One(id)),
            (None, Some(_)) => Ok(self.address("client")?.map_or(Which::All, Which::OfAddress)),
            (None, None) => Ok(Which::All),
        }
    }

    pub(super) fn address(&self, name: &str) -> Result<Option<IpAddr>, Refusal> {
        let parsed = self.get(name).map(str::parse::<IpAddr>).transpose();
        let address =
            parsed.map_err(|_| Refusal::bad_request(format!("{name} must be an IP address")))?;
        Ok(address.map(|ip| ip.to_canonical()))
    }

    pub(super) fn limit(&self) -> Result<usize, Refusal> {
        let limit = self.number("limit")?.unwrap_or(PAGE);
        match (1..=LARGEST_PAGE).contains(&limit) {
            true => Ok(limit),
            false => Err(Refusal::bad_request(format!("limit must be from 1 to {LARGEST_PAGE}"))),
        }
    }

    fn page(&self, which: Which) -> Result<Page, Refusal> {
        let after = self.number("after")?.unwrap_or(0);
        Ok(Page { which, after, limit: self.limit()? })
    }
}
