"""The systems under comparison: how each packs a directory, mounts and unmounts it."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from tools import BUILD, MKSHARD, SHARDFS  # noqa: E402

READER = str(BUILD / "tests/bench/bench_reader")


def timed(*command, **options):
    """Runs a command to success; returns seconds."""
    start = time.monotonic()
    subprocess.run([os.fspath(c) for c in command], check=True, stdout=subprocess.DEVNULL, **options)
    return time.monotonic() - start


class Extracted:
    """The directory tree itself: the native limit that the others are measured against."""

    name = "extracted tree"

    def __init__(self, source, work):
        del work
        self.root = source
        self.archive = None

    def pack(self):
        return None

    def mount(self):
        return None

    def unmount(self):
        pass

    def daemon(self):
        return None


class Mounted:
    """What mounts an archive by FUSE. Subclasses say how."""

    suffix = ""

    def __init__(self, source, work):
        self.source = source
        self.archive = work / ("packed" + self.suffix)
        self.root = work / ("mnt" + self.suffix)
        self.root.mkdir(exist_ok=True)

    def pack(self):
        """Makes the archive anew; returns seconds, with its bytes on the disk."""
        self.archive.unlink(missing_ok=True)
        return timed(*self.pack_command(), stderr=subprocess.DEVNULL) + timed("sync", self.archive)

    def mount(self):
        """Seconds until the mount command has returned."""
        return timed(*self.mount_command())

    def unmount(self):
        if os.path.ismount(self.root):
            subprocess.run(["fusermount3", "-u", self.root], check=True)
        # The daemon closes the archive a little after the mount has gone.
        while self.daemon():
            time.sleep(0.002)

    def daemon(self):
        """The process that serves this mount, or None."""
        mine = os.fsencode(self.root)
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mine in (process / "cmdline").read_bytes().split(b"\0"):
                    return int(process.name)
        return None


class Shardfs(Mounted):
    def pack_command(self):
        return MKSHARD, self.source, "-o", self.archive, "--no-progress"

    def mount_command(self):
        return SHARDFS, "mount", self.archive, self.root


class ShardfsTar(Shardfs):
    name = "shardfs .tar"
    suffix = ".tar"


class ShardfsTarZst(Shardfs):
    name = "shardfs .tar.zst"
    suffix = ".tar.zst"


class Squashfuse(Mounted):
    """squashfs without compression, as its own users mount data sets: read-only, low-level API."""

    name = "squashfuse_ll"
    suffix = ".squashfs"

    def pack_command(self):
        return ("mksquashfs", self.source, self.archive, "-noI", "-noD", "-noF", "-noX",
                "-no-progress", "-quiet")

    def mount_command(self):
        return "squashfuse_ll", "-o", "ro", self.archive, self.root


def read(system, mode, *more):
    """One run of bench_reader over the system's tree: {seconds, files, bytes}."""
    result = subprocess.run([READER, mode, system.root, *map(str, more)], check=True,
                            stdout=subprocess.PIPE)
    return json.loads(result.stdout)


def memory_mb(pid):
    """Resident memory of a process: anonymous (its own), and of files (shared page cache)."""
    status = Path(f"/proc/{pid}/status").read_text()
    own, shared = (int(re.search(rf"{key}:\s+(\d+) kB", status)[1]) / 1024
                   for key in ("RssAnon", "RssFile"))
    return {"own": own, "files": shared}


def can_drop_caches():
    return os.access("/proc/sys/vm/drop_caches", os.W_OK)


def drop_caches():
    subprocess.run(["sync"], check=True)
    Path("/proc/sys/vm/drop_caches").write_text("3")


@contextlib.contextmanager
def tracefs():
    """The kernel's trace directory, mounted for as long as it is wanted; None where it cannot be."""
    usual = Path("/sys/kernel/tracing")
    if (usual / "events/fuse").is_dir():
        yield usual
        return
    place = tempfile.mkdtemp(prefix="shardfs-tracefs-")
    command = ["mount", "-t", "tracefs", "none", place]
    there = subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 0
    try:
        yield Path(place) if there and (Path(place) / "events/fuse").is_dir() else None
    finally:
        if there:
            subprocess.run(["umount", place], check=True)
        shutil.rmtree(place, ignore_errors=True)


@contextlib.contextmanager
def fuse_requests(root, counts):
    """Counts by name, in `counts`, the requests the kernel sends to the FUSE mount at `root`.

    The kernel's own trace events are counted, not what a daemon says of itself. Slows the mount, so
    nothing is timed meanwhile. Counts stay empty where the kernel offers no such events.
    """
    with tracefs() as trace:
        if trace is None:
            yield
            return
        instance = trace / "instances" / f"shardfs-bench-{os.getpid()}"
        instance.mkdir()
        try:
            event = instance / "events/fuse/fuse_request_send"
            (instance / "buffer_size_kb").write_text("65536")
            (event / "filter").write_text(f"connection == {os.minor(os.stat(root).st_dev)}")
            (event / "enable").write_text("1")
            yield
            (event / "enable").write_text("0")
            with open(instance / "trace", encoding="utf-8", errors="replace") as lines:
                counts.update(Counter(re.findall(r"\(FUSE_(\w+)\)", lines.read())))
        finally:
            instance.rmdir()
