//! The programs whose stacks are taken: started, ready, and told to work.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

/// A program that waits for its work; killed when dropped.
pub struct Program {
    child: Child,
    stdin: Option<ChildStdin>,
    /// What it works on.
    input: Vec<u8>,
    load: Option<Command>,
}

impl Program {
    /// Starts a program that says `ready` on stdout when its libraries are open, then reads `input`.
    fn start(command: &mut Command, first: &str, input: String) -> Program {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}; make setup installs it"));
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(first.as_bytes()).unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while line != "ready\n" {
            line.clear();
            assert_ne!(lines.read_line(&mut line).unwrap(), 0, "{command:?} ended");
        }
        // What else it says, nobody reads; a full pipe must not stop it.
        std::thread::spawn(move || lines.lines().for_each(drop));
        Program {
            child,
            stdin: Some(stdin),
            input: input.into_bytes(),
            load: None,
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Path of its file.
    pub fn executable(&self) -> String {
        let link = format!("/proc/{}/exe", self.pid());
        fs::read_link(link).unwrap().display().to_string()
    }

    /// Makes it work, until it is dropped.
    pub fn work(&mut self) -> Working {
        if let (Some(mut stdin), input) = (self.stdin.take(), std::mem::take(&mut self.input)) {
            std::thread::spawn(move || {
                // It ends when the program is killed.
                while !input.is_empty() && stdin.write_all(&input).is_ok() {}
            });
        }
        Working(self.load.as_mut().map(|load| load.spawn().unwrap()))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program that makes another one work; killed when dropped.
pub struct Working(Option<Child>);

impl Drop for Working {
    fn drop(&mut self) {
        if let Some(load) = &mut self.0 {
            let _ = load.kill();
            let _ = load.wait();
        }
    }
}

/// Debian's sqlite3: tables, indices, sorting, recursion, JSON.
pub fn sqlite3() -> Program {
    let input = "
        DROP TABLE IF EXISTS t; CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT, c REAL);
        WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 300)
          INSERT INTO t SELECT x, printf('%064d', x * 7919 % 300), x / 3.0 FROM n;
        CREATE INDEX i ON t(b, c);
        SELECT count(*), group_concat(b) FROM t GROUP BY a % 7 ORDER BY c DESC;
        SELECT json_group_array(json_object('a', a, 'b', b)) FROM t WHERE b LIKE '%9%';
        SELECT a, sum(c) OVER (PARTITION BY a % 5 ORDER BY b) FROM t ORDER BY b;
        CREATE VIEW v AS SELECT * FROM t WHERE a IN (SELECT max(a) FROM t GROUP BY substr(b, 60));
        SELECT (SELECT count(*) FROM v), upper(b) FROM v UNION SELECT 1, 2; DROP VIEW v;
        BEGIN; UPDATE t SET b = b || a WHERE a % 3; DELETE FROM t WHERE a % 2; ROLLBACK;
        ";
    let mut command = Command::new("sqlite3");
    Program::start(command.arg(":memory:"), ".print ready\n", input.to_owned())
}

/// Debian's python3, with every object from malloc.
pub fn python3() -> Program {
    const SOURCE: &str = "
import json, re, sys, threading, decimal, hashlib, collections, datetime
class Tree:
    def __init__(self, depth): self.inner = [Tree(depth - 1) for _ in range(2)] if depth else []
    def __repr__(self): return 'Tree(' + ', '.join(repr(i) for i in self.inner) + ')'
def fall(n): return [n] + fall(n - 1) if n else sorted({str(i): i for i in range(9)}, key=lambda s: s[::-1])
def work():
    while True:
        json.loads(json.dumps({str(i): [i, 2.5 * i, None, 'x' * i] for i in range(50)}, indent=1))
        re.compile('(a|b)*c[%d]' % 7); re.purge(); re.findall(r'(\\w+)\\s(\\d+)', 'word 12 ' * 20)
        repr(Tree(5)); fall(20); decimal.Decimal(2).sqrt(); hashlib.sha256(b'x').hexdigest()
        exec(compile('x = [i * i for i in range(20)]; y = {i: str(i) for i in x}', 'made', 'exec'), {})
        collections.Counter('abracadabra').most_common(); datetime.datetime.now().isoformat()
        try: fall('text')
        except TypeError as error: str(error)
print('ready', flush=True)
sys.stdin.readline()
threading.Thread(target=work, daemon=True).start()
work()
";
    let mut command = Command::new("python3");
    command.args(["-c", SOURCE]).env("PYTHONMALLOC", "malloc");
    Program::start(&mut command, "", "go\n".to_owned())
}

/// Debian's redis-server, whose allocator is jemalloc, under redis-benchmark.
pub fn redis() -> Program {
    let socket = directory("redis").join("socket");
    let mut server = Command::new("redis-server")
        .args(["--port", "0", "--save", "", "--daemonize", "no"])
        .args(["--unixsocket".as_ref(), socket.as_os_str()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("redis-server: {error}; make setup installs it"));
    for _ in 0..200 {
        if std::os::unix::net::UnixStream::connect(&socket).is_ok() {
            break;
        }
        assert!(server.try_wait().unwrap().is_none(), "redis-server ended");
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut load = Command::new("redis-benchmark");
    load.arg("-s").arg(&socket);
    load.args([
        "-q", "-l", "-n", "20000", "-c", "20", "-r", "5000", "-d", "100",
    ]);
    load.args(["-t", "set,get,lpush,rpop,sadd,hset,zadd,lrange_100,mset"]);
    load.stdout(Stdio::null()).stderr(Stdio::null());
    Program {
        child: server,
        stdin: None,
        input: Vec::new(),
        load: Some(load),
    }
}

/// A program of `source`, a file beside this one, built by `compiler` and started with `arguments`.
pub fn built(name: &str, source: &str, compiler: &[&str], arguments: &[&str]) -> Program {
    let program = directory(name).join("program");
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/unwind")
        .join(source);
    let status = Command::new(compiler[0])
        .args(&compiler[1..])
        .arg(source)
        .arg("-o")
        .arg(&program)
        .status()
        .unwrap_or_else(|error| panic!("{}: {error}; make setup installs it", compiler[0]));
    assert!(status.success(), "{compiler:?}");
    Program::start(Command::new(program).args(arguments), "", "go\n".to_owned())
}

/// An empty directory for a program.
fn directory(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("unwind-{name}"));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}
