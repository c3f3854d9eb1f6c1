//! The link of a host: a TUN device, whose packets the wire reads and writes through a file.

use std::{
    fs::{self, File, OpenOptions},
    io,
    net::{IpAddr, UdpSocket},
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};

use crate::LabError;

/// Name of the device inside each namespace.
const DEVICE: &str = "lab0";
/// How long the kernel may take to make an IPv6 address usable; it takes microseconds.
const ADDRESS_DEADLINE: Duration = Duration::from_secs(5);

// Old ioctl numbers say nothing of size or direction, so each is given its structure here.
nix::ioctl_write_ptr_bad!(tunsetiff, libc::TUNSETIFF, libc::ifreq);
nix::ioctl_read_bad!(siocgifflags, libc::SIOCGIFFLAGS, libc::ifreq);
nix::ioctl_write_ptr_bad!(siocsifflags, libc::SIOCSIFFLAGS, libc::ifreq);
nix::ioctl_write_ptr_bad!(siocsifaddr, libc::SIOCSIFADDR, libc::ifreq);
nix::ioctl_write_ptr_bad!(siocsifnetmask, libc::SIOCSIFNETMASK, libc::ifreq);
nix::ioctl_write_ptr_bad!(siocsifaddr6, libc::SIOCSIFADDR, libc::in6_ifreq);

/// Makes the device in the calling thread's namespace, with that address and a route to its neighbours.
pub(crate) fn open(address: IpAddr) -> Result<File, LabError> {
    let tun = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")
        .map_err(no_tun)?;
    let mut request = request(DEVICE);
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the file is open, and `request` is the ifreq that TUNSETIFF reads.
    unsafe { tunsetiff(tun.as_raw_fd(), &request) }
        .map_err(|errno| LabError::errno("make a TUN device", errno))?;

    let control = |domain| {
        Socket::new(domain, Type::DGRAM, None)
            .map_err(|error| LabError::system("open a control socket", error))
    };
    let v4 = control(Domain::IPV4)?;
    up(&v4, "lo")?;
    if address.is_ipv6() {
        allow_v6()?;
    }
    up(&v4, DEVICE)?;
    match address {
        IpAddr::V4(address) => address_v4(&v4, address.octets())?,
        IpAddr::V6(v6) => {
            address_v6(&control(Domain::IPV6)?, v6.octets())?;
            usable(address)?;
        }
    }
    Ok(tun)
}

/// Switches IPv6 on for the device, with as little of its housekeeping as possible.
fn allow_v6() -> Result<(), LabError> {
    // Addresses at once, without looking for duplicates, and none but ours: the device has one neighbour.
    for (name, value) in
        [("disable_ipv6", "0"), ("accept_dad", "0"), ("accept_ra", "0"), ("router_solicitations", "0")]
    {
        let path = format!("/proc/sys/net/ipv6/conf/{DEVICE}/{name}");
        fs::write(path, value).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => LabError::NoIpv6,
            _ => LabError::system("switch IPv6 on in the namespace", error),
        })?;
    }
    Ok(())
}

fn no_tun(source: io::Error) -> LabError {
    match source.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => LabError::NoTun { source },
        _ => LabError::system("open /dev/net/tun", source),
    }
}

fn up(control: &Socket, device: &str) -> Result<(), LabError> {
    let failed = |errno| LabError::errno("switch a device of the namespace on", errno);
    let mut request = request(device);
    // SAFETY: the socket is open, and `request` is the ifreq that SIOCGIFFLAGS fills.
    unsafe { siocgifflags(control.as_raw_fd(), &mut request) }.map_err(failed)?;
    // SAFETY: SIOCGIFFLAGS has just written this member of the union, and any bits are a number.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    // The others are kept: without IFF_NOARP the kernel would look for neighbours on this device.
    request.ifr_ifru.ifru_flags = flags | libc::IFF_UP as libc::c_short;
    // SAFETY: the socket is open, and `request` is the ifreq that SIOCSIFFLAGS reads.
    unsafe { siocsifflags(control.as_raw_fd(), &request) }.map_err(failed)?;
    Ok(())
}

fn address_v4(control: &Socket, address: [u8; 4]) -> Result<(), LabError> {
    let failed = |errno| LabError::errno("give the TUN device its IPv4 address", errno);
    let mut request = request(DEVICE);
    request.ifr_ifru.ifru_addr = sockaddr_v4(address);
    // SAFETY: the socket is open, and `request` is the ifreq that SIOCSIFADDR reads.
    unsafe { siocsifaddr(control.as_raw_fd(), &request) }.map_err(failed)?;
    // The peer is in this prefix, so it makes the route to it.
    request.ifr_ifru.ifru_netmask = sockaddr_v4([255, 255, 255, 0]);
    // SAFETY: as above, for SIOCSIFNETMASK.
    unsafe { siocsifnetmask(control.as_raw_fd(), &request) }.map_err(failed)?;
    Ok(())
}

fn address_v6(control: &Socket, address: [u8; 16]) -> Result<(), LabError> {
    let failed = |errno| LabError::errno("give the TUN device its IPv6 address", errno);
    let index = nix::net::if_::if_nametoindex(DEVICE).map_err(failed)?;
    let request = libc::in6_ifreq {
        ifr6_addr: libc::in6_addr { s6_addr: address },
        // The peer is in this prefix, so it makes the route to it.
        ifr6_prefixlen: 64,
        ifr6_ifindex: index as libc::c_int,
    };
    // SAFETY: the socket is an IPv6 one, for which SIOCSIFADDR reads an in6_ifreq.
    unsafe { siocsifaddr6(control.as_raw_fd(), &request) }.map_err(failed)?;
    Ok(())
}

/// Waits until sockets can be bound to the address. Even without duplicate detection an IPv6 address is tentative
/// until a kernel worker has looked at it.
fn usable(address: IpAddr) -> Result<(), LabError> {
    let deadline = Instant::now() + ADDRESS_DEADLINE;
    loop {
        match UdpSocket::bind((address, 0)) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable && Instant::now() < deadline => {
                thread::sleep(Duration::from_micros(200));
            }
            Err(error) => return Err(LabError::system("use the IPv6 address of the TUN device", error)),
        }
    }
}

fn request(device: &str) -> libc::ifreq {
    // SAFETY: ifreq is made of integers and unions of them, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // One byte is left for the end of the string.
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name.iter_mut().take(room).zip(device.bytes()) {
        *to = from as libc::c_char;
    }
    request
}

fn sockaddr_v4(address: [u8; 4]) -> libc::sockaddr {
    let mut data = [0; 14];
    // Two bytes of port, zero here, come before the address.
    for (to, from) in data.iter_mut().skip(2).zip(address) {
        *to = from as libc::c_char;
    }
    libc::sockaddr { sa_family: libc::AF_INET as libc::sa_family_t, sa_data: data }
}
