//! Values as JSON, for the lines that there are millions of: the bytes that serde_json writes, without its way through names that
//! are known when this is compiled.

use std::{io::Write as _, net::IpAddr};

/// What can be a field's value.
pub(super) trait Value {
    /// Appends it.
    fn write(self, out: &mut Vec<u8>);
}

/// Appends fields to the object that `out` ends with, which is not empty.
macro_rules! fields {
    ($out:expr, $($name:literal: $value:expr),+ $(,)?) => {{
        let out: &mut Vec<u8> = $out;
        $(
            out.extend_from_slice(concat!(",\"", $name, "\":").as_bytes());
            $crate::wire::json::Value::write($value, out);
        )+
    }};
}
pub(super) use fields;

/// A text of our own: nothing in it is to be escaped.
pub(super) struct Word<'a>(pub &'a str);

impl Value for Word<'_> {
    #[inline]
    fn write(self, out: &mut Vec<u8>) {
        Ascii(self.0.as_bytes()).write(out);
    }
}

/// Likewise, as bytes.
pub(super) struct Ascii<'a>(pub &'a [u8]);

impl Value for Ascii<'_> {
    #[inline]
    fn write(self, out: &mut Vec<u8>) {
        out.push(b'"');
        out.extend_from_slice(self.0);
        out.push(b'"');
    }
}

impl Value for &str {
    fn write(self, out: &mut Vec<u8>) {
        let plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
        // To the end, whatever is found: that is done many bytes at a time.
        if self.bytes().fold(true, |all, byte| all & plain(byte)) {
            Word(self).write(out);
        } else {
            // A string into memory: nothing can fail.
            let _ = serde_json::to_writer(out, self);
        }
    }
}

impl Value for bool {
    #[inline]
    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(if self { b"true" } else { b"false" });
    }
}

macro_rules! numbers {
    ($($number:ty),+) => {$(
        impl Value for $number {
            #[inline]
            fn write(self, out: &mut Vec<u8>) {
                out.extend_from_slice(itoa::Buffer::new().format(self).as_bytes());
            }
        }
    )+};
}
numbers!(u8, u16, u32, u64, i32);

impl<T: Value> Value for Option<T> {
    #[inline]
    fn write(self, out: &mut Vec<u8>) {
        match self {
            Some(value) => value.write(out),
            None => out.extend_from_slice(b"null"),
        }
    }
}

impl Value for IpAddr {
    fn write(self, out: &mut Vec<u8>) {
        match self {
            Self::V4(address) => {
                // Room for four octets of four bytes behind the first mark.
                let mut text = [b'"'; 17];
                let mut length = 1;
                for octet in address.octets() {
                    let (digits_and_dot, bytes) = OCTETS[usize::from(octet)];
                    text[length..length + 4].copy_from_slice(&digits_and_dot);
                    length += usize::from(bytes);
                }
                // The quotation mark takes the last dot's place.
                text[length - 1] = b'"';
                out.extend_from_slice(&text[..length]);
            }
            Self::V6(address) => {
                // Memory takes anything.
                let _ = write!(out, "\"{address}\"");
            }
        }
    }
}

/// Each octet's digits and a dot, and how many bytes that are.
static OCTETS: [([u8; 4], u8); 256] = octets();

const fn octets() -> [([u8; 4], u8); 256] {
    let mut octets = [([0; 4], 0); 256];
    let mut octet = 0;
    while octet < octets.len() {
        let hundreds = b'0' + (octet / 100) as u8;
        let tens = b'0' + (octet / 10 % 10) as u8;
        let ones = b'0' + (octet % 10) as u8;
        octets[octet] = match octet {
            0..10 => ([ones, b'.', 0, 0], 2),
            10..100 => ([tens, ones, b'.', 0], 3),
            _ => ([hundreds, tens, ones, b'.'], 4),
        };
        octet += 1;
    }
    octets
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Serialize;

    fn same(ours: impl Value, theirs: impl Serialize) {
        let mut out = Vec::new();
        ours.write(&mut out);
        assert_eq!(String::from_utf8(out).unwrap(), serde_json::to_string(&theirs).unwrap());
    }

    proptest! {
        #[test]
        fn text_is_as_serde_json_writes_it(text in any::<String>(), low in "[\\x00-\\x7f]*") {
            same(text.as_str(), &text);
            same(low.as_str(), &low);
        }

        #[test]
        fn numbers_and_addresses_too(number in any::<u64>(), error in any::<i32>(), address in any::<IpAddr>()) {
            same(number, number);
            same(Some(error), Some(error));
            same(address, address);
        }
    }

    #[test]
    fn every_octet_has_its_digits() {
        for octet in 0..=u8::MAX {
            let address = IpAddr::from([octet, 255, 0, octet]);
            same(address, address);
        }
    }

    #[test]
    fn what_is_not_there_is_null() {
        same(None::<u8>, None::<u8>);
        same(Some(true), true);
        same(Word("FIN_WAIT1"), "FIN_WAIT1");
    }

    #[test]
    fn fields_follow_each_other() {
        let mut out = b"{\"v\":1".to_vec();
        fields!(&mut out, "a": 1_u8, "b": None::<u8>);
        assert_eq!(out, b"{\"v\":1,\"a\":1,\"b\":null");
    }
}
