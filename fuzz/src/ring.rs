//! The ring's records: any bytes are decoded, folded into a ledger and shown. An input is a list of steps: a record of any
//! bytes, a record that could be one, a moment that passes, a loss.

use tcptrace::{
    decode::Decoder,
    enrich::Places,
    event::TcpState,
    flow::{Capabilities, Entry, Ledger},
    view::{Lines, Palette},
    wall::Wall,
    wire,
};
use tcptrace_common::event::{self as abi, Kind};
use zerocopy::IntoBytes;

/// Sizes of the records, by kind.
const SIZES: [usize; abi::KINDS] = [
    size_of::<abi::Transition>(),
    size_of::<abi::OwnedTransition>(),
    size_of::<abi::Close>(),
    size_of::<abi::Retransmit>(),
    size_of::<abi::SynAck>(),
    size_of::<abi::Reset>(),
    size_of::<abi::Destroy>(),
    size_of::<abi::Retransmit>(),
    size_of::<abi::Object>(),
    size_of::<abi::Accept>(),
    size_of::<abi::Established>(),
];
/// Steps after those that are a record of a kind: any bytes, a moment, a loss.
const RAW: u8 = abi::KINDS as u8;
const MOMENT: u8 = RAW + 1;
const LOSS: u8 = RAW + 2;
const STEPS: u8 = RAW + 3;
/// So few flows that one is given up now and then.
const FEW: usize = 4;
const MANY: usize = 64;

/// Everything that takes entries.
struct Shown {
    text: Vec<u8>,
    lines: Lines,
    wall: Wall,
    owners: wire::Owners,
}

impl Shown {
    fn take(&mut self, entries: &mut Vec<Entry>) {
        for entry in entries.drain(..) {
            self.text.clear();
            self.lines.entry(&mut self.text, &mut self.wall, &entry).expect("memory takes anything");
            self.text.clear();
            wire::entry(&mut self.text, &mut self.wall, &mut self.owners, &entry).expect("memory takes anything");
            assert!(self.text.ends_with(b"}\n"));
        }
    }
}

/// Takes bytes from the front; zeros when there are no more.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().map_or((0, self.0), |(first, rest)| (*first, rest));
        self.0 = rest;
        first
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        let mut bytes = taken.to_vec();
        bytes.resize(count, 0);
        bytes
    }
}

/// Decodes and folds it.
pub fn run(input: &[u8]) {
    let mut input = Input(input);
    let how = input.byte();
    let flag = |bit: u8| how & (1 << bit) != 0;
    let capabilities = Capabilities {
        cookies: flag(0),
        resets: flag(1),
        all_states: flag(2),
        minisockets: flag(3),
        requests: flag(4),
    };
    let most = if flag(5) { FEW } else { MANY };
    let mut ledger = Ledger::new(capabilities, most, 1);
    let decoder = Decoder::new(&[(2, "not-specified".to_owned()), (9, "tcp-rfc7323-paws".to_owned())]);
    let mut shown = Shown {
        text: Vec::new(),
        lines: Lines::new(Palette::default()),
        wall: Wall::new(0),
        owners: wire::Owners::new(Places::recorded()),
    };
    let mut entries = Vec::new();
    let (mut now_ns, mut folded) = (1_u64, 0_usize);
    while !input.0.is_empty() {
        let step = input.byte();
        let record = match step % STEPS {
            RAW => {
                let length = input.byte();
                input.bytes(length.into())
            }
            MOMENT => {
                now_ns = now_ns.saturating_add(u64::from(input.byte()) << (input.byte() % 40));
                ledger.tick(now_ns, &mut entries);
                continue;
            }
            LOSS => {
                ledger.lost(now_ns);
                continue;
            }
            kind => {
                now_ns = now_ns.saturating_add(u64::from(step / STEPS) << 20);
                plausible(kind, now_ns, input.bytes(SIZES[usize::from(kind)]))
            }
        };
        if let Ok(event) = decoder.decode(&record, 0) {
            folded += 1;
            ledger.fold(&event, &mut entries);
        }
        shown.take(&mut entries);
        assert!(ledger.open_flows() <= ledger.len());
    }
    // Whatever came, no event makes more of one socket than its flow, its child and its minisocket.
    assert!(ledger.len() <= 3 * folded, "{} flows of {folded} events", ledger.len());
    ledger.states(now_ns, |entry| entries.push(entry));
    ledger.finish(&mut entries);
    shown.take(&mut entries);
}

/// Makes a record of the bytes that looks like one: known states, few sockets, so that they meet.
fn plausible(kind: u8, now_ns: u64, mut record: Vec<u8>) -> Vec<u8> {
    let states = TcpState::ALL.len() as u8;
    record[0] = kind;
    record[1] &= abi::UNDECIDED;
    record[2] = 1 + record[2] % states;
    record[3] = 1 + record[3] % states;
    let netns = u32::from(record[4] & 1);
    record[4..8].copy_from_slice(&netns.to_le_bytes());
    record[8..16].copy_from_slice(&now_ns.to_le_bytes());
    let (sock, cookie) = (u64::from(record[16] & 7), u64::from(record[24] & 7));
    record[16..24].copy_from_slice(&sock.to_le_bytes());
    record[24..32].copy_from_slice(&cookie.to_le_bytes());
    record
}

/// A connection from beginning to end, each way; and single records of every kind.
pub fn seeds() -> Vec<Vec<u8>> {
    let walk = |how: u8, states: &[TcpState], kind: Kind| {
        let mut input = vec![how];
        for pair in states.windows(2) {
            input.push(kind as u8 + STEPS); // a millisecond later
            let mut record = vec![0; SIZES[kind as usize]];
            record[2] = pair[0].number() - 1;
            record[3] = pair[1].number() - 1;
            (record[16], record[24]) = (3, 5);
            record[32..72].copy_from_slice(tuple().as_bytes());
            input.extend(record);
        }
        input.extend([MOMENT, 1, 30, Kind::Destroy as u8]);
        input.extend([0; size_of::<abi::Destroy>()]);
        input
    };
    use TcpState::*;
    let active = [Close, SynSent, Established, FinWait1, FinWait2, Close];
    let passive = [Listen, SynRecv, Established, CloseWait, LastAck, Close];
    let mut seeds = Vec::new();
    for how in [0b1_1111, 0b0_0111, 0b10_0000, 0] {
        seeds.push(walk(how, &active, Kind::Transition));
        seeds.push(walk(how, &passive, Kind::OwnedTransition));
        seeds.push(walk(how, &[Close, Listen, Close], Kind::Close));
    }
    for (kind, size) in SIZES.iter().enumerate() {
        let mut input = vec![0b1_1111, RAW, *size as u8, kind as u8];
        input.extend(std::iter::repeat_n(1, size - 1));
        input.extend([kind as u8]);
        input.extend(std::iter::repeat_n(2, *size));
        input.extend([LOSS]);
        seeds.push(input);
    }
    seeds
}

fn tuple() -> abi::Tuple {
    let mut address = [0; 16];
    address[10..].copy_from_slice(&[0xff, 0xff, 10, 0, 0, 1]);
    let address = tcptrace_common::address::Address::from_bytes(address);
    let bits = abi::BITS_KNOWN | abi::HAS_SOCKET;
    abi::Tuple {
        local: address,
        remote: address,
        lport: 40000,
        rport: 80,
        family: 4,
        bits,
        shutdown: 0,
        spare: 0,
    }
}
