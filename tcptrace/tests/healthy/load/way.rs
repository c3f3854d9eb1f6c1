//! Ways from a client to a server: through a loopback device, or over a wire that loses segments.

use super::{PATIENCE, patient};
use crate::random::Random;
use socket2::{Domain, Socket, Type};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};
use tcptrace::source::netns::Namespace;
use tcptrace_lab::{Direction, Lab, Side};

/// From where to where.
#[derive(Clone)]
pub struct Way {
    pub name: &'static str,
    from: Namespace,
    to: Namespace,
    /// What the client's socket, and the listener's, is made for.
    domains: [Domain; 2],
    /// What the client dials, and what the listener binds.
    pub dial: IpAddr,
    bind: IpAddr,
    pub loopback: bool,
}

impl Way {
    /// Every way through the loopback device: IPv4, IPv6, and IPv4 between an IPv6 socket at either end.
    pub fn loopback(namespace: &Namespace) -> Vec<Self> {
        let (four, six) = (IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST));
        let (any, mapped) = (IpAddr::V6(Ipv6Addr::UNSPECIFIED), Ipv4Addr::LOCALHOST.to_ipv6_mapped().into());
        let way = |name, domains, dial, bind| Self {
            name,
            from: namespace.clone(),
            to: namespace.clone(),
            domains,
            dial,
            bind,
            loopback: true,
        };
        vec![
            way("IPv4", [Domain::IPV4; 2], four, four),
            way("IPv6", [Domain::IPV6; 2], six, six),
            way("IPv4 to a listener for both", [Domain::IPV4, Domain::IPV6], four, any),
            way("mapped IPv4", [Domain::IPV6; 2], mapped, any),
        ]
    }

    /// Over a lab's wire, of whose segments so many of a thousand are lost, both ways.
    pub fn wire(name: &'static str, lab: &Lab, lost: usize, random: &Random) -> Self {
        for direction in [Direction::ToServer, Direction::ToClient] {
            let mut random = random.clone();
            lab.wire().drop_when(direction, move |_| random.below(1000) < lost);
        }
        let own = |side| lab.run_in(side, Namespace::own).expect("the host runs it").expect("its namespace");
        let server = lab.address(Side::Server);
        Self {
            name,
            from: own(Side::Client),
            to: own(Side::Server),
            domains: [Domain::for_address(SocketAddr::new(server, 0)); 2],
            dial: server,
            bind: server,
            loopback: false,
        }
    }

    /// Runs it in the client's namespace.
    pub fn within<T: Send>(&self, job: impl FnOnce() -> T + Send) -> T {
        self.from.enter(job).expect("entered")
    }

    /// A client's socket, in the namespace of the calling thread.
    pub fn client(&self) -> io::Result<Socket> {
        let socket = Socket::new(self.domains[0], Type::STREAM, None)?;
        patient(&socket)?;
        Ok(socket)
    }

    /// A socket in the server's namespace that is bound to a port of its own, and does not listen.
    pub fn bound(&self) -> io::Result<Socket> {
        let domain = self.domains[1];
        let socket =
            self.to.enter(|| Socket::new(domain, Type::STREAM, None)).map_err(io::Error::other)??;
        if domain == Domain::IPV6 {
            socket.set_only_v6(false)?;
        }
        socket.bind(&SocketAddr::new(self.bind, 0).into())?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(socket)
    }

    /// One that listens.
    pub fn listener(&self, backlog: i32) -> io::Result<Socket> {
        let socket = self.bound()?;
        socket.listen(backlog)?;
        Ok(socket)
    }
}
