//! A program that was started to be asked about.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use memleak_record::modules::Modules;
use memleak_record::symbolize::{Request, Symbolizer};
use memleak_trace::describe::Symbol;
use memleak_trace::stack::EXACT_BIT;
use memleak_trace::{FrameId, SpaceId};

/// A running program, the addresses it printed, and its modules.
pub struct Running {
    pub child: Child,
    addresses: Vec<(String, u64)>,
    pub modules: Modules,
}

pub const SPACE: SpaceId = SpaceId(1);

impl Running {
    pub fn start(program: &Path) -> Running {
        let mut child = Command::new(program)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let addresses = lines
            .map(Result::unwrap)
            .take_while(|line| line != "ready")
            .map(|line| {
                let (name, address) = line.split_once(" 0x").unwrap();
                (name.to_owned(), u64::from_str_radix(address, 16).unwrap())
            })
            .collect();
        let mut modules = Modules::new();
        modules.refresh(child.id() as i32, SPACE).unwrap();
        Running {
            child,
            addresses,
            modules,
        }
    }

    pub fn address(&self, name: &str) -> u64 {
        self.addresses
            .iter()
            .find(|address| address.0 == name)
            .unwrap()
            .1
    }

    /// The request that the recorder would make; `exact` for an address that was executing.
    pub fn request(&self, name: &str, exact: bool) -> Request {
        let address = self.address(name);
        let module = self.modules.at(SPACE, address).unwrap();
        let offset = address - module.start + module.file_offset;
        let file = module.file.unwrap();
        let frame = FrameId::in_file(file, offset).unwrap();
        Request {
            frame: FrameId(if exact { frame.0 | EXACT_BIT } else { frame.0 }),
            address,
            pid: self.child.id() as i32,
            module: Some(module.path.clone()),
            file: self.modules.file(file).cloned(),
        }
    }

    pub fn symbol(&self, name: &str) -> Symbol {
        symbolize(vec![self.request(name, false)]).remove(0)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All rows, in the order of the requests.
pub fn symbolize(requests: Vec<Request>) -> Vec<Symbol> {
    let frames: Vec<FrameId> = requests.iter().map(|request| request.frame).collect();
    let mut symbolizer = Symbolizer::start().unwrap();
    for request in requests {
        symbolizer.ask(request);
    }
    assert_eq!(symbolizer.pending(), frames.len());
    let symbols: Vec<Symbol> = symbolizer.close().into_iter().collect();
    assert_eq!(symbols.len(), frames.len());
    let find = |frame: &FrameId| symbols.iter().find(|symbol| symbol.frame == *frame);
    frames
        .iter()
        .map(|frame| find(frame).unwrap().clone())
        .collect()
}
