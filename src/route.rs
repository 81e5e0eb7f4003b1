//! Which policy a path has (matchit): the most specific `[[route]]` wins.

mod items;

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

pub use self::items::{ItemData, Items};
use crate::gate::rate::{Key, Limiter};
use crate::gate::{Account, Wait};
use crate::units::Rate;
use crate::uri::tidy;

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
    /// The new state, taken from the write's own answer where that is safe; public routes only.
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
    /// How often a bound URI is looked at for changes that do not pass through Pogo.
    pub poll: Option<Duration>,
    pub settle: Vec<Duration>,
    /// Longest life of a binding that is not asked for again.
    pub ttl: Option<Duration>,
    /// Requests of one client's address.
    pub rate: Option<Rate>,
    pub items: Items,
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
            poll: None,
            settle: Vec::new(),
            ttl: None,
            rate: None,
            items: Items::default(),
        }
    }
}

/// Every rule, found by path, and what clients have spent of its rate.
#[derive(Debug)]
pub struct Routes {
    rules: Vec<Rule>,
    /// For each rule.
    budgets: Vec<Option<Arc<Limiter>>>,
    router: matchit::Router<usize>,
    implied: Rule,
}

/// A path's rule, with the parameters that its pattern took from the path.
#[derive(Debug)]
pub struct Route<'r> {
    pub rule: &'r Rule,
    budget: Option<&'r Limiter>,
    params: Vec<(String, String)>,
}

impl Routes {
    /// Refuses patterns that matchit cannot tell apart, with the number of the rule.
    pub fn new(rules: Vec<Rule>) -> Result<Self, (usize, matchit::InsertError)> {
        Self::default().succeed(rules)
    }

    /// Those that take the place of these: a path whose rate is the same keeps what was spent.
    pub fn succeed(&self, rules: Vec<Rule>) -> Result<Self, (usize, matchit::InsertError)> {
        let mut router = matchit::Router::new();
        for (number, rule) in rules.iter().enumerate() {
            router.insert(rule.path.as_str(), number).map_err(|error| (number, error))?;
        }
        let budget_of = |rule: &Rule| {
            let before = self.rules.iter().position(|before| before.path == rule.path);
            let before = before.and_then(|number| self.budgets[number].as_ref());
            rule.rate.map(|rate| Limiter::succeed(before, rate))
        };
        let budgets = rules.iter().map(budget_of).collect();
        Ok(Self { rules, budgets, router, implied: Rule::default() })
    }

    /// The rule of a request target; neither its query counts nor how its path is spelled.
    pub fn of<'r>(&'r self, target: &str) -> Route<'r> {
        let implied = Route { rule: &self.implied, budget: None, params: Vec::new() };
        if self.rules.is_empty() {
            return implied;
        }
        let found = self.find(target, |number, params| Route {
            rule: &self.rules[number],
            budget: self.budgets[number].as_deref(),
            params: params.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
        });
        found.unwrap_or(implied)
    }

    /// What `give` makes of the number of the target's rule and of the pattern's parameters.
    fn find<T>(
        &self,
        target: &str,
        give: impl FnOnce(usize, &matchit::Params<'_, '_>) -> T,
    ) -> Option<T> {
        let path: Cow<'_, str> = tidy(target.split(['?', '#']).next().unwrap_or_default());
        let trimmed = if path.len() > 1 { path.strip_suffix('/').unwrap_or(&path) } else { &path };
        let found = self.router.at(&path).or_else(|_| self.router.at(trimmed)).ok()?;
        Some(give(*found.value, &found.params))
    }

    /// The number of a request target's rule; those without one share the number after the last.
    pub fn number(&self, target: &str) -> usize {
        if self.rules.is_empty() {
            return 0;
        }
        self.find(target, |number, _| number).unwrap_or(self.rules.len())
    }

    /// Every rule, in the order of their numbers.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Spends one request of the client's budget for the target's route, and notes what is left.
    pub fn spend(&self, target: &str, client: IpAddr, account: &mut Account) -> Result<(), Wait> {
        if self.budgets.iter().all(Option::is_none) {
            return Ok(());
        }
        let budget = self.of(target).budget;
        budget.map_or(Ok(()), |budget| account.spend("route", budget, Key::of_address(client)))
    }

    /// Forgets budgets that are full again. To be called every minute or so.
    pub fn sweep(&self) {
        self.budgets.iter().flatten().for_each(|budget| budget.sweep());
    }
}

impl Default for Routes {
    fn default() -> Self {
        Self {
            rules: Vec::new(),
            budgets: Vec::new(),
            router: matchit::Router::new(),
            implied: Rule::default(),
        }
    }
}

impl Route<'_> {
    /// What the pattern took from the path.
    pub fn parameters(&self) -> &[(String, String)] {
        &self.params
    }

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
