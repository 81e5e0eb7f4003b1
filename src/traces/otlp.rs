//! Spans as OTLP says them in JSON: `ExportTraceServiceRequest` (opentelemetry-proto 1.x), with
//! attributes by the semantic conventions for HTTP.

use std::borrow::Cow;

use serde::Serialize;

use super::{OTHER_METHOD, Span};
use crate::metrics::DEFAULT_ROUTE;

/// `SPAN_KIND_SERVER`
const SERVER: u8 = 2;
/// `STATUS_CODE_ERROR`
const ERROR: u8 = 2;

/// The body of a request to a collector.
pub(super) fn request(spans: &[Span], service_name: &str) -> serde_json::Result<Vec<u8>> {
    let scope = Scope { name: "pogo", version: env!("CARGO_PKG_VERSION") };
    let scope_spans = [ScopeSpans { scope, spans: spans.iter().map(Told::from).collect() }];
    let attributes = [Attribute::text("service.name", service_name)];
    let resource_spans = [ResourceSpans { resource: Resource { attributes }, scope_spans }];
    serde_json::to_vec(&Request { resource_spans })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'s> {
    resource_spans: [ResourceSpans<'s>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans<'s> {
    resource: Resource<'s>,
    scope_spans: [ScopeSpans<'s>; 1],
}

#[derive(Serialize)]
struct Resource<'s> {
    attributes: [Attribute<'s>; 1],
}

#[derive(Serialize)]
struct ScopeSpans<'s> {
    scope: Scope,
    spans: Vec<Told<'s>>,
}

#[derive(Serialize)]
struct Scope {
    name: &'static str,
    version: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Told<'s> {
    trace_id: String,
    span_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_state: Option<&'s str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_span_id: Option<String>,
    name: String,
    kind: u8,
    start_time_unix_nano: String,
    end_time_unix_nano: String,
    attributes: Vec<Attribute<'s>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
}

#[derive(Serialize)]
struct Status {
    code: u8,
}

#[derive(Serialize)]
struct Attribute<'s> {
    key: &'static str,
    value: Value<'s>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Value<'s> {
    StringValue(Cow<'s, str>),
    /// 64 bits are a string in JSON.
    IntValue(String),
}

impl<'s> Attribute<'s> {
    fn text(key: &'static str, text: impl Into<Cow<'s, str>>) -> Self {
        Self { key, value: Value::StringValue(text.into()) }
    }
}

impl<'s> From<&'s Span> for Told<'s> {
    fn from(span: &'s Span) -> Self {
        let place = &span.place;
        // What stands for no pattern is none.
        let route = Some(span.route.label()).filter(|label| *label != DEFAULT_ROUTE);
        let method = if span.method == OTHER_METHOD { "HTTP" } else { span.method };
        let name = match route {
            Some(route) => format!("{method} {route}"),
            None => method.to_owned(),
        };
        let mut attributes = vec![
            Attribute::text("http.request.method", span.method),
            Attribute::text("pogo.end.by", span.ended_by),
            Attribute::text("pogo.end.at", span.ended_at),
            Attribute::text("pogo.end.reason", span.reason),
        ];
        attributes.extend(route.map(|route| Attribute::text("http.route", route)));
        let namespace = span.route.namespace();
        attributes.extend(namespace.map(|name| Attribute::text("pogo.namespace", name)));
        if span.status > 0 {
            let value = Value::IntValue(span.status.to_string());
            attributes.push(Attribute { key: "http.response.status_code", value });
        }
        let failed = span.is_cut_off || span.status >= 500;
        if failed {
            attributes.push(Attribute::text("error.type", error(span)));
        }
        Self {
            trace_id: format!("{:032x}", place.trace),
            span_id: format!("{:016x}", place.span),
            trace_state: place.state.as_deref(),
            parent_span_id: place.parent.map(|parent| format!("{parent:016x}")),
            name,
            kind: SERVER,
            start_time_unix_nano: place.began.as_nanos().to_string(),
            end_time_unix_nano: (place.began + span.took).as_nanos().to_string(),
            attributes,
            status: failed.then_some(Status { code: ERROR }),
        }
    }
}

/// What went wrong: Pogo's own word for it if it has one, else what the API says.
fn error(span: &Span) -> Cow<'_, str> {
    if span.reason == "ok" { span.status.to_string().into() } else { span.reason.into() }
}
