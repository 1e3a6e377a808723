"""Control groups that allow only so much memory, as a batch system makes them; of version 1 or 2, by root."""

import contextlib
import os
from pathlib import Path

from mounted import wait_until

# Where they are, and the file that takes the limit.
VERSIONS = ((Path("/sys/fs/cgroup"), "memory.max"), (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"))


def make():
    """An empty group and the file that takes its limit; Nones where they cannot be had."""
    for root, file in VERSIONS:
        group = root / f"shardfs-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        if (group / file).exists():
            return group, group / file
        group.rmdir()
    return None, None


def is_removed(group: Path) -> bool:
    """Removes a control group if nothing is left in it."""
    with contextlib.suppress(OSError):
        group.rmdir()
    return not group.exists()


def own_group(root: Path) -> Path:
    """That of this process, in the hierarchy at `root`."""
    controller = "memory" if root.name == "memory" else ""
    lines = (line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines())
    return root / next(path for _, names, path in lines if controller in names.split(",")).lstrip("/")


@contextlib.contextmanager
def memory_group(limit: int):
    """A control group of so many bytes with nothing in it; None where none can be made."""
    group, file = make()
    if group is None:
        yield None
        return
    try:
        file.write_text(str(limit), encoding="ascii")
        yield group
    finally:
        wait_until(lambda: is_removed(group), "an empty control group", 30)


@contextlib.contextmanager
def memory_limit(limit: int):
    """A control group with this process in it, until it calls what it is given (None where none can be made); what it
    started stays."""
    with memory_group(limit) as group:
        if group is None:
            yield None
            return
        home = own_group(group.parent) / "cgroup.procs"
        (group / "cgroup.procs").write_text(str(os.getpid()))
        try:
            yield lambda: home.write_text(str(os.getpid()))
        finally:
            home.write_text(str(os.getpid()))
