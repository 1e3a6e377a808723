"""A directory tree that holds every oddity a file system can record, made the same way each time."""

import os
import random
import stat
import sys

NANOSECONDS = 123456789
MTIMES = [-86400 * 365 * 5, -1, 0, 1, 1_600_000_000, 2**31 + 5, 2**33 + 7, 2**34]
NAMES = [
    b"-dash", b" space ", b"new\nline", b"tab\tand\\backslash", b"*glob?[x]", b"\xff\xfe not utf-8",
    "utf-8 äöü 日本".encode(), b"quote'\"", b"...", b"..x", b"a" * 99, b"b" * 100, b"c" * 101, b"d" * 155,
    b"e" * 255, b"\xf0" * 255, b"CON.txt", b"#comment", b"=equals", b"pax_global_header",
]
SIZES = [0, 1, 511, 512, 513, 4095, 4096, 4097, 20_000, 65_535, 65_536, 65_537, 131_072, 200_001, 3_000_000]


def content(size: int, seed: int) -> bytes:
    """Bytes that are the same for the same arguments; every third seed compresses well."""
    if seed % 3 == 0:
        text = b"the same words over and over, line %d\n" % seed
        return (text * (size // len(text) + 1))[:size]
    return random.Random(seed).randbytes(size)


def write(path: bytes, data: bytes, mode: int = 0o644) -> None:
    with open(path, "wb") as file:
        file.write(data)
    os.chmod(path, mode)


def set_time(path: bytes, seconds: int, nanoseconds: int = NANOSECONDS) -> None:
    when = seconds * 10**9 + nanoseconds
    os.utime(path, ns=(when, when), follow_symlinks=False)


def mkdir(path: bytes) -> bytes:
    os.mkdir(path)
    return path


def make(root, *, long_paths: bool = True, special: bool = True, old_times: bool = True,
         odd_owners: bool = True) -> None:
    """Makes the tree at `root`, which must not exist. Owners, devices and trusted xattrs need root."""
    root = os.fsencode(root)
    privileged = os.geteuid() == 0
    join = os.path.join
    mkdir(root)

    sizes = mkdir(join(root, b"sizes"))
    for number, size in enumerate(SIZES):
        write(join(sizes, b"%07d.bin" % size), content(size, number))

    names = mkdir(join(root, b"names"))
    for number, name in enumerate(NAMES):
        write(join(names, name), content(100 + number, number))

    modes = mkdir(join(root, b"modes"))
    for mode in (0o400, 0o600, 0o644, 0o755, 0o4755, 0o2755, 0o6711, 0o1777):
        write(join(modes, b"%04o" % mode), b"mode", mode)
    for mode in (0o700, 0o755, 0o1777, 0o2775):
        os.chmod(mkdir(join(modes, b"dir%04o" % mode)), mode)

    times = mkdir(join(root, b"times"))
    for seconds in MTIMES:
        if seconds < 0 and not old_times:
            continue
        write(join(times, b"at%d" % seconds), b"time")

    links = mkdir(join(root, b"links"))
    for length in (1, 99, 100, 101, 255, 1000, 4000):
        text = (b"target/" * (length // 7 + 1))[: length - 1] + b"x"
        os.symlink(text, join(links, b"to%04d" % length))
    os.symlink(b"../sizes/0000001.bin", join(links, b"works"))
    os.symlink(b"\xff\xfe", join(links, b"not utf-8"))
    write(join(links, b"first"), b"one inode, three names")
    os.link(join(links, b"first"), join(links, b"second"))
    os.link(join(links, b"first"), join(root, b"third"))

    holes = mkdir(join(root, b"holes"))
    with open(join(holes, b"hole in front"), "wb") as file:
        file.seek(1 << 20)
        file.write(b"data" * 1024)
    with open(join(holes, b"data, hole, data, hole"), "wb") as file:
        file.write(b"x" * 8192)
        file.seek(1 << 19)
        file.write(b"y" * 8192)
        file.truncate(1 << 20)
    with open(join(holes, b"only a hole"), "wb") as file:
        file.truncate(1 << 18)

    mkdir(join(mkdir(join(root, b"empty")), b"empty too"))
    many = mkdir(join(root, b"many"))
    for number in range(300):
        write(join(many, b"image_%05d.jpg" % number), content(700 + number, number))

    xattrs = mkdir(join(root, b"xattrs"))
    write(join(xattrs, b"file"), b"with attributes")
    os.setxattr(join(xattrs, b"file"), b"user.label", b"cat")
    os.setxattr(join(xattrs, b"file"), b"user.binary", bytes(range(256)) * 4)
    os.setxattr(join(xattrs, b"file"), b"user.empty", b"")
    os.setxattr(xattrs, b"user.of.directory", b"yes")
    os.setxattr(mkdir(join(root, b"xattr names")), b"user.a=b%c%3D", b"d=e")
    if privileged:
        os.setxattr(join(xattrs, b"file"), b"trusted.secret", b"root only")

    if long_paths:
        make_deep(root)
    if special and privileged:
        special_dir = mkdir(join(root, b"special"))
        os.mkfifo(join(special_dir, b"fifo"))
        os.mknod(join(special_dir, b"null"), stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.mknod(join(special_dir, b"block"), stat.S_IFBLK | 0o600, os.makedev(259, 70000))
    if odd_owners and privileged:
        owners = mkdir(join(root, b"owners"))
        for uid in (1, 65534, 2_097_151, 2_097_152, 3_000_000, 2**32 - 2):
            path = join(owners, b"%d" % uid)
            write(path, b"owned")
            os.chown(path, uid, uid)

    stamp_all(root)
    for seconds in MTIMES:
        if seconds < 0 and not old_times:
            continue
        set_time(join(times, b"at%d" % seconds), seconds)
    set_time(times, 1_500_000_000)


def make_deep(root: bytes) -> None:
    """Paths of 4,095 bytes below `root` (names of 250 bytes), reached step by step."""
    here = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    left = 4095
    try:
        while left > 255 + 2:
            name = b"deep" * 62 + b"xx"
            os.mkdir(name, dir_fd=here)
            below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
            os.close(here)
            here = below
            left -= len(name) + 1
        file = os.open(b"f" * left, os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=here)
        os.write(file, b"deep down")
        os.close(file)
    finally:
        os.close(here)


def stamp_all(root: bytes) -> None:
    """Gives everything a fixed time with nanoseconds, deepest first, whatever the depth."""
    for _, directories, files, here in os.fwalk(root, topdown=False):
        for number, name in enumerate(sorted(directories + files)):
            when = (1_500_000_000 + number) * 10**9 + NANOSECONDS + number
            os.utime(name, ns=(when, when), dir_fd=here, follow_symlinks=False)
    set_time(root, 1_500_000_000)


if __name__ == "__main__":
    make(sys.argv[1])
