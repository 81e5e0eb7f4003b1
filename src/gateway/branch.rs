//! What goes to another API than the one that Pogo stands before: that of a namespace, whose requests
//! begin with its name.

use std::rc::Rc;

use http::header::{HeaderMap, HeaderValue, LOCATION};
use http::uri::{PathAndQuery, Uri};
use http::{Request, Response};

use crate::exchange::{Exchange, RequestBody, ResponseBody};
use crate::namespace::Name;
use crate::rejection::Rejection;
use crate::subscription::{Asked, Subscriptions};

/// A namespace with an API of its own.
#[derive(Clone)]
pub struct Branch {
    pub name: Name,
    pub exchange: Rc<Exchange>,
    pub subscriptions: Rc<Subscriptions>,
}

impl Branch {
    /// The first branch that the target is below, which becomes what its API is to see: without
    /// the name.
    pub(super) fn of<'b>(branches: &'b [Self], target: &mut Uri) -> Option<&'b Self> {
        let (branch, below) =
            branches.iter().find_map(|branch| Some((branch, branch.name.below(target.path())?)))?;
        let text = match target.query() {
            Some(query) => format!("{below}?{query}"),
            None => below.to_owned(),
        };
        let mut parts = target.clone().into_parts();
        parts.path_and_query = Some(PathAndQuery::try_from(text).ok()?);
        *target = Uri::from_parts(parts).ok()?;
        Some(branch)
    }

    /// What its API answers, to the client of this server, and what becomes of that if this was
    /// asked for.
    pub(super) async fn answer(
        self,
        request: Box<Request<RequestBody>>,
        asked: Option<Asked>,
    ) -> Result<Response<ResponseBody>, Rejection> {
        let mut answer = match asked {
            Some(asked) => self.subscriptions.clone().answer(*request, asked).await?,
            None => *self.exchange.forward(request).await?,
        };
        self.restore(answer.headers_mut());
        Ok(answer)
    }

    /// A path of the API, as its client has to write it.
    fn restore(&self, headers: &mut HeaderMap) {
        let location = headers.get(LOCATION).and_then(|location| location.to_str().ok());
        let path = location.filter(|text| text.starts_with('/') && !text.starts_with("//"));
        let restored = path.map(|path| HeaderValue::try_from(format!("{}{path}", self.name)));
        if let Some(Ok(restored)) = restored {
            headers.insert(LOCATION, restored);
        }
    }
}
