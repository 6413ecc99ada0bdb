//! As frames.c: prints `name address` of a place with Rust names, then waits for its end.

use std::io::Write;

mod names {
    #[inline(always)]
    pub fn inner() -> usize {
        let place: usize;
        // SAFETY: reads the address of this very instruction.
        unsafe {
            std::arch::asm!("lea {}, [rip]", out(reg) place);
        }
        std::hint::black_box(place)
    }

    #[inline(never)]
    pub fn place<T: Default>(values: &mut Vec<T>) -> usize {
        let place = inner();
        values.push(T::default());
        place
    }
}

fn main() {
    let place = names::place::<i32>(&mut Vec::new());
    println!("in_place {place:#x}\nready");
    std::io::stdout().flush().expect("a reader");
    loop {
        std::thread::park();
    }
}
