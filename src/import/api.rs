//! What a description says that matters here: where the API is, which resources it has, and by
//! which credentials it knows its clients.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::document::{Document, entries, items, text_of};
use super::security::{self, Scheme};
use super::servers::{self, Server};

/// More would be a table that no one reads.
const MOST_PATHS: usize = 20_000;

/// In the order in which a resource's methods are told.
const METHODS: [&str; 9] =
    ["get", "head", "post", "put", "patch", "delete", "options", "trace", "query"];
const SAFE: [&str; 5] = ["get", "head", "options", "trace", "query"];

pub(super) struct Api {
    /// "OpenAPI 3.0.3"
    pub(super) form: String,
    pub(super) title: String,
    pub(super) servers: Vec<Server>,
    pub(super) schemes: Vec<Scheme>,
    /// Schemes that an operation may be used with, the most used first.
    pub(super) used: Vec<String>,
    pub(super) resources: Vec<Resource>,
    /// What is no path of this description, with why.
    pub(super) unread: Vec<(String, String)>,
    /// Header parameters that are no credentials, with how many operations take them.
    pub(super) headers: BTreeMap<String, usize>,
}

/// One path.
#[derive(Default)]
pub(super) struct Resource {
    pub(super) template: String,
    pub(super) summary: Option<String>,
    /// In upper case.
    pub(super) methods: Vec<String>,
    /// Whether a GET asks for no credential.
    pub(super) public: bool,
    /// Methods that may be answered 202.
    pub(super) accepted: Vec<String>,
    /// What a GET is answered with, if none of it can be bound.
    pub(super) unbindable: Vec<String>,
    /// Parameters that may hold slashes.
    pub(super) long: Vec<String>,
    /// The path's own servers, if it has some.
    pub(super) servers: Vec<Server>,
    /// Methods with servers of their own.
    pub(super) elsewhere: Vec<String>,
}

impl Resource {
    pub(super) fn has(&self, method: &str) -> bool {
        self.methods.iter().any(|other| other == method)
    }

    /// Whether something may be written here.
    pub(super) fn writes(&self) -> bool {
        self.methods.iter().any(|method| !SAFE.contains(&method.to_ascii_lowercase().as_str()))
    }
}

impl Api {
    pub(super) fn read(document: &Document) -> Result<Self, String> {
        let root = document.root();
        let (form, swagger) = form(root)?;
        let info = root.get("info");
        let title = text_of(info.and_then(|info| info.get("title"))).unwrap_or_default();
        let version = text_of(info.and_then(|info| info.get("version"))).unwrap_or_default();
        let schemes = match swagger {
            true => root.get("securityDefinitions"),
            false => root.pointer("/components/securitySchemes"),
        };
        let mut api = Self {
            form,
            title: [title, version].join(" ").trim().to_owned(),
            servers: match swagger {
                true => servers::of_swagger(root),
                false => servers::read(root.get("servers")),
            },
            schemes: security::read(document, schemes),
            used: Vec::new(),
            resources: Vec::new(),
            unread: Vec::new(),
            headers: BTreeMap::new(),
        };
        let count = entries(root.get("paths")).count();
        if count > MOST_PATHS {
            return Err(format!("it has {count} paths; at most {MOST_PATHS} are read"));
        }
        let mut uses = BTreeMap::new();
        for (template, item) in entries(root.get("paths")) {
            if template.starts_with("x-") {
                continue;
            }
            match api.resource(document, template, item, &mut uses) {
                Ok(resource) => api.resources.push(resource),
                Err(reason) => api.unread.push((template.clone(), reason)),
            }
        }
        let credential = |name: &str| {
            let schemes = api.schemes.iter();
            let names = schemes.filter_map(Scheme::header_name);
            names.into_iter().any(|other| other.eq_ignore_ascii_case(name))
        };
        api.headers.retain(|name, _| !credential(name));
        let mut used: Vec<(String, usize)> = uses.into_iter().collect();
        used.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        api.used = used.into_iter().map(|(name, _)| name).collect();
        Ok(api)
    }

    fn resource(
        &mut self,
        document: &Document,
        template: &str,
        item: &Value,
        uses: &mut BTreeMap<String, usize>,
    ) -> Result<Resource, String> {
        if !template.starts_with('/') {
            return Err("a path begins with \"/\"".into());
        }
        let item = document.follow(item)?;
        if !item.is_object() {
            return Err("it has no operations".into());
        }
        let mut resource = Resource {
            template: template.to_owned(),
            servers: servers::read(item.get("servers")),
            summary: text_of(item.get("summary")),
            ..Resource::default()
        };
        let mut parameters: BTreeSet<String> = BTreeSet::new();
        for method in METHODS {
            let Some(operation) = item.get(method) else { continue };
            let operation = document.follow(operation)?;
            resource.add(document, method, operation);
            let shared = items(item.get("parameters"));
            for parameter in shared.chain(items(operation.get("parameters"))) {
                self.parameter(document.follow(parameter)?, &mut resource, &mut parameters);
            }
            let own = operation.get("security").or_else(|| document.root().get("security"));
            if method == "get" {
                resource.public = own.is_some_and(security::asks_nothing);
            }
            for name in items(own).flat_map(|alternative| entries(Some(alternative))) {
                *uses.entry(name.0.clone()).or_default() += 1;
            }
        }
        for (method, _) in entries(item.get("additionalOperations")) {
            resource.methods.push(method.to_ascii_uppercase());
        }
        Ok(resource)
    }

    /// Notes what a parameter says: of the path, or as a header.
    fn parameter(
        &mut self,
        parameter: &Value,
        resource: &mut Resource,
        seen: &mut BTreeSet<String>,
    ) {
        let Some(name) = text_of(parameter.get("name")) else { return };
        match parameter.get("in").and_then(Value::as_str) {
            // Of GitHub's description.
            Some("path")
                if parameter.get("x-multi-segment") == Some(&Value::Bool(true))
                    && !resource.long.contains(&name) =>
            {
                resource.long.push(name);
            }
            Some("header") if seen.insert(name.to_ascii_lowercase()) => {
                *self.headers.entry(name).or_default() += 1;
            }
            _ => {}
        }
    }
}

impl Resource {
    fn add(&mut self, document: &Document, method: &str, operation: &Value) {
        let name = method.to_ascii_uppercase();
        if self.summary.is_none() || method == "get" {
            self.summary = text_of(operation.get("summary")).or(self.summary.take());
        }
        if operation.get("servers").is_some() {
            self.elsewhere.push(name.clone());
        }
        let answers = operation.get("responses");
        if answers.and_then(|answers| answers.get("202")).is_some() && !SAFE.contains(&method) {
            self.accepted.push(name.clone());
        }
        if method == "get" {
            self.unbindable = unbindable(document, answers);
        }
        self.methods.push(name);
    }
}

/// The version as it is told, and whether it is Swagger 2.0.
fn form(root: &Value) -> Result<(String, bool), String> {
    if let Some(version) = text_of(root.get("openapi")) {
        return match version.starts_with("3.") {
            true => Ok((format!("OpenAPI {version}"), false)),
            false => Err(format!("openapi: found {version:?}, expected 3.0, 3.1 or 3.2")),
        };
    }
    match text_of(root.get("swagger")) {
        Some(version) if version.starts_with('2') => Ok((format!("Swagger {version}"), true)),
        Some(version) => Err(format!("swagger: found {version:?}, expected 2.0")),
        None => {
            Err("it is no description of an API: it says neither \"openapi\" nor \"swagger\""
                .into())
        }
    }
}

/// The media types of a GET's good answers, if there are some and none is JSON or text.
fn unbindable(document: &Document, answers: Option<&Value>) -> Vec<String> {
    let mut types = Vec::new();
    for (status, answer) in entries(answers) {
        let Ok(answer) = document.follow(answer) else { continue };
        if status.starts_with('2') {
            types.extend(entries(answer.get("content")).map(|(name, _)| name.clone()));
        }
    }
    if types.iter().any(|name| is_bindable(name)) { Vec::new() } else { types }
}

fn is_bindable(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let json = essence == "application/json" || essence.ends_with("+json");
    let text = essence.starts_with("text/") && essence != "text/event-stream";
    json || text || essence == "*/*" || essence == "application/*"
}
