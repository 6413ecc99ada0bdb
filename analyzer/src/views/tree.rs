//! `tree`: the call tree, from the outermost function down, or inverted from the allocating one up.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::io::Write;

use super::scaled::Cells;
use super::stacks::{Stacks, domain_of};
use super::table::{Column, Estimated, TableWriter, Unit, Value};
use super::top::Rank;
use super::totals::{Totals, replay_totals};
use super::{Request, since};
use crate::cli::Format;
use crate::replay::Replay;
use crate::report::Frame;
use crate::units::{show_count, show_duration};

/// What is shown of the tree.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// From the allocating function to the outermost one.
    pub inverted: bool,
    /// At most so many levels below the domain.
    pub depth: Option<u32>,
    /// Nodes below this share of their domain are left out.
    pub min_share: f64,
    pub rank: Rank,
}

/// A function in its callers (inverted: its callees).
#[derive(Debug, Default)]
struct Node {
    name: String,
    module: Option<String>,
    children: HashMap<(String, Option<String>), usize>,
    /// With everything below.
    inclusive: Totals,
    /// Of allocations whose stack ends here.
    own: Totals,
}

/// The nodes; a root per domain.
#[derive(Debug, Default)]
struct Tree {
    nodes: Vec<Node>,
    roots: Vec<usize>,
}

impl Tree {
    fn new_node(&mut self, name: String, module: Option<String>) -> usize {
        self.nodes.push(Node {
            name,
            module,
            ..Node::default()
        });
        self.nodes.len() - 1
    }

    fn root(&mut self, domain: &str) -> usize {
        let known = self.roots.iter().copied();
        if let Some(root) = known
            .into_iter()
            .find(|root| self.nodes[*root].name == domain)
        {
            return root;
        }
        let root = self.new_node(domain.to_owned(), None);
        self.roots.push(root);
        root
    }

    /// Adds the figures of a stack along its path from the root.
    fn add<'a>(&mut self, domain: &str, path: impl Iterator<Item = &'a Frame>, totals: &Totals) {
        let mut at = self.root(domain);
        self.nodes[at].inclusive.add(totals);
        for frame in path {
            let key = (frame.name(), frame.module.clone());
            at = match self.nodes[at].children.get(&key) {
                Some(child) => *child,
                None => {
                    let child = self.new_node(key.0.clone(), key.1.clone());
                    self.nodes[at].children.insert(key, child);
                    child
                }
            };
            self.nodes[at].inclusive.add(totals);
        }
        self.nodes[at].own.add(totals);
    }

    /// Children, largest first.
    fn children(&self, node: usize, rank: Rank) -> Vec<usize> {
        let mut children: Vec<usize> = self.nodes[node].children.values().copied().collect();
        children.sort_by_key(|child| (Reverse(rank.of(&self.nodes[*child].inclusive)), *child));
        children
    }
}

const COLUMNS: [Column; 11] = [
    ("id", Unit::Number),
    ("parent", Unit::Number),
    ("depth", Unit::Number),
    ("bytes", Unit::Bytes),
    ("count", Unit::Count),
    ("total_bytes", Unit::Bytes),
    ("total_count", Unit::Count),
    ("own_bytes", Unit::Bytes),
    ("own_count", Unit::Count),
    ("module", Unit::Word),
    ("function", Unit::Text),
];

/// As text there is one of them, the one that is ranked.
const ESTIMATED: &[&str] = &[
    "bytes",
    "count",
    "total_bytes",
    "total_count",
    "own_bytes",
    "own_count",
];

/// Runs the view.
pub fn run(request: &Request, shape: Shape, out: &mut dyn Write) -> anyhow::Result<()> {
    let replayed = replay_totals(request, &request.trace)?;
    let analysis = &replayed.analysis;
    let sites = analysis.replay.sites().as_slice();
    let mut stacks = Stacks::new(analysis);
    let mut tree = Tree::default();
    for (site, totals) in replayed.observer.iter() {
        let site = &sites[site as usize];
        let frames = stacks.frames(site.stack);
        let domain = domain_of(site);
        if shape.inverted {
            tree.add(domain, frames.iter(), totals);
        } else {
            tree.add(domain, frames.iter().rev(), totals);
        }
    }
    let direction = if shape.inverted {
        "from the allocating function up"
    } else {
        "from the outermost function down"
    };
    let start = analysis.recording.start();
    let title = format!(
        "call tree {direction}: outstanding {} after the start, and in all",
        show_duration(since(start, analysis.at))
    );
    let mut head = replayed.head(request, "tree", title);
    let text = request.format == Format::Text;
    let text_columns = [
        shape.rank.column(),
        ("share", Unit::Share),
        ("function", Unit::Text),
    ];
    let columns: &[Column] = if text { &text_columns } else { &COLUMNS };
    let replay = &analysis.replay;
    head.estimated = Estimated::of(replay, ESTIMATED, ESTIMATED.len());
    let mut table = TableWriter::begin(request.format, &head, columns, out)?;
    // Among each other domains stand by name, as everywhere.
    tree.roots
        .sort_by_key(|root| tree.nodes[*root].name.clone());
    for root in &tree.roots {
        // Depth first, without recursion: a stack can be deep.
        let mut open = vec![(*root, None, 0u32)];
        while let Some((id, parent, depth)) = open.pop() {
            let node = &tree.nodes[id];
            if text {
                table.row(&text_row(&tree, *root, id, depth, shape.rank, replay))?;
            } else {
                table.row(&row(node, id, parent, depth, replay))?;
            }
            if shape.depth.is_some_and(|limit| depth >= limit) {
                continue;
            }
            let whole = shape.rank.of(&tree.nodes[*root].inclusive) as f64;
            let shown = tree.children(id, shape.rank).into_iter().filter(|child| {
                let inclusive = &tree.nodes[*child].inclusive;
                shape.rank.of(inclusive) as f64 >= whole * shape.min_share
                    && request.large_enough(inclusive.held.bytes.rounded())
            });
            let shown: Vec<usize> = shown.collect();
            open.extend(
                shown
                    .into_iter()
                    .rev()
                    .map(|child| (child, Some(id), depth + 1)),
            );
        }
    }
    table.finish()
}

fn row(node: &Node, id: usize, parent: Option<usize>, depth: u32, replay: &Replay) -> Vec<Value> {
    let cells = Cells::new(replay, node.inclusive.all.sizes);
    let mut row: Vec<Value> = vec![
        (id as u64).into(),
        parent.map(|parent| parent as u64).into(),
        u64::from(depth).into(),
    ];
    for amount in [&node.inclusive.held, &node.inclusive.all, &node.own.held] {
        row.extend(cells.pair(amount));
    }
    row.extend([node.module.clone().into(), node.name.clone().into()]);
    row
}

/// The ranked figure, its share of the domain, and the function under its parent.
fn text_row(
    tree: &Tree,
    root: usize,
    id: usize,
    depth: u32,
    rank: Rank,
    replay: &Replay,
) -> Vec<Value> {
    let node = &tree.nodes[id];
    let figure = rank.of(&node.inclusive);
    let whole = rank.of(&tree.nodes[root].inclusive).max(1);
    let module = node
        .module
        .as_deref()
        .map(|module| match module.starts_with('[') {
            true => format!(" {module}"),
            false => format!(" [{module}]"),
        })
        .unwrap_or_default();
    let outstanding = node.inclusive.held.count.rounded();
    let name = format!(
        "{}{}{module} ({} outstanding)",
        "  ".repeat(depth as usize),
        node.name,
        show_count(outstanding)
    );
    let cells = Cells::new(replay, node.inclusive.all.sizes);
    vec![
        rank.cell(&node.inclusive, &cells),
        (figure as f64 / whole as f64).into(),
        name.into(),
    ]
}

/// Writes a line per stack, outermost function first, and its figure: what flame graph programs read.
pub fn run_folded(request: &Request, rank: Rank, out: &mut dyn Write) -> anyhow::Result<()> {
    let replayed = replay_totals(request, &request.trace)?;
    let sites = replayed.analysis.replay.sites().as_slice();
    let mut stacks = Stacks::new(&replayed.analysis);
    let mut lines: HashMap<String, u64> = HashMap::new();
    for (site, totals) in replayed.observer.iter() {
        let site = &sites[site as usize];
        // A semicolon separates frames, so it must not be in a name.
        let mut names = vec![domain_of(site).to_owned()];
        let frames = stacks.frames(site.stack);
        names.extend(
            frames
                .iter()
                .rev()
                .map(|frame| frame.name().replace(';', ":")),
        );
        names.push(site.op.name().to_owned());
        *lines.entry(names.join(";")).or_default() += rank.of(totals);
    }
    let mut lines: Vec<_> = lines
        .into_iter()
        .filter(|(_, figure)| *figure > 0)
        .collect();
    lines.sort_unstable();
    for (stack, figure) in lines {
        writeln!(out, "{stack} {figure}")?;
    }
    Ok(())
}
