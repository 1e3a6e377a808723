"""A client of a cache server that says what it likes: the packets of cache/common/protocol.h."""

import array
import contextlib
import mmap
import os
import select
import socket
import struct

PROTOCOL = 0x53464301
HEADER = struct.Struct("<IHHI")  # protocol, type, zero, size of the payload
LIMITS = struct.Struct("<QQQIIII")  # bytes, reserve, memory, store_rate, store_inflight, timeout_ms, jitter_ms
WANT = struct.Struct("<QIIII")  # offset, length, archive, flags, zero
HINT = struct.Struct("<II")  # archive, flags
RANGE = struct.Struct("<QQ")  # offset, length
BLOCK = struct.Struct("<16sQII")  # archive, position, length, kind
PACKET_BYTES = 32 * 1024
BUFFER_BYTES = 1 << 20
DISTRUST = 1

HELLO, OPEN, WANTED, HINTED, GET, PUT, ABANDON, STAT, PING, CLEAR = range(1, 11)
WELCOME, OPENED, LOCAL, BUFFER, LEASE, DONE, FAILED, STATS, PONG = range(100, 109)
NONE, MEMORY, DISK, PARTIAL = range(4)
GONE = "gone"  # what take() gives where the other end has closed


def packet(kind: int, payload: bytes = b"", protocol: int = PROTOCOL, zero: int = 0, size: int | None = None) -> bytes:
    return HEADER.pack(protocol, kind, zero, len(payload) if size is None else size) + payload


def limits(most: int = (1 << 64) - 1, reserve: int = 0, memory: int = 1 << 40, rate: int = 0, inflight: int = 8,
           timeout_ms: int = 60_000, jitter_ms: int = 0) -> bytes:
    return LIMITS.pack(most, reserve, memory, rate, inflight, timeout_ms, jitter_ms)


def open_request(tier: int = DISK, path: bytes = b"archive", hints_follow: bool = False, **bounds) -> bytes:
    return limits(**bounds) + bytes([tier, hints_follow]) + bytes(6) + path


def want(offset: int, length: int, archive: int = 0, flags: int = 0) -> bytes:
    return WANT.pack(offset, length, archive, flags, 0)


def memfd(size: int = 0, name: str = "test", flags: int = os.MFD_CLOEXEC) -> int:
    descriptor = os.memfd_create(name, flags)
    os.ftruncate(descriptor, size)
    return descriptor


class Client:
    """One connection. Closed, with all descriptors that came, after the context."""

    def __init__(self, directory, seconds: float = 30):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(seconds)
        self.seconds = seconds
        self.owned = []
        self.buffer = None
        self.path = str(directory / "socket")

    def __enter__(self):
        self.socket.connect(self.path)
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()
        for descriptor in self.owned:
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self.owned = []

    def own(self, descriptor: int) -> int:
        """Closes it with the connection."""
        self.owned.append(descriptor)
        return descriptor

    def send_raw(self, data: bytes, descriptors=()) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        self.socket.sendmsg([data], rights)

    def send(self, kind: int, payload: bytes = b"", descriptors=()) -> None:
        self.send_raw(packet(kind, payload), descriptors)

    def take(self):
        """The next packet: kind, payload, descriptors; or GONE, b"", []. TimeoutError where none comes."""
        try:
            data, rights, _, _ = self.socket.recvmsg(PACKET_BYTES, socket.CMSG_SPACE(3 * 4))
        except ConnectionResetError:
            data, rights = b"", []
        descriptors = array.array("i")
        for _, _, content in rights:
            descriptors.frombytes(content[:len(content) // 4 * 4])
        self.owned += descriptors
        if not data:
            return GONE, b"", []
        return HEADER.unpack_from(data)[1], data[HEADER.size:], list(descriptors)

    def has_answer(self, seconds: float) -> bool:
        return bool(select.select([self.socket], [], [], seconds)[0])

    def ask(self, kind: int, payload: bytes = b"", descriptors=()):
        """Sends a request and takes its answer."""
        try:
            self.send(kind, payload, descriptors)
        except (BrokenPipeError, ConnectionResetError):
            return GONE, b"", []
        return self.take()

    def hello(self, buffer: int | None = None):
        """Introduces itself, with a good buffer unless another one is given."""
        self.buffer = self.own(memfd(name="buffer")) if buffer is None else buffer
        return self.ask(HELLO, struct.pack("<I", os.getpid()), [self.buffer])

    def open(self, file, tier: int = DISK, **bounds):
        """Greets and opens an archive, by path or descriptor; returns its number and units."""
        if self.buffer is None:
            assert self.hello()[0] == WELCOME
        store = file if isinstance(file, int) else self.own(os.open(file, os.O_RDONLY | os.O_CLOEXEC))
        kind, payload, descriptors = self.ask(OPEN, open_request(tier, **bounds), [store])
        if kind != OPENED:
            raise AssertionError(f"OPEN: {kind} {payload!r}")
        self.mirror, self.map, self.sums, self.touches = descriptors
        return struct.unpack("<II", payload)

    def read(self, offset: int, length: int, flags: int = 0, archive: int = 0) -> bytes:
        """WANT, and the bytes from wherever the answer says they are."""
        kind, payload, _ = self.ask(WANTED, want(offset, length, archive, flags))
        if kind == LOCAL:
            return os.pread(self.mirror, length, offset)
        if kind == BUFFER:
            return os.pread(self.buffer, length, 0)
        raise AssertionError(f"WANT {offset} {length}: {kind} {payload!r}")

    def has_unit(self, unit: int) -> bool:
        """What the map of units says."""
        with mmap.mmap(self.map, 0, prot=mmap.PROT_READ) as units:
            return units[unit] != 0
