//! Names of code compiled at run time, as compilers write them to `/tmp/perf-PID.map`.

use std::collections::{BTreeMap, HashMap};
use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

use crate::modules::root_of;

/// The perf maps of processes, read as far as they were written when last asked.
#[derive(Debug, Default)]
pub struct PerfMaps {
    maps: HashMap<i32, PerfMap>,
}

#[derive(Debug, Default)]
struct PerfMap {
    /// Bytes of the file that are read.
    read: u64,
    /// Length in bytes and name, by first address. What was written later covers the earlier.
    functions: BTreeMap<u64, (u64, String)>,
}

impl PerfMaps {
    /// The function at an address, and the distance in bytes from its start.
    pub fn find(&mut self, pid: i32, address: u64) -> Option<(String, u64)> {
        let map = self.maps.entry(pid).or_default();
        map.read_on(pid);
        map.find(address)
    }
}

impl PerfMap {
    /// Reads what was appended; keeps what it has if the file is gone.
    fn read_on(&mut self, pid: i32) {
        // By the pid that it has in its container.
        let path = root_of(pid).join(format!("tmp/perf-{}.map", inner_pid(pid)));
        // Anyone may put anything there: follow no link, and do not wait for a pipe's writer.
        let mut options = OpenOptions::new();
        let options = options
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        let Ok(mut file) = options.open(path) else {
            return;
        };
        let mut text = Vec::new();
        if file
            .metadata()
            .is_ok_and(|found| found.is_file() && found.len() > self.read)
            && file.seek(SeekFrom::Start(self.read)).is_ok()
            && file.read_to_end(&mut text).is_ok()
        {
            self.read += self.parse(&text);
        }
    }

    /// `START SIZE name` in hex; returns the bytes of whole lines.
    fn parse(&mut self, text: &[u8]) -> u64 {
        let end = text
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |last| last + 1);
        for line in text[..end].split(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(line);
            let mut fields = line.splitn(3, ' ');
            let mut hex = || u64::from_str_radix(fields.next()?.trim_start_matches("0x"), 16).ok();
            if let (Some(start), Some(size)) = (hex(), hex())
                && let Some(name) = fields.next()
            {
                self.functions.insert(start, (size, name.trim().to_owned()));
            }
        }
        end as u64
    }

    fn find(&self, address: u64) -> Option<(String, u64)> {
        let (start, (size, name)) = self.functions.range(..=address).next_back()?;
        let offset = address - start;
        (offset < *size).then(|| (name.clone(), offset))
    }
}

/// The pid in the process's own namespace, which is what it calls its file by.
fn inner_pid(pid: i32) -> i32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    line.and_then(|pids| pids.split_whitespace().next_back()?.parse().ok())
        .unwrap_or(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names with blanks, prefixed numbers, an unfinished last line, addresses between functions.
    #[test]
    fn lines() {
        let text = b"7f001000 20 LazyCompile:~main a.js:1\nbad line\n0x7f002000 0x10 stub\n7f003000 10 unfin";
        let mut map = PerfMap::default();
        let read = map.parse(text);
        assert_eq!(&text[read as usize..], b"7f003000 10 unfin");
        assert_eq!(
            map.find(0x7f00_101f),
            Some(("LazyCompile:~main a.js:1".to_owned(), 0x1f))
        );
        assert_eq!(map.find(0x7f00_1020), None);
        assert_eq!(map.find(0x7f00_2000), Some(("stub".to_owned(), 0)));
        assert_eq!(map.find(0x7f00_3000), None);
        assert_eq!(map.find(0), None);
    }

    /// What is appended is found, by the pid of this process.
    #[test]
    fn growing_file() {
        let pid = std::process::id() as i32;
        let path = format!("/tmp/perf-{pid}.map");
        let mut maps = PerfMaps::default();
        assert_eq!(maps.find(pid, 0x1000), None);
        std::fs::write(&path, "1000 10 first\n").unwrap();
        assert_eq!(maps.find(pid, 0x1001), Some(("first".to_owned(), 1)));
        std::fs::write(&path, "1000 10 first\n2000 10 second\n").unwrap();
        assert_eq!(maps.find(pid, 0x2000), Some(("second".to_owned(), 0)));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(maps.find(pid, 0x2000), Some(("second".to_owned(), 0)));
    }
}
