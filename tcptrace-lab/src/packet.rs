//! Makes a packet by hand: a SYN from an address that no host has.

use std::net::{IpAddr, SocketAddr};

/// The protocol number of TCP.
const TCP: u8 = 6;
/// How many routers a packet may pass, as Linux sends it.
const HOPS: u8 = 64;
/// Window that the SYN announces, in bytes.
const WINDOW: u16 = 64_240;
/// Length of a TCP header without options, in bytes.
const TCP_LEN: u16 = 20;

/// A SYN without options, checksums included, as an IP packet; `None` if the addresses are of two versions of IP.
pub(crate) fn syn(source: SocketAddr, destination: SocketAddr, seq: u32) -> Option<Vec<u8>> {
    let (header, addresses) = match (source.ip(), destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let addresses = [from.octets(), to.octets()].concat();
            let total = (20 + TCP_LEN).to_be_bytes();
            let mut header = vec![0x45, 0, total[0], total[1], 0, 0, 0x40, 0, HOPS, TCP, 0, 0];
            header.extend(&addresses);
            let sum = checksum(&header);
            header.splice(10..12, sum);
            (header, addresses)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let addresses = [from.octets(), to.octets()].concat();
            let payload = TCP_LEN.to_be_bytes();
            let mut header = vec![0x60, 0, 0, 0, payload[0], payload[1], TCP, HOPS];
            header.extend(&addresses);
            (header, addresses)
        }
        _ => return None,
    };
    let mut tcp = Vec::with_capacity(usize::from(TCP_LEN));
    tcp.extend(source.port().to_be_bytes());
    tcp.extend(destination.port().to_be_bytes());
    tcp.extend(seq.to_be_bytes());
    tcp.extend(0_u32.to_be_bytes());
    tcp.extend([0x50, 0x02]); // five words of header; SYN
    tcp.extend(WINDOW.to_be_bytes());
    tcp.extend([0; 4]); // checksum and urgent pointer
    // The sum also covers addresses, protocol and length (RFC 9293, 3.1).
    let pseudo = [addresses.as_slice(), &[0, TCP], &TCP_LEN.to_be_bytes(), &tcp].concat();
    tcp.splice(16..18, checksum(&pseudo));
    Some([header, tcp].concat())
}

/// The Internet checksum (RFC 1071) of whole 16-bit words.
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let mut sum: u32 = bytes.chunks_exact(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!sum as u16).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Family, Segment, Side};

    #[test]
    fn a_syn_reads_as_one_and_its_sums_are_right() {
        for family in Family::ALL {
            let [from, to] = Side::ALL.map(|side| SocketAddr::new(family.address(side), 10_000));
            let packet = syn(from, to, 7).expect("one version of IP");
            let segment = Segment::parse(&packet).expect("a segment");
            assert!(segment.syn && !segment.ack && segment.seq == 7 && segment.payload == 0);
            let header = packet.len() - usize::from(TCP_LEN);
            let addresses = if family == Family::V4 { 12..20 } else { 8..40 };
            // A sum over what includes the right sum is zero.
            let pseudo = [&packet[addresses], &[0, TCP, 0, 20], &packet[header..]].concat();
            assert_eq!(checksum(&pseudo), [0, 0]);
            if family == Family::V4 {
                assert_eq!(checksum(&packet[..header]), [0, 0]);
            }
        }
    }

    #[test]
    fn two_versions_of_ip_make_no_packet() {
        let [v4, v6] = Family::ALL.map(|family| SocketAddr::new(family.address(Side::Client), 1));
        assert_eq!(syn(v4, v6, 0), None);
    }
}
