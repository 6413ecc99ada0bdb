//! Where a stack allocates, in a line: its first functions that are neither the allocator's, nor the
//! runtime's, nor wrappers around them, each followed by its caller up to the next one that is.

use super::Frame;

/// Modules that allocate for whoever calls them, by how their names begin.
const RUNTIME: [&str; 11] = [
    "libc.so",
    "libc-",
    "ld-linux",
    "ld-musl",
    "libpthread",
    "libstdc++",
    "libc++",
    "libgcc_s",
    "libjemalloc",
    "libtcmalloc",
    "libmimalloc",
];
/// Functions that do, by how their names begin; so does whatever has `alloc` in its name.
const WRAPPERS: [&str; 5] = ["operator new", "std::", "__gnu_cxx::", "strdup", "xstrdup"];

const BETWEEN: &str = " < ";
/// A name that would be cut to fewer characters is left out instead.
const SHORTEST: usize = 12;

/// As many names as `width` characters hold, at least the first, cut if it must be.
pub fn place(frames: &[Frame], width: usize) -> String {
    let Some(first) = frames.first() else {
        return shorten("(the stack is not in the trace)", width);
    };
    let own = frames.iter().position(|frame| !is_wrapper(frame));
    let shown = own.map_or(std::slice::from_ref(first), |own| &frames[own..]);
    let mut line = String::new();
    let mut left = width;
    for frame in shown {
        if !line.is_empty() && is_runtime(frame) {
            break;
        }
        let name = without_arguments(frame.name());
        let between = if line.is_empty() { "" } else { BETWEEN };
        let room = left.saturating_sub(between.len());
        let length = name.chars().count();
        if length > room && !line.is_empty() && room < SHORTEST {
            break;
        }
        line += between;
        line += &shorten(&name, room);
        if length > room {
            break;
        }
        left = room - length;
    }
    line
}

fn is_runtime(frame: &Frame) -> bool {
    let module = frame.module.as_deref().unwrap_or_default();
    RUNTIME.iter().any(|begin| module.starts_with(begin))
}

fn is_wrapper(frame: &Frame) -> bool {
    let function = frame.function.as_deref().unwrap_or_default();
    is_runtime(frame)
        || WRAPPERS.iter().any(|begin| function.starts_with(begin))
        || function.to_lowercase().contains("alloc")
}

/// `grow(int)` without what is in the last brackets.
fn without_arguments(name: String) -> String {
    let Some(end) = name.rfind(')').filter(|_| !name.ends_with('>')) else {
        return name;
    };
    let mut open = 0;
    for (at, character) in name[..=end].char_indices().rev() {
        match character {
            ')' => open += 1,
            '(' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return match at {
                0 => name,
                _ => name[..at].to_owned(),
            };
        }
    }
    name
}

fn shorten(name: &str, width: usize) -> String {
    if name.chars().count() <= width {
        return name.to_owned();
    }
    let kept = name.chars().take(width.saturating_sub(1));
    kept.chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(functions: &[(&str, &str)]) -> Vec<Frame> {
        let frames = functions.iter().map(|(function, module)| Frame {
            function: Some((*function).to_owned()),
            module: Some((*module).to_owned()),
            ..Frame::default()
        });
        frames.collect()
    }

    /// Wrappers are passed over, callers follow as far as there is room, and long names are cut.
    #[test]
    fn first_functions_of_ones_own() {
        let redis = stack(&[
            ("zmalloc_usable", "redis"),
            ("_sdsnewlen", "redis"),
            ("createStringObject", "redis"),
            ("main", "redis"),
            ("__libc_start_main", "libc.so.6"),
        ]);
        let all = "_sdsnewlen < createStringObject < main";
        assert_eq!(place(&redis, 80), all);
        assert_eq!(place(&redis, all.len()), all);
        assert_eq!(
            place(&redis, all.len() - 1),
            "_sdsnewlen < createStringObject"
        );
        assert_eq!(place(&redis, 27), "_sdsnewlen < createStringO…");
        assert_eq!(place(&redis, 22), "_sdsnewlen");
        assert_eq!(place(&redis, 6), "_sdsn…");
    }

    /// C++: the program's function behind `new` and containers, without its arguments.
    #[test]
    fn arguments_are_left_out() {
        let cxx = stack(&[
            ("operator new(unsigned long)", "libstdc++.so.6"),
            ("std::vector<int>::push_back(int const&)", "app"),
            ("Table::add(std::pair<int, void (*)(int)>) const", "app"),
            ("(anonymous namespace)::run()", "app"),
        ]);
        assert_eq!(place(&cxx, 80), "Table::add < (anonymous namespace)::run");
    }

    /// A stack of nothing but wrappers shows its first; an unknown one says so.
    #[test]
    fn nothing_of_ones_own() {
        let libc = stack(&[("__libc_start", "libc.so.6"), ("_dl_start", "ld-linux.so")]);
        assert_eq!(place(&libc, 80), "__libc_start");
        assert_eq!(place(&[], 80), "(the stack is not in the trace)");
    }
}
