//! What Pogo has to be told of this API; all else is at its default.

use http::Method;
use pogo::route::Rule;
use pogo::server::Options;

pub(crate) fn configure(options: &mut Options) {
    // A token is good if the API answers GET /me with it; POST /logout ends its sockets.
    options.auth.verify = Some("/me".into());
    options.auth.logout = vec![(Method::POST, "/logout".into())];
    options.routes = vec![
        // A user is `/me` for themselves.
        Rule { path: "/users/{id}".into(), affects: vec!["/me".into()], ..Rule::default() },
        // Signing in and out changes nothing that can be watched.
        Rule { path: "/login".into(), realtime: false, ..Rule::default() },
        Rule { path: "/logout".into(), realtime: false, ..Rule::default() },
    ];
}
