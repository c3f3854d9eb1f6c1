//! Reads the running kernel's BTF: where members are, how many arguments a tracepoint has, what enum values are
//! called. One pass over the types; nothing is copied but the names that can be asked for.
//!
//! Why our own: aya keeps its BTF members private, and the crates that do this walk take 5 to 20 times as long.
//! The tests compare every member we use with the `btfparse` crate.

use super::privileges::as_the_user;
use hashbrown::HashMap;
use std::{fs, io, path::Path};
use thiserror::Error;

/// Where kernels since 5.4 show their types, when built with CONFIG_DEBUG_INFO_BTF.
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Why type information cannot be used.
#[derive(Debug, Error)]
pub enum BtfError {
    /// The file cannot be read.
    #[error("cannot read {path}: {error}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// The bytes are not BTF, or are cut short.
    #[error("not valid BTF: {0}")]
    Malformed(&'static str),
}

/// A member of a structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Offset of the first byte that holds it.
    pub offset: u32,
    /// Bytes; for a bit field the bytes that hold it.
    pub size: u32,
    /// Lowest bit inside the first byte, and width in bits; `None` where it is no bit field.
    pub bits: Option<(u32, u32)>,
}

/// Parsed type information.
#[derive(Debug)]
pub struct Btf {
    data: Vec<u8>,
    strings: usize,
    /// Start of each type in `data`, by id; id 0 is void.
    types: Vec<u32>,
    structs: HashMap<Vec<u8>, u32>,
    enums: HashMap<Vec<u8>, u32>,
    typedefs: HashMap<Vec<u8>, u32>,
}

const INT: u32 = 1;
const PTR: u32 = 2;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const TYPEDEF: u32 = 8;
const VOLATILE: u32 = 9;
const CONST: u32 = 10;
const RESTRICT: u32 = 11;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const DECL_TAG: u32 = 17;
const TYPE_TAG: u32 = 18;
const ENUM64: u32 = 19;

/// How deep structures, typedefs and arrays may nest before the data counts as malformed.
const MAX_DEPTH: u32 = 32;

struct Type {
    at: usize,
    kind: u32,
    count: usize,
    flag: bool,
    /// A size or a type id, depending on the kind.
    value: u32,
}

impl Btf {
    /// Reads a file: the running kernel's [`KERNEL_BTF`], or a copy for another kernel.
    ///
    /// # Errors
    /// The file cannot be read, or is not BTF.
    pub fn read(path: &Path) -> Result<Self, BtfError> {
        let data = as_the_user(|| fs::read(path))
            .map_err(|error| BtfError::Read { path: path.display().to_string(), error })?;
        Self::parse(data)
    }

    /// Parses the bytes of a BTF section.
    ///
    /// # Errors
    /// The bytes are not BTF, or are cut short.
    pub fn parse(data: Vec<u8>) -> Result<Self, BtfError> {
        const CUT: BtfError = BtfError::Malformed("it is cut short");
        let word = |at: usize| word(&data, at).ok_or(CUT);
        if word(0)? & 0xffff != 0xeb9f {
            return Err(BtfError::Malformed("the magic number is missing"));
        }
        let header = word(4)? as usize;
        let start = header.checked_add(word(8)? as usize).ok_or(CUT)?;
        let end = start.checked_add(word(12)? as usize).ok_or(CUT)?;
        let strings = header.checked_add(word(16)? as usize).ok_or(CUT)?;
        if end > data.len() || strings > data.len() {
            return Err(CUT);
        }
        let mut btf = Self {
            types: Vec::with_capacity((end - start) / 20),
            data,
            strings,
            structs: HashMap::new(),
            enums: HashMap::new(),
            typedefs: HashMap::new(),
        };
        btf.types.push(0);
        let mut at = start;
        while at < end {
            let id = btf.types.len() as u32;
            btf.types.push(at as u32);
            let found = btf.type_at(at).ok_or(CUT)?;
            let names = match found.kind {
                STRUCT => Some(&mut btf.structs),
                ENUM | ENUM64 => Some(&mut btf.enums),
                TYPEDEF => Some(&mut btf.typedefs),
                _ => None,
            };
            if let Some(names) = names {
                let name = string(&btf.data, btf.strings, at);
                // Only tracepoint prototypes are looked up among the thousands of typedefs.
                if !name.is_empty() && (found.kind != TYPEDEF || name.starts_with(b"btf_trace_")) {
                    names.entry_ref(name).or_insert(id);
                }
            }
            at += 12 + extra(found.kind, found.count);
        }
        Ok(btf)
    }

    /// Where a member is; dots lead into nested structures (`"ns.inum"`), anonymous ones are looked through.
    pub fn member(&self, of: &str, path: &str) -> Option<Place> {
        let mut id = *self.structs.get(of.as_bytes())?;
        let mut base = 0;
        let mut place = None;
        for name in path.split('.') {
            let (next, found) = self.find(id, name.as_bytes(), 0)?;
            place = Some(Place { offset: base + found.offset, ..found });
            base += found.offset;
            id = next;
        }
        place
    }

    /// How many arguments a program on this tracepoint gets; `None` where the kernel has no such tracepoint.
    pub fn tracepoint_arguments(&self, tracepoint: &str) -> Option<usize> {
        let id = *self.typedefs.get(format!("btf_trace_{tracepoint}").as_bytes())?;
        let pointer = self.type_id(self.resolve(id)?)?;
        let prototype = self.type_id(self.resolve(pointer.value)?)?;
        // The first parameter is the hidden context.
        (pointer.kind == PTR && prototype.kind == FUNC_PROTO).then(|| prototype.count.saturating_sub(1))
    }

    /// Value and name of each constant of an enum; empty where the kernel has no such enum.
    pub fn enum_names(&self, name: &str) -> Vec<(u32, String)> {
        let Some(found) = self.enums.get(name.as_bytes()).and_then(|id| self.type_id(*id)) else {
            return Vec::new();
        };
        let width = if found.kind == ENUM64 { 12 } else { 8 };
        (0..found.count)
            .filter_map(|index| {
                let at = found.at + 12 + index * width;
                let name = string(&self.data, self.strings, at);
                Some((word(&self.data, at + 4)?, String::from_utf8_lossy(name).into_owned()))
            })
            .collect()
    }

    /// A member of the structure with this id: its type and its place inside.
    fn find(&self, id: u32, name: &[u8], depth: u32) -> Option<(u32, Place)> {
        let outer = self.type_id(self.resolve(id)?)?;
        if !matches!(outer.kind, STRUCT | UNION) || depth > MAX_DEPTH {
            return None;
        }
        for index in 0..outer.count {
            let at = outer.at + 12 + index * 12;
            let (kind, position) = (word(&self.data, at + 4)?, word(&self.data, at + 8)?);
            let (bit, width) =
                if outer.flag { (position & 0xff_ffff, position >> 24) } else { (position, 0) };
            let found = string(&self.data, self.strings, at);
            if found == name {
                let size = if width > 0 { (bit % 8 + width).div_ceil(8) } else { self.size(kind, 0)? };
                let bits = (width > 0).then_some((bit % 8, width));
                return Some((kind, Place { offset: bit / 8, size, bits }));
            }
            if found.is_empty()
                && let Some((kind, inner)) = self.find(kind, name, depth + 1)
            {
                return Some((kind, Place { offset: bit / 8 + inner.offset, ..inner }));
            }
        }
        None
    }

    fn size(&self, id: u32, depth: u32) -> Option<u32> {
        let found = self.type_id(self.resolve(id)?)?;
        match found.kind {
            PTR => Some(8),
            ARRAY if depth < MAX_DEPTH => {
                let element = self.size(word(&self.data, found.at + 12)?, depth + 1)?;
                element.checked_mul(word(&self.data, found.at + 20)?)
            }
            INT | STRUCT | UNION | ENUM | ENUM64 => Some(found.value),
            _ => None,
        }
    }

    /// Follows typedefs and qualifiers.
    fn resolve(&self, mut id: u32) -> Option<u32> {
        for _ in 0..MAX_DEPTH {
            let found = self.type_id(id)?;
            match found.kind {
                TYPEDEF | VOLATILE | CONST | RESTRICT | TYPE_TAG => id = found.value,
                _ => return Some(id),
            }
        }
        None
    }

    fn type_id(&self, id: u32) -> Option<Type> {
        match self.types.get(id as usize) {
            Some(&at) if at > 0 => self.type_at(at as usize),
            _ => None,
        }
    }

    fn type_at(&self, at: usize) -> Option<Type> {
        let info = word(&self.data, at + 4)?;
        Some(Type {
            at,
            kind: info >> 24 & 0x1f,
            count: (info & 0xffff) as usize,
            flag: info >> 31 == 1,
            value: word(&self.data, at + 8)?,
        })
    }
}

/// How many bytes follow the twelve that every type has.
fn extra(kind: u32, count: usize) -> usize {
    match kind {
        INT | VAR | DECL_TAG => 4,
        ARRAY => 12,
        STRUCT | UNION | DATASEC | ENUM64 => count * 12,
        ENUM | FUNC_PROTO => count * 8,
        _ => 0,
    }
}

fn word(data: &[u8], at: usize) -> Option<u32> {
    let bytes = data.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

/// The string whose offset stands at `at`; empty where there is none.
fn string(data: &[u8], strings: usize, at: usize) -> &[u8] {
    let text = word(data, at).and_then(|offset| data.get(strings.checked_add(offset as usize)?..));
    text.and_then(|text| text.split(|byte| *byte == 0).next()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Vec<u8> {
        fs::read(KERNEL_BTF).unwrap_or_default()
    }

    #[test]
    fn cut_or_foreign_bytes_are_refused() {
        for bytes in [vec![], vec![0; 24], b"\x9f\xeb\x01\x00".to_vec(), vec![0xff; 100]] {
            assert!(Btf::parse(bytes).is_err());
        }
    }

    proptest! {
        #[test]
        fn damaged_bytes_never_panic(at in 0usize..4096, value: u8, keep in 0usize..200_000) {
            let mut data = sample();
            data.truncate(keep);
            if let Some(byte) = data.get_mut(at) { *byte = value; }
            if let Ok(btf) = Btf::parse(data) {
                let _ = btf.member("sock_common", "skc_family");
                let _ = btf.tracepoint_arguments("tcp_send_reset");
                let _ = btf.enum_names("sk_rst_reason");
            }
        }
    }
}
