//! What reports say of the kernel's memory beside the figures of every domain.

use memleak_trace::Domain;
use serde::Serialize;

use crate::analysis::Analysis;
use crate::replay::KernelSite;
use crate::units::{show_count, show_size};

/// How the kernel was recorded.
#[derive(Clone, Debug, Serialize)]
pub struct KernelTrace {
    pub possible_cpus: u32,
    /// What the recording can and cannot see, a sentence each.
    pub coverage: Vec<String>,
}

/// Of a domain of the kernel.
#[derive(Clone, Debug, Serialize)]
pub struct KernelFigures {
    /// Bytes that what is outstanding takes: slab: of its caches' objects; percpu: on all CPUs.
    pub taken_bytes: u64,
    pub unknown_frees: u64,
    pub implicit_frees: u64,
}

/// Of a stack in the kernel.
#[derive(Clone, Debug, Serialize)]
pub struct KernelStack {
    pub taken_bytes: u64,
    pub caches: Vec<CacheReport>,
    pub comm: Option<String>,
    pub gfp: Option<String>,
}

/// What a stack holds of a slab cache.
#[derive(Clone, Debug, Serialize)]
pub struct CacheReport {
    pub name: String,
    pub bytes: u64,
    pub count: u64,
}

/// How the kernel was recorded; `None` if it was not.
pub fn trace(analysis: &Analysis) -> Option<KernelTrace> {
    let kernel = analysis.header.kernel.as_ref()?;
    Some(KernelTrace {
        possible_cpus: kernel.possible_cpus,
        coverage: kernel.coverage.clone(),
    })
}

/// Of a domain; `None` for those of user space.
pub fn figures(analysis: &Analysis, domain: Domain) -> Option<KernelFigures> {
    let memory = analysis.replay.kernel();
    let anomalies = memory.anomalies(domain);
    domain.is_kernel().then(|| KernelFigures {
        taken_bytes: memory.taken(domain),
        unknown_frees: anomalies.unknown_frees,
        implicit_frees: anomalies.implicit_frees,
    })
}

/// Of a stack whose outstanding allocations take `taken_bytes`.
pub fn stack(site: &KernelSite, taken_bytes: u64) -> KernelStack {
    let caches = site.caches.iter().map(|cache| CacheReport {
        name: cache.name.to_string(),
        bytes: cache.bytes,
        count: cache.count,
    });
    KernelStack {
        taken_bytes,
        caches: caches.collect(),
        comm: site.comm.as_deref().map(str::to_owned),
        gfp: site.gfp.as_deref().map(str::to_owned),
    }
}

/// `4.0 KiB taken, 1.2 KiB of them slack`; empty where there is nothing to say.
pub fn show_taken(domain: &str, bytes: u64, taken: u64) -> String {
    match domain {
        "percpu" if bytes > 0 => format!("{taken} bytes on all CPUs"),
        "slab" if taken > bytes => format!(
            "{} taken, {} of them slack",
            show_size(taken),
            show_size(taken - bytes)
        ),
        _ => String::new(),
    }
}

/// What could not be paired in a domain, with what it means; empty if nothing.
pub fn show_anomalies(domain: &str, figures: &KernelFigures) -> Vec<String> {
    let unknown = match domain {
        "page" => {
            "allocated before recording began, by a task not chosen, or many at a time, which the kernel does not tell"
        }
        _ => {
            "allocated before recording began, by a task not chosen or by the recorder, or freed a second time"
        }
    };
    let words = [
        (figures.unknown_frees, "frees of what is not known", unknown),
        (
            figures.implicit_frees,
            "allocations where something was still live",
            "its free was not seen; the older one was taken for freed",
        ),
    ];
    let met = words.into_iter().filter(|(count, _, _)| *count > 0);
    met.map(|(count, what, meaning)| format!("{domain}: {what}: {} ({meaning})", show_count(count)))
        .collect()
}

/// The pieces of a stack's last line.
pub fn remarks(domain: &str, bytes: u64, pid: i32, kernel: &KernelStack) -> Vec<String> {
    let mut remarks = Vec::new();
    let names: Vec<&str> = kernel
        .caches
        .iter()
        .map(|cache| cache.name.as_str())
        .collect();
    match names.len() {
        0 => {}
        1 => remarks.push(format!("cache {}", names.join(""))),
        _ => remarks.push(format!("caches {}", names.join(", "))),
    }
    remarks.push(show_taken(domain, bytes, kernel.taken_bytes));
    remarks.extend(
        kernel
            .comm
            .as_ref()
            .map(|comm| format!("by {comm} ({pid})")),
    );
    remarks.retain(|remark| !remark.is_empty());
    remarks
}
