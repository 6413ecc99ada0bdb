//! `memleak-record`: maps what happened to messages and exit codes.

use std::io::Write;
use std::process::ExitCode;

use memleak_record::cli::{self, Request};
use memleak_record::command;
use memleak_record::talk::say;

fn main() -> ExitCode {
    let request = match cli::parse(std::env::args_os()) {
        Ok(request) => request,
        Err(refusal) => {
            // A closed pipe is no error of ours (`memleak-record --help | head -1`).
            let _ = refusal.print();
            return ExitCode::from(refusal.exit_code());
        }
    };
    let mut failure = 1;
    let done = match request {
        Request::Generate(document) => print_document(document).map(|()| 0),
        Request::Record(options) => {
            if options.command.is_some() {
                failure = command::FAILED;
            }
            memleak_record::run(options)
        }
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            say(format_args!("memleak-record: {}", sentence(&error)));
            let refused = error.downcast_ref::<command::Error>();
            ExitCode::from(refused.map_or(failure, command::Error::exit_code))
        }
    }
}

/// The error and its causes, without those that the sentence already holds.
fn sentence(error: &anyhow::Error) -> String {
    error
        .chain()
        .map(ToString::to_string)
        .reduce(|sentence, cause| {
            if sentence.contains(&cause) {
                sentence
            } else {
                format!("{sentence}: {cause}")
            }
        })
        .unwrap_or_default()
}

fn print_document(document: cli::Document) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match cli::generate(document, &mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
