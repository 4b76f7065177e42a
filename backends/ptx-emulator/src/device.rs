//! The device: memory between launches, and launches.
//!
//! Invariant: a launch that is refused or faults leaves allocations as they are; what was written before it stays.

use crate::counters::Counters;
use crate::error::DeviceError;
use crate::execute::{Grid, run};
use crate::fault::{Fault, FaultKind};
use crate::memory::Global;
use crate::module::{Kernel, Module};
use crate::tensor_map::TensorMap;
use std::collections::HashMap;

/// An address in device memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub u64);

impl Address {
    /// An address so many bytes further.
    pub fn offset(self, bytes: u64) -> Address {
        Address(self.0.wrapping_add(bytes))
    }
}

/// What a device has, and how much a launch may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of device memory.
    pub memory: u64,
    /// Bytes of shared memory a block, static and dynamic.
    pub shared: u64,
    /// Warp instructions of a launch.
    pub steps: u64,
}

impl Default for Limits {
    /// Those of an H200 for shared memory; a gibibyte, and some minutes of work.
    fn default() -> Self {
        Limits { memory: 1 << 30, shared: 227 << 10, steps: 4_000_000_000 }
    }
}

/// Which checks a launch makes beside those of bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checks {
    /// Bytes that are read before they are written.
    pub uninitialised: bool,
    /// Accesses to shared memory that nothing orders, and missing proxy fences.
    pub races: bool,
}

impl Default for Checks {
    fn default() -> Self {
        Checks { uninitialised: true, races: true }
    }
}

/// How a kernel is launched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: [u32; 3],
    /// Blocks of a cluster.
    pub cluster: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub dynamic_shared: u64,
    /// Draws the order in which warps take turns; 0: each runs until it waits.
    pub seed: u64,
    /// What is checked.
    pub checks: Checks,
}

impl Launch {
    /// Blocks of threads along the first axis, no cluster, no dynamic shared memory.
    pub fn new(blocks: u32, threads: u32) -> Self {
        Launch {
            grid: [blocks, 1, 1],
            block: [threads, 1, 1],
            cluster: [1; 3],
            dynamic_shared: 0,
            seed: 0,
            checks: Checks::default(),
        }
    }
}

/// An argument of a kernel.
#[derive(Clone, Debug, PartialEq)]
pub enum Argument {
    /// An address.
    Address(Address),
    /// An integer of 32 bits.
    U32(u32),
    /// An integer of 64 bits.
    U64(u64),
    /// A float.
    F32(f32),
    /// A float of 64 bits.
    F64(f64),
    /// Bytes as they are.
    Bytes(Vec<u8>),
    /// A tensor map.
    TensorMap(Box<TensorMap>),
}

impl Argument {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Argument::Address(address) => address.0.to_le_bytes().to_vec(),
            Argument::U32(value) => value.to_le_bytes().to_vec(),
            Argument::U64(value) => value.to_le_bytes().to_vec(),
            Argument::F32(value) => value.to_le_bytes().to_vec(),
            Argument::F64(value) => value.to_le_bytes().to_vec(),
            Argument::Bytes(bytes) => bytes.clone(),
            Argument::TensorMap(map) => map.encode().to_vec(),
        }
    }
}

/// A device.
#[derive(Debug)]
pub struct Device {
    limits: Limits,
    memory: Global,
    /// Addresses of the variables of modules.
    symbols: HashMap<u64, Vec<u64>>,
}

impl Device {
    /// A device with nothing in its memory.
    pub fn new(limits: Limits) -> Self {
        Device { limits, memory: Global::new(limits.memory), symbols: HashMap::new() }
    }

    /// Memory that nothing has written, aligned to 256 bytes.
    pub fn allocate(&mut self, bytes: u64) -> Result<Address, DeviceError> {
        self.memory.allocate(bytes, false).map(Address)
    }

    /// Gives an allocation back; its addresses stay errors.
    pub fn free(&mut self, address: Address) -> Result<(), DeviceError> {
        self.memory.free(address.0)
    }

    /// Writes bytes.
    pub fn write(&mut self, address: Address, data: &[u8]) -> Result<(), DeviceError> {
        let bytes = data.len() as u64;
        self.memory
            .write(address.0, data, true)
            .map_err(|_| DeviceError::OutOfBounds { address: address.0, bytes })
    }

    /// Writes one byte many times.
    pub fn fill(&mut self, address: Address, value: u8, bytes: u64) -> Result<(), DeviceError> {
        if !self.memory.holds(address.0, bytes) {
            return Err(DeviceError::OutOfBounds { address: address.0, bytes });
        }
        self.write(address, &vec![value; bytes as usize])
    }

    /// Reads bytes, all of which must have been written.
    pub fn read(&mut self, address: Address, bytes: u64) -> Result<Vec<u8>, DeviceError> {
        if !self.memory.holds(address.0, bytes) {
            return Err(DeviceError::OutOfBounds { address: address.0, bytes });
        }
        let mut out = vec![0; bytes as usize];
        self.memory.check_uninitialised = true;
        match self.memory.read(address.0, &mut out) {
            Ok(()) => Ok(out),
            Err(FaultKind::UninitialisedMemory { address, .. }) => {
                Err(DeviceError::Uninitialised(address))
            }
            Err(_) => Err(DeviceError::OutOfBounds { address: address.0, bytes }),
        }
    }

    /// Puts a module's variables into memory, once.
    fn load(&mut self, module: &Module) -> Result<Vec<u64>, DeviceError> {
        if let Some(addresses) = self.symbols.get(&module.identity) {
            return Ok(addresses.clone());
        }
        let mut addresses = Vec::new();
        for symbol in module.symbols.iter() {
            addresses.push(self.memory.allocate(symbol.size, symbol.constant)?);
        }
        for (symbol, address) in module.symbols.iter().zip(&addresses) {
            // What has no initialiser is zero (PTX ISA, Initializers).
            let mut bytes = symbol.initial.clone().unwrap_or_else(|| vec![0; symbol.size as usize]);
            for relocation in &symbol.relocations {
                let of = module.symbols.iter().position(|s| s.name == relocation.name);
                let value = of.map_or(0, |i| addresses[i].wrapping_add(relocation.addend as u64));
                let at = relocation.offset as usize;
                if let Some(place) = bytes.get_mut(at..at + 8) {
                    place.copy_from_slice(&value.to_le_bytes());
                }
            }
            self.write(Address(*address), &bytes)?;
        }
        self.symbols.insert(module.identity, addresses.clone());
        Ok(addresses)
    }

    /// Where a variable of a module is.
    pub fn symbol(&mut self, module: &Module, name: &str) -> Result<Option<Address>, DeviceError> {
        let addresses = self.load(module)?;
        Ok(module.symbols.iter().position(|s| s.name == name).map(|i| Address(addresses[i])))
    }

    /// Runs a kernel to its end.
    pub fn launch(
        &mut self,
        module: &Module,
        kernel: &str,
        launch: &Launch,
        arguments: &[Argument],
    ) -> Result<Counters, Fault> {
        let refuse = |message: String| Fault {
            kernel: kernel.to_owned(),
            line: 0,
            block: [0; 3],
            thread: [0; 3],
            kind: FaultKind::Launch(message),
        };
        let kernels = module.kernels.clone();
        let Some(found) = kernels.iter().find(|k| k.name == kernel) else {
            return Err(refuse(String::from("the module has no such kernel")));
        };
        let grid = self.grid(found, launch).map_err(refuse)?;
        let parameters = parameters(found, arguments).map_err(refuse)?;
        let symbols = self.load(module).map_err(|e| refuse(e.to_string()))?;
        self.memory.check_uninitialised = launch.checks.uninitialised;
        run(&mut self.memory, found, &grid, &parameters, &symbols)
    }

    fn grid(&self, kernel: &Kernel, launch: &Launch) -> Result<Grid, String> {
        let threads = launch.block.iter().fold(1u64, |a, b| a.saturating_mul(u64::from(*b)));
        if threads == 0 || threads > 1024 || launch.block[2] > 64 {
            return Err(format!("{:?} threads a block", launch.block));
        }
        if kernel.required.is_some_and(|required| required != launch.block) {
            return Err(format!(
                "{:?} threads a block where .reqntid is {:?}",
                launch.block, kernel.required
            ));
        }
        if kernel.max_threads.is_some_and(|max| threads > u64::from(max)) {
            return Err(format!("{threads} threads a block are more than .maxntid"));
        }
        let mut cluster = launch.cluster;
        if let Some(required) = kernel.cluster {
            if cluster != [1; 3] && cluster != required {
                return Err(format!(
                    "clusters of {cluster:?} where the kernel demands {required:?}"
                ));
            }
            cluster = required;
        }
        let blocks = cluster.iter().fold(1u64, |a, b| a.saturating_mul(u64::from(*b)));
        if blocks == 0 || blocks > 16 {
            return Err(format!("clusters of {cluster:?} blocks"));
        }
        for axis in 0..3 {
            let limit = if axis == 0 { 0x7fff_ffff } else { 65535 };
            if launch.grid[axis] == 0 || launch.grid[axis] > limit {
                return Err(format!("a grid of {:?} blocks", launch.grid));
            }
            if !launch.grid[axis].is_multiple_of(cluster[axis]) {
                return Err(format!(
                    "a grid of {:?} is no multiple of clusters of {cluster:?}",
                    launch.grid
                ));
            }
        }
        // Dynamic shared memory follows the static, at its own alignment.
        let start = kernel.static_shared.div_ceil(kernel.dynamic_align) * kernel.dynamic_align;
        let dynamic = launch.dynamic_shared > 0;
        let shared = if dynamic {
            start.saturating_add(launch.dynamic_shared)
        } else {
            kernel.static_shared
        };
        if shared > self.limits.shared {
            return Err(format!(
                "{shared} bytes of shared memory; a block has {}",
                self.limits.shared
            ));
        }
        Ok(Grid {
            grid: launch.grid,
            block: launch.block,
            cluster,
            shared,
            dynamic_start: start.min(shared),
            seed: launch.seed,
            checks: launch.checks,
            steps: self.limits.steps,
        })
    }
}

fn parameters(kernel: &Kernel, arguments: &[Argument]) -> Result<Vec<u8>, String> {
    if arguments.len() != kernel.parameters.len() {
        let (given, taken) = (arguments.len(), kernel.parameters.len());
        return Err(format!("{given} arguments, the kernel takes {taken}"));
    }
    let mut memory = vec![0; kernel.parameter_bytes as usize];
    for (parameter, argument) in kernel.parameters.iter().zip(arguments) {
        let bytes = argument.bytes();
        if bytes.len() as u64 != parameter.bytes {
            let (name, given, taken) = (&parameter.name, bytes.len(), parameter.bytes);
            return Err(format!("`{name}` has {taken} bytes, the argument {given}"));
        }
        let start = parameter.offset as usize;
        memory[start..start + bytes.len()].copy_from_slice(&bytes);
    }
    Ok(memory)
}
