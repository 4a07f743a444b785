#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The outside world's servers, for every address that the namespace holds.

    servers.py READY_FILE WEB_ROOT CERT_DIR

HTTP on 80, 443 and 8080 and HTTPS on 8443 (files below WEB_ROOT), TCP greeting and echo on 22, 853, 5432, 7000 and 9000,
UDP echo on 443, 5432, 7000, 8000-8003 and 9000. One process, one selector: it starts quickly, many times in a run. UDP answers leave from
the address that was asked. It writes "ready" into READY_FILE when all of them listen.
"""
import http.server
import os
import selectors
import socket
import ssl
import struct
import sys
import threading

HTTP_PORTS = [80, 443, 8080]
HTTPS_PORT = 8443
TCP_PORTS = [22, 853, 5432, 7000, 9000]
UDP_PORTS = [443, 5432, 7000, 8000, 8001, 8002, 8003, 9000]
IP_PKTINFO, IPV6_PKTINFO, IPV6_RECVPKTINFO = 8, 50, 49


class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    daemon_threads = True
    request_queue_size = 512

    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = "far.test", self.server_address[1]


def echo(connection):
    with connection:
        try:
            connection.sendall(b"hello\n")
            while True:
                data = connection.recv(65536)
                if not data:
                    return
                connection.sendall(data)
        except OSError:
            pass


def accept(listener):
    connection, _ = listener.accept()
    threading.Thread(target=echo, args=(connection,), daemon=True).start()


def answer(sock):
    data, ancillary, _, peer = sock.recvmsg(65535, 512)
    reply = []
    for level, kind, value in ancillary:
        if (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO):
            reply = [(level, kind, struct.pack("=I4s4s", 0, value[8:12], b"\0" * 4))]
        elif (level, kind) == (socket.IPPROTO_IPV6, IPV6_PKTINFO):
            reply = [(level, kind, value[:16] + b"\0" * 4)]
    try:
        sock.sendmsg([b"echo:" + data], reply, 0, peer)
    except OSError:
        pass


def main():
    ready, root, certificates = sys.argv[1:4]
    os.chdir(root)
    selector = selectors.DefaultSelector()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(f"{certificates}/cert.pem", f"{certificates}/key.pem")
    for port in HTTP_PORTS + [HTTPS_PORT]:
        server = Server(("::", port), Handler)
        if port == HTTPS_PORT:
            server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, daemon=True).start()
    for port in TCP_PORTS:
        listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=512)
        # Fast Open both ways, so that data in a SYN is accepted as readily as any.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 64)
        selector.register(listener, selectors.EVENT_READ, accept)
    for port in UDP_PORTS:
        for family in (socket.AF_INET, socket.AF_INET6):
            sock = socket.socket(family, socket.SOCK_DGRAM)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
            else:
                sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
            sock.bind(("", port))
            selector.register(sock, selectors.EVENT_READ, answer)
    with open(ready, "w", encoding="ascii") as file:
        file.write("ready\n")
    while True:
        for key, _ in selector.select():
            key.data(key.fileobj)


if __name__ == "__main__":
    main()
