//! An explanation as a terminal shows it.

use super::{Explained, Ruled};

const WIDTH: usize = 16;

pub(super) fn of(explained: &Explained) -> String {
    let mut out = String::new();
    let mut row = |label: &str, text: &str| out.push_str(&format!("{label:<WIDTH$}{text}\n"));
    row("URI", &explained.uri);
    match &explained.canonical {
        Some(canonical) if *canonical != explained.uri => row("bound as", canonical),
        _ => {}
    }
    match &explained.why_not {
        None => row("can be bound", "yes, if a GET of it is answered with JSON, text or 404"),
        Some(why) => row("can be bound", &format!("no: {why}")),
    }
    row("writes find it", &format!("by the path {}, whatever the query", explained.path));
    rule(&mut row, &explained.rule);
    let fields = explained.shared_by.join(", ");
    row("shares a view", &format!("who has the same {fields}"));
    row("", "and the same of what the API names in Vary");
    for header in &explained.headers {
        row("", &format!("{} {}", header.name, header.counts));
    }
    for (at, touches) in [("touched by", true), ("not touched by", false)] {
        let sources: Vec<_> =
            explained.touched_by.iter().filter(|it| it.touches == touches).collect();
        for (number, source) in sources.iter().enumerate() {
            let label = if number == 0 { at } else { "" };
            row(label, &format!("writes to {} ({}): {}", source.at, source.relation, source.why));
        }
    }
    row("", "whatever write answers with it, or with what is above or below it, in Location or");
    row("", "Content-Location; cache groups; POST /changed of the admin listener");
    match &explained.touches[..] {
        [] => row("a write to it", "touches nothing, but for cache groups that its answer names"),
        [first, rest @ ..] => {
            row("a write to it", &format!("touches {first}"));
            rest.iter().for_each(|touch| row("", touch));
            row("", "each with its query variants");
        }
    }
    out
}

fn rule(row: &mut impl FnMut(&str, &str), rule: &Ruled) {
    match &rule.pattern {
        Some(pattern) => row("rule", &format!("[[route]] path = {pattern:?}")),
        None => row("rule", "none fits: the defaults hold"),
    }
    for (name, value) in &rule.parameters {
        row("", &format!("{name} = {value:?}"));
    }
    if !rule.others.is_empty() {
        let others: Vec<_> = rule.others.iter().map(|other| format!("{other:?}")).collect();
        row("", &format!("it wins over {}: the most specific pattern does,", others.join(", ")));
        row("", "letters before parameters, one segment before many");
    }
    row("realtime", yes(rule.realtime));
    row("autobind", yes(rule.autobind));
    let eyes = match rule.visibility.as_str() {
        "public" => "public: fetched once for everybody, without credentials",
        _ => "viewer: fetched with each viewer's own credentials",
    };
    row("visibility", eyes);
    let push = match rule.push.as_str() {
        "notify" => "notify: only that it changed",
        "response" => "response: the new state, from the write's own answer where that is safe",
        _ => "state: the new state",
    };
    row("push", push);
    row("update_method", &rule.update_method);
    row("min_interval", &rule.min_interval);
    row("poll", rule.poll.as_deref().unwrap_or("none: changes elsewhere are not looked for"));
    match &rule.settle[..] {
        [] => row("settle", "none but after 202, or when a write's outcome is unknown"),
        delays => row("settle", &format!("asked again after {}", delays.join(", "))),
    }
    row("ttl", rule.ttl.as_deref().unwrap_or("none: a binding lasts as its client wants it"));
    row("rate", rule.rate.as_deref().unwrap_or("none of its own"));
    if let Some(recheck) = &rule.recheck {
        row("recheck", &format!("credentials are tried again every {recheck}"));
    }
}

fn yes(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}
