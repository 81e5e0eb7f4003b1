//! `pogo explain`: what a configuration makes of one URI, found by the very code that serves. Nothing
//! is asked of the API, so Pogo need not run.

mod text;

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use pogo::audience::{Vary, Viewer, is_credential};
use pogo::change::{Touch, touched};
use pogo::route::{Routes, Rule, Visibility};
use pogo::server::Options;
use pogo::units::Interval;
use pogo::uri::{PathKey, Uri};
use serde::Serialize;

const EXIT_USAGE: u8 = 64;
const EXIT_FAILURE: u8 = 1;

#[derive(clap::Args)]
#[command(
    after_help = "Nothing is asked of the API. What its answers name besides (Location, Vary, cache groups) \
    is told, not known.\nExit codes: 0 explained, 1 cannot write, 64 wrong arguments or configuration."
)]
pub(crate) struct Arguments {
    /// A path of the API, such as /posts/1234 or /posts?author=3
    uri: String,
    #[command(flatten)]
    pub(crate) configuration: crate::Configuration,
    /// A header of a client's requests, such as "Authorization: Bearer x"; may be repeated. Whether it
    /// tells viewers apart is told, its value is not
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// In this namespace: by its own routes, if it has any or an upstream of its own
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// All that is told of a URI.
#[derive(Debug, Serialize)]
struct Explained {
    uri: String,
    /// The spelling under which it is bound.
    canonical: Option<String>,
    bindable: bool,
    /// Why it cannot be bound.
    why_not: Option<String>,
    /// The path by which writes find it.
    path: String,
    rule: Ruled,
    shared_by: Vec<String>,
    headers: Vec<Header>,
    touched_by: Vec<Source>,
    touches: Vec<String>,
}

/// The rule that decides, and what it comes to with the defaults.
#[derive(Debug, Serialize)]
struct Ruled {
    /// None where no rule fits.
    pattern: Option<String>,
    parameters: BTreeMap<String, String>,
    /// Other patterns that fit, and lose.
    others: Vec<String>,
    realtime: bool,
    autobind: bool,
    visibility: String,
    push: String,
    update_method: String,
    min_interval: String,
    poll: Option<String>,
    settle: Vec<String>,
    ttl: Option<String>,
    rate: Option<String>,
    recheck: Option<String>,
}

/// A header that was given, and what it does to views.
#[derive(Debug, Serialize)]
struct Header {
    name: String,
    counts: &'static str,
}

/// Writes that may or may not touch the URI.
#[derive(Debug, Serialize)]
struct Source {
    /// A path, or a pattern.
    at: String,
    relation: &'static str,
    touches: bool,
    why: String,
}

pub(crate) fn run(arguments: &Arguments, options: &Options) -> ExitCode {
    let told = headers(&arguments.headers).and_then(|headers| {
        let options = seen_from(arguments.namespace.as_deref(), options)?;
        explain(&arguments.uri, &headers, &options)
    });
    let explained = match told {
        Ok(explained) => explained,
        Err(mistake) => {
            eprintln!("{mistake}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let printed = match arguments.json {
        true => {
            serde_json::to_string_pretty(&explained).map(|json| json + "\n").unwrap_or_default()
        }
        false => text::of(&explained),
    };
    match std::io::stdout().write_all(printed.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot write: {error}");
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

/// The options with the routes that hold in that namespace.
fn seen_from(namespace: Option<&str>, options: &Options) -> Result<Options, String> {
    let mut options = options.clone();
    let Some(name) = namespace.filter(|name| *name != pogo::namespace::DEFAULT) else {
        return Ok(options);
    };
    let found = options.namespaces.iter().find(|known| known.name.as_str() == name);
    let Some(found) = found else {
        return Err(format!("--namespace: there is no [[namespace]] with the name {name:?}"));
    };
    if found.upstream.is_some() || !found.routes.is_empty() {
        options.routes = found.routes.clone();
    }
    Ok(options)
}

fn headers(lines: &[String]) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for line in lines {
        let pair = line.split_once(':').and_then(|(name, value)| {
            let name: HeaderName = name.trim().parse().ok()?;
            Some((name, HeaderValue::from_str(value.trim()).ok()?))
        });
        // Not quoted: it may be a credential.
        let Some((name, value)) = pair else {
            return Err("--header: expected a name and a value such as \"X-Tenant: 7\"".into());
        };
        headers.append(name, value);
    }
    Ok(headers)
}

fn explain(uri: &str, headers: &HeaderMap, options: &Options) -> Result<Explained, String> {
    if !uri.starts_with('/') || uri.contains('#') {
        return Err(format!("URI: found {uri:?}, expected a path such as /posts"));
    }
    let routes = Routes::new(options.routes.clone()).map_err(|(_, error)| error.to_string())?;
    let parsed = Uri::parse(uri);
    let rule = routes.of(uri).rule;
    let why_not = match &parsed {
        Err(error) => Some(error.to_string()),
        Ok(_) if !rule.realtime => Some("its route has realtime = false".to_owned()),
        Ok(_) => None,
    };
    let key = PathKey::of(uri);
    let target = uri.split('?').next().unwrap_or_default();
    Ok(Explained {
        uri: uri.to_owned(),
        canonical: parsed.ok().map(|uri| uri.to_string()),
        bindable: why_not.is_none(),
        why_not,
        path: key.to_string(),
        rule: ruled(uri, &routes, options),
        shared_by: shared_by(rule, options),
        headers: headers_of(rule, headers, options),
        touched_by: sources(target, &key, &routes),
        touches: touches(target, &routes),
    })
}

fn ruled(uri: &str, routes: &Routes, options: &Options) -> Ruled {
    let route = routes.of(uri);
    let rule = route.rule;
    let own = routes.rules().get(routes.number(uri)).map(|rule| rule.path.clone());
    let fits = |other: &&Rule| {
        let alone = Routes::new(vec![(*other).clone()]);
        Some(&other.path) != own.as_ref() && alone.is_ok_and(|alone| alone.number(uri) == 0)
    };
    let told = |time: std::time::Duration| Interval(time).to_string();
    Ruled {
        parameters: route.parameters().iter().cloned().collect(),
        others: routes.rules().iter().filter(fits).map(|rule| rule.path.clone()).collect(),
        pattern: own,
        realtime: rule.realtime,
        autobind: rule.autobind,
        visibility: format!("{:?}", rule.visibility).to_lowercase(),
        push: format!("{:?}", rule.push).to_lowercase(),
        update_method: rule.update_method.to_string(),
        min_interval: told(rule.min_interval.unwrap_or(options.hub.min_interval)),
        poll: rule.poll.map(told),
        settle: rule.settle.iter().copied().map(told).collect(),
        ttl: rule.ttl.map(told),
        rate: rule.rate.map(|rate| rate.to_string()),
        recheck: options.hub.recheck.filter(|_| rule.visibility == Visibility::Viewer).map(told),
    }
}

/// What two clients must have in common to share a view, besides the URI.
fn shared_by(rule: &Rule, options: &Options) -> Vec<String> {
    let mut fields = vec!["host".to_owned(), "accept".to_owned(), "accept-language".to_owned()];
    if rule.visibility == Visibility::Viewer {
        fields.extend(["authorization".to_owned(), "cookie".to_owned()]);
        fields.extend(options.hub.credential_headers.iter().map(ToString::to_string));
    }
    fields
}

fn headers_of(rule: &Rule, headers: &HeaderMap, options: &Options) -> Vec<Header> {
    let credentials = &options.hub.credential_headers;
    let viewer = Viewer::from_handshake(headers, credentials);
    let every = Vary { names: headers.keys().cloned().collect(), any: false };
    let public = rule.visibility == Visibility::Public;
    let has = |vary: &Vary, name: &HeaderName| {
        viewer.audience(public, vary, 0).fields().iter().any(|(other, _)| other == name)
    };
    let counts = |name: &HeaderName| match is_credential(name, credentials) {
        true if public => "is not sent: the route is public",
        true => "tells viewers apart, as a credential",
        false if has(&Vary::default(), name) => "tells viewers apart",
        false if has(&every, name) => "tells viewers apart if the API names it in Vary",
        false => "is not sent with fetches",
    };
    headers.keys().map(|name| Header { name: name.to_string(), counts: counts(name) }).collect()
}

/// What a good write to the target touches, by its path and its rule.
fn touches(target: &str, routes: &Routes) -> Vec<String> {
    let told = |touch: &Touch| match touch {
        Touch::Family(path) => format!("{path}, what is above it and what is below it"),
        Touch::Path(path) => path.to_string(),
        Touch::Group(group) => format!("the cache group {group}"),
    };
    written(target, routes)
        .map(|change| change.touches.iter().map(told).collect())
        .unwrap_or_default()
}

fn written(target: &str, routes: &Routes) -> Option<pogo::change::Change> {
    touched(&Method::PUT, target, Some(StatusCode::OK), &HeaderMap::new(), routes)
}

/// Which writes touch the URI: to itself, above, below, and where a rule names it.
fn sources(target: &str, key: &PathKey, routes: &Routes) -> Vec<Source> {
    let mut sources = vec![concrete(target, "the URI itself", key, routes)];
    for above in key.ancestors() {
        sources.push(concrete(&above.to_string(), "above it", key, routes));
    }
    for rule in routes.rules().iter().filter(|rule| is_below(&rule.path, key)) {
        let why = match silence(rule) {
            Some(why) => why,
            None => "by default".to_owned(),
        };
        let touches = silence(rule).is_none();
        sources.push(Source { at: rule.path.clone(), relation: "below it", touches, why });
    }
    let ordinary = "by default".to_owned();
    let below = match target {
        "/" => "/…".to_owned(),
        _ => format!("{}/…", key),
    };
    sources.push(Source {
        at: below,
        relation: "elsewhere below it",
        touches: true,
        why: ordinary,
    });
    for rule in routes.rules().iter().filter(|rule| rule.realtime) {
        let lists =
            [("affects", Some(&rule.affects)), ("affects_only", rule.affects_only.as_ref())];
        for (option, templates) in lists {
            for template in templates.into_iter().flatten().filter(|it| names(it, rule, key)) {
                let why = format!("{option} has {template:?}");
                let at = rule.path.clone();
                sources.push(Source { at, relation: "named by a rule", touches: true, why });
            }
        }
    }
    sources
}

/// Whether writes to this very path touch the URI.
fn concrete(target: &str, relation: &'static str, key: &PathKey, routes: &Routes) -> Source {
    let touches = written(target, routes).is_some_and(|change| change.touches(key));
    let rule = routes.of(target).rule;
    let why = match silence(rule) {
        Some(why) if !touches => format!("the rule {:?} has {why}", rule.path),
        Some(_) => format!("by the affects_only of the rule {:?}", rule.path),
        None => "by default".to_owned(),
    };
    Source { at: target.to_owned(), relation, touches, why }
}

/// What keeps a rule's writes from touching what they would by default.
fn silence(rule: &Rule) -> Option<String> {
    match &rule.affects_only {
        _ if !rule.realtime => Some("realtime = false".into()),
        Some(only) => Some(format!("affects_only = {only:?}")),
        None => None,
    }
}

/// Whether a pattern fits paths below the key.
fn is_below(pattern: &str, key: &PathKey) -> bool {
    let path = key.to_string();
    let mut above = path.split('/').filter(|segment| !segment.is_empty());
    let mut parts = pattern.split('/').filter(|segment| !segment.is_empty());
    loop {
        match (above.next(), parts.next()) {
            (None, Some(_)) => return true,
            (_, None) => return false,
            (Some(_), Some(part)) if part.starts_with("{*") => return true,
            (Some(segment), Some(part)) if !fits(part, segment) => return false,
            (Some(_), Some(_)) => {}
        }
    }
}

fn fits(part: &str, segment: &str) -> bool {
    let mut router = matchit::Router::new();
    // A pattern that cannot stand alone is not known to miss.
    router.insert(format!("/{part}"), ()).is_err() || router.at(&format!("/{segment}")).is_ok()
}

/// Whether a template of `affects`, filled from some path of its rule, can be the key's path.
fn names(template: &str, rule: &Rule, key: &PathKey) -> bool {
    let mut pattern = PathKey::of(template).to_string();
    // A value of several segments may stand anywhere in the template: then all that is known is
    // what comes before it.
    if let Some(long) = rule.path.split("{*").nth(1).and_then(|rest| rest.split('}').next())
        && let Some(at) = pattern.find(&format!("{{{long}}}"))
    {
        pattern.truncate(at);
        pattern.push_str("{*rest}");
    }
    let mut router = matchit::Router::new();
    router.insert(pattern, ()).is_err() || router.at(&key.to_string()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_names_what_it_can_be_filled_to() {
        let rule = |path: &str| Rule { path: path.into(), ..Rule::default() };
        for (path, template, target, can) in [
            ("/a", "/me", "/me", true),
            ("/a", "/me", "/me/", true),
            ("/a", "/me?full=1", "/me", true),
            ("/a", "/me", "/you", false),
            ("/users/{id}", "/teams/{id}/feed", "/teams/7/feed", true),
            ("/users/{id}", "/teams/{id}/feed", "/teams/7/8/feed", false),
            ("/users/{id}", "/u-{id}", "/u-7", true),
            ("/users/{id}", "/u-{id}", "/v-7", false),
            ("/files/{*rest}", "/index/{rest}", "/index/a/b", true),
            ("/files/{*rest}", "/index/{rest}", "/other/a/b", false),
        ] {
            let found = names(template, &rule(path), &PathKey::of(target));
            assert_eq!(found, can, "{template} of {path} for {target}");
        }
    }

    #[test]
    fn a_pattern_is_below_what_it_continues() {
        for (pattern, target, below) in [
            ("/users/{id}/posts", "/users/7", true),
            ("/users/{id}", "/users/7", false),
            ("/users", "/users/7", false),
            ("/teams/{id}/posts", "/users/7", false),
            ("/{*rest}", "/users/7", true),
            ("/a", "/", true),
            ("/files/{name}.txt/lines", "/files/a.txt", true),
            ("/files/{name}.txt/lines", "/files/a.png", false),
        ] {
            assert_eq!(is_below(pattern, &PathKey::of(target)), below, "{pattern} {target}");
        }
    }
}
