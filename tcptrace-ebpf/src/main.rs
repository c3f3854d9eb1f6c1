//! tcptrace's kernel programs. One file a hook; each reads its arguments, asks the filter, counts, fills one
//! record and submits it. Where members are and what the kernel can do comes by [`config`], at load.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
// For one instruction in `config`; the build unlocks it as it unlocks building `core`.
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]
// On the host this crate is only type-checked: most of it then looks unused.
#![cfg_attr(not(target_arch = "bpf"), allow(dead_code, unused_imports))]

mod change;
mod config;
mod emit;
mod filter;
mod hooks;
mod maps;
mod read;
mod ring;
mod sock;

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// Host stub: lets every cargo command work on the whole workspace.
#[cfg(not(target_arch = "bpf"))]
fn main() {}

/// The kernel offers its tracing helpers to GPL-compatible programs only.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 4] = *b"GPL\0";
