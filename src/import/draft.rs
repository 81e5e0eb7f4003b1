//! The `pogo.toml` itself: options that the description settles, and comments on the rest.

use std::collections::{BTreeSet, HashMap};

use super::api::{Api, Resource};
use super::pattern::{self, Pattern};
use super::security::{Place, Scheme, Token};
use super::servers::{Server, is_itself, quoted};

/// What is written when the description names no host.
const PLACEHOLDER: &str = "http://127.0.0.1:3000";
/// Where Pogo listens when the API is where it would.
const ELSEWHERE: &str = "127.0.0.1:8081";

pub(super) struct Draft {
    pub(super) text: String,
    routes: usize,
    questions: usize,
    /// What is no route of the file.
    pub(super) left_out: Vec<(String, String)>,
}

impl Draft {
    pub(super) fn of(api: &Api, name: &str) -> Self {
        let mut draft =
            Self { text: String::new(), routes: 0, questions: 0, left_out: api.unread.clone() };
        let title = if api.title.is_empty() { "an API without a title" } else { &api.title };
        draft.say(&format!("Made by \"pogo import\" from {name}: {title} ({}).", api.form));
        draft.say("Lines that begin with \"# ?\" are for you to decide; options that begin with \"#\" alone");
        draft.say("are proposals that are not set. \"pogo check\" says whether the file is good, \"pogo explain");
        draft.say("URI\" what it does to a path.");
        draft.gap();
        let base = draft.upstream(&api.servers);
        draft.credentials(api, &base.prefix);
        draft.routes(api, &base);
        draft.rest();
        draft
    }

    /// What was done, for a terminal.
    pub(super) fn summary(&self) -> String {
        let Self { routes, questions, left_out, .. } = self;
        let out = left_out.len();
        format!("{routes} routes, {out} paths that are none, {questions} questions (\"# ?\")")
    }

    fn say(&mut self, comment: &str) {
        self.line(&format!("# {}", plain(comment)));
    }

    fn ask(&mut self, question: &str) {
        self.questions += 1;
        self.line(&format!("# ? {}", plain(question)));
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn gap(&mut self) {
        self.text.push('\n');
    }

    /// Writes where the API is; gives the server whose paths are meant.
    fn upstream(&mut self, servers: &[Server]) -> Server {
        let first = servers.first().cloned().unwrap_or_else(|| Server {
            url: String::new(),
            origin: None,
            trouble: None,
            prefix: String::new(),
        });
        let origin = match &first.origin {
            Some(origin) => {
                self.say(&format!("The first server of the description: {}", first.url));
                self.ask("Is this where the API is reached from here, past Pogo?");
                origin.clone()
            }
            None => {
                let why = match &first.trouble {
                    Some(trouble) => format!("{}: {trouble}", first.url),
                    None => "The description names no host".to_owned(),
                };
                self.ask(&format!("{why}. Where is the API?"));
                PLACEHOLDER.to_owned()
            }
        };
        self.line(&format!("upstream = {}", quoted(&origin)));
        if is_itself(&origin) {
            self.ask("The API is where Pogo listens by default. Which of the two moves?");
            self.line(&format!("listen = {}", quoted(ELSEWHERE)));
        }
        if !first.prefix.is_empty() {
            self.say(&format!("Paths begin with {:?}, as the server's URL does.", first.prefix));
        }
        for other in servers.iter().skip(1) {
            self.say(&format!("Another server, not used: {}", other.url));
        }
        self.gap();
        Server { origin: first.origin.clone(), ..first }
    }

    fn credentials(&mut self, api: &Api, prefix: &str) {
        let mut schemes: Vec<&Scheme> = Vec::new();
        let named =
            api.used.iter().filter_map(|name| api.schemes.iter().find(|it| it.name == *name));
        for scheme in named.chain(&api.schemes) {
            if !schemes.iter().any(|other| other.name == scheme.name) {
                schemes.push(scheme);
            }
        }
        if schemes.is_empty() {
            self.ask("The description names no security scheme. Authorization and Cookie tell viewers apart");
            self.say("  in any case; what else does belongs into views.credential_headers.");
        }
        let chosen =
            schemes.iter().find_map(|scheme| scheme.auth().map(|auth| (scheme.name.clone(), auth)));
        for scheme in &schemes {
            self.scheme(scheme);
        }
        let mut headers = BTreeSet::new();
        for scheme in &schemes {
            let is_chosen = chosen.as_ref().is_some_and(|(name, _)| *name == scheme.name);
            if let (Place::Header(name), false) = (&scheme.place, is_chosen)
                && let Ok(header) = name.parse::<http::HeaderName>()
            {
                headers.insert(header.to_string());
            }
        }
        if let Some((name, (header, word))) = &chosen {
            self.say(&format!("Where a socket's token goes: {name}"));
            self.line("[auth]");
            self.line(&format!("header = {}", quoted(header.as_str())));
            self.line(&format!("scheme = {}", quoted(word)));
            self.checks(api, &schemes, prefix);
            self.gap();
        }
        self.viewers(api, &headers);
    }

    fn scheme(&mut self, scheme: &Scheme) {
        let Scheme { name, place } = scheme;
        let told = match place {
            Place::Authorization { word, .. } => format!("Authorization: {word} …"),
            Place::Header(header) => format!("the header {header}"),
            Place::Cookie(cookie) => {
                format!("the cookie {cookie}; cookies tell viewers apart as they are")
            }
            Place::Query(parameter) => {
                self.ask(&format!(
                    "{name}: a credential in the query ({parameter}) is a part of the URI that is bound, and \
                     stands in logs. Can clients send it as a header?"
                ));
                return;
            }
            Place::Connection => {
                self.ask(&format!(
                    "{name}: certificates of clients end at Pogo, which shows the API its own \
                     (upstream_tls.client_certificate). How does the API know its clients then?"
                ));
                return;
            }
            Place::Unknown(what) => {
                self.ask(&format!("{name}: {what} says nothing to Pogo. Where does it stand?"));
                return;
            }
        };
        self.say(&format!("{name}: {told}"));
    }

    /// Proposals for who checks a token, within `[auth]`.
    fn checks(&mut self, api: &Api, schemes: &[&Scheme], prefix: &str) {
        let mut jwt = None;
        for scheme in schemes {
            match &scheme.place {
                Place::Authorization { token: Token::OpenId(url), .. } => {
                    jwt = Some(format!("the jwks_uri of {url}"));
                }
                Place::Authorization { token: Token::OAuth, .. } if jwt.is_none() => {
                    jwt = Some("where it has them, if its access tokens are JWTs".into());
                }
                Place::Authorization { token: Token::Jwt, .. } if jwt.is_none() => {
                    jwt = Some("where it has them".into());
                }
                _ => {}
            }
        }
        self.ask(
            "Who checks the tokens of sockets? Without one of these the API's first answer does.",
        );
        let me = |it: &&Resource| {
            let last = it.template.rsplit('/').next().unwrap_or_default();
            it.has("GET") && ["me", "user", "whoami", "userinfo"].contains(&last)
        };
        let own = api.resources.iter().find(me);
        let own = own.map_or_else(|| "/me".to_owned(), |it| format!("{prefix}{}", it.template));
        self.line(&format!("#verify = {}", quoted(&plain(&own))));
        if let Some(from) = jwt {
            self.line("#[auth.jwt]");
            self.say(&format!("The issuer's keys: {from}"));
            self.line("#jwks_url = \"https://id.example/.well-known/jwks.json\"");
        }
    }

    /// What tells one viewer from another besides `auth.header` and cookies.
    fn viewers(&mut self, api: &Api, headers: &BTreeSet<String>) {
        if !headers.is_empty() {
            self.say("More headers that carry a credential.");
            self.line("[views]");
            let list: Vec<String> = headers.iter().map(|header| quoted(header)).collect();
            self.line(&format!("credential_headers = [{}]", list.join(", ")));
        }
        if !api.headers.is_empty() {
            self.ask("Requests may have these headers. One that tells viewers apart, and that the API does not");
            self.say("  name in Vary, belongs into views.credential_headers:");
            for (name, count) in &api.headers {
                self.say(&format!("  {name} (paths: {count})"));
            }
        }
        if !headers.is_empty() || !api.headers.is_empty() {
            self.gap();
        }
    }

    fn routes(&mut self, api: &Api, base: &Server) {
        let mut router = matchit::Router::new();
        let members = members(api);
        for resource in &api.resources {
            let member = members.get(resource.template.trim_end_matches('/')).copied();
            match placed(resource, base, &mut router) {
                Ok(pattern) => self.route(resource, member, &pattern),
                Err(reason) => self.left_out.push((resource.template.clone(), reason)),
            }
        }
    }

    fn route(&mut self, resource: &Resource, member: Option<&str>, pattern: &Pattern) {
        self.routes += 1;
        let methods = match resource.methods.is_empty() {
            true => "no method".to_owned(),
            false => resource.methods.join(", "),
        };
        let summary = resource.summary.as_deref().map(|it| format!(": {it}")).unwrap_or_default();
        self.say(&format!("{methods} {}{summary}", resource.template));
        match member.filter(|_| resource.has("GET")) {
            Some(member) => self.say(&format!("A collection; {member} is one of its members.")),
            None if resource.has("GET") && resource.has("POST") && !is_member(resource) => {
                self.say("A collection, if a POST adds to it.");
            }
            None => {}
        }
        for note in &pattern.notes {
            self.say(note);
        }
        self.line("[[route]]");
        self.line(&format!("path = {}", quoted(&pattern.text)));
        if resource.has("PATCH") && !resource.has("PUT") {
            self.line("update_method = \"PATCH\"");
        }
        self.reading(resource);
        for method in &resource.accepted {
            self.ask(&format!(
                "{method} may be answered 202, done later. Views are asked again 250 ms, 2 s and 10 s after that; \
                 is it sooner or later?"
            ));
            self.line("#settle = [\"250ms\", \"2s\", \"10s\"]");
        }
        for method in &resource.elsewhere {
            self.ask(&format!("{method} has servers of its own. Does it go through Pogo?"));
        }
        self.gap();
    }

    /// What can be seen here, and by whom.
    fn reading(&mut self, resource: &Resource) {
        if !resource.has("GET") && !resource.writes() {
            self.say("Nothing can be read or written here.");
            self.line("realtime = false");
        } else if !resource.has("GET") {
            self.say("There is no GET, so nothing to bind to; what is written here changes what is above and below.");
            self.ask("Does it change nothing that is bound (a search, a login)? Then:");
            self.line("#realtime = false");
        } else if !resource.unbindable.is_empty() {
            let types = resource.unbindable.join(", ");
            self.say(&format!(
                "A GET is answered {types}, which cannot be bound: only JSON and text can."
            ));
        } else if resource.public {
            self.ask(
                "A GET asks for no credential. If everybody sees the same, one fetch serves all:",
            );
            self.line("#visibility = \"public\"");
        }
    }

    fn rest(&mut self) {
        if self.left_out.is_empty() {
            return;
        }
        self.say("Not written as routes; these paths are proxied and realtime all the same, with the defaults:");
        for (template, reason) in self.left_out.clone() {
            self.say(&format!("- {template}: {reason}"));
        }
    }
}

/// The pattern of a resource, if routes can tell it from those before it.
fn placed(
    resource: &Resource,
    base: &Server,
    router: &mut matchit::Router<()>,
) -> Result<Pattern, String> {
    let own = resource.servers.first();
    if let Some(own) = own.filter(|own| own.origin.is_some() && own.origin != base.origin) {
        return Err(format!("it is served by {}, and Pogo has one upstream", own.url));
    }
    let prefix = own.map_or(&base.prefix, |own| &own.prefix);
    let pattern = pattern::of(prefix, &resource.template, &resource.long);
    match router.insert(pattern.text.as_str(), ()) {
        Ok(()) => Ok(pattern),
        Err(matchit::InsertError::Conflict { with }) => {
            Err(format!("{} fits the same paths as {with}", pattern.text))
        }
        Err(error) => Err(format!("{} is no pattern: {error}", pattern.text)),
    }
}

/// Paths that end in a parameter, by what is before it.
fn members(api: &Api) -> HashMap<&str, &str> {
    let split = |template: &'_ str| template.trim_end_matches('/').rfind('/');
    let templates = api.resources.iter().map(|it| it.template.as_str());
    let ends = templates.filter_map(|it| Some((&it[..split(it)?], &it[split(it)? + 1..], it)));
    let member = |last: &str| last.starts_with('{') && last.trim_end_matches('/').ends_with('}');
    ends.filter(|(_, last, _)| member(last)).map(|(folder, _, it)| (folder, it)).collect()
}

fn is_member(resource: &Resource) -> bool {
    resource.template.trim_end_matches('/').ends_with('}')
}

/// One line for a comment, not endless, without what a terminal would obey.
fn plain(text: &str) -> String {
    const LONGEST: usize = 300;
    let visible = |c: char| !c.is_control() && !('\u{202a}'..='\u{202e}').contains(&c);
    let line = text.chars().map(|c| if visible(c) { c } else { ' ' });
    let mut short: String = line.take(LONGEST).collect();
    if text.chars().count() > LONGEST {
        short.push('…');
    }
    short.trim_end().to_owned()
}
