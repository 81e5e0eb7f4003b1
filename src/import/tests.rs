use pogo::config;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::document::Document;
use super::{Draft, draft, pattern};

/// The draft of a description, which must load.
#[track_caller]
fn drafted(description: &Value) -> Draft {
    let draft = draft(&description.to_string(), "api.json").unwrap();
    if let Err(fault) = config::parse(&draft.text) {
        panic!("{fault}\n{}", draft.text);
    }
    draft
}

#[test]
fn a_template_becomes_the_nearest_pattern() {
    let long = ["path".to_owned()];
    for (prefix, template, text, notes) in [
        ("", "/pets/{petId}", "/pets/{petId}", 0),
        ("/v1", "/pets", "/v1/pets", 0),
        ("/v1", "/", "/v1/", 0),
        ("", "/", "/", 0),
        ("/{version}", "/pets", "/{version}/pets", 0),
        ("", "/pets/{pet id}", "/pets/{pet_id}", 0),
        ("", "/reports/{id}.json", "/reports/{id}.json", 0),
        ("", "/v-{major}/x", "/v-{major}/x", 0),
        ("", "/compare/{base}...{head}", "/compare/{base_head}", 1),
        ("", "/a/{id}/b/{id}", "/a/{id}/b/{id_}", 0),
        ("", "/contents/{path}", "/contents/{*path}", 0),
        ("", "/contents/{path}/meta", "/contents/{path}/meta", 1),
        ("", "/proxy/{proxy+}", "/proxy/{*proxy}", 0),
        ("", "/search?q={q}", "/search", 1),
        ("", "/a b/ü\"\\", "/a%20b/%C3%BC%22%5C", 0),
        ("", "/%7Eme//x/./y", "/~me/x/y", 0),
        ("", "/{}/{a", "/{{}}/{{a", 0),
        ("", "/{{id}}", "/{{{id}}}", 0),
    ] {
        let pattern = pattern::of(prefix, template, &long);
        assert_eq!((&*pattern.text, pattern.notes.len()), (text, notes), "{prefix}{template}");
    }
}

#[test]
fn what_two_paths_cannot_both_be_is_told_and_not_dropped() {
    let get = json!({"get": {"responses": {}}});
    let draft = drafted(&json!({"openapi": "3.1.0", "paths": {
        "/a/{x}": get, "/a/{y}": get, "/a/{x}-{z}": get, "/b?x": get, "/b": get,
        "relative": get, "/out": {"$ref": "other.yaml#/a"}, "/circle": {"$ref": "#/paths/~1circle"},
        "/nothing": 7, "x-ours": get,
    }}));
    let (routes, rest) = draft.text.split_once("# Not written as routes").unwrap();
    assert_eq!(routes.matches("[[route]]").count(), 2, "{routes}");
    for told in [
        "- /a/{y}: /a/{y} fits the same paths as /a/{x}",
        "- relative: a path begins with \"/\"",
        "- /out: \"other.yaml#/a\" leads out of this file",
        "- /circle: its references go round in a circle",
        "- /nothing: it has no operations",
    ] {
        assert!(rest.contains(told), "{told} is not in {rest}");
    }
    assert!(!draft.text.contains("x-ours"));
}

#[test]
fn an_alias_bomb_a_deep_tree_and_a_circle_are_errors() {
    let mut bomb = String::from("openapi: 3.0.0\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for n in 1..12 {
        let inner = vec![format!("*a{}", n - 1); 10].join(", ");
        bomb.push_str(&format!("a{n}: &a{n} [{inner}]\n"));
    }
    let deep = format!("openapi: 3.0.0\npaths: {}", "[".repeat(100_000));
    let deep_json = format!("{{\"openapi\": {}", "[".repeat(100_000));
    for text in [bomb, deep, deep_json] {
        assert!(Document::parse(&text).is_err(), "{text:.60}");
    }
}

fn segment() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-c]{1,2}",
        4 => "\\{[a-c]{1,2}\\}",
        1 => "[a-c]?\\{[a-c*+ é/]{0,2}\\}[a-c.]?(\\{[a-c]\\})?",
        1 => "[ -~]{0,6}",
        1 => "\\PC{0,4}",
    ]
}

fn template() -> impl Strategy<Value = String> {
    vec(segment(), 0..5).prop_map(|segments| format!("/{}", segments.join("/")))
}

/// Any small value, in places where another was expected.
fn anything() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
        Just(json!([{}])),
        Just(json!({"$ref": "#/paths"})),
    ]
}

fn operation() -> impl Strategy<Value = Value> {
    let parameter =
        (prop::sample::select(vec!["path", "header", "query"]), "\\PC{0,8}", any::<bool>())
            .prop_map(
                |(place, name, long)| json!({"in": place, "name": name, "x-multi-segment": long}),
            );
    let security = prop_oneof![
        Just(json!([])),
        Just(json!([{}])),
        Just(json!([{"one": []}, {"two": ["scope"]}])),
        anything(),
    ];
    let answers = btree_map(
        prop::sample::select(vec!["200", "202", "default"]),
        prop_oneof![
            Just(json!({"content": {"application/json": {}}})),
            Just(json!({"content": {"image/png\nx": {}}})),
            anything(),
        ],
        0..3,
    );
    (vec(parameter, 0..3), security, answers, "\\PC{0,20}").prop_map(
        |(parameters, security, responses, summary)| {
            json!({"parameters": parameters, "security": security, "responses": responses,
                "summary": summary})
        },
    )
}

fn server() -> impl Strategy<Value = Value> {
    let url = prop_oneof![
        Just("https://api.example/v1".to_owned()),
        Just("http://127.0.0.1:8080".to_owned()),
        Just("{scheme}://{host}/{base}".to_owned()),
        Just("/api/{version}".to_owned()),
        Just("//cdn.example/x".to_owned()),
        Just("https://me:secret@api.example/".to_owned()),
        "(https?|ws)://\\PC{0,8}",
        "\\PC{0,12}",
    ];
    (url, prop::option::of("[a-z:/.]{0,6}")).prop_map(|(url, default)| {
        json!({"url": url, "variables": {"scheme": {"default": "http"}, "host": {"default": default}}})
    })
}

fn scheme() -> impl Strategy<Value = Value> {
    let kind = prop::sample::select(vec![
        "http",
        "apiKey",
        "oauth2",
        "openIdConnect",
        "mutualTLS",
        "basic",
        "?",
    ]);
    let place = prop::sample::select(vec!["header", "cookie", "query", "elsewhere"]);
    let name = prop_oneof![
        prop::sample::select(vec![
            "X-Api-Key",
            "Authorization",
            "Host",
            "content-length",
            "Cookie"
        ])
        .prop_map(str::to_owned),
        "\\PC{0,8}",
    ];
    let word = prop_oneof![Just("bearer".to_owned()), Just("digest".to_owned()), "\\PC{0,6}"];
    (kind, place, name, word, any::<bool>()).prop_map(|(kind, place, name, word, jwt)| {
        let format = if jwt { "JWT" } else { "" };
        json!({"type": kind, "in": place, "name": name, "scheme": word, "bearerFormat": format,
            "openIdConnectUrl": "https://id.example/.well-known/openid-configuration"})
    })
}

fn description() -> impl Strategy<Value = Value> {
    let methods =
        prop::sample::select(vec!["get", "post", "put", "patch", "delete", "head", "x-y"]);
    let item = prop_oneof![
        8 => btree_map(methods, operation(), 0..4).prop_map(|item| json!(item)),
        1 => vec(server(), 0..2).prop_map(|servers| json!({"servers": servers, "get": {}})),
        1 => anything(),
    ];
    let paths = btree_map(template(), item, 0..12);
    let schemes = btree_map(prop::sample::select(vec!["one", "two", "th\nree"]), scheme(), 0..3);
    (vec(server(), 0..3), paths, schemes, "\\PC{0,20}", any::<bool>(), anything()).prop_map(
        |(servers, paths, schemes, title, old, odd)| {
            let info = json!({"title": title, "version": odd});
            match old {
                true => json!({"swagger": "2.0", "info": info, "host": servers.first().map(|it| &it["url"]),
                    "basePath": odd, "paths": paths, "securityDefinitions": schemes}),
                false => json!({"openapi": "3.0.3", "info": info, "servers": servers, "paths": paths,
                    "components": {"securitySchemes": schemes}, "security": odd}),
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Whatever a description says, what is written loads, and no path is dropped silently.
    #[test]
    fn any_description_gives_a_file_that_loads_and_tells_of_every_path(description in description()) {
        let draft = drafted(&description);
        let loaded = config::parse(&draft.text).unwrap();
        let none = Map::new();
        let paths = description["paths"].as_object().unwrap_or(&none);
        let routes = loaded.config().routes.len();
        prop_assert_eq!(routes + draft.left_out.len(), paths.len(), "{}", draft.text);
        prop_assert!(!draft.text.contains("secret"));
        for route in &loaded.config().routes {
            prop_assert_eq!(format!("{:?}", route.visibility), "Viewer", "it fails closed");
        }
    }

    #[test]
    fn any_text_is_a_description_or_an_error(text in "\\PC{0,80}") {
        drop(draft(&text, "text"));
        drop(draft(&format!("openapi: 3.0.0\n{text}"), "text"));
    }
}
