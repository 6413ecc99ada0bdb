//! The boundary around other people's decoders, which are not proof against every input.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs a decoder over bytes that may be anything: a panic in there is malformed input. A checksum
/// does not help, it can be forged. Nothing is printed of such a panic; of others as usual.
pub(crate) fn guarded<T>(decode: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |panic| {
            if !GUARDED.get() {
                usual(panic);
            }
        }));
    });
    let within = GUARDED.replace(true);
    let decoded = catch_unwind(AssertUnwindSafe(decode));
    GUARDED.set(within);
    decoded.unwrap_or_else(|_| Err("its bytes make no sense".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A panic becomes an error, and results pass through.
    #[test]
    fn panics_are_errors() {
        assert_eq!(guarded(|| Ok(7)), Ok(7));
        assert_eq!(guarded::<()>(|| Err("no".into())), Err("no".into()));
        let index = std::hint::black_box(3);
        let found = guarded(|| Ok([1, 2][index]));
        assert_eq!(found, Err("its bytes make no sense".into()));
    }
}
