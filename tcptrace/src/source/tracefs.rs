//! The `format` files of the classic tracepoints: where the fields of their records are.

use super::privileges::{Capability, setcap};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use std::{fs, io::ErrorKind, path::PathBuf};
use tcptrace_common::layout::{NO_FIELD, Record};

/// Where tracefs is looked for, in this order.
const PLACES: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// The mounted tracefs, if it can be seen.
pub fn find() -> Option<PathBuf> {
    PLACES.into_iter().map(PathBuf::from).find(|place| place.join("events").is_dir())
}

/// What to type if there is a tracefs that may not be read: it is for root alone (mode 0700).
///
/// # Errors
/// There is one.
pub fn readable() -> Result<(), String> {
    let hidden = |place: &&&str| {
        let events = fs::metadata(std::path::Path::new(*place).join("events"));
        events.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
    };
    match PLACES.iter().find(hidden) {
        Some(place) => Err(format!(
            "{place} may not be read: that needs {}, which this process does not have; type: {}",
            Capability::DacReadSearch.name(),
            setcap(&[Capability::Bpf, Capability::Perfmon, Capability::DacReadSearch])
        )),
        None => Ok(()),
    }
}

/// Mounts tracefs for this process alone, where it is not mounted: nobody else sees it, and it is gone when we
/// are. To be called before other threads exist.
///
/// # Errors
/// A sentence that says what failed and what to type.
pub fn mount_privately() -> Result<PathBuf, String> {
    readable()?;
    let none: Option<&str> = None;
    let place = PLACES[0];
    let mounted = unshare(CloneFlags::CLONE_NEWNS)
        .and_then(|()| mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none))
        .and_then(|()| mount(Some("tracefs"), place, Some("tracefs"), MsFlags::empty(), none));
    match mounted {
        Ok(()) => Ok(PathBuf::from(place)),
        Err(error) => Err(format!(
            "tracefs is not mounted, and mounting it failed ({error}); type: sudo mount -t tracefs tracefs {place}"
        )),
    }
}

/// Reads the layout of one tracepoint's record.
///
/// # Errors
/// A sentence that says why the tracepoint cannot be used.
pub fn record(tracefs: &std::path::Path, category: &str, name: &str) -> Result<Record, String> {
    let path = tracefs.join("events").join(category).join(name).join("format");
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    parse(&text).ok_or_else(|| format!("{}: it has no socket address field", path.display()))
}

/// Picks the fields we use out of a `format` file. `None` where the record does not even name a socket.
fn parse(format: &str) -> Option<Record> {
    let mut record = Record::NONE;
    for line in format.lines() {
        let Some((name, offset, size)) = field(line) else { continue };
        let slot = match (name, size) {
            ("skaddr", 8) => &mut record.sk,
            ("skbaddr", 8) => &mut record.skb,
            ("req", 8) => &mut record.req,
            ("oldstate", 4) => &mut record.old,
            ("newstate", 4) => &mut record.new,
            ("protocol", 2) => &mut record.protocol,
            ("sport", 2) => &mut record.sport,
            ("dport", 2) => &mut record.dport,
            ("saddr_v6", 16) => &mut record.saddr,
            ("daddr_v6", 16) => &mut record.daddr,
            ("saddr", 28) => &mut record.saddr_sock,
            ("daddr", 28) => &mut record.daddr_sock,
            ("state", 4) => &mut record.state,
            ("reason" | "err", 4) => &mut record.detail,
            _ => continue,
        };
        *slot = offset;
    }
    (record.sk != NO_FIELD || record.req != NO_FIELD).then_some(record)
}

/// One line, `field:__u8 saddr_v6[16]; offset:40; size:16; signed:0;`, gives its name, offset and size.
fn field(line: &str) -> Option<(&str, u16, u16)> {
    let mut parts = line.trim().split(';').map(str::trim);
    let declaration = parts.next()?.strip_prefix("field:")?;
    let offset = parts.next()?.strip_prefix("offset:")?.parse().ok()?;
    let size = parts.next()?.strip_prefix("size:")?.parse().ok()?;
    // Some kernels print an array's size as C: `saddr[sizeof(struct sockaddr_in6)]`.
    let name = declaration.split('[').next()?.rsplit([' ', '*']).next()?;
    Some((name, offset, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_layouts_of_send_reset_are_read() {
        let old = "\tfield:const void * skbaddr;\toffset:8;\tsize:8;\tsigned:0;\n\
                   \tfield:const void * skaddr;\toffset:16;\tsize:8;\tsigned:0;\n\
                   \tfield:int state;\toffset:24;\tsize:4;\tsigned:1;\n\
                   \tfield:__u16 sport;\toffset:28;\tsize:2;\tsigned:0;\n\
                   \tfield:__u8 saddr[4];\toffset:32;\tsize:4;\tsigned:0;\n\
                   \tfield:__u8 saddr_v6[16];\toffset:40;\tsize:16;\tsigned:0;\n";
        let record = parse(old).unwrap();
        assert_eq!((record.skb, record.sk, record.state, record.sport, record.saddr), (8, 16, 24, 28, 40));
        assert_eq!((record.detail, record.saddr_sock), (NO_FIELD, NO_FIELD));

        let new = "\tfield:const void * skaddr;\toffset:16;\tsize:8;\tsigned:0;\n\
                   \tfield:enum sk_rst_reason reason;\toffset:28;\tsize:4;\tsigned:0;\n\
                   \tfield:__u8 saddr[sizeof(struct sockaddr_in6)];\toffset:32;\tsize:28;\tsigned:0;\n\
                   \tfield:__u8 daddr[sizeof(struct sockaddr_in6)];\toffset:60;\tsize:28;\tsigned:0;\n";
        let record = parse(new).unwrap();
        assert_eq!((record.detail, record.saddr_sock, record.daddr_sock), (28, 32, 60));
        assert_eq!((record.saddr, record.sport), (NO_FIELD, NO_FIELD));
    }

    #[test]
    fn foreign_text_is_refused() {
        assert_eq!(parse(""), None);
        assert_eq!(parse("field:int x;\toffset:99999999;\tsize:4;"), None);
    }
}
