//! The object with the kernel programs, as a build embeds it, and with its constants filled in.

use object::{Object, ObjectSection, SectionKind};
use tcptrace_common::config::Config;

use super::attach::chain;

/// As built. Aligned, as ELF parsers want it.
pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tcptrace-ebpf.o"));

/// An instruction is eight bytes: operation, registers, offset (two bytes), operand (four).
const INSTRUCTION: usize = 8;
/// `BPF_ALU64 | BPF_MOV | BPF_K`: a register gets the operand, widened with its sign.
const MOVE: u8 = 0xb7;
/// `BPF_LDX | BPF_MEM`, of any size: a register gets what lies at the offset from another.
const LOAD: u8 = 0x61;
/// The bits of an operation that tell its size.
const SIZE: u8 = 0x18;
/// `BPF_STX | BPF_ATOMIC | BPF_DW`. With an operand other than 0 (`BPF_ADD`) kernels before 5.12 refuse it, wherever it stands.
const ATOMIC: u8 = 0xdb;
/// `BPF_JMP | BPF_JA`, to the next instruction: does nothing.
const NOTHING: [u8; INSTRUCTION] = [0x05, 0, 0, 0, 0, 0, 0, 0];

/// The object, every marker in its instructions replaced by what [`Config`] says (tcptrace-ebpf/src/config.rs).
///
/// # Errors
/// It is no ELF file.
pub fn with(config: &Config) -> Result<Vec<u8>, String> {
    let mut filled = OBJECT.to_vec();
    let parsed = object::File::parse(OBJECT).map_err(|error| chain(&error))?;
    for section in parsed.sections() {
        let Some((start, size)) = section.file_range().filter(|_| section.kind() == SectionKind::Text) else {
            continue;
        };
        let code = filled.get_mut(start as usize..(start + size) as usize);
        for instruction in code.unwrap_or_default().chunks_exact_mut(INSTRUCTION) {
            fill(instruction, config);
        }
    }
    Ok(filled)
}

fn fill(instruction: &mut [u8], config: &Config) {
    let &mut [operation, _, ref mut low, ref mut high, ref mut operand @ ..] = instruction else { return };
    if operation == ATOMIC && config.own_ring == 0 && *operand != [0; 4] {
        instruction.copy_from_slice(&NOTHING);
        return;
    }
    if operation == MOVE
        && let Ok(bytes) = <[u8; 4]>::try_from(&*operand)
        && let Some(value) = config.value(i32::from_ne_bytes(bytes))
    {
        operand.copy_from_slice(&value.to_ne_bytes());
    }
    if operation & !SIZE == LOAD
        && let Some(offset) = config.offsets.of_load(i16::from_ne_bytes([*low, *high]))
    {
        [*low, *high] = offset.to_ne_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tcptrace_common::{
        config::marker,
        layout::{ABSENT, MOST_OFFSET, Offsets, SECOND_WORD, load_marker},
    };

    fn instruction(operation: u8, offset: i32, operand: i32) -> [u8; INSTRUCTION] {
        let [low, high] = (offset as i16).to_ne_bytes();
        let [a, b, c, d] = operand.to_ne_bytes();
        [operation, 0x12, low, high, a, b, c, d]
    }

    fn filled(config: &Config, operation: u8, offset: i32, operand: i32) -> (i16, i32) {
        let mut filled = instruction(operation, offset, operand);
        fill(&mut filled, config);
        let [unchanged, registers, low, high, a, b, c, d] = filled;
        assert_eq!((unchanged, registers), (operation, 0x12));
        (i16::from_ne_bytes([low, high]), i32::from_ne_bytes([a, b, c, d]))
    }

    #[test]
    fn markers_are_replaced_by_the_values_of_their_fields() {
        let mut config = Config::EMPTY;
        config.filter.one_netns = 0xf000_0001;
        config.filter.family = 6;
        config.records.set_state.sport = 24;
        config.offsets.skc_family = 16;
        config.offsets.skc_v6_daddr = 56;
        let constant = |operand| filled(&config, MOVE, 0, operand).1;
        assert_eq!(
            constant(marker(std::mem::offset_of!(Config, filter.one_netns), 4)),
            0xf000_0001_u32 as i32
        );
        assert_eq!(constant(marker(std::mem::offset_of!(Config, filter.family), 1)), 6);
        assert_eq!(constant(marker(std::mem::offset_of!(Config, records.set_state.sport), 2)), 24);
        assert_eq!(constant(marker(std::mem::offset_of!(Config, offsets.skc_num), 4)), ABSENT as i32);
        let load = |operation, place| filled(&config, operation, place, 0).0;
        assert_eq!(load(0x69, load_marker(std::mem::offset_of!(Offsets, skc_family))), 16);
        let address = load_marker(std::mem::offset_of!(Offsets, skc_v6_daddr));
        assert_eq!((load(0x79, address), load(0x79, address | SECOND_WORD)), (56, 64));
        assert_eq!(load(0x61, load_marker(std::mem::offset_of!(Offsets, skc_num))), 0, "never reached");
    }

    #[test]
    fn everything_else_stays() {
        let config = Config::EMPTY;
        for operand in [0, 1, -1, 0x7fff_ffff, marker(0, 4) + 0x1_0000] {
            assert_eq!(filled(&config, MOVE, 0, operand), (0, operand));
        }
        // A store, and the second half of a long constant, are no loads.
        assert_eq!(
            filled(&config, 0x7b, load_marker(0), marker(0, 4)),
            (load_marker(0) as i16, marker(0, 4))
        );
        assert_eq!(filled(&config, 0, 0, marker(0, 4)), (0, marker(0, 4)));
        assert_eq!(filled(&config, LOAD, MOST_OFFSET as i32, 7), (MOST_OFFSET as i16, 7));
    }

    #[test]
    fn instructions_that_fetch_stay_only_where_the_kernel_has_them() {
        let with = |own_ring, operand| {
            let mut filled = instruction(ATOMIC, 0, operand);
            fill(&mut filled, &Config { own_ring, ..Config::EMPTY });
            filled
        };
        let (add, fetch_add, exchange) = (0, 0x01, 0xe1);
        for operand in [add, fetch_add, exchange] {
            assert_eq!(with(1, operand), instruction(ATOMIC, 0, operand));
        }
        assert_eq!(with(0, add), instruction(ATOMIC, 0, add));
        assert_eq!([with(0, fetch_add), with(0, exchange)], [NOTHING; 2]);
    }

    /// One that was forgotten would be a number like any other to the kernel.
    #[test]
    fn no_marker_is_left() {
        if OBJECT.is_empty() {
            println!("skipped: built without the kernel programs");
            return;
        }
        let once = with(&Config::EMPTY).unwrap();
        let changed = OBJECT.iter().zip(&once).filter(|(before, after)| before != after).count();
        assert!(changed > 200, "only {changed} bytes of the object were markers");
        let marks = |object: &[u8]| {
            let parsed = object::File::parse(object).unwrap();
            let code = parsed.sections().filter(|section| section.kind() == SectionKind::Text);
            let all = code.flat_map(|section| section.data().unwrap().to_vec()).collect::<Vec<_>>();
            let operand = |at: &[u8]| i32::from_ne_bytes(at[4..].try_into().unwrap());
            let marked = |at: &&[u8]| at[0] == MOVE && operand(at) & !0xffff == marker(0, 0);
            all.chunks_exact(INSTRUCTION).filter(marked).count()
        };
        assert!(marks(OBJECT) > 100, "the object has {} constants", marks(OBJECT));
        assert_eq!(marks(&once), 0);
    }
}
