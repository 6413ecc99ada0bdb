//! What a recording of the kernel can and cannot see: sentences for the header and the reports.

use memleak_trace::header::KernelRecording;

use super::places::Places;
use super::table::{Place, Row};
use super::{KernelOptions, machine};

/// What holds of every kernel.
const ALWAYS: [&str; 4] = [
    "blocks that were allocated before the recording began are not in it",
    "pages that are allocated many at a time (vmalloc, page pools of network devices) are not told by the kernel, only their frees are",
    "slab caches get their memory as pages: the same memory is in the domains slab and page, which are never summed",
    "the recorder's own allocations are left out, what the kernel does on its behalf (writeback, workers) is not",
];

/// What holds where programs are probed, too.
const WITH_PROGRAMS: &str = "the probes on programs take a little kernel memory in their name, most of it for the state of each thread (bpf_local_storage)";

/// The header's part on the kernel.
pub fn recording(places: &Places, options: &KernelOptions) -> KernelRecording {
    KernelRecording {
        possible_cpus: machine::possible_cpus(),
        coverage: statement(places.attached(), places.skipped(), options),
    }
}

/// The sentences, for what is probed and what was skipped.
fn statement(probed: &[Row], skipped: &[String], options: &KernelOptions) -> Vec<String> {
    let mut sentences: Vec<String> = ALWAYS.map(str::to_owned).to_vec();
    let functions: Vec<&str> = probed
        .iter()
        .filter(|row| !matches!(row.place, Place::Tracepoint(_)))
        .map(|row| row.place.name())
        .collect();
    if !functions.is_empty() {
        sentences.push(format!(
            "objects that no tracepoint tells are taken from the functions {}",
            functions.join(", ")
        ));
    }
    let is_probed = |program| probed.iter().any(|row| row.program == program);
    if is_probed("on_cache_free_bulk") && !is_probed("on_kfree_rcu") {
        sentences.push(
            "objects freed by kfree_rcu are told when they are really freed, after a grace period"
                .to_owned(),
        );
    }
    if !options.percpu {
        sentences.push("percpu memory was not asked for (--percpu)".to_owned());
    }
    if options.choice.is_made() {
        sentences.push(format!(
            "only allocations {} are recorded, with what interrupts allocated meanwhile; their frees count whoever did them",
            options.choice.words()
        ));
    }
    if options.choice.recorded {
        sentences.push(WITH_PROGRAMS.to_owned());
    }
    sentences.extend(skipped.iter().cloned());
    sentences
}
