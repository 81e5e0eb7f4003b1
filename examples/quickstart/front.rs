//! What Pogo has to be told of this API; all else is at its default.

use http::Method;
use pogo::channel::{self, Who};
use pogo::handlers::{Act, Rule as Handler};
use pogo::namespace::Name;
use pogo::route::Rule;
use pogo::server::Options;
use pogo::session::namespaces;

pub(crate) fn configure(options: &mut Options) {
    // A token is good if the API answers GET /me with it; POST /logout ends its sockets.
    options.auth.verify = Some("/me".into());
    options.auth.logout = vec![(Method::POST, "/logout".into())];
    options.channels = vec![
        channel::Rule::open(),
        // Who is in a room sees who else is, and who comes back what was said.
        channel::Rule {
            pattern: "/rooms/*".into(),
            presence: true,
            history: Some(channel::History::default()),
            ..channel::Rule::open()
        },
        // For those whom the API knows.
        channel::Rule {
            pattern: "/members/*".into(),
            subscribe: Who::Ask,
            publish: Who::Ask,
            ask: Some("/me".into()),
            ..channel::Rule::open()
        },
    ];
    // In the namespace /lists an event of its own: "remember" makes an item.
    let remember = Handler { event: "remember".into(), act: Act::Forward("/items".into()) };
    options.namespaces = Name::new("/lists")
        .map(|name| namespaces::Options {
            handlers: vec![remember],
            ..namespaces::Options::new(name)
        })
        .into_iter()
        .collect();
    options.routes = vec![
        // A user is `/me` for themselves.
        Rule { path: "/users/{id}".into(), affects: vec!["/me".into()], ..Rule::default() },
        // Signing in and out changes nothing that can be watched.
        Rule { path: "/login".into(), realtime: false, ..Rule::default() },
        Rule { path: "/logout".into(), realtime: false, ..Rule::default() },
    ];
}
