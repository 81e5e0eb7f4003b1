//! What is logged, and how, which may change while the program runs. The log goes to stderr; stdout
//! belongs to `check` and `watch`.

use pogo::access::ACCESS_LOG;
use pogo::config::{Log, LogFormat, LogLevel};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Layered, SubscriberExt};
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

type Filtered = Layered<reload::Layer<Targets, Registry>, Registry>;
type Lines = Box<dyn Layer<Filtered> + Send + Sync>;

/// The log of this process.
pub(crate) struct Logs {
    filter: Handle<Targets, Registry>,
    lines: Handle<Lines, Filtered>,
}

impl Logs {
    pub(crate) fn start(log: Log) -> Self {
        let (filter_layer, filter) = reload::Layer::new(targets(log));
        let (lines_layer, lines) = reload::Layer::new(written_as(log.format));
        tracing_subscriber::registry().with(filter_layer).with(lines_layer).init();
        Self { filter, lines }
    }

    pub(crate) fn set(&self, log: Log) {
        // Either fails only where there is no subscriber any more, and so no log.
        let set = self.filter.reload(targets(log));
        let set = set.and_then(|()| self.lines.reload(written_as(log.format)));
        if let Err(error) = set {
            eprintln!("the log stays as it was: {error}");
        }
    }
}

fn targets(log: Log) -> Targets {
    let level = match log.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let access = if log.access { LevelFilter::INFO } else { LevelFilter::OFF };
    Targets::new().with_default(level).with_target(ACCESS_LOG, access)
}

fn written_as(format: LogFormat) -> Lines {
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Text => {
            let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
            lines.with_ansi(colours).boxed()
        }
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    }
}
