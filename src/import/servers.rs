//! Where the API is: the origin that becomes `upstream`, and the path before every path.

use pogo::config;
use serde_json::Value;

use super::document::{entries, items, text_of};

/// One server, with the defaults of its variables filled in.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Server {
    pub(super) url: String,
    /// None if the URL is relative, or is one that Pogo cannot stand in front of.
    pub(super) origin: Option<String>,
    /// Why there is no origin, in other cases than a relative URL.
    pub(super) trouble: Option<String>,
    /// "/api/v1", or nothing.
    pub(super) prefix: String,
}

pub(super) fn read(value: Option<&Value>) -> Vec<Server> {
    items(value).filter_map(|server| Some(of(&filled(server)?))).collect()
}

/// The servers of Swagger 2.0: `schemes`, `host` and `basePath`.
pub(super) fn of_swagger(root: &Value) -> Vec<Server> {
    let base = text_of(root.get("basePath")).unwrap_or_default();
    let Some(host) = text_of(root.get("host")) else { return vec![of(&base)] };
    if host.contains(['/', '@', '?', '#']) {
        let trouble = Some("a host has a name, and a port at most".to_owned());
        return vec![Server { url: "host".into(), trouble, ..of(&base) }];
    }
    let mut schemes: Vec<String> =
        items(root.get("schemes")).filter_map(|it| text_of(Some(it))).collect();
    if schemes.is_empty() {
        schemes.push("https".into());
    }
    schemes.iter().map(|scheme| of(&format!("{scheme}://{host}{base}"))).collect()
}

fn filled(server: &Value) -> Option<String> {
    let mut url = text_of(server.get("url"))?;
    for (name, variable) in entries(server.get("variables")) {
        if let Some(default) = text_of(variable.get("default")) {
            url = url.replace(&format!("{{{name}}}"), &default);
        }
    }
    Some(url)
}

fn of(url: &str) -> Server {
    let (origin, path) = match url.split_once("://") {
        Some((scheme, rest)) => {
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            (Some(format!("{scheme}://{}", &rest[..end])), &rest[end..])
        }
        None => match url.strip_prefix("//") {
            Some(rest) => {
                let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
                (Some(format!("https://{}", &rest[..end])), &rest[end..])
            }
            None => (None, url),
        },
    };
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let path = path.trim_start_matches('.').trim_matches('/');
    let prefix = if path.is_empty() { String::new() } else { format!("/{path}") };
    let loads = |origin: &String| config::parse(&format!("upstream = {}\n", quoted(origin)));
    // The whole line may hold a password; the loader's words do not.
    let (origin, trouble) = match origin {
        Some(origin) => match loads(&origin) {
            Ok(_) => (Some(origin), None),
            Err(_) if is_itself(&origin) => (Some(origin), None),
            Err(_) if origin.contains('@') => {
                (None, Some("a user name or password does not belong in this URL".into()))
            }
            Err(_) => (None, Some("it is no http or https URL of a host".into())),
        },
        None => (None, None),
    };
    let url = match url.contains('@') {
        true => "(a URL with a password)".to_owned(),
        false => url.to_owned(),
    };
    Server { url, origin, trouble, prefix }
}

/// Whether the API is where Pogo listens by default: Pogo has to listen elsewhere then.
pub(super) fn is_itself(origin: &str) -> bool {
    config::parse(&format!("upstream = {}\nlisten = \"127.0.0.1:1\"\n", quoted(origin))).is_ok()
        && config::parse(&format!("upstream = {}\n", quoted(origin))).is_err()
}

/// A TOML string on one line.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
