//! Which policy a path has (matchit): the most specific `[[route]]` wins.

use std::time::Duration;

use crate::units::Rate;

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
#[derive(Debug, Clone, Default)]
pub struct Routes;
