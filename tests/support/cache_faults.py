"""What goes wrong under a cache: disks that are small, full or read-only, and readers who must not notice."""

import contextlib
import json
import os
import random
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from cached import HANG, CacheDir
from mounted import is_mounted, wait_until

PROTOCOL = 0x53464301  # cache/common/protocol.h
HELLO, OPEN, STAT, WELCOME, OPENED, STATS = 1, 2, 8, 100, 101, 107


def loop_devices_work() -> bool:
    """Whether an image can be mounted here, by root."""
    return os.geteuid() == 0 and subprocess.run(["losetup", "-f"], stdout=subprocess.DEVNULL,
                                                stderr=subprocess.DEVNULL, check=False).returncode == 0


class SmallDisk(CacheDir):
    """A CacheDir on a file system of its own, "ext4" or "tmpfs". Needs root."""

    def __init__(self, kind: str, mebibytes: int):
        super().__init__()
        self.kind, self.mebibytes = kind, mebibytes
        self.image = None
        self.neighbours = []

    def __enter__(self):
        try:
            self._mount()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _mount(self):
        options = ["-t", "tmpfs", "-o", f"size={self.mebibytes}m", "none"]
        if self.kind == "ext4":
            handle, self.image = tempfile.mkstemp(prefix="shardfs-image-")
            os.truncate(handle, self.mebibytes << 20)
            os.close(handle)
            subprocess.run(["mkfs.ext4", "-q", "-m", "0", self.image], check=True)
            options = ["-o", "loop,errors=remount-ro", self.image]
        subprocess.run(["mount", *options, self.parent], check=True)

    def __exit__(self, *_):
        for neighbour in self.neighbours:
            neighbour.kill()
            neighbour.wait()
        self.kill_processes()
        if is_mounted(self.parent):
            subprocess.run(["umount", "-l", self.parent], check=False)
        if self.image is not None:
            os.unlink(self.image)
        super().__exit__()

    def kill_processes(self):
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not self.processes(), "the end of the cache's processes")

    def remount(self, options: str) -> int:
        """mount(8)'s exit status."""
        return subprocess.run(["mount", "-o", f"remount,{options}", self.parent], stderr=subprocess.DEVNULL,
                              check=False).returncode

    def fill(self) -> None:
        """Takes all the room there is, as a neighbour does."""
        subprocess.run(["bash", "-c", 'cat /dev/zero > "$0"', self.parent / "neighbour"], stderr=subprocess.DEVNULL,
                       check=False)

    def empty(self) -> None:
        (self.parent / "neighbour").unlink(missing_ok=True)

    def fill_and_empty(self) -> None:
        """A neighbour that takes all the room and gives it back, again and again, until the end."""
        loop = 'while :; do cat /dev/zero > "$0"; sleep 0.15; rm -f "$0"; sleep 0.15; done'
        self.neighbours.append(subprocess.Popen(["bash", "-c", loop, self.parent / "neighbour"],
                                                stderr=subprocess.DEVNULL))


class Reading:
    """Files being read and compared, in an order of its own, by threads that a hang does not outlive the test."""

    def __init__(self, root, files: dict, threads: int = 4, seed: int = 0, drop: bool = True):
        self.root, self.files = Path(root), files
        self.errors, self.wrong = {}, []
        self.begun = 0  # reads
        self.lock = threading.Lock()
        names = sorted(files)
        random.Random(seed).shuffle(names)
        if drop:
            for name in names:
                forget_pages(self.root / name)
        self.threads = [threading.Thread(target=self._read, args=(names[i::threads],), daemon=True)
                        for i in range(threads)]
        for thread in self.threads:
            thread.start()

    def _read(self, names):
        for name in names:
            with self.lock:
                self.begun += 1
            try:
                if (self.root / name).read_bytes() != self.files[name]:
                    self.wrong.append(name)
            except OSError as error:
                self.errors[name] = error.errno

    def result(self, seconds: float = 2 * HANG) -> dict:
        """The errnos of files that could not be read. All others are right, and it came to an end."""
        end = time.monotonic() + seconds
        for thread in self.threads:
            thread.join(max(0.0, end - time.monotonic()))
        if any(thread.is_alive() for thread in self.threads):
            raise AssertionError(f"readers hang after {seconds} s")
        if self.wrong:
            raise AssertionError(f"wrong bytes: {self.wrong}")
        return dict(self.errors)


def forget_pages(path) -> None:
    """Has the kernel ask again for what it has of a file."""
    with contextlib.suppress(OSError):
        file = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(file)


def contents(source) -> dict:
    """The files below a directory: path → bytes."""
    return {str(file.relative_to(source)): file.read_bytes() for file in Path(source).rglob("*") if file.is_file()}


def server_figures(cache: CacheDir, archive) -> dict:
    """What the server of a cache says of an archive that it has open (figures.h)."""
    with contextlib.closing(client_of(cache, archive, inflight=32)) as line:
        return json.loads(_call(line, STAT, line.opened[:4], [], STATS))


class _Line(socket.socket):
    opened = b""  # what the server answered to OPEN


def client_of(cache: CacheDir, archive, inflight: int = 8) -> _Line:
    """A client of a cache that has an archive open, as one on the disk."""
    buffer = os.memfd_create("buffer")
    store = os.open(archive, os.O_RDONLY)
    line = _Line(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        line.settimeout(HANG)
        line.connect(str(cache.path / "socket"))
        _call(line, HELLO, struct.pack("<I", os.getpid()), [buffer], WELCOME)
        limits = struct.pack("<QQQIIII", 2**64 - 1, 0, 0, 0, inflight, 60_000, 0)
        line.opened = _call(line, OPEN, limits + bytes([2]) + bytes(7) + os.fsencode(archive), [store], OPENED)
        return line
    except BaseException:
        line.close()
        raise
    finally:
        os.close(store)
        os.close(buffer)


def _call(line, kind: int, payload: bytes, descriptors: list, wanted: int) -> bytes:
    """The payload of the answer; the descriptors in it are closed."""
    header = struct.pack("<IHHI", PROTOCOL, kind, 0, len(payload))
    socket.send_fds(line, [header + payload], descriptors)
    packet, taken, _, _ = socket.recv_fds(line, 1 << 16, 8)
    for descriptor in taken:
        os.close(descriptor)
    if struct.unpack_from("<H", packet, 4)[0] != wanted:
        raise AssertionError(f"the server answers {packet[:200]}")
    return packet[12:]
