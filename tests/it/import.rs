//! `pogo import`: a description becomes a configuration that loads and serves.

use std::path::Path;

use crate::harness::Folder;

/// What a description of the fixtures becomes, checked by `pogo check`.
#[track_caller]
fn imported(fixture: &str) -> (String, toml::Table) {
    let folder = Folder::new();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/openapi").join(fixture);
    let (code, out, err) = folder.pogo(&["import", path.to_str().unwrap(), "-o", "pogo.toml"]);
    assert_eq!((code, &*out), (0, ""), "{err}");
    assert!(err.contains(" routes, "), "{err}");
    let (code, effective, err) = folder.pogo(&["check"]);
    assert_eq!(code, 0, "{err}");
    (folder.read("pogo.toml"), effective.parse().unwrap())
}

fn paths(effective: &toml::Table) -> Vec<&str> {
    let routes = effective["route"].as_array().unwrap();
    routes.iter().map(|route| route["path"].as_str().unwrap()).collect()
}

/// The lines that belong to the route of this pattern.
#[track_caller]
fn route<'t>(text: &'t str, pattern: &str) -> &'t str {
    let line = format!("path = \"{pattern}\"");
    let of = |block: &&str| block.contains(&line);
    text.split("\n\n").find(of).unwrap_or_else(|| panic!("no route {pattern} in {text}"))
}

#[test]
fn a_shop_is_imported_with_its_server_its_credentials_and_its_odd_paths() {
    let (text, effective) = imported("shop.yaml");
    assert_eq!(effective["upstream"].as_str(), Some("https://shop.example:8443"));
    assert_eq!(effective["auth"]["header"].as_str(), Some("authorization"));
    assert_eq!(effective["auth"]["scheme"].as_str(), Some("Bearer"));
    let headers = effective["views"]["credential_headers"].as_array().unwrap();
    assert_eq!(headers, &[toml::Value::from("x-partner-key")]);
    let expected = [
        "/api/v3/health",
        "/api/v3/me",
        "/api/v3/orders/{orderId}/cancel",
        "/api/v3/pets",
        "/api/v3/pets/{petId}",
        "/api/v3/pets/{petId}/photo",
        "/api/v3/pets/{petId}/photo.{format}",
        "/api/v3/stores/{lat_long}",
    ];
    assert_eq!(paths(&effective), expected);
    for other in effective["route"].as_array().unwrap() {
        assert_eq!(other["visibility"].as_str(), Some("viewer"), "{other}");
    }
    let pets = route(&text, "/api/v3/pets");
    assert!(pets.contains("A collection; /pets/{petId} is one of its members."), "{pets}");
    assert!(pets.contains("\n#visibility = \"public\""), "{pets}");
    let pet = route(&text, "/api/v3/pets/{petId}");
    assert!(pet.contains("\nupdate_method = \"PATCH\"") && !pet.contains("public"), "{pet}");
    let cancel = route(&text, "/api/v3/orders/{orderId}/cancel");
    assert!(cancel.contains("\n#settle = ") && cancel.contains("\n#realtime = false"), "{cancel}");
    assert!(route(&text, "/api/v3/health").contains("\nrealtime = false"));
    assert!(
        route(&text, "/api/v3/pets/{petId}/photo").contains("image/png, which cannot be bound")
    );
    assert!(route(&text, "/api/v3/stores/{lat_long}").contains("several parameters"));
    for told in
        ["#verify = \"/api/v3/me\"", "#jwks_url", "X-Tenant (paths: 1)", "(api_key)", "staging"]
    {
        assert!(text.contains(told), "{told} is not in {text}");
    }
}

#[test]
fn a_code_host_is_imported_with_its_long_paths_and_without_what_is_served_elsewhere() {
    let (text, effective) = imported("code.json");
    let paths = paths(&effective);
    assert!(paths.contains(&"/repos/{owner}/{repo}/contents/{*path}"), "{paths:?}");
    assert!(paths.contains(&"/repos/{owner}/{repo}/compare/{base_head}"), "{paths:?}");
    let rest = text.split("# Not written as routes").nth(1).unwrap();
    assert!(rest.contains("- /uploads: it is served by https://uploads.code.example"), "{rest}");
    let twin = "- /repos/{template_owner}/{template_repo}: /repos/{template_owner}/{template_repo} fits \
                the same paths as /repos/{owner}/{repo}";
    assert!(rest.contains(twin), "{rest}");
    assert!(route(&text, "/events").contains("text/event-stream, which cannot be bound"));
    let assets = route(&text, "/repos/{owner}/{repo}/releases/{id}/assets");
    assert!(assets.contains("POST has servers of its own"), "{assets}");
    assert!(text.contains("the jwks_uri of https://id.code.example/"), "{text}");
}

#[test]
fn a_payment_api_and_a_description_of_swagger_2_are_imported() {
    let (text, effective) = imported("pay.yaml");
    assert_eq!(effective["upstream"].as_str(), Some("https://api.pay.example"));
    assert_eq!(effective["auth"]["scheme"].as_str(), Some("Basic"));
    assert_eq!(paths(&effective).len(), 5);
    let charges = route(&text, "/v1/charges");
    assert!(charges.contains("A collection; /v1/charges/{charge}"), "{charges}");
    let (text, effective) = imported("old.json");
    assert_eq!(effective["upstream"].as_str(), Some("http://old.example"));
    assert_eq!(effective["auth"]["header"].as_str(), Some("x-key"));
    assert_eq!(effective["auth"]["scheme"].as_str(), Some(""));
    assert_eq!(paths(&effective), ["/v2/things", "/v2/things/{id}.json"]);
    assert!(text.contains("Another server, not used: https://old.example/v2"), "{text}");
}

#[test]
fn what_is_no_description_is_an_error_that_says_so() {
    let folder = Folder::new();
    for (text, message) in [
        ("openapi: 4.0.0", "openapi: found \"4.0.0\", expected 3.0, 3.1 or 3.2"),
        ("swagger: \"1.2\"", "swagger: found \"1.2\", expected 2.0"),
        ("title: x", "it is no description of an API: it says neither \"openapi\" nor \"swagger\""),
        ("- 1", "it is no description: it has no keys"),
        ("a: [", "it is not YAML: "),
        ("a: 1\na: 2", "it is not YAML: duplicate mapping key: a"),
        ("{\"openapi\":", "it is not JSON: EOF while parsing a value at line 1 column 11"),
    ] {
        folder.write("api", text);
        let (code, out, err) = folder.pogo(&["import", "api"]);
        assert_eq!((code, &*out), (64, ""), "{text}: {err}");
        assert!(err.starts_with(&format!("api: {message}")), "{text}: {err}");
    }
    let (code, _, err) = folder.pogo(&["import", "missing.yaml"]);
    assert!(code == 64 && err.starts_with("missing.yaml: cannot be read: "), "{err}");
}

#[test]
fn a_description_that_is_too_large_is_not_read() {
    let folder = Folder::new();
    folder.write("api", &" ".repeat((32 << 20) + 1));
    let (code, _, err) = folder.pogo(&["import", "api"]);
    assert_eq!((code, &*err), (64, "api: it is larger than 32 MiB\n"));
}

#[test]
fn a_file_that_is_there_is_not_written_over_unless_asked_and_a_pipe_will_do() {
    let folder = Folder::new();
    folder.write("api.yaml", "openapi: 3.0.0\npaths: {/a: {get: {}}}\n");
    folder.write("pogo.toml", "mine");
    let (code, _, err) = folder.pogo(&["import", "api.yaml", "-o", "pogo.toml"]);
    assert_eq!((code, &*err), (1, "pogo.toml is there already; --force writes over it\n"));
    assert_eq!(folder.read("pogo.toml"), "mine");
    assert_eq!(folder.pogo(&["import", "api.yaml", "-o", "pogo.toml", "--force"]).0, 0);
    let (code, out, _) = folder.pogo_reading("api.yaml", &["import", "-"]);
    assert_eq!((code, out), (0, folder.read("pogo.toml").replace("from api.yaml", "from -")));
}

#[test]
fn an_api_that_is_where_pogo_listens_has_pogo_listen_elsewhere() {
    let folder = Folder::new();
    folder.write(
        "api.yaml",
        "openapi: 3.0.0\nservers: [{url: \"http://127.0.0.1:8080\"}]\npaths: {}\n",
    );
    assert_eq!(folder.pogo(&["import", "api.yaml", "-o", "pogo.toml"]).0, 0);
    let (code, effective, err) = folder.pogo(&["check"]);
    assert_eq!(code, 0, "{err}");
    assert!(effective.contains("listen = \"127.0.0.1:8081\""), "{effective}");
}
