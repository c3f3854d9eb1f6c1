//! Ways from one socket to another: which namespaces, which addresses, and what gets lost on the way.

use socket2::{Domain, Socket, Type};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tcptrace::source::netns::Namespace;
use tcptrace_lab::{Direction, Lab, Segment, Side};

/// From where to where.
#[derive(Clone)]
pub struct Road {
    from: Namespace,
    to: Namespace,
    /// What the client's socket, and the listener's, is made for.
    domains: [Domain; 2],
    /// Where the client binds, what it dials, where the listener binds.
    addresses: [IpAddr; 3],
    /// An address that nobody has.
    nowhere: IpAddr,
}

/// The first port of the traps, the number of ports in each, and how many there are.
pub const TRAPS: (u16, u16, u16) = (30_000, 100, 6);

impl Road {
    /// Every way through the loopback device: IPv4, IPv6, and IPv4 between an IPv6 socket at either end.
    pub fn loopback(namespace: &Namespace) -> Vec<Self> {
        let (four, six) = (IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST));
        let (any, mapped) = (IpAddr::V6(Ipv6Addr::UNSPECIFIED), Ipv4Addr::LOCALHOST.to_ipv6_mapped().into());
        let road = |domains, addresses| Self {
            from: namespace.clone(),
            to: namespace.clone(),
            domains,
            addresses,
            nowhere: IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        vec![
            road([Domain::IPV4, Domain::IPV4], [four, four, four]),
            road([Domain::IPV6, Domain::IPV6], [six, six, six]),
            road([Domain::IPV4, Domain::IPV6], [four, four, any]),
            road([Domain::IPV6, Domain::IPV6], [mapped, mapped, any]),
        ]
    }

    /// Through a lab's wire, with the traps laid.
    pub fn wire(lab: &Lab) -> Self {
        let drop = |direction, trap: u16, which: fn(&Segment) -> bool| {
            let first = TRAPS.0 + trap * TRAPS.1;
            lab.wire().drop_when(direction, move |it| {
                let client =
                    [it.destination_port, it.source_port][usize::from(direction == Direction::ToServer)];
                (first..first + TRAPS.1).contains(&client) && which(it)
            });
        };
        drop(Direction::ToServer, 0, |it| !it.syn); // a half-open request
        drop(Direction::ToServer, 1, |it| it.fin); // FIN_WAIT1 or LAST_ACK of the client
        drop(Direction::ToClient, 2, |it| it.fin); // the same of the server
        drop(Direction::ToServer, 3, |it| it.rst); // the server never hears of the end
        drop(Direction::ToClient, 3, |it| it.rst);
        drop(Direction::ToServer, 4, |it| it.syn); // SYN_SENT
        drop(Direction::ToClient, 5, |it| it.syn); // SYN_SENT and a half-open request
        let own = |side| lab.run_in(side, Namespace::own).expect("the host runs it").expect("its namespace");
        let [client, server] = [Side::Client, Side::Server].map(|side| lab.address(side));
        let domain = if client.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let nowhere = if client.is_ipv4() {
            Ipv4Addr::new(10, 0, 0, 77).into()
        } else {
            Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 77).into()
        };
        Self {
            from: own(Side::Client),
            to: own(Side::Server),
            domains: [domain; 2],
            addresses: [client, server, server],
            nowhere,
        }
    }

    /// A socket for the client's end.
    pub fn client(&self) -> Socket {
        socket(&self.from, self.domains[0])
    }

    /// A socket for the listener's end.
    pub fn listener(&self) -> Socket {
        socket(&self.to, self.domains[1])
    }

    pub fn bind_client(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.addresses[0], port)
    }

    pub fn dial(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.addresses[1], port)
    }

    pub fn bind_listener(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.addresses[2], port)
    }

    /// Where nobody answers, or where nobody listens.
    pub fn nowhere(&self) -> SocketAddr {
        let address = if self.domains[0] == Domain::IPV6 && self.nowhere.is_ipv4() {
            self.addresses[1]
        } else {
            self.nowhere
        };
        SocketAddr::new(address, 9)
    }
}

fn socket(namespace: &Namespace, domain: Domain) -> Socket {
    let make = || Socket::new(domain, Type::STREAM, None);
    let socket = namespace.enter(make).expect("entered").expect("a socket");
    socket.set_nonblocking(true).expect("set");
    socket.set_reuse_address(true).expect("set");
    if domain == Domain::IPV6 {
        socket.set_only_v6(false).expect("set");
    }
    socket
}
