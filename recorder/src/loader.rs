//! The loader's own function that tells debuggers, and us, that libraries were opened or closed.
//!
//! glibc and musl call `_dl_debug_state` when the mappings of what is opened are in place, and
//! before any of its code runs; at a program's start likewise, when all its libraries are mapped.

use object::ReadRef;

use crate::elf::Elf;

/// The function, exported by the loader for debuggers.
pub const DEBUG_STATE: &str = "_dl_debug_state";

/// The structure whose member says why it is called; musl keeps it to itself.
const DEBUG: &str = "_r_debug";

/// Where `int r_state` lies in glibc's `struct r_debug`.
const STATE: i64 = 24;

/// Where to learn of libraries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Of `_dl_debug_state`, in the loader's file.
    pub file_offset: u64,
    /// Bytes from there, in memory, to the number that says why it is called (0: the mappings are
    /// complete). `None` where it is not known.
    pub state_distance: Option<i64>,
}

/// The hook of a file; `None` if it is no loader.
pub fn hook<'data, R: ReadRef<'data>>(elf: &Elf<'data, R>) -> Option<Hook> {
    let address = elf.exported_address(DEBUG_STATE)?;
    let state = elf
        .exported_address(DEBUG)
        .map(|debug| debug as i64 + STATE - address as i64);
    Some(Hook {
        file_offset: elf.file_offset(address)?,
        state_distance: state,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::maps;

    /// This very process has a loader; its state says now that the mappings are complete.
    #[test]
    fn own_loader() {
        let mappings = maps::read(std::process::id() as i32).unwrap();
        let found = mappings
            .iter()
            .filter(|mapping| mapping.executable && mapping.has_file());
        let (mapping, hook) = found
            .filter_map(|mapping| {
                let bytes = std::fs::read(&mapping.path).ok()?;
                Some((mapping, hook(&Elf::parse(&bytes[..]).ok()?)?))
            })
            .next()
            .unwrap();
        assert!(
            mapping.path.to_string_lossy().contains("ld-"),
            "{mapping:?}"
        );
        let function = mapping.start + (hook.file_offset - mapping.file_offset);
        let state = function.wrapping_add_signed(hook.state_distance.unwrap());
        // SAFETY: the loader's r_debug of this process, an int in readable memory.
        assert_eq!(unsafe { *(state as *const i32) }, 0);
    }

    /// A program is no loader.
    #[test]
    fn no_loader() {
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(hook(&Elf::parse(&program[..]).unwrap()), None);
    }
}
