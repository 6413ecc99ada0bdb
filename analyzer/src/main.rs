//! `memleak-analyze`: from a trace to a report.

use std::io::Write;
use std::process::ExitCode;

use memleak_analyze::{cli, command};

fn main() -> ExitCode {
    share_one_heap();
    let arguments = match cli::parse(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help goes to stdout, errors to stderr; a closed pipe there is nobody's problem.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let Err(error) = command::run(arguments) else {
        return ExitCode::SUCCESS;
    };
    let status = command::exit_status(&error);
    if status != 0 {
        let _ = writeln!(
            std::io::stderr(),
            "memleak-analyze: {}",
            command::sentence(&error)
        );
    }
    ExitCode::from(status)
}

/// Lets all threads allocate from one heap. With one for each, the buffers that the decoder gives to the replay leave holes in
/// both: a tenth more memory, and nothing gained, as the threads allocate little but large.
fn share_one_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: a number for the allocator, before there are other threads.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}
