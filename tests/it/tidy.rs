//! What the documents say of the code is true of the code.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn read(path: &str) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// The rows of ARCHITECTURE.md: each module with its row and its place in the row.
fn layers() -> BTreeMap<String, (usize, usize)> {
    let architecture = read("ARCHITECTURE.md");
    let table = architecture.split("## Layers").nth(1).unwrap().split("```").nth(1).unwrap();
    let mut layers = BTreeMap::new();
    for (row, line) in table.trim().lines().enumerate() {
        let names = line.split_once("  ").unwrap().1.trim().split("     ").next().unwrap();
        for (place, name) in names.split_whitespace().enumerate() {
            layers.insert(name.to_owned(), (row, place));
        }
    }
    layers
}

/// The top-level modules that a file names outside its tests.
fn imports(text: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]").next().unwrap();
    let mut names: Vec<String> = Vec::new();
    for rest in code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| line.split("crate::").skip(1))
    {
        let list = rest.strip_prefix('{').and_then(|rest| rest.split('}').next());
        for item in list.unwrap_or(rest).split(if list.is_some() { ',' } else { ';' }) {
            let name =
                item.trim().split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
            if name.starts_with(|c: char| c.is_ascii_lowercase()) {
                names.push(name.to_owned());
            }
        }
    }
    names
}

#[test]
fn a_file_imports_only_from_the_layers_below_its_own() {
    let layers = layers();
    assert!(layers.len() > 20, "{layers:?}");
    let source = root().join("src");
    let mut broken = Vec::new();
    for file in rust_files(&source) {
        let relative = file.strip_prefix(&source).unwrap();
        let first = relative.iter().next().unwrap().to_str().unwrap();
        let module = first.trim_end_matches(".rs");
        if matches!(module, "lib" | "watch") {
            continue;
        }
        let Some(own) = layers.get(module) else {
            broken.push(format!("{module} has no layer"));
            continue;
        };
        for name in imports(&std::fs::read_to_string(&file).unwrap()) {
            let Some(other) = layers.get(&name).filter(|_| name != module) else { continue };
            let below = other.0 < own.0;
            let before = other.0 == own.0 && (own.0 == 0 || own.0 == 4 || other.1 < own.1);
            if !below && !before {
                broken.push(format!("{} imports {name}", relative.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_test_that_the_security_page_names_exists() {
    let page = read("docs/security.md");
    let mut named = 0;
    for name in page.split('`').skip(1).step_by(2).filter(|name| name.contains("::")) {
        let (module, test) = name.split_once("::").unwrap();
        let tests = read(&format!("tests/it/{module}.rs"));
        let test = test.trim_end_matches('*').trim_end_matches('…');
        assert!(tests.contains(&format!("fn {test}")) || test.is_empty(), "{name} does not exist");
        named += 1;
    }
    assert!(named > 10, "only {named} tests are named");
    for file in
        page.split('`').filter(|name| name.starts_with("src/") || name.starts_with("tests/"))
    {
        let path = root().join(file);
        assert!(path.exists(), "{file} does not exist");
        if path.is_file() {
            assert!(
                read(file).contains("#[test]") || read(file).contains("test("),
                "{file} has no test"
            );
        }
    }
}

#[test]
fn every_link_of_the_documents_leads_somewhere() {
    let mut links = 0;
    for page in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "docs/protocol.md",
        "docs/http.md",
        "docs/views.md",
        "docs/security.md",
        "docs/operations.md",
        "docs/out-of-scope.md",
        "docs/performance.md",
        "docs/embedding.md",
    ] {
        let folder = root().join(page).parent().unwrap().to_owned();
        for link in read(page).split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let is_code = link.contains(|c: char| c.is_whitespace() || c == '"');
            if !link.starts_with("http") && !is_code {
                let (file, heading) = link.split_once('#').unwrap_or((link, ""));
                let file = if file.is_empty() { root().join(page) } else { folder.join(file) };
                assert!(file.exists(), "{page}: {link}");
                assert!(heading.is_empty() || has_heading(&file, heading), "{page}: {link}");
                links += 1;
            }
        }
    }
    assert!(links > 15, "only {links} links");
}

/// Whether a page has a heading that is linked to so, such as `the-guided-build`.
fn has_heading(page: &Path, slug: &str) -> bool {
    let text = std::fs::read_to_string(page).unwrap();
    text.lines().filter(|line| line.starts_with('#')).any(|line| {
        let words = line.trim_start_matches('#').trim().to_lowercase();
        words.replace(' ', "-") == slug
    })
}

#[test]
fn the_readme_is_read_in_five_minutes() {
    assert!(read("README.md").lines().count() <= 200);
}
