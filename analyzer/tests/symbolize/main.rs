//! Names added to a trace from files that lie elsewhere: programs compiled, run and split here.

mod recorded;
#[allow(dead_code, reason = "the other tests need more of it")]
#[path = "../sample/mod.rs"]
mod sample;

use std::fs;
use std::path::Path;

use memleak_trace::describe::Symbol;
use recorded::{Recorded, rows, run};

/// Lines of program.c.
const LINE_OF_INNER: u32 = 7;
const LINE_IN_LEAF: u32 = 10;

/// Runs the command; returns what it said.
fn symbolize(directory: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = sample::analyze(directory, &[&["symbolize"], arguments].concat());
    assert_eq!(output.stdout, b"");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    (output.status.code(), said)
}

/// The last name of the frame, after a run that must succeed, and what was said.
fn named(recorded: &Recorded, arguments: &[&str]) -> (Symbol, String) {
    let all = [
        &["--force", "-o", "named.parquet", "trace.parquet"],
        arguments,
    ]
    .concat();
    let (status, said) = symbolize(&recorded.directory, &all);
    assert_eq!(status, Some(0), "{said}");
    let (before, _) = rows(&recorded.directory.join("trace.parquet"));
    let (after, mut symbols) = rows(&recorded.directory.join("named.parquet"));
    assert!(
        before == after,
        "events, stacks and descriptions are kept as they are"
    );
    symbols.retain(|symbol| symbol.frame == recorded.frame);
    (symbols.pop().expect("a symbol"), said)
}

fn is_whole(symbol: &Symbol, recorded: &Recorded) {
    assert_eq!(symbol.function.as_deref(), Some("leaf"), "{symbol:?}");
    assert_eq!(symbol.line, Some(LINE_IN_LEAF), "{symbol:?}");
    assert_eq!(symbol.address, recorded.address);
    assert!(
        symbol
            .function_offset
            .is_some_and(|offset| offset > 0 && offset < 64)
    );
    let inlined: Vec<_> = symbol
        .inlined
        .iter()
        .map(|one| (one.function.as_str(), one.line))
        .collect();
    assert_eq!(inlined, [("inner", Some(LINE_OF_INNER))]);
}

/// The debug file alone, in each place where it may lie: by build id as distributions and
/// debuginfod have it, or anywhere under any name.
#[test]
fn debug_file_alone() {
    let recorded = Recorded::new("debug-file-alone", "");
    let id = &recorded.build_id;
    run("mv target/program elsewhere", &recorded.directory);
    let (symbol, said) = named(&recorded, &[]);
    assert_eq!((symbol.function, symbol.line), (None, None));
    assert!(
        said.contains(&format!("no file with build id {id} found")),
        "{said}"
    );
    assert!(
        said.contains("0 of 1 frames have a function's name (0 before)"),
        "{said}"
    );
    for place in [
        format!("debug/.build-id/{}/{}.debug", &id[..2], &id[2..]),
        format!(
            "root/usr/lib/debug/.build-id/{}/{}.debug",
            &id[..2],
            &id[2..]
        ),
        format!("cache/{id}/debuginfo"),
        "release/1.0/symbols/any.name".to_owned(),
    ] {
        let target = recorded.directory.join(&place);
        fs::create_dir_all(target.parent().expect("a directory")).expect("a directory");
        fs::copy(recorded.directory.join("whole.debug"), &target).expect("a copy");
        let top = place.split('/').next().expect("a directory");
        let (symbol, said) = named(&recorded, &["--debug-dir", top]);
        is_whole(&symbol, &recorded);
        assert!(said.contains(&place), "{said}");
        assert!(
            said.contains("1 of 1 frames have a function's name (0 before)"),
            "{said}"
        );
    }
}

/// Every way to link a program places its code elsewhere in its debug file.
#[test]
fn debug_files_of_all_sorts() {
    for (index, flags) in [
        "-no-pie",
        "-static-pie",
        "-static",
        "-gz=zlib",
        "-Wl,-z,noseparate-code",
        "-Wl,-z,max-page-size=0x200000",
    ]
    .into_iter()
    .enumerate()
    {
        let recorded = Recorded::new(&format!("debug-file-{index}"), flags);
        run(
            "rm target/program && mkdir only && mv whole.debug only/",
            &recorded.directory,
        );
        let (symbol, said) = named(&recorded, &["--debug-dir", "only"]);
        assert!(symbol.function.is_some(), "{flags}: {said}");
        is_whole(&symbol, &recorded);
    }
}

/// A root file system: the module's path below the directory, with the debug file that it links to.
#[test]
fn root_file_system() {
    let recorded = Recorded::new("root-file-system", "");
    let directory = recorded.directory.display().to_string();
    run(
        &format!(
            "mkdir -p root{directory}/target && mv whole.debug root{directory}/target/p.debug && \
             cd root{directory}/target && mv {directory}/target/program . && \
             objcopy --remove-section=.note.gnu.build-id p.debug && \
             objcopy --add-gnu-debuglink=p.debug program"
        ),
        &recorded.directory,
    );
    let (symbol, said) = named(&recorded, &["--debug-dir", "root"]);
    is_whole(&symbol, &recorded);
    assert!(said.contains("target/p.debug and root"), "{said}");
}

/// The file at the module's own path on this machine, if it is the same build; the names of a
/// stripped program are those that it exports.
#[test]
fn own_path() {
    let recorded = Recorded::new("own-path", "");
    run("mv unstripped target/program", &recorded.directory);
    let (symbol, _) = named(&recorded, &[]);
    is_whole(&symbol, &recorded);
    // Again, on the result: there is nothing to add.
    let again = ["-o", "again.parquet", "named.parquet"];
    let (status, said) = symbolize(&recorded.directory, &again);
    assert_eq!(status, Some(0));
    assert!(
        said.contains("1 of 1 frames have a function's name (1 before)"),
        "{said}"
    );
    let symbols = |name| rows(&recorded.directory.join(name)).1.len();
    assert_eq!(symbols("again.parquet"), symbols("named.parquet"));
}

/// Another build of the same program at the same path names nothing, and is told of; nor does
/// anything name a module without build id.
#[test]
fn another_build_is_not_used() {
    let recorded = Recorded::new("another-build", "");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/symbolize/program.c");
    run(
        &format!("cc -O1 -g {source} -o target/program"),
        &recorded.directory,
    );
    let (symbol, said) = named(&recorded, &[]);
    assert_eq!((symbol.function, symbol.line), (None, None));
    assert!(said.contains("target/program is another build ("), "{said}");
    assert!(said.contains("and was not used"), "{said}");
    // With the right one elsewhere, the other is not worth a word.
    run("mkdir right && cp whole.debug right/", &recorded.directory);
    let (symbol, said) = named(&recorded, &["--debug-dir", "right"]);
    is_whole(&symbol, &recorded);
    assert!(!said.contains("another build"), "{said}");
    run("mv unstripped target/program", &recorded.directory);
    recorded.write("trace.parquet", None);
    let (symbol, said) = named(&recorded, &[]);
    assert_eq!((symbol.function, symbol.line), (None, None));
    assert!(said.contains("it has no build id"), "{said}");
}

/// Files that look like the debug file and are not: damaged, truncated, a directory, a pipe. What
/// is given as a trace or an output and cannot be one is an error in a sentence, and nothing is lost.
#[test]
fn what_cannot_be() {
    let recorded = Recorded::new("what-cannot-be", "");
    let directory = &recorded.directory;
    let id = &recorded.build_id;
    run(
        "rm target/program unstripped && mkdir -p d/x && mkfifo d/pipe",
        directory,
    );
    let whole = fs::read(directory.join("whole.debug")).expect("the debug file");
    fs::remove_file(directory.join("whole.debug")).expect("removed");
    for (index, length) in [whole.len() / 2, 4000, 100, 0].into_iter().enumerate() {
        fs::write(directory.join(format!("d/cut{index}")), &whole[..length]).expect("a file");
    }
    let middle = whole.len() / 3;
    let mut damaged = whole.clone();
    damaged[middle..2 * middle]
        .iter_mut()
        .for_each(|byte| *byte ^= 0x5a);
    fs::write(directory.join("d/damaged"), damaged).expect("a file");
    fs::create_dir_all(directory.join(format!("d/{id}/debuginfo"))).expect("a directory");
    // Whatever comes of it, the rows are kept; `named` looks.
    named(&recorded, &["--debug-dir", "d"]);

    for (arguments, part) in [
        (&["nothing.parquet"][..], "nothing.parquet: cannot open"),
        (
            &["--debug-dir", "none", "trace.parquet"],
            "--debug-dir none: cannot read it",
        ),
        (
            &["-o", "trace.parquet", "--force", "trace.parquet"],
            "is the trace itself",
        ),
        (
            &["-o", "named.parquet", "trace.parquet"],
            "already exists; choose another --output or add --force",
        ),
        (
            &["-o", "no/such/x.parquet", "trace.parquet"],
            "no/such/x.parquet: cannot",
        ),
        (
            &["--force", "-o", "named.parquet", "d/damaged"],
            "not a memleak trace: it is a program or library (ELF)",
        ),
    ] {
        let (status, said) = symbolize(directory, arguments);
        assert_eq!(status, Some(1), "{said}");
        assert!(said.contains(part) && said.lines().count() == 1, "{said}");
    }
    rows(&directory.join("named.parquet"));
    rows(&directory.join("trace.parquet"));
}
