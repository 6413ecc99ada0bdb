//! Compiles the probes with clang, warnings as errors.

use std::path::Path;
use std::process::{Command, ExitCode};

/// Object files made of `bpf/NAME.bpf.c`.
const OBJECTS: [&str; 5] = [
    "memleak",
    "kernel_alloc",
    "with_kernel",
    "empty",
    "pointer_walk",
];

fn main() -> ExitCode {
    let (Some(out), Some(root)) = (
        std::env::var_os("OUT_DIR"),
        std::env::var_os("CARGO_MANIFEST_DIR"),
    ) else {
        eprintln!("build.rs is run by cargo only");
        return ExitCode::FAILURE;
    };
    let bpf = Path::new(&root).join("../bpf");
    println!("cargo::rerun-if-changed={}", bpf.display());
    println!("cargo::rerun-if-env-changed=CLANG");
    let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    for name in OBJECTS {
        let result = Command::new(&clang)
            .args(["-target", "bpf", "-mcpu=v3", "-O2", "-g"])
            .args(["-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-c"])
            .arg(bpf.join(format!("{name}.bpf.c")))
            .arg("-o")
            .arg(Path::new(&out).join(format!("{name}.bpf.o")))
            .status();
        match result {
            Ok(status) if status.success() => {}
            Ok(_) => {
                println!("cargo::error=clang could not compile bpf/{name}.bpf.c, see above");
                return ExitCode::FAILURE;
            }
            Err(error) => {
                println!(
                    "cargo::error={clang} cannot be run ({error}); it compiles the probes: apt-get install clang"
                );
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
