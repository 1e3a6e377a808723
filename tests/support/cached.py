"""Mounts that read their archive through a cache directory, and what there is to see of its server."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from pathlib import Path

from mounted import Mount, MountTest, wait_until
from slowstore import SlowStore

UNIT = 4 << 20  # cache/common/units.h
HANG = 30  # seconds that nothing takes unless it hangs


def read_proc(pid: int, name: str) -> bytes:
    """A file of /proc/PID; empty where the process has gone."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def processes() -> list:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def descriptors(pid: int) -> list:
    """What a process has open; nothing where it has gone."""
    links = []
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                links.append(os.readlink(f"/proc/{pid}/fd/{name}"))
    return links


class CacheDir:
    """A parent for a cache directory, gone with all its processes after the context."""

    def __init__(self):
        self.parent = Path(tempfile.mkdtemp(prefix="shardfs-cache-"))
        self.path = self.parent / f".shardfs-{os.geteuid()}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not self.processes(), "the end of the cache's processes")
        shutil.rmtree(self.parent, ignore_errors=True)

    def processes(self) -> list:
        """Servers of this directory, and processes that are about to become one or find one there."""
        end = b"\0cache-server\0" + os.fsencode(self.parent) + b"\0"
        return [pid for pid in processes() if read_proc(pid, "cmdline").endswith(end)]

    def server(self) -> int | None:
        """The process that holds the directory's lock."""
        try:
            found = (self.path / "lock").stat()
        except FileNotFoundError:
            return None
        inode = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
        for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
            words = line.split()
            if words[1] == "FLOCK" and words[5] == inode:
                return int(words[4])
        return None

    def wait_for_server(self, other_than: int | None = None) -> int:
        wait_until(lambda: self.server() not in (None, other_than), "a cache server", HANG)
        return self.server()

    def wait_for_end(self) -> None:
        """Until no process of the cache is left."""
        wait_until(lambda: not self.processes(), "the end of the cache server", HANG)

    def ledger_openers(self, among=None) -> list:
        """Processes that have the ledger open, in whatever state of being deleted it is."""
        ledger = str(self.path / "ledger/data.mdb")
        return [pid for pid in among or self.processes() if any(link.startswith(ledger) for link in descriptors(pid))]

    def left(self) -> set:
        """Files in the cache directory, as paths in it; an empty set also where it is gone."""
        return {str(file.relative_to(self.path)) for file in self.path.rglob("*") if not file.is_dir()}

    def log(self) -> str:
        """What its servers have written."""
        try:
            return "".join(file.read_text(errors="replace") for file in sorted(self.path.glob("log/*.log")))
        except OSError:  # of a file system that has failed
            return ""


class CachedMount(Mount):
    """A mount whose cache is in a CacheDir."""

    def __init__(self, shard, cache: CacheDir, *options, tier: str = "disk", **others):
        super().__init__(shard, "--cache-dir", cache.parent, "--tier", tier, *options, **others)
        self.cache = cache


class Reader:
    """A process that reads all of a mount and compares, `epochs` times or, with 0, until stop()."""

    def __init__(self, mount, source, seed: int, epochs: int = 0):
        command = ["/usr/bin/python3", "-B", str(Path(__file__).parent / "reader.py")]
        self.process = subprocess.Popen([*command, str(mount), str(source), str(seed), str(epochs)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def stop(self, seconds: float = HANG) -> dict:
        """Tells it to end, or just waits where it reads a number of epochs; returns what it saw (reader.py)."""
        said, _ = self.process.communicate(timeout=seconds)
        return json.loads(said)


class LedgerWatch:
    """Looks again and again, while the context lasts, at how many processes have the ledger open."""

    def __init__(self, cache: CacheDir):
        self.cache = cache
        self.together = []  # pairs of processes that had it open at the same moment
        self.looks = self.seen = 0
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self._watch)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ending.set()
        self.thread.join()

    def _watch(self):
        while not self.ending.wait(0.001):
            openers = self.cache.ledger_openers()
            self.looks += 1
            self.seen += bool(openers)
            # One may have closed it before the next one opened it: those who still have it had it all the time.
            if len(openers) > 1 and len(still := self.cache.ledger_openers(openers)) > 1:
                self.together.append(still)


class CacheTest(MountTest):
    """A test with a cache directory and archives on a slow store."""

    def setUp(self):
        super().setUp()
        self.cache = self.enter(CacheDir())

    def make_shard(self, mebibytes: int, name: str = "source", container: str = "tar", file_bytes: int = 256 << 10) -> Path:
        """A shard of files that do not compress, in self.dir / "store"; its source is self.dir / name."""
        files = {f"{i // 32:02}/{i:04}": os.urandom(file_bytes) for i in range((mebibytes << 20) // file_bytes)}
        shard = self.pack(self.tree(files, name), container)
        (self.dir / "store").mkdir(exist_ok=True)
        return shard.rename(self.dir / "store" / shard.name)

    def slow_store(self, **options) -> SlowStore:
        return self.enter(SlowStore(self.dir / "store", **options))

    def assert_same(self, mount_path, name: str = "source"):
        """Every file is there with its bytes."""
        with Reader(mount_path, self.dir / name, seed=1, epochs=1) as reader:
            seen = reader.stop()
        self.assertEqual((seen["wrong"], seen["errors"]), ([], []))
        self.assertGreater(seen["files"], 0)

    def assert_nothing_left(self, cache: CacheDir):
        """After the last mount's end: no process, and of files only what the next server goes on with."""
        cache.wait_for_end()
        for file in cache.left():
            self.assertRegex(file, r"^(CACHEDIR\.TAG|version|ledger/data\.mdb|log/[0-9]+\.log|index/[0-9a-f]{32}|mirror/[0-9a-f]{32}(\.part)?)$")
