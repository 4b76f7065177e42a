//! Kernels of a few lines: a body is wrapped into an entry with an input and an output, and launched.
//!
//! Invariant: every thread's element of the output is 8 bytes long, unless the test says otherwise.

use kiln_ptx_emulator::{
    Address, Argument, Counters, Device, Fault, FaultKind, Launch, Limits, Module, ParseError,
};

/// The head of a text.
pub const HEAD: &str = ".version 8.6\n.target sm_90a\n.address_size 64\n";

/// Registers, the thread's number in `%tid` (also as 64 bits in `%tid64`), the input in `%in`, the output in `%out`,
/// and the address of the thread's 8 bytes in `%mine`.
const BEFORE: &str = "\
.reg .pred %p<16>;
.reg .b16 %h<32>;
.reg .b32 %r<64>;
.reg .b32 %f<64>;
.reg .b64 %d<64>;
.reg .b32 %t, %n, %nt;
.reg .b64 %t64, %in, %out, %mine;
ld.param.u64 %in, [in];
ld.param.u64 %out, [out];
mov.u32 %t, %tid.x;
mov.u32 %nt, %ntid.x;
mov.u32 %n, %ctaid.x;
mad.lo.u32 %n, %n, %nt, %t;
mul.wide.u32 %t64, %n, 8;
add.u64 %mine, %out, %t64;
";

/// A whole text around a body; `declarations` stand before the entry.
pub fn text(declarations: &str, body: &str) -> String {
    format!(
        "{HEAD}{declarations}\n.visible .entry k(.param .u64 in, .param .u64 out)\n{{\n{BEFORE}{body}\nret;\n}}\n"
    )
}

/// What a launch gave.
pub struct Ran {
    pub device: Device,
    pub out: Address,
    pub counters: Counters,
}

impl Ran {
    /// Elements of 8 bytes.
    pub fn words(mut self, count: usize) -> Vec<u64> {
        let bytes = self.device.read(self.out, 8 * count as u64).expect("the output was written");
        bytes.chunks_exact(8).map(|c| u64::from_le_bytes(c.try_into().unwrap())).collect()
    }
}

/// Runs a body in one block.
pub fn run(body: &str, threads: u32, input: &[u8]) -> Result<Ran, Fault> {
    run_with("", body, &Launch::new(1, threads), input)
}

/// Runs a body with declarations before it. The output has 64 KiB.
pub fn run_with(
    declarations: &str,
    body: &str,
    launch: &Launch,
    input: &[u8],
) -> Result<Ran, Fault> {
    let text = text(declarations, body);
    let module = Module::parse(&text).unwrap_or_else(|e| panic!("{e}\n{}", numbered(&text)));
    let mut device = Device::new(Limits { steps: 20_000_000, ..Limits::default() });
    let given = device.allocate(input.len().max(16) as u64).unwrap();
    device.write(given, input).unwrap();
    let out = device.allocate(65536).unwrap();
    let counters =
        device.launch(&module, "k", launch, &[Argument::Address(given), Argument::Address(out)])?;
    Ok(Ran { device, out, counters })
}

/// What one thread stores as 64 bits.
pub fn one(body: &str) -> u64 {
    let body = format!("{body}\nst.global.u64 [%mine], %d0;");
    run(&body, 1, &[]).unwrap_or_else(|f| panic!("{f}\n{body}")).words(1)[0]
}

/// What one thread leaves in `%r0`.
pub fn one32(body: &str) -> u32 {
    one(&format!("{body}\ncvt.u64.u32 %d0, %r0;")) as u32
}

/// The fault of a body.
pub fn fault(declarations: &str, body: &str, threads: u32) -> Fault {
    match run_with(declarations, body, &Launch::new(1, threads), &[0; 4096]) {
        Ok(_) => panic!("no fault:\n{body}"),
        Err(fault) => fault,
    }
}

/// The kind of the fault of a body.
pub fn kind(declarations: &str, body: &str, threads: u32) -> FaultKind {
    fault(declarations, body, threads).kind
}

/// The error of a body that does not parse.
pub fn refused(body: &str) -> ParseError {
    match Module::parse(&text("", body)) {
        Ok(_) => panic!("it parses:\n{body}"),
        Err(error) => error,
    }
}

/// A text with its lines' numbers.
pub fn numbered(text: &str) -> String {
    text.lines().enumerate().map(|(i, l)| format!("{:4} {l}\n", i + 1)).collect()
}

/// Numbers that look random, from a seed.
pub struct Draw(pub u64);

impl Draw {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let mixed = (self.0 ^ self.0 >> 29).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ mixed >> 32
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.bits() % bound
    }

    /// Small integers, which all formats hold and whose sums are exact.
    pub fn small(&mut self) -> f64 {
        self.below(9) as f64 - 4.0
    }
}
