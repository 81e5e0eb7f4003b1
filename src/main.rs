//! The `pogo` program: arguments, configuration, logging, signals and exit codes.

mod explain;
mod follow;
mod import;
mod logs;
mod memory;
mod watch;

use std::fmt::Display;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use listenfd::ListenFd;
use pogo::config::{self, Given, Sources};
use pogo::server::{Options, Server};
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::follow::{Asked, Followed};
use crate::logs::Logs;

/// The command line or the configuration is wrong (`EX_USAGE` of sysexits.h).
const EXIT_CONFIGURATION: u8 = 64;
/// Starting or serving failed.
const EXIT_FAILURE: u8 = 1;

/// A reverse proxy that makes any REST API realtime: clients bind to a URI over WebSocket and hold
/// its current state.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
#[command(after_help = "An option beats its environment variable, which beats the file.\n\
    Exit codes: 0 ended as asked, 1 failed, 64 wrong arguments or configuration.")]
struct Arguments {
    #[command(flatten)]
    configuration: Configuration,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Args, Clone)]
struct Configuration {
    /// The configuration file; without one ./pogo.toml is read if it exists
    #[arg(long, value_name = "FILE", env = "POGO_CONFIG", hide_env_values = true)]
    config: Option<PathBuf>,
    /// The API to stand in front of, such as http://localhost:3000; no file is needed then
    #[arg(long, value_name = "URL", env = "POGO_UPSTREAM", hide_env_values = true)]
    upstream: Option<String>,
    /// Where to listen, such as 127.0.0.1:8080
    #[arg(long, value_name = "ADDR", env = "POGO_LISTEN", hide_env_values = true)]
    listen: Option<String>,
    /// Threads that serve; 0 is one per core
    #[arg(long, value_name = "N")]
    workers: Option<String>,
}

#[derive(Subcommand)]
enum Command {
    /// Check the configuration and print what is in effect, as TOML
    Check(Configuration),
    /// Bind to a URI through a running Pogo and print every event as a line of JSON
    Watch(watch::Arguments),
    /// Say what the configuration makes of a URI: its rule, who shares its views, which writes touch it
    Explain(explain::Arguments),
    /// Write a configuration from an OpenAPI description
    Import(import::Arguments),
}

fn main() -> ExitCode {
    let matches = match Arguments::command().try_get_matches() {
        Ok(matches) => matches,
        Err(message) => return answer(&message),
    };
    let arguments = match Arguments::from_arg_matches(&matches) {
        Ok(arguments) => arguments,
        Err(message) => return answer(&message),
    };
    match arguments.command {
        None => serve(sources(arguments.configuration, &matches)),
        Some(Command::Check(configuration)) => {
            let matches = matches.subcommand_matches("check").unwrap_or(&matches);
            check(&sources(configuration, matches))
        }
        Some(Command::Watch(arguments)) => watch::run(&arguments),
        Some(Command::Explain(arguments)) => {
            let matches = matches.subcommand_matches("explain").unwrap_or(&matches);
            explain(&arguments, matches)
        }
        Some(Command::Import(arguments)) => import::run(&arguments),
    }
}

/// What clap has to say: help and version are no mistakes.
fn answer(message: &clap::Error) -> ExitCode {
    let mistaken = message.use_stderr();
    match message.print() {
        Ok(()) if !mistaken => ExitCode::SUCCESS,
        _ => ExitCode::from(EXIT_CONFIGURATION),
    }
}

/// Says once, on stderr, why the program ends.
fn fail(reason: impl Display, code: u8) -> ExitCode {
    eprintln!("{reason}");
    ExitCode::from(code)
}

fn sources(configuration: Configuration, matches: &ArgMatches) -> Sources {
    let given = |id: &str, value: Option<String>| {
        let by = match matches.value_source(id) {
            Some(ValueSource::EnvVariable) => format!("POGO_{}", id.to_uppercase()),
            _ => format!("--{id}"),
        };
        value.map(|value| Given { value, by })
    };
    Sources {
        file: configuration.config,
        upstream: given("upstream", configuration.upstream),
        listen: given("listen", configuration.listen),
        workers: given("workers", configuration.workers),
    }
}

fn check(sources: &Sources) -> ExitCode {
    let loaded = match config::load(sources) {
        Ok(loaded) => loaded,
        Err(fault) => return fail(fault, EXIT_CONFIGURATION),
    };
    let effective = match loaded.effective() {
        Ok(effective) => effective,
        Err(error) => return fail(error, EXIT_FAILURE),
    };
    if let Err(fault) = loaded.into_options() {
        return fail(fault, EXIT_CONFIGURATION);
    }
    match std::io::stdout().write_all(effective.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(format_args!("cannot write: {error}"), EXIT_FAILURE),
    }
}

fn explain(arguments: &explain::Arguments, matches: &ArgMatches) -> ExitCode {
    let loaded = config::load(&sources(arguments.configuration.clone(), matches));
    match loaded.and_then(config::Loaded::into_options) {
        Ok((options, _)) => explain::run(arguments, &options),
        Err(fault) => fail(fault, EXIT_CONFIGURATION),
    }
}

fn serve(sources: Sources) -> ExitCode {
    let (followed, options, log) = match Followed::read(sources) {
        Ok(read) => read,
        Err(fault) => return fail(fault, EXIT_CONFIGURATION),
    };
    let logs = Logs::start(log);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(format_args!("cannot start: {error}"), EXIT_FAILURE),
    };
    match runtime.block_on(until_signalled(options, followed, logs)) {
        Ok(code) => code,
        Err(error) => fail(error, EXIT_FAILURE),
    }
}

/// Serves until SIGTERM or SIGINT, drains, and leaves; a second signal leaves at once. SIGHUP has the
/// configuration read again.
async fn until_signalled(
    options: Options,
    followed: Followed,
    logs: Logs,
) -> Result<ExitCode, String> {
    let mut signals = Signals::listen().map_err(|error| format!("cannot take signals: {error}"))?;
    let (listen, upstream) = (options.listen, options.upstream.origin.clone());
    let (tls, upstream_tls) = (options.tls.is_some(), options.upstream.tls.is_some());
    let inherited = inherited()?;
    let server = Server::start_on(options, &inherited)
        // What is about something else says what.
        .map_err(|error| match error.get_ref() {
            Some(told) => format!("cannot start: {told}"),
            None => format!("cannot listen on {listen}: {error}"),
        })?;
    tracing::info!(address = %server.address(), tls, %upstream, upstream_tls, "listening");
    if let Some(address) = server.admin() {
        tracing::info!(%address, "operators are listened to");
    }
    tell(&[NotifyState::Ready]);
    let asked = followed.follow(server.reloader(), logs);
    let asked = asked.map_err(|error| format!("cannot follow the configuration: {error}"))?;
    tokio::select! {
        _ = signals.next(&asked) => (),
        never = memory::give_back() => match never {},
    }
    // Before anybody is told: who then asks for a reload is told that it comes too late.
    server.begin_to_drain();
    tell(&[NotifyState::Stopping]);
    tracing::info!("draining; a second signal ends at once");
    let drained = tokio::task::spawn_blocking(move || server.drain());
    tokio::select! {
        ended = drained => match ended {
            Ok(Ok(())) => Ok(ExitCode::SUCCESS),
            Ok(Err(error)) => Err(format!("a worker failed: {error}")),
            Err(error) => Err(format!("the drain failed: {error}")),
        },
        // Not a return: the runtime would wait for the drain's thread.
        signal = signals.next(&asked) => std::process::exit(128 + signal.as_raw_value()),
    }
}

/// The listeners that systemd, or whoever speaks its protocol, has opened for this process.
fn inherited() -> Result<Vec<TcpListener>, String> {
    let mut passed = ListenFd::from_env();
    let bad = |error| format!("a socket that was passed in is no TCP listener: {error}");
    let listeners = (0..passed.len()).map(|number| passed.take_tcp_listener(number));
    listeners.filter_map(Result::transpose).collect::<Result<_, _>>().map_err(bad)
}

/// Tells the service manager, if one wants to know.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The next one that is to end this. The others ask for a reload.
    async fn next(&mut self, asked: &Asked) -> SignalKind {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return SignalKind::terminate(),
                _ = self.interrupt.recv() => return SignalKind::interrupt(),
                _ = self.hangup.recv() => asked.reload(),
            }
        }
    }
}
