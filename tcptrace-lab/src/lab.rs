//! The lab: two hosts and the wire between them.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    process::{Command, Output},
};

use crate::{
    LabError, Wire,
    host::Host,
    table::{self, Row},
};

/// The server's port in every lab.
pub const PORT: u16 = 10_000;

/// The version of IP that the hosts of a lab speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4: 10.0.0.1 and 10.0.0.9.
    V4,
    /// IPv6: fd00::1 and fd00::9.
    V6,
}

impl Family {
    /// Both, for loops over all labs there are.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The address of that host in a lab of this family.
    pub fn address(self, side: Side) -> IpAddr {
        match (self, side) {
            (Self::V4, Side::Client) => Ipv4Addr::new(10, 0, 0, 1).into(),
            (Self::V4, Side::Server) => Ipv4Addr::new(10, 0, 0, 9).into(),
            (Self::V6, Side::Client) => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1).into(),
            (Self::V6, Side::Server) => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 9).into(),
        }
    }
}

/// One of the two hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The host that connects.
    Client,
    /// The host that is connected to, at [`PORT`].
    Server,
}

impl Side {
    /// Both, client first.
    pub const ALL: [Self; 2] = [Self::Client, Self::Server];

    /// The other one.
    pub fn peer(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Server => "server",
        })
    }
}

/// Two hosts in network namespaces of their own and the network between them; all gone when it is dropped.
#[derive(Debug)]
pub struct Lab {
    family: Family,
    // Hosts before the wire: their sockets are closed while there is a network, and the devices go last.
    client: Host,
    server: Host,
    wire: Wire,
}

impl Lab {
    /// Makes a lab. Needs root, and the kernel's TUN driver.
    pub fn new(family: Family) -> Result<Self, LabError> {
        let (client, client_tun) = Host::start(Side::Client, family)?;
        let (server, server_tun) = Host::start(Side::Server, family)?;
        let wire = Wire::start(client_tun, server_tun)?;
        Ok(Self { family, client, server, wire })
    }

    /// The version of IP spoken here.
    pub fn family(&self) -> Family {
        self.family
    }

    /// The inode number of that host's network namespace, by which the kernel's tools name it.
    pub fn netns(&self, side: Side) -> u32 {
        self.host(side).netns()
    }

    /// The id of that host's thread: the task that the kernel names when one of its programs makes a system call.
    pub fn thread_id(&self, side: Side) -> i32 {
        self.host(side).thread_id()
    }

    /// The address of that host.
    pub fn address(&self, side: Side) -> IpAddr {
        self.family.address(side)
    }

    /// Where the server listens.
    pub fn server_address(&self) -> SocketAddr {
        SocketAddr::new(self.address(Side::Server), PORT)
    }

    /// The network between the hosts.
    pub fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Runs a closure on that host's thread, in its namespace, and waits for it.
    ///
    /// Sockets should be made, used and closed there: the kernel names the calling task in its traces. A panic is
    /// passed on to the caller. Do not call this from within such a closure: the host would wait for itself.
    pub fn run_in<T: Send + 'static>(
        &self,
        side: Side,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, LabError> {
        self.host(side).run(job)
    }

    /// Runs a command in that host's namespace, waits for it and returns what it printed.
    pub fn command(&self, side: Side, mut command: Command) -> io::Result<Output> {
        // A child is born in the namespace of the thread that starts it.
        self.run_in(side, move || command.output()).map_err(io::Error::other)?
    }

    /// Sets a sysctl, named as `sysctl` names it, in that host's namespace: `"net.ipv4.tcp_fin_timeout"`, `"5"`.
    pub fn set_sysctl(&self, side: Side, name: &str, value: &str) -> Result<(), LabError> {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        let text = value.to_owned();
        // The kernel shows each thread the values of its own namespace.
        self.run_in(side, move || std::fs::write(path, text))?.map_err(|source| LabError::Sysctl {
            name: name.into(),
            value: value.into(),
            side,
            source,
        })
    }

    /// The states of that host's connections as `netstat` prints them, listeners apart, in the kernel's order.
    pub fn states(&self, side: Side) -> Result<Vec<&'static str>, LabError> {
        Ok(self.rows(side)?.iter().map(|row| row.state).collect())
    }

    /// The same with more of what the table says.
    pub(crate) fn rows(&self, side: Side) -> Result<Vec<Row>, LabError> {
        let family = self.family;
        self.run_in(side, move || table::rows(family))?
            .map_err(|error| LabError::system("read the kernel's table of sockets", error))
    }

    fn host(&self, side: Side) -> &Host {
        match side {
            Side::Client => &self.client,
            Side::Server => &self.server,
        }
    }
}
