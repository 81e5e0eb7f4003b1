//! `pogo import`: an OpenAPI description as the beginning of a `pogo.toml`. What the description
//! says becomes options; what it cannot say becomes comments for the operator to decide.

mod api;
mod document;
mod draft;
mod pattern;
mod security;
mod servers;

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use pogo::config;

use self::api::Api;
use self::document::Document;
use self::draft::Draft;

const EXIT_UNREADABLE: u8 = 64;
const EXIT_FAILURE: u8 = 1;

/// The largest descriptions that are published have some ten megabytes.
const LARGEST: u64 = 32 << 20;

#[derive(clap::Args)]
#[command(
    after_help = "Reads OpenAPI 3.0, 3.1 and 3.2, and Swagger 2.0. What is written loads as it \
    is; lines that begin with \"# ?\" are for you to decide.\n\
    Exit codes: 0 written, 1 cannot write, 64 wrong arguments or a description that cannot be read."
)]
pub(crate) struct Arguments {
    /// The description, YAML or JSON; "-" is standard input
    description: PathBuf,
    /// The file to write; without it the configuration goes to standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write over a file that is there
    #[arg(long, requires = "output")]
    force: bool,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let name = arguments.description.display().to_string();
    let draft = read(arguments).and_then(|text| draft(&text, &name));
    let draft = match draft {
        Ok(draft) => draft,
        Err(reason) => return fail(&format!("{name}: {reason}"), EXIT_UNREADABLE),
    };
    if let Err(fault) = config::parse(&draft.text) {
        let reason = format!("{name}: what would be written does not load: {fault}");
        return fail(&reason, EXIT_FAILURE);
    }
    match write(arguments, &draft.text) {
        Ok(()) => {
            eprintln!("{}", draft.summary());
            ExitCode::SUCCESS
        }
        Err(reason) => fail(&reason, EXIT_FAILURE),
    }
}

fn fail(reason: &str, code: u8) -> ExitCode {
    eprintln!("{reason}");
    ExitCode::from(code)
}

fn read(arguments: &Arguments) -> Result<String, String> {
    let cannot = |error: std::io::Error| format!("cannot be read: {error}");
    let source: Box<dyn Read> = match arguments.description.to_str() {
        Some("-") => Box::new(std::io::stdin()),
        _ => Box::new(File::open(&arguments.description).map_err(cannot)?),
    };
    let mut bytes = Vec::new();
    source.take(LARGEST + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > LARGEST {
        return Err(format!("it is larger than {} MiB", LARGEST >> 20));
    }
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8".into())
}

fn draft(text: &str, name: &str) -> Result<Draft, String> {
    let document = Document::parse(text)?;
    Ok(Draft::of(&Api::read(&document)?, name))
}

fn write(arguments: &Arguments, text: &str) -> Result<(), String> {
    let Some(output) = &arguments.output else {
        let written = std::io::stdout().write_all(text.as_bytes());
        return written.map_err(|error| format!("cannot write: {error}"));
    };
    let mut options = OpenOptions::new();
    let options = match arguments.force {
        true => options.write(true).create(true).truncate(true),
        false => options.write(true).create_new(true),
    };
    let written = options.open(output).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            format!("{} is there already; --force writes over it", output.display())
        }
        _ => format!("{} cannot be written: {error}", output.display()),
    })
}

#[cfg(test)]
mod tests;
