"""Mounts that are always gone afterwards."""

import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

from tools import MKSHARD, SHARDFS, TemporaryTree, run

NOBODY = 65534
UNSEEN_OPS = ("getxattr", "notify_store", "forget")  # by asking; by the daemon itself; by memory pressure


def as_user(user) -> dict:
    """Options for subprocess to run as `user`, None being who runs the test."""
    return {} if user is None else {"user": user, "group": user, "extra_groups": []}


@contextlib.contextmanager
def fuse_for_everybody(needed: bool = True):
    """/dev/fuse as distributions have it: open to all users."""
    mode = stat.S_IMODE(os.stat("/dev/fuse").st_mode)
    if not needed or mode & 0o666 == 0o666:
        yield
        return
    os.chmod("/dev/fuse", 0o666)
    try:
        yield
    finally:
        os.chmod("/dev/fuse", mode)


def mount_line(directory) -> str:
    """What /proc/self/mountinfo says of a mount; empty if there is none."""
    shown = str(directory).replace("\\", r"\134").replace(" ", r"\040").replace("\n", r"\012")
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
        return "".join(line for line in mounts if line.split(" ")[4] == shown)


def is_mounted(directory) -> bool:
    return bool(mount_line(directory))


def alive(pid: int) -> bool:
    """Whether the process, or a thread that its end has left, runs; what only waits to be collected does not."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            runs = file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
        return runs or len(os.listdir(f"/proc/{pid}/task")) > 1
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(condition, what: str, seconds: float = 20) -> None:
    """Waits for something that is sure to come."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.01)


class Mount:
    """One mount in the background, at a directory of its own unless told."""

    def __init__(self, shard, *options, user=None, directory=None, env=None, check_end=True):
        self.shard, self.options, self.user = shard, options, user
        self.env = None if env is None else {**os.environ, **env}
        self.check_end = check_end
        self.home = Path(tempfile.mkdtemp(prefix="shardfs-mount-"))
        self.home.chmod(0o755)
        self.log_file = self.home / "log"
        self.log_file.touch()
        self.path = Path(directory) if directory else self.home / "mount"
        if not directory:
            self.path.mkdir()
        if user is not None:
            os.chown(self.path, user, user)
            os.chown(self.log_file, user, user)
        self.pid = None
        self.stack = contextlib.ExitStack()

    def __enter__(self):
        self.stack.callback(shutil.rmtree, self.home, ignore_errors=True)
        try:
            self.stack.enter_context(fuse_for_everybody(self.user is not None))
            self.stack.callback(self._end)
            self.start()
        except BaseException:
            self.stack.close()
            raise
        return self

    def start(self):
        result = run(SHARDFS, "mount", self.shard, self.path, "--log", self.log_file, *self.options,
                     env=self.env, **as_user(self.user))
        if result.returncode != 0:
            raise AssertionError(f"mount: exit {result.returncode}: {result.stderr}")
        self.pid = self.info()["pid"]

    def __exit__(self, *_):
        self.stack.close()

    def _end(self):
        """Unmounts as a user would, and by force if that fails, which fails the test."""
        problem = ""
        if is_mounted(self.path):
            result = run(SHARDFS, "umount", self.path, **as_user(self.user))
            if result.returncode != 0:
                problem = f"umount: exit {result.returncode}: {result.stderr}"
        if is_mounted(self.path):
            subprocess.run(["umount", "-fl", self.path], check=False)  # -f ends the kernel's waiting
        if self.pid is not None and alive(self.pid):
            with contextlib.suppress(AssertionError):
                wait_until(lambda: not alive(self.pid), "the daemon's end", 10)
            if alive(self.pid):
                os.kill(self.pid, signal.SIGKILL)
                problem += " the daemon went on"
        if problem and self.check_end:
            raise AssertionError(problem)

    def umount(self, *options):
        return run(SHARDFS, "umount", *options, self.path, **as_user(self.user))

    def log(self) -> str:
        return self.log_file.read_text(errors="surrogateescape")

    def report(self, name: str) -> dict:
        text = subprocess.run(["getfattr", "--absolute-names", "--only-values", "-n", f"user.shardfs.{name}", self.path],
                              stdout=subprocess.PIPE, check=True, **as_user(self.user)).stdout
        return json.loads(text)

    def info(self) -> dict:
        return self.report("info")

    def stats(self) -> dict:
        return self.report("stats")

    def requests(self) -> dict:
        """FUSE requests so far, those left out that a test does not cause by using files."""
        return {op: count for op, count in self.stats()["fuse"].items() if op not in UNSEEN_OPS}

    def requests_during(self, work) -> dict:
        """How many of which requests work() causes."""
        before = self.requests()
        work()
        return {op: count - before[op] for op, count in self.requests().items() if count != before[op]}


@contextlib.contextmanager
def mounted(shard, *options, user=None, env=None):
    """A mount of `shard` at a new directory, whose path it gives."""
    with Mount(shard, *options, user=user, env=env) as mount:
        yield mount.path


class MountTest(TemporaryTree):
    """A test with a directory of its own that makes shards and mounts them."""

    CONTAINERS = ("tar", "tar.zst")

    def setUp(self):
        super().setUp()
        self.dir.chmod(0o755)

    def pack(self, source, container: str = "tar", *options) -> Path:
        shard = self.dir / f"{Path(source).name}.{container}"
        self.ok(MKSHARD, source, "-o", shard, "-q", "--force", *options)
        shard.chmod(0o644)
        return shard

    def tree(self, files: dict, name: str = "source") -> Path:
        """A directory with these files: path → bytes."""
        root = self.dir / name
        for path, data in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(data)
        return root

    def enter(self, context):
        """Opens a context until the test's end."""
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        return stack.enter_context(context)

    @staticmethod
    def error_of(action, *arguments) -> int:
        """The errno that action() fails with; 0 where it does not fail."""
        try:
            action(*arguments)
        except OSError as error:
            return error.errno
        return 0

    def fails_with(self, number: int, action, *arguments, **options):
        with self.assertRaises(OSError) as caught:
            action(*arguments, **options)
        self.assertEqual(os.strerror(caught.exception.errno), os.strerror(number))


needs_root = unittest.skipIf(os.geteuid() != 0, "needs root")
