//! Names of frames in real programs, compiled here and asked while they run and after.

mod running;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use memleak_record::modules::{Modules, OpenedFile};
use memleak_record::symbolize::{Request, Symbolizer};
use memleak_trace::FrameId;
use object::{Object, ObjectSymbol};
use running::{Running, SPACE, symbolize};

/// Printed and waited for by [`Running`].
const PROGRAM: &str = include_str!("frames.c");

/// Lines of PROGRAM, counted from 1.
const LINE_OF_INNER: u32 = 11;
const LINE_OF_OUTER: u32 = 12;
const LINE_IN_LEAF: u32 = 18;

/// A fresh directory with the program's source in it.
fn scratch(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("program.c"), PROGRAM).unwrap();
    directory
}

fn run(command: &str, directory: &Path) {
    let status = Command::new("sh")
        .args(["-ec", command])
        .current_dir(directory)
        .status()
        .unwrap();
    assert!(status.success(), "{command}");
}

fn build(name: &str, commands: &str) -> PathBuf {
    let directory = scratch(name);
    run(commands, &directory);
    directory.join("program")
}

/// -O0 -g: function, offset as memleak prints it, file and line of the call, module and build id.
#[test]
fn unoptimized() {
    let program = build(
        "unoptimized",
        "cc -O0 -g -Wl,--build-id program.c -o program",
    );
    let running = Running::start(&program);
    let symbol = running.symbol("in_leaf");
    assert_eq!(symbol.function.as_deref(), Some("leaf"));
    let distance = running.address("in_leaf") - running.address("leaf");
    assert_eq!(symbol.function_offset, Some(distance));
    assert!(
        symbol
            .file
            .as_ref()
            .unwrap()
            .ends_with("/unoptimized/program.c"),
        "{symbol:?}"
    );
    assert_eq!(symbol.line, Some(LINE_IN_LEAF));
    assert!(symbol.inlined.is_empty(), "{symbol:?}");
    assert_eq!(symbol.module.as_deref(), program.to_str());
    assert_eq!(symbol.build_id.map(|id| id.len()), Some(40));
    assert_eq!(
        running.symbol("in_hidden").function.as_deref(),
        Some("hidden")
    );
}

/// Rows can be taken while more frames are asked for.
#[test]
fn rows_while_it_runs() {
    let running = Running::start(&build("while-it-runs", "cc -O0 -g program.c -o program"));
    let mut symbolizer = Symbolizer::start().unwrap();
    for (name, function) in [("in_leaf", "leaf"), ("in_hidden", "hidden")] {
        symbolizer.ask(running.request(name, false));
        let mut rows = Vec::new();
        while symbolizer.pending() > 0 {
            rows.extend(symbolizer.ready());
            std::thread::yield_now();
        }
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].function.as_deref(), Some(function));
    }
    assert_eq!(symbolizer.close().iter().count(), 0);
}

/// An address that was executing is looked up itself, at offset 0 of its function.
#[test]
fn exact_address() {
    let running = Running::start(&build("exact", "cc -O0 -g program.c -o program"));
    let symbol = symbolize(vec![running.request("leaf", true)]).remove(0);
    assert_eq!(
        (symbol.function.as_deref(), symbol.function_offset),
        (Some("leaf"), Some(0))
    );
}

/// -O2 -g: inlined functions innermost first, each with its own line.
#[test]
fn inlined_functions() {
    let running = Running::start(&build("inlined", "cc -O2 -g program.c -o program"));
    let symbol = running.symbol("in_leaf");
    assert_eq!(symbol.function.as_deref(), Some("leaf"));
    assert_eq!(symbol.line, Some(LINE_IN_LEAF));
    let inlined: Vec<_> = symbol
        .inlined
        .iter()
        .map(|one| (one.function.as_str(), one.line))
        .collect();
    assert_eq!(
        inlined,
        [
            ("inner", Some(LINE_OF_INNER)),
            ("outer", Some(LINE_OF_OUTER))
        ]
    );
    assert!(
        symbol.inlined[0]
            .file
            .as_ref()
            .unwrap()
            .ends_with("program.c"),
        "{symbol:?}"
    );
}

/// A stripped program: exported functions by the dynamic symbols, demangled; others by module.
#[test]
fn stripped() {
    let running = Running::start(&build(
        "stripped",
        "cc -O2 -rdynamic -Wl,--build-id program.c -o program && strip program",
    ));
    let symbol = running.symbol("in_leaf");
    assert_eq!(symbol.function.as_deref(), Some("leaf"));
    assert_eq!((symbol.line, symbol.inlined.len()), (None, 0));
    assert_eq!(
        running.symbol("in_mangled").function.as_deref(),
        Some("foo::bar(int)")
    );
    let hidden = running.symbol("in_hidden");
    assert_eq!((hidden.function, hidden.function_offset), (None, None));
    assert!(hidden.module.unwrap().ends_with("/stripped/program"));
    assert!(hidden.build_id.is_some());
    assert_eq!(hidden.address, running.address("in_hidden"));
}

/// A separate debug file beside the program is found by its debug link; one of another build, or,
/// where there are no build ids, with another checksum, is not used, and does not take the symbols away.
#[test]
fn debug_link() {
    const SPLIT: &str = "cc -O2 -g -rdynamic program.c -o program && \
                         objcopy --only-keep-debug program program.debug && strip program && \
                         objcopy --add-gnu-debuglink=program.debug program";
    let without_id = SPLIT.replace("-O2", "-O2 -Wl,--build-id=none");
    for (name, commands) in [("debug-link", SPLIT), ("debug-link-no-id", &without_id)] {
        let symbol = Running::start(&build(name, commands)).symbol("in_leaf");
        assert_eq!(
            (symbol.line, symbol.inlined.len()),
            (Some(LINE_IN_LEAF), 2),
            "{symbol:?}"
        );
    }

    let changed = format!("{without_id} && echo changed >> program.debug");
    let other = format!(
        "{SPLIT} && cc -O1 -g program.c -o other && objcopy --only-keep-debug other program.debug"
    );
    for (name, commands) in [("debug-link-changed", changed), ("debug-link-other", other)] {
        let symbol = Running::start(&build(name, &commands)).symbol("in_leaf");
        assert_eq!(
            (symbol.function.as_deref(), symbol.line),
            (Some("leaf"), None),
            "{name}"
        );
    }
}

/// Debug information in a directory of debug files, found by its build id alone: compressed, for a
/// program that exports nothing. Of another build, it is not used.
#[test]
fn by_build_id() {
    const SPLIT: &str = "cc -O2 -g -gz=zlib -Wl,--build-id program.c -o program && \
                         objcopy --only-keep-debug program whole.debug && strip program";
    let program = build("by-build-id", SPLIT);
    let directory = program.parent().unwrap();
    let other = build("by-build-id-other", &SPLIT.replace("-O2", "-O1"));
    let other = other.parent().unwrap().join("whole.debug");

    let named = |debug_file: &Path| {
        let running = Running::start(&program);
        let request = running.request("in_leaf", false);
        let file = request.file.clone().unwrap();
        let id = file.build_id().unwrap();
        let root = directory.join("root");
        let place = root.join(format!("usr/lib/debug/.build-id/{}", &id[..2]));
        fs::create_dir_all(&place).unwrap();
        fs::copy(debug_file, place.join(format!("{}.debug", &id[2..]))).unwrap();
        let opened = fs::File::open(&program).unwrap();
        let opened = OpenedFile::new(file.id(), file.path().to_owned(), opened).unwrap();
        // What is open is found after the target has ended and its root is gone.
        let opened = opened.with_debug_files(&["/nowhere".into(), root.clone()]);
        drop(running);
        fs::remove_dir_all(&root).unwrap();
        let file = Some(std::sync::Arc::new(opened));
        symbolize(vec![Request { file, ..request }]).remove(0)
    };
    let symbol = named(&directory.join("whole.debug"));
    let inlined: Vec<_> = symbol.inlined.iter().map(|one| one.line).collect();
    assert_eq!(symbol.function.as_deref(), Some("leaf"));
    assert_eq!(symbol.line, Some(LINE_IN_LEAF), "{symbol:?}");
    assert_eq!(inlined, [Some(LINE_OF_INNER), Some(LINE_OF_OUTER)]);

    let symbol = named(&other);
    assert_eq!((symbol.function, symbol.line), (None, None));
    assert!(symbol.module.is_some() && symbol.build_id.is_some());
}

/// C++ and Rust names are demangled, with their source lines, also where they are inlined.
#[test]
fn demangled() {
    let corners = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/symbols");
    for (name, compile, function, inlined) in [
        (
            "cpp",
            "g++ -O2 -g",
            "names::Box<int>::place(std::vector<int, std::allocator<int> >&)",
            "names::inner()",
        ),
        (
            "rust",
            "rustc -O -g --edition=2021",
            "program::names::place::<i32>",
            "program::names::inner",
        ),
    ] {
        let source = match name {
            "cpp" => "names.cpp",
            _ => "names/program.rs",
        };
        let directory = scratch(&format!("demangled-{name}"));
        run(
            &format!("{compile} {corners}/{source} -o program"),
            &directory,
        );
        let running = Running::start(&directory.join("program"));
        let symbol = running.symbol("in_place");
        let found = symbol.function.clone().unwrap_or_default();
        assert!(same_name(&found, function), "{name}: {symbol:?}");
        assert!(symbol.line.is_some(), "{name}: {symbol:?}");
        let inner = symbol.inlined.first().map(|one| one.function.as_str());
        assert!(
            same_name(inner.unwrap_or_default(), inlined),
            "{name}: {symbol:?}"
        );
    }
}

/// Compilers differ in what they append to a name: parameters, or a hash.
fn same_name(found: &str, wanted: &str) -> bool {
    let plain = |name: &str| name.split(['(', '<']).next().unwrap_or_default().to_owned();
    plain(found).trim_end_matches(':') == plain(wanted).trim_end_matches(':')
        && !found.contains("_Z")
}

/// Names are found after the target has ended and its file is deleted.
#[test]
fn after_the_end() {
    let program = build("after-the-end", "cc -O0 -g program.c -o program");
    let running = Running::start(&program);
    let request = running.request("in_leaf", false);
    drop(running);
    fs::remove_file(&program).unwrap();
    let symbol = symbolize(vec![request]).remove(0);
    assert_eq!(
        (symbol.function.as_deref(), symbol.line),
        (Some("leaf"), Some(LINE_IN_LEAF))
    );
}

/// A file deleted before it was ever opened here is reached through its mapping.
#[test]
fn deleted_before() {
    let program = build("deleted-before", "cc -O0 -g program.c -o program");
    let mut running = Running::start(&program);
    fs::remove_file(&program).unwrap();
    running.modules = Modules::new();
    running
        .modules
        .refresh(running.child.id() as i32, SPACE)
        .unwrap();
    let symbol = running.symbol("in_leaf");
    assert_eq!(symbol.function.as_deref(), Some("leaf"));
    assert_eq!(symbol.module.as_deref(), program.to_str());
}

/// A file that was written over names nothing: its new names are not those of the old code.
#[test]
fn written_over() {
    let running = Running::start(&build("written-over", "cc -O0 -g program.c -o program"));
    let copy = scratch("written-over-copy").join("copy");
    let mut request = running.request("in_leaf", false);
    let original = request.file.clone().unwrap();
    fs::copy(original.path(), &copy).unwrap();
    let opened = fs::File::open(&copy).unwrap();
    let file =
        memleak_record::modules::OpenedFile::new(original.id(), "copy".into(), opened).unwrap();
    request.file = Some(std::sync::Arc::new(file));
    assert_eq!(
        symbolize(vec![request.clone()])[0].function.as_deref(),
        Some("leaf")
    );
    fs::write(&copy, "something else").unwrap();
    let symbol = symbolize(vec![request]).remove(0);
    assert_eq!(
        (symbol.function, symbol.module.as_deref()),
        (None, Some("copy"))
    );
}

/// The running system's libc: each function of the malloc family is called by its own name or
/// another of the same address.
#[test]
fn malloc_family() {
    let running = Running::start(&build("malloc-family", "cc -O0 program.c -o program"));
    let names = [
        "malloc",
        "calloc",
        "realloc",
        "free",
        "posix_memalign",
        "aligned_alloc",
    ];
    let requests: Vec<Request> = names
        .iter()
        .map(|name| running.request(name, true))
        .collect();
    let libc = fs::read(requests[0].file.as_ref().unwrap().lasting_path()).unwrap();
    let libc = object::File::parse(&*libc).unwrap();
    let aliases = |name: &str| -> Vec<String> {
        let address = libc
            .dynamic_symbols()
            .find(|s| s.name() == Ok(name))
            .unwrap()
            .address();
        let same = libc
            .dynamic_symbols()
            .filter(|symbol| symbol.address() == address);
        same.map(|symbol| symbol.name().unwrap().to_owned())
            .collect()
    };
    for (symbol, name) in symbolize(requests).iter().zip(names) {
        let function = symbol.function.as_ref().unwrap();
        // With libc's debug symbols installed, glibc's inner names such as __GI___libc_malloc come.
        let mut plain = aliases(name).into_iter();
        assert!(
            plain.any(|alias| function.ends_with(alias.trim_start_matches('_'))),
            "{name} is called {function}"
        );
        assert_eq!(symbol.function_offset, Some(0), "{name}");
    }
}

/// Frames without a file, in a damaged file, past its end, or of the kernel: a row each.
#[test]
fn nothing_is_lost() {
    let directory = scratch("nothing-is-lost");
    let running = Running::start(&build("nothing-is-lost", "cc -O0 -g program.c -o program"));
    let good = running.request("in_leaf", false);
    let path = directory.join("damaged");
    let mut bytes = fs::read(good.file.as_ref().unwrap().lasting_path()).unwrap();
    let kept = bytes.len() / 2;
    bytes[kept..].fill(0xff);
    fs::write(&path, bytes).unwrap();
    let number = memleak_trace::FileId(99);
    let opened = fs::File::open(&path).unwrap();
    let damaged =
        memleak_record::modules::OpenedFile::new(number, "damaged".into(), opened).unwrap();
    let damaged = Some(std::sync::Arc::new(damaged));
    let past_the_end = FrameId::in_file(good.file.as_ref().unwrap().id(), 1 << 39).unwrap();
    let requests = vec![
        Request {
            frame: FrameId::in_file(number, 0x1234).unwrap(),
            file: damaged.clone(),
            ..good.clone()
        },
        Request {
            frame: FrameId::in_file(number, 0).unwrap(),
            file: damaged,
            ..good.clone()
        },
        Request {
            frame: past_the_end,
            ..good.clone()
        },
        Request {
            frame: FrameId(memleak_trace::stack::ANONYMOUS_BIT | 0x1000),
            file: None,
            ..good.clone()
        },
        Request {
            frame: FrameId(-4096),
            file: None,
            module: None,
            ..good.clone()
        },
        good,
    ];
    let symbols = symbolize(requests);
    let functions: Vec<_> = symbols
        .iter()
        .map(|symbol| symbol.function.as_deref())
        .collect();
    assert_eq!(functions, [None, None, None, None, None, Some("leaf")]);
    assert_eq!(symbols[0].module.as_deref(), Some("damaged"));
}
