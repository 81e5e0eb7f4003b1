//! The files of deploy/ say what the program does.

use std::path::Path;
use std::process::Command;

use crate::harness::{Operator, Pogo, Upstream};

const MANIFEST: &str = include_str!("../../deploy/kubernetes.yaml");
const SERVICE: &str = include_str!("../../deploy/pogo.service");
const DOCKERFILE: &str = include_str!("../../deploy/Dockerfile");

/// The number that follows `name` in a text.
#[track_caller]
fn number(text: &str, name: &str) -> u64 {
    let rest = text.split(name).nth(1).unwrap_or_else(|| panic!("no {name}"));
    rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
}

/// The configuration in the manifest, without its indentation.
fn configuration() -> String {
    let block = MANIFEST.split("pogo.toml: |\n").nth(1).unwrap().split("\n---").next().unwrap();
    block
        .lines()
        .map(|line| line.strip_prefix("    ").unwrap_or(line))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn the_configuration_of_the_manifest_is_good() {
    let place =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("deploy-{}", std::process::id()));
    std::fs::create_dir_all(&place).unwrap();
    std::fs::write(place.join("token"), "0123456789abcdef\n").unwrap();
    let text = configuration().replace("/etc/pogo-admin/token", "token");
    assert!(text.contains("token_file = \"token\""), "{text}");
    std::fs::write(place.join("pogo.toml"), text).unwrap();
    let checked = Command::new(env!("CARGO_BIN_EXE_pogo"))
        .args(["check", "--config", "pogo.toml"])
        .current_dir(&place)
        .output()
        .unwrap();
    let told = String::from_utf8(checked.stderr).unwrap();
    assert_eq!((told.as_str(), checked.status.code()), ("", Some(0)));
    std::fs::remove_dir_all(&place).unwrap();
}

#[test]
fn a_drain_fits_into_what_the_platforms_wait() {
    let drain = number(&configuration(), "drain = \"");
    let pause = number(MANIFEST, "sleep:\n                seconds: ");
    assert!(number(MANIFEST, "terminationGracePeriodSeconds: ") > pause + drain);
    let shipped = number(include_str!("../../pogo.toml"), "#drain = \"");
    assert!(number(SERVICE, "TimeoutStopSec=") > shipped);
    assert!(number(SERVICE, "LimitNOFILE=") > 16_384 + 256);
}

#[test]
fn the_probes_of_the_manifest_are_served_to_whoever_names_an_address() {
    let upstream = Upstream::start();
    let pogo = Pogo::with(&upstream, Operator::admit);
    let operator = Operator::of(&pogo);
    let paths: Vec<_> =
        MANIFEST.lines().filter_map(|line| line.trim().strip_prefix("path: ")).collect();
    assert_eq!(paths, ["/healthz", "/healthz", "/readyz"]);
    for path in paths {
        // A kubelet names the pod's address, and has no token.
        let answer = operator.raw(&format!("GET {path} HTTP/1.1\r\nHost: 10.1.2.3:9180\r\n\r\n"));
        assert_eq!(answer.status(), 200, "{path}");
    }
}

#[test]
fn nothing_runs_as_root() {
    assert!(DOCKERFILE.contains("\nUSER 65532:65532\n"));
    assert!(MANIFEST.contains("runAsNonRoot: true") && MANIFEST.contains("runAsUser: 65532"));
    assert!(SERVICE.contains("\nDynamicUser=true\n") && SERVICE.contains("\nType=notify\n"));
}

#[test]
fn the_image_holds_the_program_and_the_trusted_certificates_alone() {
    let (build, image) = DOCKERFILE.split_once("\nFROM scratch\n").unwrap();
    // There programs are linked with musl, into one file.
    assert!(build.contains("-alpine AS build\n"), "{build}");
    let copied: Vec<_> = image.lines().filter(|line| line.starts_with("COPY")).collect();
    assert_eq!(
        copied,
        [
            "COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/",
            "COPY --from=build /pogo /pogo"
        ]
    );
    assert!(!image.contains("\nRUN") && image.contains("\nENTRYPOINT [\"/pogo\"]\n"));
}

#[test]
fn a_reload_is_asked_for_by_the_signal_that_is_one() {
    assert!(SERVICE.contains("\nExecReload=/bin/kill -HUP $MAINPID\n"));
    // Kubernetes does not change what is mounted by `subPath`.
    assert!(!MANIFEST.contains("subPath"));
}

#[test]
fn the_image_is_built_with_the_compiler_that_the_package_asks_for() {
    let manifest = include_str!("../../Cargo.toml");
    let version = manifest.split("rust-version = \"").nth(1).unwrap().split('"').next().unwrap();
    assert!(DOCKERFILE.contains(&format!("FROM rust:{version}-")), "{version}");
}
