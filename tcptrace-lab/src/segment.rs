//! What the wire reads in a packet: the TCP header and how much it carries.

use network_types::{
    ip::{Ipv4Hdr, Ipv6Hdr},
    tcp::TcpHdr,
};

/// The protocol number of TCP in an IP header.
const TCP: u8 = 6;

/// One TCP segment as it passes the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Port of the sender.
    pub source_port: u16,
    /// Port of the receiver.
    pub destination_port: u16,
    /// Sequence number of the first byte.
    pub seq: u32,
    /// The next byte that the sender expects from its peer; has a meaning only with [`Self::ack`].
    pub ack_number: u32,
    /// The SYN flag: the sender opens its direction.
    pub syn: bool,
    /// The ACK flag.
    pub ack: bool,
    /// The FIN flag: the sender has closed its direction.
    pub fin: bool,
    /// The RST flag: the sender aborts.
    pub rst: bool,
    /// Window field as sent, not scaled.
    pub window: u16,
    /// Bytes of data carried.
    pub payload: usize,
}

impl Segment {
    /// Reads an IP packet; `None` if it is no whole, unfragmented TCP segment.
    pub(crate) fn parse(packet: &[u8]) -> Option<Self> {
        let (header_len, total_len) = match packet.first()? >> 4 {
            4 => {
                let ip: Ipv4Hdr = read(packet)?;
                let first_or_whole = ip.frag_offset() == 0;
                (ip.proto == TCP && first_or_whole)
                    .then(|| (usize::from(ip.ihl()), usize::from(ip.tot_len())))?
            }
            6 => {
                let ip: Ipv6Hdr = read(packet)?;
                // The kernel sends TCP without extension headers unless a program asks for them: the lab does not.
                (ip.next_hdr == TCP).then(|| (Ipv6Hdr::LEN, Ipv6Hdr::LEN + usize::from(ip.payload_len())))?
            }
            _ => return None,
        };
        let tcp: TcpHdr = read(packet.get(header_len..total_len)?)?;
        let payload = (total_len - header_len).checked_sub(usize::from(tcp.doff()) * 4)?;
        Some(Self {
            source_port: u16::from_be_bytes(tcp.source),
            destination_port: u16::from_be_bytes(tcp.dest),
            seq: u32::from_be_bytes(tcp.seq),
            ack_number: u32::from_be_bytes(tcp.ack_seq),
            syn: tcp.syn() == 1,
            ack: tcp.ack() == 1,
            fin: tcp.fin() == 1,
            rst: tcp.rst() == 1,
            window: u16::from_be_bytes(tcp.window),
            payload,
        })
    }

    /// How much sequence space the segment takes: its data, plus one each for SYN and FIN. Only segments that take
    /// some are ever retransmitted.
    pub fn space(&self) -> usize {
        self.payload + usize::from(self.syn) + usize::from(self.fin)
    }
}

/// Headers that are plain bytes: any bit pattern is a valid value.
///
/// # Safety
/// Implement it only for types without padding, references or values that bytes could break.
unsafe trait Header: Copy {}
// SAFETY: all fields are byte arrays or bytes.
unsafe impl Header for Ipv4Hdr {}
// SAFETY: all fields are byte arrays or bytes.
unsafe impl Header for Ipv6Hdr {}
// SAFETY: all fields are byte arrays, one of them wrapped as a bit field.
unsafe impl Header for TcpHdr {}

fn read<T: Header>(bytes: &[u8]) -> Option<T> {
    let bytes = bytes.get(..size_of::<T>())?;
    // SAFETY: `bytes` has exactly the size of T, the read needs no alignment, and T takes any bytes.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 10.0.0.1:4660 > 10.0.0.9:10000, FIN+ACK with two bytes, as a kernel sends it.
    const FIN_V4: [u8; 42] = [
        0x45, 0, 0, 42, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 9, // IPv4
        0x12, 0x34, 0x27, 0x10, 0, 0, 0, 7, 0, 0, 0, 9, 0x50, 0x11, 1, 0, 0, 0, 0, 0, b'h', b'i',
    ];

    fn fin_v6() -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 0, 22, 6, 64];
        packet.extend([0xfd; 32]);
        packet.extend(&FIN_V4[20..]);
        packet
    }

    #[test]
    fn reads_the_header_in_both_families() {
        let expected = Segment {
            source_port: 0x1234,
            destination_port: 10000,
            seq: 7,
            ack_number: 9,
            syn: false,
            ack: true,
            fin: true,
            rst: false,
            window: 256,
            payload: 2,
        };
        assert_eq!(Segment::parse(&FIN_V4), Some(expected));
        assert_eq!(Segment::parse(&fin_v6()), Some(expected));
        assert_eq!(expected.space(), 3);
    }

    #[test]
    fn refuses_what_is_not_a_whole_tcp_segment() {
        for packet in [FIN_V4.to_vec(), fin_v6()] {
            for len in 0..packet.len() {
                assert_eq!(Segment::parse(&packet[..len]), None, "cut to {len} bytes");
            }
        }
        let mut udp = FIN_V4;
        udp[9] = 17;
        assert_eq!(Segment::parse(&udp), None);
        let mut header_longer_than_packet = FIN_V4;
        header_longer_than_packet[32] = 0xf0;
        assert_eq!(Segment::parse(&header_longer_than_packet), None);
        let mut options_past_the_end = FIN_V4;
        options_past_the_end[0] = 0x4f;
        assert_eq!(Segment::parse(&options_past_the_end), None);
        let mut later_fragment = FIN_V4;
        later_fragment[7] = 1;
        assert_eq!(Segment::parse(&later_fragment), None);
    }
}
