#: tcp_to_the_parent ends
try:
    with socket.create_connection(("127.0.0.1", PORT), timeout=1) as connection:
        connection.sendall(b"hello")
        escaped("TCP")
except OSError:
    pass
done()

#: sockets_of_every_kind ends
for family in range(46):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET):
        made = attempt(socket.socket, family, kind)
        if made is not None:
            escaped(f"a socket of family {family}, type {kind}")
            made.close()
done()

#: udp_to_the_parent ends
try:
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"hello", ("127.0.0.1", PORT))
    escaped("UDP")
except OSError:
    pass
done()

#: server ends
try:
    server = socket.create_server(("0.0.0.0", 0))
    escaped("a server")
except OSError:
    pass
done()

#: unix_socket_of_the_parent ends
for address in (SOCKET, "\0" + NAME):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        try:
            socket.socket(socket.AF_UNIX, kind).connect(address)
            escaped("a unix socket")
        except OSError:
            pass
done()

#: pair_of_sockets_abused ends
for kind in (socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
    if attempt(socket.socketpair, socket.AF_UNIX, kind) is not None:
        escaped("a pair that can send anywhere")
one, other = socket.socketpair()
for function in (lambda: one.sendto(b"x", SOCKET), lambda: one.connect(SOCKET), lambda: one.bind("own"),
                 lambda: socket.send_fds(one, [b"x"], [0])):
    try:
        function()
        escaped("out of a pair")
    except OSError:
        pass
done()

#: names_looked_up ends
for name in ("localhost", "example.org"):
    try:
        socket.getaddrinfo(name, 80, proto=socket.IPPROTO_TCP)
        if name != "localhost":
            escaped("DNS")
    except OSError:
        pass
done()

#: kernel_by_netlink ends
for protocol in range(22):
    try:
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
        escaped(f"netlink {protocol}")
    except OSError:
        pass
done()
