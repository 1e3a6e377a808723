"""Trees as other people's tools see them, so that two can be compared by code that is not ours."""

import os
import re
import subprocess

SPECIAL = re.compile(r" is a (fifo|block special file|character special file) while file ")


def find(root, *, nanoseconds: bool = True, owners: bool = True) -> dict[bytes, tuple]:
    """What find(1) prints of every file below `root`: type, mode, owners, size, time, link, names of the inode.

    Sizes of directories and device numbers of the file system are left out, inode numbers are replaced by the
    first name that carries them; nothing else is.
    """
    out = subprocess.run(["find", ".", "-printf", r"%P\0%y\0%m\0%U\0%G\0%s\0%T@\0%l\0%n\0%i\0"],
                         cwd=root, stdout=subprocess.PIPE, check=True,
                         env={**os.environ, "LC_ALL": "C"}).stdout
    fields = out.split(b"\0")[:-1]
    rows = sorted(fields[i:i + 10] for i in range(0, len(fields), 10))
    first_name: dict[bytes, bytes] = {}
    tree = {}
    for path, kind, mode, uid, gid, size, when, link, names, inode in rows:
        if not nanoseconds:
            when = b"%d" % (int(float(when.split(b".")[0])) if not when.startswith(b"-")
                            else int(when.split(b".")[0]))
        # A directory's size and link count are the file system's own business (btrfs says 1).
        size, names = (b"", b"") if kind == b"d" else (size, names)
        tree[path] = (kind, mode, uid if owners else b"", gid if owners else b"", size, when, link, names,
                      first_name.setdefault(inode, path))
    return tree


def same_bytes(left, right) -> str:
    """Empty, or what diff(1) has to say about the content of two trees.

    diff calls any two devices or FIFOs different; those are find's to compare.
    """
    run = subprocess.run(["diff", "-r", "--no-dereference", "--brief", str(left), str(right)],
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    lines = run.stdout.decode(errors="replace").splitlines(keepends=True)
    return "".join(line for line in lines if not SPECIAL.search(line))


def xattrs(root) -> bytes:
    """getfattr's dump of every extended attribute below `root`."""
    return subprocess.run("find . -print0 | sort -z | xargs -0 getfattr -h -d -m - -e hex --", shell=True,
                          cwd=root, stdout=subprocess.PIPE, check=True).stdout


def differences(expected: dict, actual: dict, limit: int = 10) -> str:
    """Empty if equal; otherwise the first few paths that differ, both ways."""
    paths = [p for p in sorted(expected.keys() | actual.keys()) if expected.get(p) != actual.get(p)]
    lines = [f"{p!r}:\n  expected {expected.get(p)}\n  actual   {actual.get(p)}" for p in paths[:limit]]
    return "\n".join(lines) + (f"\n… {len(paths)} paths differ" if len(paths) > limit else "")
