use super::*;

fn record(line: &str) -> Options {
    match parse(line.split(' ')) {
        Ok(Request::Record(options)) => options,
        other => panic!("{line}: {other:?}"),
    }
}

fn refusal(line: &str) -> (u8, String) {
    let refusal = parse(line.split(' ')).expect_err(line);
    (refusal.exit_code(), refusal.0.to_string())
}

/// clap's own check of the definitions.
#[test]
fn definitions_are_sound() {
    Args::command().debug_assert();
}

/// The defaults, and every option of recording.
#[test]
fn options() {
    let options = record("memleak-record -p 12");
    assert_eq!(
        (options.pids, options.ring_bytes, options.output),
        (vec![12], 64 << 20, None)
    );
    assert!(!options.force && !options.verbose && !options.force_seccomp);
    let options = record(
        "memleak-record --pid=12 -o t.parquet --force --duration 30s --ring-size 1MiB -v --force-seccomp",
    );
    assert_eq!(options.output, Some(PathBuf::from("t.parquet")));
    assert_eq!(options.duration, Some(Duration::from_secs(30)));
    assert_eq!(options.ring_bytes, 1 << 20);
    assert!(options.force && options.verbose && options.force_seccomp);
    assert!(options.remarks.is_empty());
}

/// Filters and sampling as memleak spells them; what leaves nothing out is no selection.
#[test]
fn selections() {
    use memleak_trace::selection::Sampling;
    let selection = |line: &str| record(&format!("memleak-record -p 1 {line}")).selection;
    assert!(selection("-s 1 -z 0").is_everything());
    let sizes = selection("-z 4k -Z 1MiB");
    assert_eq!(
        (sizes.min_size, sizes.max_size),
        (Some(4096), Some(1 << 20))
    );
    assert_eq!(selection("-s 100").sampling, Some(Sampling::OneIn(100)));
    let by_bytes = selection("--sample-bytes 64KiB").sampling;
    assert_eq!(by_bytes, Some(Sampling::Bytes(65_536)));
}

/// Both spellings of a command; its options are its own, and it excludes -p.
#[test]
fn commands() {
    let words = |line: &str| record(line).command.unwrap();
    assert_eq!(words("memleak-record -- ls -p 1"), ["ls", "-p", "1"]);
    let options = parse(["memleak-record", "--follow", "-c", "ls  -l /"]).unwrap();
    let Request::Record(options) = options else {
        panic!("{options:?}")
    };
    assert!(options.follow && options.pids.is_empty());
    assert_eq!(options.command.unwrap(), ["ls", "-l", "/"]);
    for line in [
        "memleak-record -p 1 -- ls",
        "memleak-record -p 1 -c ls",
        "memleak-record -c ls -- ls",
    ] {
        let (code, text) = refusal(line);
        assert!(code == 2 && text.contains("cannot be used with"), "{text}");
    }
    assert_eq!(record("memleak-record -p 1").command, None);
}

/// The kernel, asked for or by naming no process; a pid chooses then whose allocations.
#[test]
fn kernel() {
    let bare = record("memleak-record").kernel.unwrap();
    assert!(!bare.percpu && bare.stacks && !bare.choice.is_made());
    assert_eq!(record("memleak-record -p 12").kernel, None);
    let options = record(
        "memleak-record --kernel -p 12 -P --comm find --cgroup /sys/fs/cgroup/a --no-kernel-stacks",
    );
    let kernel = options.kernel.unwrap();
    assert!(kernel.percpu && !kernel.stacks);
    assert_eq!(kernel.choice.pids, [12]);
    assert_eq!(kernel.choice.comm.as_deref(), Some("find"));
    assert_eq!(
        kernel.choice.cgroup,
        Some(PathBuf::from("/sys/fs/cgroup/a"))
    );
}

/// The kernel beside programs: chosen by the processes that are recorded, whichever they are.
#[test]
fn with_kernel() {
    assert_eq!(record("memleak-record -p 12").with_kernel, None);
    for line in [
        "memleak-record -p 12,13 --with-kernel -P",
        "memleak-record --with-kernel -P --follow -- ls",
    ] {
        let options = record(line);
        assert_eq!(options.kernel, None, "{line}");
        let kernel = options.with_kernel.unwrap();
        assert!(kernel.percpu && kernel.stacks && kernel.choice.recorded);
        assert!(kernel.choice.pids.is_empty(), "{line}");
    }
}

/// Several processes, each once, in both spellings.
#[test]
fn several_processes() {
    let options = record("memleak-record -p 12,13 -p 12 --pid=14");
    assert_eq!(options.pids, [12, 13, 14]);
    let many: Vec<String> = (1..=65).map(|pid| pid.to_string()).collect();
    let (code, text) = refusal(&format!("memleak-record -p {}", many.join(",")));
    assert!(code == 2 && text.contains("at most 64"), "{text}");
}

/// What to probe is told by object, prefix and pool.
#[test]
fn wishes() {
    let options = record("memleak-record -p 1");
    assert_eq!(options.wishes, Wishes::default());
    let options = record(
        "memleak-record -p 1 -O libx.so --obj /a/b -S my_ --probe a(size=1):f(ptr=1)@x.so --probe g(bytes=8)",
    );
    assert_eq!(options.wishes.objects, ["libx.so", "/a/b"]);
    assert_eq!(options.wishes.prefix.as_deref(), Some("my_"));
    assert_eq!(options.wishes.pools.len(), 2);
    assert_eq!(options.wishes.pools[0].object.as_deref(), Some("x.so"));
    let (code, text) = refusal("memleak-record -p 1 --probe pool_alloc");
    assert!(
        code == 2 && text.contains("such as pool_alloc(size=2)"),
        "{text}"
    );
}

/// The kernel refuses a ring that is no power of two, less than a page, or past 32 bits.
#[test]
fn ring_sizes() {
    assert_eq!(parse_ring_size("64MiB"), Ok(64 << 20));
    assert_eq!(parse_ring_size("2GiB"), Ok(1 << 31));
    for text in ["0", "2048", "3MiB", "4GiB"] {
        assert!(parse_ring_size(text).is_err(), "{text}");
    }
}

/// memleak's limits are accepted and answered.
#[test]
fn memleak_options_are_answered() {
    let options = record("memleak-record -p 1 -F --stack-storage-size 99 --perf-max-stack-depth=9");
    assert_eq!(options.remarks.len(), 3);
    assert!(options.remarks[0].starts_with("--wa-missing-free is always on"));
}

/// Wrong usage exits 2 and says what to do; help exits 0 and has examples.
#[test]
fn refusals() {
    for (line, words) in [
        ("memleak-record -p 1 --percpu", "add --kernel"),
        ("memleak-record --with-kernel", "beside a process"),
        (
            "memleak-record --with-kernel --kernel -p 1",
            "cannot be used with",
        ),
        (
            "memleak-record -p 1 --with-kernel --estimate",
            "cannot be used with",
        ),
        (
            "memleak-record -p 1 --with-kernel --comm a",
            "leave them out",
        ),
        (
            "memleak-record -p 1 --with-kernel --on-overflow pause",
            "cannot be stopped",
        ),
        ("memleak-record --kernel -- ls", "starts no command"),
        ("memleak-record --kernel -p 1 -c ls", "cannot be used with"),
        ("memleak-record --kernel -c ls", "starts no command"),
        ("memleak-record --kernel -z 1k", "has no --min-size (-z):"),
        ("memleak-record --kernel -Z 1k", "has no --max-size (-Z):"),
        (
            "memleak-record --kernel -s 10",
            "has no --sample-rate (-s):",
        ),
        (
            "memleak-record --kernel --sample-bytes 1k",
            "has no --sample-bytes:",
        ),
        (
            "memleak-record --kernel --tracked-blocks 100",
            "has no --tracked-blocks:",
        ),
        (
            "memleak-record --kernel --estimate",
            "has no --estimate: leave that out",
        ),
        ("memleak-record --kernel -t", "has no --trace (-t):"),
        ("memleak-record --kernel --follow", "has no --follow:"),
        (
            "memleak-record --kernel --force-seccomp",
            "has no --force-seccomp:",
        ),
        (
            "memleak-record --kernel -p 12 -t --follow -z 1k",
            "has no --trace (-t), --follow, --min-size (-z):",
        ),
        ("memleak-record --follow", "record a process with -p PID"),
        (
            "memleak-record --kernel --on-overflow pause",
            "cannot be stopped",
        ),
        ("memleak-record --comm 1234567890123456", "15 bytes"),
        ("memleak-record -p 0", "0 is not in 1.."),
        ("memleak-record -p x", "invalid digit"),
        ("memleak-record -p 1 -o -", "not a stream"),
        ("memleak-record -p 1 --duration 30", "500ms, 30s"),
        ("memleak-record -p 1 --ring-size 3MiB", "power of two"),
        (
            "memleak-record -p 1 --ring-size 64KiB --on-overflow pause",
            "at least 128.0 KiB",
        ),
        (
            "memleak-record -p 1 --on-overflow wait",
            "drop, pause, abort",
        ),
        ("memleak-record -p 1 --rotate-size 1KiB", "at least 64KiB"),
        ("memleak-record -p 1 --rotate-time 10ms", "at least 1s"),
        ("memleak-record -p 1 -z 2k -Z 1k", "exchange --min-size"),
        ("memleak-record -p 1 -s 0", "0 is not in 1.."),
        ("memleak-record -p 1 --sample-bytes 2G", "1 byte to 1GiB"),
        (
            "memleak-record -p 1 -s 5 --sample-bytes 1k",
            "cannot be used with",
        ),
    ] {
        let (code, text) = refusal(line);
        assert_eq!(code, 2, "{line}");
        assert!(text.contains(words), "{line}: {text}");
    }
    let (code, text) = refusal("memleak-record --help");
    assert_eq!(code, 0);
    assert!(text.contains("EXAMPLES") && text.contains("--duration"));
}

/// The manual page and each shell's completions name the options.
#[test]
fn documents() {
    for (name, document) in [
        ("man", Document::Man),
        ("bash", Document::Bash),
        ("zsh", Document::Zsh),
        ("fish", Document::Fish),
    ] {
        let line = format!("memleak-record --generate {name}");
        assert_eq!(
            parse(line.split(' ')).ok(),
            Some(Request::Generate(document))
        );
        let mut text = Vec::new();
        generate(document, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("duration"), "{name}: {text}");
    }
}
