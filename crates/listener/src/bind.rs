//! Listening sockets: one for both families of addresses.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// Connections that the kernel may accept before the program takes them: after a failure all clients reconnect at once.
const BACKLOG: i32 = 4_096;

/// Listens on an address. `[::]` is every address of the machine, whatever the system's default for sockets of IPv6 is (`bindv6only`); on a
/// machine without IPv6 it is every address of IPv4.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    with_fallback(address, open)
}

/// Opens the address, or the same port of IPv4 if the address is `[::]` and there is no IPv6.
fn with_fallback<T>(
    address: SocketAddr,
    open: impl Fn(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let is_every_address = address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    match open(address) {
        Err(error) if is_every_address && lacks_ipv6(&error) => {
            let fallback = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
            tracing::info!(%address, %fallback, %error, "this machine has no IPv6; listening on IPv4 only");
            open(fallback)
        }
        opened => opened,
    }
}

/// Whether the kernel has no IPv6, or no address of it.
fn lacks_ipv6(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error())
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, net::TcpStream};

    use super::*;

    const EVERY_ADDRESS: &str = "[::]:0";

    fn error(errno: Errno) -> io::Error {
        io::Error::from_raw_os_error(errno.raw_os_error())
    }

    #[tokio::test]
    async fn unspecified_address_accepts_both_families() {
        let listener = bind(EVERY_ADDRESS.parse().expect("valid")).expect("bound");
        let port = listener.local_addr().expect("bound").port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("IPv4");
        let has_ipv6 = std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
        if has_ipv6 {
            TcpStream::connect((Ipv6Addr::LOCALHOST, port)).expect("IPv6");
        }
    }

    #[test]
    fn machine_without_ipv6_listens_on_ipv4() {
        for errno in [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL] {
            let tried = RefCell::new(Vec::new());
            let open = |address: SocketAddr| {
                tried.borrow_mut().push(address.to_string());
                if address.is_ipv6() {
                    Err(error(errno))
                } else {
                    Ok(())
                }
            };
            with_fallback("[::]:5000".parse().expect("valid"), open).expect("opened");
            assert_eq!(tried.into_inner(), ["[::]:5000", "0.0.0.0:5000"]);
        }
    }

    #[test]
    fn other_errors_and_addresses_have_no_fallback() {
        for (address, errno) in [
            ("[::]:5000", Errno::ADDRINUSE),
            ("[::]:80", Errno::ACCESS),
            ("[::1]:5000", Errno::ADDRNOTAVAIL),
            ("192.0.2.1:5000", Errno::ADDRNOTAVAIL),
        ] {
            let open = |_| Err::<(), _>(error(errno));
            let failed = with_fallback(address.parse().expect("valid"), open);
            let code = failed.expect_err("no fallback").raw_os_error();
            assert_eq!(code, Some(errno.raw_os_error()), "{address}");
        }
    }
}
