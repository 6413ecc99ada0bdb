//! Which processes are refused, shown with real ones.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use memleak_record::modules::Modules;
use memleak_record::preflight::machine::KernelVersion;
use memleak_record::preflight::seccomp;
use memleak_record::preflight::target::{self, Error};
use memleak_record::rss;
use memleak_trace::SpaceId;

/// A child that has said on stdout that it is ready.
struct Ready(Child);

impl Ready {
    fn start(name: &str, source: &str, flags: &str) -> Ready {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("program.c"), source).unwrap();
        let compile = format!("cc {flags} program.c -o program");
        let status = Command::new("sh")
            .args(["-ec", &compile])
            .current_dir(&directory)
            .status();
        assert!(status.unwrap().success(), "{compile}");
        let program = directory.join("program");
        let mut child = Command::new(program)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "ready\n");
        Ready(child)
    }

    fn pid(&self) -> i32 {
        self.0.id() as i32
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const WAIT: &str = "#include <stdio.h>\n#include <unistd.h>\n\
                    int main(void) { puts(\"ready\"); fflush(stdout); for (;;) pause(); }\n";

/// An ordinary program is accepted, with what the header tells of it.
#[test]
fn ordinary() {
    let ready = Ready::start("target-ordinary", WAIT, "-O0");
    let found = target::check(ready.pid()).unwrap();
    assert!(found.executable.ends_with("/target-ordinary/program"));
    assert_eq!(found.command.concat(), found.executable);
    assert_eq!(found.ppid, std::process::id() as i32);
}

/// The sections that Go's linker writes give a Go program away.
#[test]
fn go() {
    let source =
        format!("{WAIT}__attribute__((section(\".go.buildinfo\"))) const char info[] = \"x\";\n");
    let ready = Ready::start("target-go", &source, "-O0");
    let error = target::check(ready.pid()).unwrap_err();
    assert!(matches!(error, Error::Go(_)));
    assert!(error.to_string().contains("moves a stack"), "{error}");
}

/// A 32-bit program is refused by the class of its file.
#[test]
fn i386() {
    // No libc of that class is installed: write(1, "ready\n", 6), then pause() for ever.
    let source = "void _start(void) { int r; \
                  __asm__ volatile(\"int $0x80\" : \"=a\"(r) : \"a\"(4), \"b\"(1), \"c\"(\"ready\\n\"), \"d\"(6) : \"memory\"); \
                  for (;;) __asm__ volatile(\"int $0x80\" : \"=a\"(r) : \"a\"(29) : \"memory\"); }\n";
    let ready = Ready::start(
        "target-i386",
        source,
        "-m32 -O1 -nostdlib -static -fno-pic -no-pie",
    );
    assert!(matches!(
        target::check(ready.pid()),
        Err(Error::NotX86_64(_))
    ));
}

/// A process whose first thread has exited is alive: its modules and memory are found.
#[test]
fn leader_has_exited() {
    let source = "#include <pthread.h>\n#include <stdio.h>\n#include <unistd.h>\n\
                  static void *stay(void *leader) { pthread_join(*(pthread_t *)leader, 0); \
                  puts(\"ready\"); fflush(stdout); for (;;) pause(); }\n\
                  static pthread_t leader;\n\
                  int main(void) { pthread_t thread; leader = pthread_self(); \
                  pthread_create(&thread, 0, stay, &leader); pthread_exit(0); }\n";
    let ready = Ready::start("target-leader", source, "-O0 -pthread");
    let pid = ready.pid();
    // The join returns a moment before the kernel calls the leader a zombie.
    while target::living_thread(pid) == Some(pid) {
        std::thread::yield_now();
    }
    let found = target::check(pid).unwrap();
    assert_ne!(found.living_thread, pid);
    assert!(found.executable.ends_with("/target-leader/program"));
    assert_eq!(rss::read(pid), None);
    assert!(rss::read(found.living_thread).unwrap()[0].1 > 0);
    let modules = Modules::new().refresh(pid, SpaceId(1)).unwrap();
    assert!(
        modules
            .iter()
            .any(|module| module.path == found.executable && module.file.is_some())
    );
}

/// A filter on one thread only is found, and matters on the kernels that would kill for it.
#[test]
fn seccomp_filter() {
    let source = "#include <linux/filter.h>\n#include <linux/seccomp.h>\n#include <pthread.h>\n\
                  #include <stdio.h>\n#include <sys/prctl.h>\n#include <unistd.h>\n\
                  static void *filtered(void *x) { \
                  struct sock_filter allow = { BPF_RET, 0, 0, SECCOMP_RET_ALLOW }; \
                  struct sock_fprog program = { 1, &allow }; \
                  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); \
                  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) return 0; \
                  puts(\"ready\"); fflush(stdout); for (;;) pause(); }\n\
                  int main(void) { pthread_t thread; \
                  pthread_create(&thread, 0, filtered, 0); pthread_join(thread, 0); }\n";
    let ready = Ready::start("target-seccomp", source, "-O0 -pthread");
    let check = |pid, release| seccomp::check(pid, KernelVersion::parse(release).unwrap(), release);
    let error = check(ready.pid(), "6.12.13").unwrap_err().to_string();
    assert!(
        error.contains("6.12.13") && error.contains("boot 6.12.14"),
        "{error}"
    );
    assert_eq!(check(ready.pid(), "6.12.14"), Ok(()));
    let unfiltered = Ready::start("target-unfiltered", WAIT, "-O0");
    assert_eq!(check(unfiltered.pid(), "6.12.13"), Ok(()));
}
