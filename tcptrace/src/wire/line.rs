//! What every line about a flow begins with, and how it ends.

use super::{
    VERSION,
    json::{Ascii, Value, Word, fields},
};
use crate::{
    enrich::Place,
    event::Ends,
    flow::{FlowId, Who, owner::Owner},
    wall::Wall,
};
use serde::Serialize;
use std::net::{IpAddr, SocketAddr};

/// One end of a connection.
pub(super) struct End {
    addr: IpAddr,
    port: u16,
}

impl From<SocketAddr> for End {
    fn from(end: SocketAddr) -> Self {
        Self { addr: end.ip(), port: end.port() }
    }
}

impl Value for End {
    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"addr\":");
        self.addr.write(out);
        fields!(out, "port": self.port);
        out.push(b'}');
    }
}

/// An owner, and where it runs.
#[derive(Serialize)]
pub(super) struct OwnerJson<'a> {
    pid: u32,
    comm: &'a str,
    uid: u32,
    source: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<&'a str>,
}

impl<'a> OwnerJson<'a> {
    pub fn new(owner: &'a Owner, place: Option<&'a Place>) -> Self {
        let process = &*owner.process;
        Self {
            pid: process.pid,
            comm: &process.comm,
            uid: process.uid,
            source: owner.source.name(),
            unit: place.and_then(|place| place.unit.as_deref()),
            container: place.and_then(|place| place.container.as_deref()),
            pod: place.and_then(|place| place.pod.as_deref()),
        }
    }
}

/// As serde writes it.
impl Value for OwnerJson<'_> {
    fn write(self, out: &mut Vec<u8>) {
        begin_process(out, (self.pid, self.comm, self.uid));
        fields!(out, "source": Word(self.source));
        end_with_place(out, (self.unit, self.container, self.pod));
    }
}

/// Begins the object of a process; pid, command and uid.
pub(super) fn begin_process(out: &mut Vec<u8>, (pid, comm, uid): (u32, &str, u32)) {
    out.extend_from_slice(b"{\"pid\":");
    pid.write(out);
    fields!(out, "comm": comm, "uid": uid);
}

/// Ends it; unit, container and pod, as far as they are known.
pub(super) fn end_with_place(
    out: &mut Vec<u8>,
    (unit, container, pod): (Option<&str>, Option<&str>, Option<&str>),
) {
    if let Some(unit) = unit {
        fields!(out, "unit": unit);
    }
    if let Some(container) = container {
        fields!(out, "container": container);
    }
    if let Some(pod) = pod {
        fields!(out, "pod": pod);
    }
    out.push(b'}');
}

/// The identity as text: 64 bits do not survive a JSON reader that makes floats of numbers.
impl Value for FlowId {
    fn write(self, out: &mut Vec<u8>) {
        let (letter, number) = match self {
            Self::Cookie(cookie) => ("", cookie),
            Self::Generation(number) => ("g", number),
            Self::None => return None::<u64>.write(out),
        };
        out.push(b'"');
        out.extend_from_slice(letter.as_bytes());
        number.write(out);
        out.push(b'"');
    }
}

/// What is known of the ends of that which a line is about: family, local and remote end.
pub(super) type KnownEnds = (Option<u8>, Option<End>, Option<End>);

/// Both ends.
pub(super) fn both(ends: &Ends) -> KnownEnds {
    let local = ends.local();
    (Some(if local.is_ipv4() { 4 } else { 6 }), Some(local.into()), Some(ends.remote().into()))
}

/// Begins a line: its object stays open.
pub(super) fn begin(
    out: &mut Vec<u8>,
    wall: &mut Wall,
    kind: &'static str,
    who: (u64, &Who),
    ends: KnownEnds,
    place: Option<&Place>,
) {
    begin_of(out, wall, kind, who, ends, who.1.owner.as_ref().map(|owner| OwnerJson::new(owner, place)));
}

/// Likewise, with the owner as somebody has it.
pub(super) fn begin_of(
    out: &mut Vec<u8>,
    wall: &mut Wall,
    kind: &'static str,
    (time_ns, who): (u64, &Who),
    (family, local, remote): KnownEnds,
    owner: impl Value,
) {
    let Who { id, netns, role, .. } = who;
    let flow_id = match id {
        FlowId::Cookie(_) => "cookie",
        FlowId::Generation(_) => "generation",
        FlowId::None => "none",
    };
    out.extend_from_slice(b"{\"v\":");
    VERSION.write(out);
    fields!(
        out,
        "type": Word(kind),
        "time": Ascii(wall.rfc3339_bytes(time_ns)),
        "mono_ns": time_ns,
        "flow": *id,
        "flow_id": Word(flow_id),
        "netns": (*netns != 0).then_some(*netns),
        "family": family,
        "local": local,
        "remote": remote,
        "role": Word(role.name()),
        "owner": owner,
    );
}

/// Ends a line.
pub(super) fn end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"}\n");
}

/// Adds the fields of `body`, which is not empty, to the object that is open: for lines that are rare.
pub(super) fn join(out: &mut Vec<u8>, body: impl Serialize) -> serde_json::Result<()> {
    let begins = out.len();
    serde_json::to_writer(&mut *out, &body)?;
    // The brace that begins the second object becomes the comma after the first; the one that ends it comes later.
    if let Some(brace) = out.get_mut(begins) {
        *brace = b',';
    }
    out.pop();
    Ok(())
}

/// Ends a line with the fields of `body`.
pub(super) fn end_with(out: &mut Vec<u8>, body: impl Serialize) -> serde_json::Result<()> {
    join(out, body)?;
    end(out);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{flow::owner::Source, process::Process};
    use std::rc::Rc;

    #[test]
    fn an_owner_is_written_the_same_either_way() {
        let comm = "a \"b\"".into();
        let process = Rc::new(Process { pid: 7, uid: 1000, cgroup: 0, comm });
        let owner = Owner { process, source: Source::Connect };
        let pod = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod\
            0c8a71e6_5a57_4bb1_9b7a_2f5b1f0f6a6e.slice/cri-containerd-\
            0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef.scope";
        for place in [None, Some("/system.slice/nginx.service"), Some(pod)].map(|path| path.map(Place::parse))
        {
            let mut out = Vec::new();
            OwnerJson::new(&owner, place.as_ref()).write(&mut out);
            let theirs = serde_json::to_string(&OwnerJson::new(&owner, place.as_ref())).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), theirs);
            assert!(place.is_none() || theirs.contains("\"unit\"") || theirs.contains("\"pod\""), "{theirs}");
        }
    }
}
