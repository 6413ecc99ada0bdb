//! Allocates from everywhere: recursion, containers, closures, trait objects, panics that are
//! caught, threads. Compiled by the test with plain rustc.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;

enum Tree {
    Leaf(String),
    Node(Vec<Tree>),
}

#[inline(never)]
fn grow(depth: usize) -> Tree {
    match depth {
        0 => Tree::Leaf(format!("leaf of {depth}")),
        _ => Tree::Node((0..2).map(|_| grow(depth - 1)).collect()),
    }
}

#[inline(never)]
fn walk(tree: &Tree, path: &mut Vec<String>) -> usize {
    match tree {
        Tree::Leaf(name) => path.join("/").len() + name.len(),
        Tree::Node(branches) => {
            path.push("branch".to_owned());
            let sum = branches.iter().map(|branch| walk(branch, path)).sum();
            path.pop();
            sum
        }
    }
}

struct Witness(usize);

impl Drop for Witness {
    fn drop(&mut self) {
        drop(std::hint::black_box(vec![1u8; 10 + self.0]));
    }
}

#[inline(never)]
fn fall(depth: usize) -> usize {
    let witness = Witness(depth);
    if depth == 0 {
        panic!("the bottom, {}", witness.0);
    }
    fall(depth - 1) + witness.0
}

fn round(number: usize) {
    let tree = grow(number % 7);
    std::hint::black_box(walk(&tree, &mut Vec::new()));
    let mut counted: HashMap<String, usize> = HashMap::new();
    let mut sorted: BTreeMap<String, Box<dyn Fn(usize) -> String>> = BTreeMap::new();
    for i in 0..40 {
        *counted.entry(format!("key {}", i % 13)).or_default() += 1;
        sorted.insert(format!("{i:?}"), Box::new(move |j| format!("{i} and {j}")));
    }
    let mut texts: Vec<String> = sorted.values().map(|make| make(number)).collect();
    texts.sort_by_key(|text| text.chars().rev().collect::<String>());
    if number % 4 == 0 {
        let _ = std::panic::catch_unwind(|| fall(number % 11));
    }
}

fn main() {
    std::panic::set_hook(Box::new(|_| {}));
    println!("ready");
    std::io::stdout().flush().unwrap();
    let mut line = String::new();
    if std::io::stdin().read_line(&mut line).unwrap() == 0 {
        return;
    }
    std::thread::spawn(|| (0..).for_each(round));
    (0..).for_each(round);
}
