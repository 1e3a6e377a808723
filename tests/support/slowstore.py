"""A file system that is slow, counts what it serves and fails on command, for one directory of files."""

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from mounted import is_mounted, wait_until
from tools import BUILD

SLOWSTORE = str(BUILD / "tests/support/slowstore")
END_SECONDS = 20


class SlowStore:
    """The files of `directory`, read-only at `.path`, while the context lasts.

    Each READ takes `latency_ms`, side by side with others; all together get `bandwidth` bytes/s, 0 being no
    limit. Without `page_cache` every read of a program arrives, in pieces of at most 1 MiB one after the other;
    with it the kernel caches and, if root mounts, reads ahead `readahead_kib`. Faults are for reads that arrive
    after them. They are in force together, each until it has met `count` reads or clear() is called; they mean
    every file or the one called `name`, every read or those that touch the `length` bytes from `offset` on.
    Thread-safe.
    """

    def __init__(self, directory, *, latency_ms: float = 3, bandwidth: float = 1e9, page_cache: bool = False,
                 blksize: int = 4 << 20, readahead_kib: int = 4096, allow_other: bool = os.geteuid() == 0):
        self.directory = Path(directory).absolute()
        self.options = ["--latency-ms", str(latency_ms), "--bandwidth", str(bandwidth), "--blksize", str(blksize)]
        self.options += ["--page-cache", "--readahead-kib", str(readahead_kib)] if page_cache else ["--direct-io"]
        self.options += ["--allow-other"] * allow_other
        self.lock = threading.Lock()
        self.home = self.path = self.process = self.control = None

    def __enter__(self):
        self.home = Path(tempfile.mkdtemp(prefix="shardfs-store-"))
        self.home.chmod(0o755)
        self.path = self.home / "mount"
        self.path.mkdir()
        try:
            self._start()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, kind, *_):
        status = self._stop()
        words = self._words()
        left = is_mounted(self.path)
        self._remove()
        if kind is None and (status != 0 or left):
            raise AssertionError(f"the store ended with {status}{', still mounted' * left}: {words}")

    def _start(self):
        socket_path = self.home / "control"
        # The store ends when the pipe at its standard input does, which no way of dying prevents. Not
        # PR_SET_PDEATHSIG: that fires when the thread that started it ends, and needs code run after fork.
        with open(self.home / "words", "wb") as words:
            self.process = subprocess.Popen(
                [SLOWSTORE, self.directory, self.path, "--control", socket_path, "--while-stdin", *self.options],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=words)
        if self.process.stdout.readline() != b"mounted\n":
            raise AssertionError(f"the store did not start: {self._words()}")
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(socket_path))
        self.control = connection.makefile("rw", encoding="utf-8")
        connection.close()

    def _stop(self) -> int:
        """Ends the process, by force if need be; returns its exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def _remove(self):
        if self.process is not None:
            self._stop()
        if is_mounted(self.path):
            subprocess.run(["umount", "-l", self.path], check=False)
        for pipe in (self.control, self.process and self.process.stdin, self.process and self.process.stdout):
            if pipe is not None:
                pipe.close()
        shutil.rmtree(self.home, ignore_errors=True)

    def _words(self) -> str:
        return (self.home / "words").read_text(errors="surrogateescape")

    def command(self, do: str, **arguments) -> dict:
        """Sends a command of slowstore_control.h; arguments that are None are left out."""
        given = {key: value for key, value in arguments.items() if value is not None}
        with self.lock:
            self.control.write(json.dumps({"do": do, **given}) + "\n")
            self.control.flush()
            answer = json.loads(self.control.readline())
        if "error" in answer:
            raise ValueError(f"{do} {given}: {answer['error']}")
        return answer

    def stats(self) -> dict:
        """What was served since reset(), and what is under way.

        opens; requests, READs that arrived; bytes, in answers to them; distinct_bytes, each byte of a file once;
        again_bytes, the others; files, these five by name; in_flight and max_in_flight, READs not yet answered;
        stalled, those of them that are held; failed, shortened, flipped, answers; sizes, READs by size asked
        for, "4096" being those of more than 2048 and at most 4096 bytes.
        """
        return self.command("stats")

    def reset(self) -> None:
        """Sets the counters to zero, and forgets which bytes were served."""
        self.command("reset")

    def clear(self) -> None:
        """Ends all faults; reads that are held are served."""
        self.command("clear")

    def fail(self, number: int = errno.EIO, *, count=None, name=None, offset=None, length=None) -> None:
        self.command("fail", errno=number, count=count, name=name, offset=offset, length=length)

    def stall(self, *, count=None, name=None, offset=None, length=None) -> None:
        """Holds reads until release(), clear() or the end, which answers them with EIO."""
        self.command("stall", count=count, name=name, offset=offset, length=length)

    def release(self, number: int | None = None) -> None:
        """Ends all stalls; the reads that are held are served, or answered with this errno."""
        self.command("release", errno=number)

    def short(self, size: int | None = None, *, count=None, name=None, offset=None, length=None) -> None:
        """Gives at most `size` bytes to a read, or half of what it asks for."""
        self.command("short", bytes=size, count=count, name=name, offset=offset, length=length)

    def flip(self, *, count=None, name=None, offset=None, length=None) -> None:
        """Gives one bit wrong: in the middle byte of what a read shares with the range, so that a range of one
        byte names it."""
        self.command("flip", count=count, name=name, offset=offset, length=length)

    def latency(self, milliseconds: float) -> None:
        self.command("latency", ms=milliseconds)

    def bandwidth(self, size: float) -> None:
        """Bytes a second; 0 is no limit."""
        self.command("bandwidth", bytes=size)

    def wait_until_stalled(self, count: int = 1) -> None:
        wait_until(lambda: self.stats()["stalled"] >= count, f"{count} reads that are held")

    def replace(self, name: str, new_file) -> None:
        """Puts a copy of `new_file` in the place of a file by rename: who has that open keeps it."""
        arriving = self.directory / f".{name}.new"
        shutil.copyfile(new_file, arriving)
        os.replace(arriving, self.directory / name)

    def overwrite(self, name: str, new_file) -> None:
        """Writes the bytes of `new_file`, which is as long, over those of a file: who has it open reads them."""
        target = self.directory / name
        if os.path.getsize(new_file) != target.stat().st_size:
            raise ValueError(f"{new_file}: of another size than {target}")
        with open(new_file, "rb") as source, open(target, "r+b") as file:
            shutil.copyfileobj(source, file, 1 << 20)
        self._stamp(target)

    def truncate(self, name: str, size: int) -> None:
        os.truncate(self.directory / name, size)
        self._stamp(self.directory / name)

    @staticmethod
    def _stamp(path):
        """Sets the time of a change that the kernel is to notice by it: its own clock for files ticks 4 ms apart."""
        os.utime(path, ns=(time.time_ns(), time.time_ns()))
