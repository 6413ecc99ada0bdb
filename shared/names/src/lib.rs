//! From a place in a file to the function there, its source line, and what was inlined.
//!
//! The recorder names frames while the target lives, the analyzer names them later on another
//! machine; both ask this crate. blazesym is named in [`resolver`] only.
//!
//! - [`image`]: what identifies a file, and where its code lies
//! - [`debug_file`]: where the debug information of a stripped file may be found
//! - [`object`]: a file with its debug information, or the debug information alone
//! - [`resolver`]: the names

pub mod debug_file;
pub mod image;
pub mod object;
pub mod resolver;

pub use image::Image;
pub use object::Object;
pub use resolver::{Name, Resolver};
