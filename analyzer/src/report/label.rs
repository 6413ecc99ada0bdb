//! What the memory of a stack is for, where its own stack says so.

use super::Frame;

/// Mapped by libc for a thread that the program created; a thread that is never joined keeps it.
const THREAD_STACK: &str = "thread stack";

/// Functions that map a thread's stack: the exported name, and those of debug information.
const THREAD_CREATION: [&str; 3] = ["pthread_create", "__pthread_create_2_1", "allocate_stack"];

/// The label of a stack with these frames, leaf first; `None` where there is none.
///
/// Whoever calls mmap decides, not who calls that: a program's own function called by pthread_create
/// is no such caller.
pub fn label(domain: &str, frames: &[Frame]) -> Option<&'static str> {
    let caller = frames.first()?.function.as_deref()?;
    let name = caller.split_once('@').map_or(caller, |(name, _)| name);
    (domain == "mapping" && THREAD_CREATION.contains(&name)).then_some(THREAD_STACK)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mappings that libc made for a thread have the label, the program's own have none.
    #[test]
    fn a_thread_stack_is_known_by_its_caller() {
        let cases = [
            ("mapping", "pthread_create", Some(THREAD_STACK)),
            ("mapping", "pthread_create@@GLIBC_2.34", Some(THREAD_STACK)),
            ("mapping", "allocate_stack", Some(THREAD_STACK)),
            ("mapping", "main", None),
            ("heap", "pthread_create", None),
        ];
        for (domain, function, expected) in cases {
            let frame = Frame {
                function: Some(function.to_owned()),
                ..Frame::default()
            };
            assert_eq!(label(domain, &[frame]), expected, "{domain} {function}");
        }
        assert_eq!(label("mapping", &[]), None);
    }
}
