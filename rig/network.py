"""What stands between a client and its server: a certificate, a gate that can be shut, a proxy."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import socket
import threading
from types import TracebackType

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


def self_signed(address: str = "127.0.0.1", hours: float = 1) -> bytes:
    """Key and certificate for an IP address as PEM, valid for so many hours; less than 0: until then."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "emulator")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(hours=hours))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = serialization.PrivateFormat.PKCS8
    return key.private_bytes(pem, private, serialization.NoEncryption()) + certificate.public_bytes(pem)


class Gate:
    """
    An address that passes bytes on to ``port`` of this machine while it is open.

    Shut, it resets what runs through it and refuses connections, as a server does that has gone away.
    """

    def __init__(self, port: int = 0) -> None:
        self._to = port
        self._listener: socket.socket | None = None
        self._open: set[socket.socket] = set()
        self.port = 0
        self.open()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def open(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def shut(self) -> None:
        if self._listener is None:
            return
        listener, self._listener = self._listener, None
        for each in [listener, *self._open]:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        listener.close()

    def __enter__(self) -> Gate:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.shut()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                threading.Thread(target=self._join, args=(near,), daemon=True).start()

    def _join(self, near: socket.socket) -> None:
        with contextlib.suppress(OSError):
            far = self._connect(near)
            self._open |= {near, far}
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._pass_on, args=(one, other), daemon=True).start()

    def _connect(self, near: socket.socket) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._to))

    def _pass_on(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
        for each in (one, other):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
                each.close()
            self._open.discard(each)


class ForwardProxy(Gate):
    """A proxy as companies have them, for https: it tunnels by CONNECT."""

    def _connect(self, near: socket.socket) -> socket.socket:
        head = b""
        while b"\r\n\r\n" not in head:
            head += near.recv(65536)
        far = socket.create_connection(("127.0.0.1", int(head.split()[1].rpartition(b":")[2])))
        near.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        return far
