//! Which policy a path has (matchit): the most specific `[[route]]` wins.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::gate::rate::{Limiter, Wait};
use crate::units::Rate;
use crate::uri::Uri;

/// Whose eyes a route's resources are fetched with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Visibility {
    /// With the viewer's own credentials.
    #[default]
    Viewer,
    /// With none, so that a wrong declaration fails closed; one view serves everybody.
    Public,
}

/// What a change is announced with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Push {
    /// The new state, fetched again.
    #[default]
    State,
    /// `{"event":"update","uri"}` alone: the client fetches for itself.
    Notify,
    /// The write's own response body; public routes only.
    Response,
}

/// One `[[route]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    pub path: String,
    pub realtime: bool,
    pub autobind: bool,
    pub visibility: Visibility,
    pub push: Push,
    pub affects: Vec<String>,
    pub affects_only: Option<Vec<String>>,
    /// `PUT` or `PATCH`.
    pub update_method: http::Method,
    pub min_interval: Option<Duration>,
    pub settle: Vec<Duration>,
    pub rate: Option<Rate>,
}

impl Default for Rule {
    fn default() -> Self {
        Self {
            path: "/{*rest}".into(),
            realtime: true,
            autobind: true,
            visibility: Visibility::default(),
            push: Push::default(),
            affects: Vec::new(),
            affects_only: None,
            update_method: http::Method::PUT,
            min_interval: None,
            settle: Vec::new(),
            rate: None,
        }
    }
}

/// Every rule, found by path.
#[derive(Debug, Clone)]
pub struct Routes {
    rules: Vec<Rule>,
    router: matchit::Router<usize>,
    implied: Rule,
    /// One for each rule with a rate, by the rule's number; empty when none has.
    limiters: Arc<[Option<Limiter>]>,
}

/// A path's rule, with the parameters that its pattern took from the path.
#[derive(Debug)]
pub struct Route<'r> {
    pub rule: &'r Rule,
    params: Vec<(String, String)>,
}

impl Routes {
    /// Refuses patterns that matchit cannot tell apart, with the number of the rule.
    pub fn new(rules: Vec<Rule>) -> Result<Self, (usize, matchit::InsertError)> {
        let mut router = matchit::Router::new();
        for (number, rule) in rules.iter().enumerate() {
            router.insert(rule.path.as_str(), number).map_err(|error| (number, error))?;
        }
        let limiter = |rule: &Rule| rule.rate.map(Limiter::new);
        let limited = rules.iter().any(|rule| rule.rate.is_some());
        let limiters = if limited { rules.iter().map(limiter).collect() } else { [].into() };
        Ok(Self { rules, router, implied: Rule::default(), limiters })
    }

    /// The rule of a request target; its query does not count.
    pub fn of<'r>(&'r self, target: &str) -> Route<'r> {
        match self.find(target) {
            Some(found) => Route {
                rule: &self.rules[*found.value],
                params: found.params.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
            },
            None => Route { rule: &self.implied, params: Vec::new() },
        }
    }

    /// Spends one of the requests that `client` may make on the target's route.
    pub fn spend(&self, target: &str, client: IpAddr) -> Result<(), Wait> {
        if self.limiters.is_empty() {
            return Ok(());
        }
        // However the path is spelt, it is the same budget.
        let canonical = Uri::parse(target).ok();
        let target = canonical.as_ref().map_or(target, Uri::as_str);
        let limiter = self.find(target).and_then(|found| self.limiters.get(*found.value)?.as_ref());
        limiter.map_or(Ok(()), |limiter| limiter.spend(client))
    }

    /// Forgets budgets that are full again; to be called now and then.
    pub fn sweep(&self) {
        self.limiters.iter().flatten().for_each(Limiter::sweep);
    }

    fn find<'r, 't>(&'r self, target: &'t str) -> Option<matchit::Match<'r, 't, &'r usize>> {
        if self.rules.is_empty() {
            return None;
        }
        let path = target.split('?').next().unwrap_or_default();
        let trimmed = if path.len() > 1 { path.strip_suffix('/').unwrap_or(path) } else { path };
        self.router.at(path).or_else(|_| self.router.at(trimmed)).ok()
    }
}

impl Default for Routes {
    fn default() -> Self {
        Self {
            rules: Vec::new(),
            router: matchit::Router::new(),
            implied: Rule::default(),
            limiters: [].into(),
        }
    }
}

impl Route<'_> {
    pub fn affects(&self) -> Vec<String> {
        self.rule.affects.iter().map(|template| self.fill(template)).collect()
    }

    pub fn affects_only(&self) -> Option<Vec<String>> {
        let only = self.rule.affects_only.as_ref()?;
        Some(only.iter().map(|template| self.fill(template)).collect())
    }

    fn fill(&self, template: &str) -> String {
        self.params.iter().fold(template.to_owned(), |filled, (name, value)| {
            filled.replace(&format!("{{{name}}}"), value)
        })
    }
}
