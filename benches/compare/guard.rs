//! Keeps what a request, a write and a fan-out cost from growing unseen: `cargo bench --profile guard -- guard`, in `.ci/run`.
//!
//! Each is done N times and 2 N times, in runs of their own, so that what starting and ending take is the same in both and falls out. A
//! count that is too high is taken again, twice at most: what disturbs a run only ever adds to it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::count::{Counted, Counts, Tool};
use crate::crowd::{Crowd, uri};
use crate::events::{Writer, enough_files};
use crate::http;
use crate::options::Options;
use crate::peer::{self, Server};
use crate::row::{Shape, thousands};
use crate::socket::Dialect;
use crate::table::said;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/guard.toml");
const HEAD: &str = "\
# What one of each may cost Pogo: instructions of its own code, and system calls.
# `cargo bench --profile guard -- guard` checks it; with `--update` it writes this file.
";
const ATTEMPTS: usize = 3;
const TOLERANCE_OF_COMPILERS: f64 = 1.10;
/// So many more system calls are no regression, and for each socket: binding them takes some more or some fewer.
const FEW_CALLS: f64 = 0.3;
const FEW_CALLS_OF_SOCKET: f64 = 0.005;
/// How many events one wait brings depends on who is faster.
const FEW_WAITS: f64 = 0.6;
const FEW_WAITS_OF_SOCKET: f64 = 0.05;

#[derive(Debug, Clone, Copy)]
struct Case {
    name: &'static str,
    /// How many more the longer run has than the shorter.
    count: usize,
    /// Bound to the one URI that is written; with none it is read.
    sockets: usize,
    /// How many times the instructions it may have: several times what they vary by (`docs/performance.md`).
    tolerance: f64,
}

const CASES: [Case; 3] = [
    Case { name: "request", count: 2000, sockets: 0, tolerance: 1.01 },
    Case { name: "write_to_one", count: 1000, sockets: 1, tolerance: 1.015 },
    Case { name: "write_to_1000", count: 100, sockets: 1000, tolerance: 1.03 },
];

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Figures {
    /// Another compiler counts other instructions.
    compiler: String,
    cases: BTreeMap<String, Cost>,
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cost {
    instructions: f64,
    receives: f64,
    sends: f64,
    waits: f64,
    other_calls: f64,
}

pub(crate) async fn run(options: &Options, update: bool) -> io::Result<()> {
    enough_files(1000)?;
    let known = match fs::read_to_string(FILE) {
        Ok(text) => toml::from_str::<Figures>(&text).map_err(io::Error::other)?,
        Err(_) if update => Figures::default(),
        Err(error) => return Err(error),
    };
    let compiler = said("rustc", "--version");
    let same_compiler = known.compiler == compiler;
    let mut figures = Figures { compiler, cases: BTreeMap::new() };
    let mut exceeded = false;
    let mut out = io::stdout().lock();
    writeln!(out, "| one of each | counted | allowed |\n|---|--:|--:|")?;
    for case in CASES {
        let allowed = known.cases.get(case.name).map(|cost| cost.allowed(case, same_compiler));
        let mut least = Cost::count(&options.pogo, case).await?;
        for _ in 1..ATTEMPTS {
            if update || allowed.is_some_and(|allowed| least.exceeds(&allowed).is_none()) {
                break;
            }
            least = least.least(&Cost::count(&options.pogo, case).await?);
        }
        exceeded |= allowed.is_some_and(|allowed| least.exceeds(&allowed).is_some());
        for line in least.lines(case, allowed.as_ref()) {
            writeln!(out, "{line}")?;
        }
        figures.cases.insert(case.name.to_owned(), least.rounded());
    }
    if update {
        let text = toml::to_string(&figures).map_err(io::Error::other)?;
        return fs::write(FILE, format!("{HEAD}{text}"));
    }
    if exceeded {
        let why = "Pogo costs more than benches/guard.toml allows. If that is meant, say why and update it.";
        return Err(io::Error::other(why));
    }
    Ok(())
}

impl Cost {
    async fn count(pogo: &Path, case: Case) -> io::Result<Self> {
        let calls = counted(Tool::Strace, pogo, case).await?;
        let instructions = counted(Tool::Callgrind, pogo, case).await?.instructions;
        Ok(Self {
            instructions,
            receives: calls.receives,
            sends: calls.sends,
            waits: calls.waits,
            other_calls: calls.other_calls,
        })
    }

    fn named(&self) -> [(&'static str, f64); 5] {
        [
            ("instructions", self.instructions),
            ("receives", self.receives),
            ("sends", self.sends),
            ("waits", self.waits),
            ("other calls", self.other_calls),
        ]
    }

    fn allowed(self, case: Case, same_compiler: bool) -> Self {
        let tolerance = if same_compiler { case.tolerance } else { TOLERANCE_OF_COMPILERS };
        let sockets = case.sockets as f64;
        let calls = |count: f64| count + FEW_CALLS + FEW_CALLS_OF_SOCKET * sockets;
        Self {
            instructions: self.instructions * tolerance,
            receives: calls(self.receives),
            sends: calls(self.sends),
            waits: self.waits + FEW_WAITS + FEW_WAITS_OF_SOCKET * sockets,
            other_calls: calls(self.other_calls),
        }
    }

    /// What is more than it may be.
    fn exceeds(&self, allowed: &Self) -> Option<&'static str> {
        let pairs = self.named().into_iter().zip(allowed.named());
        let mut more = pairs.filter(|((_, counted), (_, allowed))| counted > allowed);
        more.next().map(|((name, _), _)| name)
    }

    fn least(self, other: &Self) -> Self {
        Self {
            instructions: self.instructions.min(other.instructions),
            receives: self.receives.min(other.receives),
            sends: self.sends.min(other.sends),
            waits: self.waits.min(other.waits),
            other_calls: self.other_calls.min(other.other_calls),
        }
    }

    fn rounded(self) -> Self {
        let calls = |count: f64| (count * 100.0).round().max(0.0) / 100.0;
        Self {
            instructions: self.instructions.round(),
            receives: calls(self.receives),
            sends: calls(self.sends),
            waits: calls(self.waits),
            other_calls: calls(self.other_calls),
        }
    }

    fn lines(&self, case: Case, allowed: Option<&Self>) -> Vec<String> {
        let allowed = allowed.map(Self::named);
        let lines = self.named().into_iter().enumerate().map(|(index, (what, counted))| {
            let allowed = allowed.map(|named| named[index].1);
            let sign = match allowed {
                Some(allowed) if counted > allowed => " **too many**",
                _ => "",
            };
            let allowed = allowed.map_or_else(|| "–".to_owned(), written);
            format!("| {}: {what} | {}{sign} | {allowed} |", case.name, written(counted))
        });
        lines.collect()
    }
}

fn written(count: f64) -> String {
    if count < 1000.0 { format!("{count:.2}") } else { thousands(count.round() as usize) }
}

/// What one of the case takes more in a run of twice as many.
async fn counted(tool: Tool, pogo: &Path, case: Case) -> io::Result<Counts> {
    let mut runs = [Counts::default(); 2];
    for (times, counts) in (1..).zip(&mut runs) {
        let upstream = peer::upstream()?;
        let pogo = Counted::start(tool, pogo, &upstream)?;
        drive(case, pogo.server(), times * case.count).await?;
        *counts = pogo.end()?;
    }
    let [once, twice] = runs;
    Ok(twice.each(once, case.count))
}

async fn drive(case: Case, server: &Server, count: usize) -> io::Result<()> {
    if case.sockets == 0 {
        http::Load::of_browser(server.address()).run(1, count).await?;
        return Ok(());
    }
    let shape = Shape::one_uri(case.sockets);
    // One after the other, so that binding takes the same each time.
    let crowd = Crowd::gather(server.address(), shape, Dialect::Bind, 1).await?;
    let mut writer = Writer::connect(server.address(), Dialect::Bind).await?;
    for number in 1..=count as u64 {
        crowd.expect(0, number);
        writer.put(&uri(0), number).await?;
        if !crowd.is_complete(0).await {
            break;
        }
    }
    match crowd.faults().first() {
        None => Ok(()),
        Some(fault) => Err(io::Error::other(format!("{}: {fault}", case.name))),
    }
}
