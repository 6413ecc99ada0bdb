//! Maps and programs of a loaded object, by their names in `bpf/`.

use aya::maps::{Array, MapData, PerCpuArray, RingBuf};
use aya::programs::{Program, ProgramError};
use aya::{Ebpf, Pod};

use crate::kernel::KernelError;

/// The reading end of a ring; there is one.
pub fn take_ring(ebpf: &mut Ebpf, name: &'static str) -> Result<RingBuf<MapData>, KernelError> {
    let map = ebpf.take_map(name).ok_or(KernelError::Missing(name))?;
    RingBuf::try_from(map).map_err(|source| KernelError::Map { name, source })
}

/// An array that is written from here.
pub fn array<'a, T: Pod>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<Array<&'a mut MapData, T>, KernelError> {
    let map = ebpf.map_mut(name).ok_or(KernelError::Missing(name))?;
    Array::try_from(map).map_err(|source| KernelError::Map { name, source })
}

/// Sets the only number of an array.
pub fn set_number(ebpf: &mut Ebpf, name: &'static str, number: u32) -> Result<(), KernelError> {
    array::<u32>(ebpf, name)?
        .set(0, number, 0)
        .map_err(|source| KernelError::Map { name, source })
}

/// Each entry of an array that every CPU has a copy of, summed over the CPUs.
pub fn sums<T: Pod>(
    ebpf: &Ebpf,
    name: &'static str,
    sum: impl Fn(&[T]) -> T,
) -> Result<Vec<T>, KernelError> {
    let map = ebpf.map(name).ok_or(KernelError::Missing(name))?;
    let read = |map| -> Result<Vec<T>, aya::maps::MapError> {
        let entries = PerCpuArray::<_, T>::try_from(map)?;
        (0..entries.len())
            .map(|index| Ok(sum(&entries.get(&index, 0)?)))
            .collect()
    };
    read(map).map_err(|source| KernelError::Map { name, source })
}

/// The counters of an array, summed over the CPUs.
pub fn counters(ebpf: &Ebpf, name: &'static str) -> Result<Vec<u64>, KernelError> {
    sums(ebpf, name, |cpus: &[u64]| cpus.iter().sum())
}

/// A program of the kind `T`.
pub fn program<'a, T>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut T, KernelError>
where
    &'a mut T: TryFrom<&'a mut Program, Error = ProgramError>,
{
    ebpf.program_mut(name)
        .ok_or(KernelError::Missing(name))?
        .try_into()
        .map_err(|source| KernelError::Program { name, source })
}
