//! `--probe`: the functions of a pool, as the user writes them down.
//!
//! ```text
//! FUNCTION(ROLE=N,…)[:FUNCTION(ROLE=N,…)]…[@OBJECT]
//! ```
//!
//! A role with the number of an argument, from 1: `size` (bytes asked for), `count` (how many of
//! these), `ptr` (the block), `out` (where the block's address is put; the result is 0 then). A function
//! without `ptr` allocates, one with nothing else releases, one with both reallocates. `bytes=N` stands
//! for `size` where every block has the same.

use std::str::FromStr;

use memleak_trace::Op;

use crate::arguments::Arguments;
use crate::functions::{Kind, Shape};

/// Functions of one pool, and the file they are in: its path or its name; any if `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    pub functions: Vec<(String, Kind)>,
    pub object: Option<String>,
}

/// What is wrong with a description.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    #[error(
        "{0:?} is no function with its arguments, such as pool_alloc(size=2) or pool_free(ptr=1)"
    )]
    NoFunction(String),
    #[error(
        "{0:?} is no argument: size=N, count=N, ptr=N and out=N take a number from 1 to 6, bytes=N one from 1 to 65535"
    )]
    NoArgument(String),
    #[error("{0}: count=N needs size=N or bytes=N")]
    CountAlone(String),
    #[error("{0}: size=N and bytes=N say the same")]
    TwoSizes(String),
    #[error("{0}: out=N is for functions that allocate only")]
    OutOfRelease(String),
    #[error("no function allocates: one without ptr=N is needed, such as pool_alloc(size=2)")]
    NoAllocation,
}

impl FromStr for Pool {
    type Err = PoolError;

    fn from_str(text: &str) -> Result<Pool, PoolError> {
        let (functions, object) = match text.rsplit_once('@') {
            // A versioned symbol has a @ before its arguments.
            Some((functions, object)) if functions.contains(')') => {
                (functions, Some(object.trim().to_owned()))
            }
            _ => (text, None),
        };
        let mut rest = functions.trim();
        let mut found = Vec::new();
        loop {
            let no_function = || PoolError::NoFunction(rest.to_owned());
            let (call, behind) = rest.split_once(')').ok_or_else(no_function)?;
            let (name, arguments) = call.split_once('(').ok_or_else(no_function)?;
            let name = name.trim();
            if name.is_empty() {
                return Err(no_function());
            }
            found.push((name.to_owned(), kind(name, arguments)?));
            match behind.trim().strip_prefix(':') {
                Some(next) => rest = next,
                None if behind.trim().is_empty() => break,
                None => return Err(PoolError::NoFunction(behind.trim().to_owned())),
            }
        }
        if !found
            .iter()
            .any(|(_, kind)| kind.shape == Shape::AllocateInPool)
        {
            return Err(PoolError::NoAllocation);
        }
        Ok(Pool {
            functions: found,
            object,
        })
    }
}

fn kind(name: &str, text: &str) -> Result<Kind, PoolError> {
    let mut arguments = Arguments::default();
    for part in text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let wrong = || PoolError::NoArgument(part.to_owned());
        let (role, number) = part.split_once('=').ok_or_else(wrong)?;
        let number: u16 = number.trim().parse().map_err(|_| wrong())?;
        let place = u8::try_from(number)
            .ok()
            .filter(|number| (1..=6).contains(number));
        arguments = match (role.trim(), place) {
            ("size", Some(place)) => arguments.size(place),
            ("count", Some(place)) => arguments.times(place),
            ("ptr", Some(place)) => arguments.ptr(place),
            ("out", Some(place)) => arguments.out(place),
            ("bytes", _) if number > 0 => arguments.bytes(number),
            _ => return Err(wrong()),
        };
    }
    let sized = arguments.has_size();
    if arguments.has_times() && !sized {
        return Err(PoolError::CountAlone(name.to_owned()));
    }
    if arguments.has_two_sizes() {
        return Err(PoolError::TwoSizes(name.to_owned()));
    }
    if arguments.has_ptr() && arguments.has_out() {
        return Err(PoolError::OutOfRelease(name.to_owned()));
    }
    let (op, shape) = match (arguments.has_ptr(), sized) {
        (false, _) => (Op::PoolAlloc, Shape::AllocateInPool),
        (true, false) => (Op::PoolFree, Shape::FreeInPool),
        (true, true) => (Op::PoolRealloc, Shape::ReallocateInPool),
    };
    Ok(Kind {
        op,
        shape,
        arguments,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::{ptr, size};

    fn kinds(text: &str) -> Vec<(String, Op, Arguments)> {
        let pool: Pool = text.parse().unwrap();
        let functions = pool.functions.into_iter();
        functions
            .map(|(name, kind)| (name, kind.op, kind.arguments))
            .collect()
    }

    /// Every role, and what a function with them does.
    #[test]
    fn functions() {
        let own = |name: &str, op, arguments| (name.to_owned(), op, arguments);
        assert_eq!(
            kinds("pool_alloc(size=2):pool_free(ptr=2)"),
            [
                own("pool_alloc", Op::PoolAlloc, size(2)),
                own("pool_free", Op::PoolFree, ptr(2))
            ]
        );
        assert_eq!(
            kinds(" a ( size = 1 , count = 2 ) : r(ptr=1,size=3): f(ptr=1) "),
            [
                own("a", Op::PoolAlloc, size(1).times(2)),
                own("r", Op::PoolRealloc, ptr(1).size(3)),
                own("f", Op::PoolFree, ptr(1))
            ]
        );
        assert_eq!(
            kinds("get(bytes=64)"),
            [own("get", Op::PoolAlloc, Arguments::default().bytes(64))]
        );
        assert_eq!(
            kinds("get()"),
            [own("get", Op::PoolAlloc, Arguments::default())]
        );
    }

    /// The object stands behind the last @.
    #[test]
    fn objects() {
        let pool: Pool = "a(size=1):f(ptr=1)@/opt/my lib.so".parse().unwrap();
        assert_eq!(pool.object.as_deref(), Some("/opt/my lib.so"));
        let pool: Pool = "a@V1(size=1)".parse().unwrap();
        assert_eq!((pool.functions[0].0.as_str(), pool.object), ("a@V1", None));
    }

    /// Each mistake is told with the part that is wrong.
    #[test]
    fn mistakes() {
        for (text, words) in [
            ("pool_alloc", "\"pool_alloc\" is no function"),
            ("", "is no function"),
            ("a(size=1)f(ptr=1)", "\"f(ptr=1)\" is no function"),
            ("a(size=7)", "\"size=7\" is no argument"),
            ("a(length=1)", "\"length=1\" is no argument"),
            ("a(bytes=65536)", "is no argument"),
            ("a(count=1)", "a: count=N needs"),
            ("a(size=1,bytes=8)", "a: size=N and bytes=N"),
            ("f(ptr=1)", "no function allocates"),
            ("f(ptr=1,out=2)", "f: out=N"),
        ] {
            let error = text.parse::<Pool>().unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
