//! The table: every column once, with its kind and what it means. Row, buffers, Parquet's schema and the table in
//! docs/parquet.md are made of it.

use super::kind::{Address, Bool, Held, Id, Int, Kind, Long, Text, Texts, Time};
use parquet::{
    basic::Encoding,
    errors::{ParquetError, Result},
    file::writer::SerializedRowGroupWriter,
    schema::{
        parser::parse_message_type,
        types::{ColumnPath, TypePtr},
    },
};
use std::{io::Write, sync::Arc};

/// The version of the table, in the file's metadata. Columns may be added; none is renamed or removed within a version.
pub const VERSION: u32 = 1;

/// A column, as it is described.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its name: that of docs/events.md, a field of an object after the object's name and `_`.
    pub name: &'static str,
    /// Its type, as DuckDB names it.
    pub sql: &'static str,
    /// Never null.
    pub required: bool,
    /// The types of rows that may have it.
    pub rows: &'static str,
    /// What it means.
    pub meaning: &'static str,
    parquet: [&'static str; 2],
    encoding: Option<Encoding>,
}

impl Column {
    /// Its path.
    pub fn path(&self) -> ColumnPath {
        ColumnPath::from(self.name)
    }

    /// How its values are written; `None`: by a dictionary.
    pub fn encoding(&self) -> Option<Encoding> {
        self.encoding
    }
}

/// `r#type` is a name to Rust only.
const fn plain(name: &'static str) -> &'static str {
    match name.as_bytes() {
        [b'r', b'#', rest @ ..] => match str::from_utf8(rest) {
            Ok(rest) => rest,
            Err(_) => name,
        },
        _ => name,
    }
}

macro_rules! columns {
    ($($field:ident: $kind:ty, $required:literal, $rows:expr, $meaning:expr;)*) => {
        /// Every column, in the order of the file.
        pub const COLUMNS: &[Column] = &[$(Column {
            name: plain(stringify!($field)),
            sql: <$kind>::SQL,
            required: $required,
            rows: $rows,
            meaning: $meaning,
            parquet: <$kind>::PARQUET,
            encoding: <$kind>::ENCODING,
        }),*];

        /// One row; a field is what its column means. What is not known, or has no meaning in its type of row, is null.
        #[derive(Default)]
        pub struct Row<'a> {
            $(pub $field: Option<<$kind as Kind>::Value<'a>>,)*
        }

        /// The rows of a row group while it is collected, by column.
        #[derive(Default)]
        pub struct Columns {
            $($field: Held<$kind>,)*
        }

        impl Columns {
            /// Appends a row.
            pub fn push(&mut self, row: Row<'_>, texts: &mut Texts) {
                $(self.$field.push(row.$field, texts);)*
            }

            /// Writes all of them as one row group, and begins afresh.
            pub fn write<W: Write + Send>(
                &mut self,
                group: &mut SerializedRowGroupWriter<'_, W>,
                texts: &Texts,
            ) -> Result<()> {
                $(
                    let column = group.next_column()?.ok_or_else(too_few)?;
                    self.$field.write(column, texts, $required)?;
                )*
                Ok(())
            }
        }
    };
}

fn too_few() -> ParquetError {
    ParquetError::General("the schema has fewer columns than the table".into())
}

const EVERY: &str = "every";
const FLOWS: &str = "about a flow";
const CLOSE: &str = "close";
const OWNED: &str = "as `owner` in docs/events.md";
const DWELL: &str = "of `dwell_ns`: nanoseconds in this state; null: it was not seen in it";

columns! {
    time: Time, true, EVERY, "when it happened, UTC, to the microsecond";
    mono_ns: Long, true, EVERY, "the same on the boot-time clock, in nanoseconds: compute with this";
    r#type: Text, true, EVERY, "`transition` `retransmit` `reset` `close` `sight` `flow`: about a flow; `resync` `lost`";
    flow: Id, false, FLOWS, "identity as a number: the cookie, or with `flow_id` = `generation` the number behind the `g`; null: no socket";
    flow_id: Text, false, FLOWS, "`cookie`, `generation`, `none`";
    netns: Long, false, FLOWS, "network namespace";
    family: Int, false, FLOWS, "4 or 6";
    local_addr: Address, false, FLOWS, "address, as text";
    local_port: Int, false, FLOWS, "0: not known yet";
    remote_addr: Address, false, FLOWS, "address, as text";
    remote_port: Int, false, FLOWS, "0: not known yet, or a listener's";
    role: Text, false, FLOWS, "`active`, `passive`, `listen`, `unknown`";
    owner_pid: Long, false, FLOWS, "whose connection it is; null: unknown";
    owner_comm: Text, false, FLOWS, OWNED;
    owner_uid: Long, false, FLOWS, OWNED;
    owner_source: Text, false, FLOWS, "how that is known; `listener` is a guess";
    owner_unit: Text, false, FLOWS, OWNED;
    owner_container: Text, false, FLOWS, OWNED;
    owner_pod: Text, false, FLOWS, OWNED;
    owner_cgroup: Id, false, FLOWS, "cgroup v2 id of that process (not in the JSON)";
    old: Text, false, "transition, close", "the state left";
    new: Text, false, "transition", "the state entered";
    state: Text, false, "retransmit, reset, sight, flow", "the state it is in";
    socket: Text, false, "reset, sight, flow", "what object: `full`, `half-open`, `timewait`; of a reset what sent it";
    in_state_ns: Long, false, "transition, sight, flow", "time in `old`, or so far in `state`; null: unknown";
    exact: Bool, false, "transition, sight, flow", "false: `in_state_ns` is a lower bound, or unknown";
    inferred: Bool, false, "transition", "true: no kernel event said so";
    known: Text, false, "transition", "how it is known";
    by_pid: Long, false, "transition", "who made the change, where the kernel ran in its context";
    by_comm: Text, false, "transition", "likewise";
    by_uid: Long, false, "transition", "likewise";
    segment: Text, false, "retransmit", "`syn`, `syn-ack`, `fin`, `data`, `unknown`";
    reason: Text, false, "retransmit, reset", "`rto`, `fast`, `tlp`, `unknown`; of a reset the kernel's own name for it";
    evidence: Text, false, "retransmit", "what `reason` rests on";
    segments: Int, false, "retransmit", "how many segments";
    err: Int, false, "retransmit", "0: sent; negative errno: it could not leave; null: this kernel tells only of sent ones";
    flags: Text, false, "retransmit", "TCP flags: `FIN|ACK`";
    seq: Long, false, "retransmit", "first sequence number";
    end_seq: Long, false, "retransmit", "one past the last";
    stall_retransmits: Int, false, "retransmit", "retransmissions of the current stall";
    backoff: Int, false, "retransmit", "exponential back-off of the current stall";
    hook: Text, false, "retransmit", "`tracepoint` or `kprobe`";
    direction: Text, false, "reset", "`sent` or `received`";
    answers: Text, false, "reset", "TCP flags of the packet that it answers";
    cause: Text, false, CLOSE, "why it ended: the table in docs/events.md";
    continues_as: Text, false, CLOSE, "`TIME_WAIT` or `FIN_WAIT2`: a minisocket goes on";
    errno: Int, false, CLOSE, "the socket's error";
    duration_ns: Long, false, "close, resync", "from its first event; null: older than the trace. Of a resync: how long it took";
    bytes_sent: Long, false, CLOSE, "payload sent, retransmissions included";
    bytes_acked: Long, false, "close, sight", "sequence numbers acknowledged";
    bytes_received: Long, false, "close, sight", "payload received in order";
    bytes_retransmitted: Long, false, CLOSE, "payload sent again";
    bytes_unread: Long, false, CLOSE, "received and never read";
    bytes_unsent: Long, false, "close, sight", "written and never, or not yet, sent";
    retransmits: Long, false, "close, sight", "segments sent again in its whole life";
    srtt_us: Long, false, "close, sight", "smoothed round-trip time";
    min_rtt_us: Long, false, "close, sight", "smallest round-trip time";
    dwell_syn_sent_ns: Long, false, CLOSE, DWELL;
    dwell_syn_recv_ns: Long, false, CLOSE, DWELL;
    dwell_established_ns: Long, false, CLOSE, DWELL;
    dwell_fin_wait1_ns: Long, false, CLOSE, DWELL;
    dwell_fin_wait2_ns: Long, false, CLOSE, DWELL;
    dwell_close_wait_ns: Long, false, CLOSE, DWELL;
    dwell_closing_ns: Long, false, CLOSE, DWELL;
    dwell_last_ack_ns: Long, false, CLOSE, DWELL;
    dwell_listen_ns: Long, false, CLOSE, DWELL;
    closed_by_pid: Long, false, CLOSE, "who closed it; null: unknown";
    closed_by_comm: Text, false, CLOSE, OWNED;
    closed_by_uid: Long, false, CLOSE, OWNED;
    closed_by_source: Text, false, CLOSE, OWNED;
    closed_by_unit: Text, false, CLOSE, OWNED;
    closed_by_container: Text, false, CLOSE, OWNED;
    closed_by_pod: Text, false, CLOSE, OWNED;
    bound: Text, false, "sight", "what tells `in_state_ns`";
    uid: Long, false, "sight", "of the socket";
    inode: Long, false, "sight", "of the socket; null: nobody holds a descriptor";
    cgroup: Id, false, "sight", "cgroup v2 id of the socket";
    timer_kind: Text, false, "sight", "`retransmit`, `keepalive`, `timewait`, `probe`; null: no timer runs";
    timer_expires_ns: Long, false, "sight", "from then";
    timer_retransmits: Int, false, "sight", "of the current stall";
    receive_queue: Long, false, "sight", "unread bytes; of a listener: connections to be accepted";
    send_queue: Long, false, "sight", "unacknowledged bytes; of a listener: the limit";
    rto_us: Long, false, "sight", "retransmission time-out";
    left_ns: Long, false, "flow", "until a timer of the kernel ends it; null: none";
    why: Text, false, "resync", "`start`, `timer`, `lost`, `asked`, `end`";
    namespaces: Long, false, "resync", "network namespaces asked";
    namespaces_unread: Long, false, "resync", "those that could not be";
    restarts: Long, false, "resync", "lists begun again";
    unreadable: Long, false, "resync", "messages that make no sense";
    sockets: Long, false, "resync", "that passed the filter";
    found: Long, false, "resync", "unknown before";
    corrected: Long, false, "resync", "states that were not the ones told";
    vanished: Long, false, "resync", "flows that were gone";
    kind: Text, false, "lost", "what was lost, as in docs/events.md";
    count: Long, false, "lost", "how many since the last such row of this kind";
}

/// Parquet's schema.
///
/// # Errors
/// None, as long as the table makes sense.
pub fn parquet() -> Result<TypePtr> {
    let mut message = String::from("message events {\n");
    for Column { name, required, parquet: [physical, logical], .. } in COLUMNS {
        let repetition = if *required { "required" } else { "optional" };
        message.push_str(&format!("{repetition} {physical} {name}{logical};\n"));
    }
    message.push('}');
    Ok(Arc::new(parse_message_type(&message)?))
}
