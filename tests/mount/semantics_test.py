"""The paragraphs of fs/mount/SEMANTICS.md about what a mounted tree looks like and does."""

import ctypes
import errno
import fcntl
import hashlib
import io
import mmap
import os
import random
import shutil
import socket
import stat
import struct
import subprocess
import sys
import tarfile
import threading
import unittest

import listing
import odd_tree
from mounted import NOBODY, Mount, MountTest, as_user, mounted, needs_root
from tools import MKSHARD, SHARDFS, run

ACL_USER_1 = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", tag, perm, who)
    for tag, perm, who in ((1, 6, 2**32 - 1), (2, 4, 1), (4, 4, 2**32 - 1), (16, 4, 2**32 - 1), (32, 0, 2**32 - 1)))


def in_order(directory) -> list[tuple]:
    """Names, types and inode numbers as the C library's readdir gives them."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.opendir.restype = libc.readdir.restype = ctypes.c_void_p
    libc.opendir.argtypes, libc.readdir.argtypes = [ctypes.c_char_p], [ctypes.c_void_p]
    libc.closedir.argtypes = [ctypes.c_void_p]
    stream, found = libc.opendir(os.fsencode(directory)), []
    while entry := libc.readdir(stream):
        inode, _, length, kind = struct.unpack("<QQHB", ctypes.string_at(entry, 19))
        name = ctypes.string_at(entry, length)[19:].split(b"\0")[0]
        found.append((name, kind, inode))
    libc.closedir(stream)
    return found


class OddTree(MountTest):
    """One tree with every oddity, packed and mounted once."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        case = MountTest()
        case.setUp()
        cls.addClassCleanup(case.doCleanups)
        cls.source = case.dir / "source"
        odd_tree.make(cls.source, long_paths=False)
        cls.root_dir = case.dir
        cls.shards = [case.pack(cls.source, container) for container in MountTest.CONTAINERS]
        cls.shard = cls.shards[1]
        cls.mount = cls.enterClassContext(Mount(cls.shard))
        cls.at = cls.mount.path

    def each(self):
        """Every path of the source with its counterpart in the mount."""
        for here, directories, files in os.walk(os.fsencode(self.source)):
            for name in directories + files:
                path = os.path.join(here, name)
                yield path, os.path.join(os.fsencode(self.at), os.path.relpath(path, os.fsencode(self.source)))

    def test_S1_names_are_bytes(self):
        names = os.listdir(os.fsencode(self.at / "names"))
        self.assertEqual(sorted(names), sorted(odd_tree.NAMES))
        for name in odd_tree.NAMES:
            os.lstat(os.path.join(os.fsencode(self.at / "names"), name))
        self.fails_with(errno.ENOENT, os.lstat, self.at / "names" / "con.txt")
        self.fails_with(errno.ENOENT, os.lstat, self.at / "Names")
        self.fails_with(errno.ENAMETOOLONG, os.lstat, self.at / ("x" * 256))
        self.fails_with(errno.ENOTDIR, os.lstat, self.at / "sizes" / "0000001.bin" / "x")

    def test_S2_directories_are_in_order_of_bytes(self):
        for directory in ("names", "many", "special", "empty/empty too", "."):
            entries = in_order(self.at / directory)
            names = [name for name, _, _ in entries]
            self.assertEqual(names[:2], [b".", b".."])
            self.assertEqual(names[2:], sorted(os.listdir(os.fsencode(self.source / directory))))
            for name, kind, inode in entries[2:]:
                found = os.lstat(os.path.join(os.fsencode(self.at / directory), name))
                self.assertEqual((kind, inode), (stat.S_IFMT(found.st_mode) >> 12, found.st_ino))

    def test_S2_positions_stay_good(self):
        libc = ctypes.CDLL(None)
        libc.opendir.restype = libc.readdir.restype = ctypes.c_void_p
        libc.telldir.restype = ctypes.c_long
        libc.opendir.argtypes = [ctypes.c_char_p]
        libc.readdir.argtypes = libc.telldir.argtypes = libc.closedir.argtypes = [ctypes.c_void_p]
        libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
        with mounted(self.shards[0]) as at:
            stream = libc.opendir(os.fsencode(at / "many"))
            found = []
            while True:
                position, entry = libc.telldir(stream), libc.readdir(stream)
                if not entry:
                    break
                found.append((position, ctypes.string_at(entry + 19)))
            self.assertEqual(len(found), 302)
            random.Random(1).shuffle(found)
            for position, name in found:
                libc.seekdir(stream, position)
                self.assertEqual(ctypes.string_at(libc.readdir(stream) + 19), name)
            libc.closedir(stream)

    def test_S3_inodes(self):
        links = [os.lstat(self.at / path) for path in ("links/first", "links/second", "third")]
        self.assertEqual(len({(s.st_ino, s.st_nlink, s.st_mtime_ns, s.st_size) for s in links}), 1)
        self.assertEqual(links[0].st_nlink, 3)
        with mounted(self.shard) as again:
            for path, mine in self.each():
                other = os.path.join(os.fsencode(again), os.path.relpath(path, os.fsencode(self.source)))
                self.assertEqual(os.lstat(mine).st_ino, os.lstat(other).st_ino)
        numbers = [os.lstat(mine).st_ino for path, mine in self.each() if os.lstat(path).st_nlink == 1]
        self.assertEqual(len(numbers), len(set(numbers)))
        self.assertEqual(os.stat(self.at).st_ino, 1)

    def test_S5_attributes(self):
        for path, mine in self.each():
            packed, shown = os.lstat(path), os.lstat(mine)
            same = ("st_mode", "st_mtime_ns") if stat.S_ISDIR(packed.st_mode) else (
                "st_mode", "st_mtime_ns", "st_size", "st_nlink", "st_rdev")
            for field in same:
                self.assertEqual(getattr(shown, field), getattr(packed, field), (path, field))
            self.assertEqual(shown.st_atime_ns, shown.st_mtime_ns)
            self.assertEqual(shown.st_ctime_ns, shown.st_mtime_ns)
            if stat.S_ISREG(shown.st_mode) and b"/holes/" not in path:
                self.assertEqual(shown.st_blocks, (shown.st_size + 511) // 512)
                self.assertIn(shown.st_blksize, [4096 << n for n in range(6)])
            if stat.S_ISDIR(shown.st_mode):
                self.assertEqual(shown.st_size, 0)
                below = [e for e in os.scandir(path) if e.is_dir(follow_symlinks=False)]
                self.assertEqual(shown.st_nlink, 2 + len(below))
        self.assertEqual(os.stat(self.at / "sizes/3000000.bin").st_blksize, 128 * 1024)
        self.assertEqual(os.stat(self.at / "sizes/0020000.bin").st_blksize, 32 * 1024)

    @needs_root
    def test_S6_owner_me(self):
        with mounted(self.shard, "-o", "owner=me") as at:
            for path, _ in self.each():
                packed = os.lstat(path)
                shown = os.lstat(os.path.join(os.fsencode(at), os.path.relpath(path, os.fsencode(self.source))))
                self.assertEqual((shown.st_uid, shown.st_gid), (os.getuid(), os.getgid()))
                self.assertEqual(shown.st_mode & 0o077, packed.st_mode & 0o077)
                if stat.S_ISLNK(packed.st_mode):
                    continue
                wanted = 0o500 if stat.S_ISDIR(packed.st_mode) or packed.st_mode & 0o111 else 0o400
                self.assertEqual(shown.st_mode, packed.st_mode | wanted, path)

    @needs_root
    def test_S6_is_a_plain_user_s_default(self):
        with mounted(self.shard, user=NOBODY) as at:
            out = subprocess.run(["find", at, "-printf", "%U:%G\n"], stdout=subprocess.PIPE, check=True,
                                 text=True, **as_user(NOBODY)).stdout
            self.assertEqual(set(out.split()), {f"{NOBODY}:{NOBODY}"})
            subprocess.run(["tar", "-cf", "/dev/null", "-C", at, "modes", "owners"], check=True, **as_user(NOBODY))

    @needs_root
    def test_S7_owner_archive(self):
        with mounted(self.shard, "-o", "owner=archive") as at:
            self.assertEqual(listing.differences(listing.find(self.source), listing.find(at)), "")
        self.assertEqual(listing.differences(listing.find(self.source), listing.find(self.at)), "")

    def test_S8_uid_gid_umask(self):
        with mounted(self.shard, "-o", "uid=12,gid=34", "-o", "umask=027") as at:
            for path, _ in self.each():
                shown = os.lstat(os.path.join(os.fsencode(at), os.path.relpath(path, os.fsencode(self.source))))
                self.assertEqual((shown.st_uid, shown.st_gid), (12, 34))
                if not stat.S_ISLNK(shown.st_mode):
                    self.assertEqual(shown.st_mode & 0o027, 0)
            self.assertEqual(stat.S_IMODE(os.stat(at / "modes/4755").st_mode), 0o4750)

    @needs_root
    def test_S10_extended_attributes(self):
        self.assertEqual(listing.xattrs(self.source), listing.xattrs(self.at))
        file = self.at / "xattrs/file"
        self.assertEqual(os.listxattr(file),
                         ["trusted.secret", "user.binary", "user.empty", "user.label"])
        self.assertEqual(os.getxattr(file, "user.empty"), b"")
        self.fails_with(errno.ENODATA, os.getxattr, file, "user.nothing")
        libc = ctypes.CDLL(None, use_errno=True)
        small = ctypes.create_string_buffer(10)
        self.assertEqual(libc.getxattr(os.fsencode(file), b"user.binary", small, 10), -1)
        self.assertEqual(ctypes.get_errno(), errno.ERANGE)
        self.assertEqual(libc.getxattr(os.fsencode(file), b"user.binary", None, 0), 1024)

    @needs_root
    def test_S10_trusted_is_for_root(self):
        with mounted(self.shard, "-o", "allow_other") as at:
            out = subprocess.run([sys.executable, "-c", "import os, sys; print(os.listxattr(sys.argv[1]))",
                                  at / "xattrs/file"], stdout=subprocess.PIPE, text=True, check=True,
                                 **as_user(NOBODY)).stdout
            self.assertEqual(out.strip(), "['user.binary', 'user.empty', 'user.label']")

    def test_S12_statfs(self):
        found = os.statvfs(self.at)
        sizes = {os.lstat(p).st_ino: os.lstat(p).st_size for p, _ in self.each() if stat.S_ISREG(os.lstat(p).st_mode)}
        self.assertEqual(found.f_blocks, (sum(sizes.values()) + 4095) // 4096)
        self.assertEqual(found.f_files, 1 + len(list(self.each())))
        self.assertEqual((found.f_bfree, found.f_bavail, found.f_ffree, found.f_namemax), (0, 0, 0, 255))
        self.assertTrue(found.f_flag & os.ST_RDONLY)

    def test_S13_reads(self):
        for shard in self.shards:
            with self.subTest(shard=shard.name), mounted(shard) as at:
                for path in sorted((self.source / "sizes").iterdir()):
                    self.reads_like(path, at / "sizes" / path.name)
                self.assertEqual(listing.same_bytes(self.source / "sizes", at / "sizes"), "")

    def reads_like(self, path, mine):
        packed, choose = path.read_bytes(), random.Random(path.name)
        with open(mine, "rb", buffering=0) as file:
            for _ in range(60):
                offset = choose.randrange(len(packed) + 5000)
                length = choose.choice((1, 511, 4096, 65536, 70000, 2 << 20))
                got = os.pread(file.fileno(), length, offset)
                self.assertEqual(got, packed[offset:offset + length])
            self.assertEqual(os.pread(file.fileno(), 10, len(packed)), b"")

    def test_S13_many_threads(self):
        wanted = {path.name: hashlib.sha256(path.read_bytes()).digest()
                  for path in [*(self.source / "sizes").iterdir(), *(self.source / "many").iterdir()]}
        for shard in self.shards:
            with mounted(shard) as at:
                wrong = []

                def read_all(seed, at=at, wrong=wrong):
                    names = list(wanted)
                    random.Random(seed).shuffle(names)
                    for name in names:
                        path = at / ("sizes" if name.endswith(".bin") else "many") / name
                        if hashlib.sha256(path.read_bytes()).digest() != wanted[name]:
                            wrong.append(name)

                threads = [threading.Thread(target=read_all, args=(seed,)) for seed in range(8)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                self.assertEqual(wrong, [])

    def test_S14_symlinks(self):
        for path in (self.source / "links").iterdir():
            if path.is_symlink():
                self.assertEqual(os.readlink(os.fsencode(path)), os.readlink(os.fsencode(self.at / "links" / path.name)))
        self.assertEqual((self.at / "links/works").read_bytes(), (self.source / "links/works").read_bytes())

    def test_S15_holes(self):
        for path in (self.source / "holes").iterdir():
            mine = self.at / "holes" / path.name
            self.assertEqual(self.edges(mine), self.edges(path))
            self.assertEqual(mine.read_bytes(), path.read_bytes())
            self.assertLess(os.stat(mine).st_blocks * 512, os.stat(mine).st_size)

    @staticmethod
    def edges(path):
        """For many offsets: where the next data and the next hole are, or the error."""
        found, size = [], os.stat(path).st_size
        with open(path, "rb") as file:
            for at in [*range(0, size, 4096), size - 1, size]:
                for whence in (os.SEEK_DATA, os.SEEK_HOLE):
                    try:
                        found.append(os.lseek(file.fileno(), at, whence))
                    except OSError as error:
                        found.append(error.errno)
        return found

    @needs_root
    def test_S16_special_files(self):
        self.assertTrue(stat.S_ISCHR(os.lstat(self.at / "special/null").st_mode))
        self.assertEqual(os.lstat(self.at / "special/block").st_rdev, os.makedev(259, 70000))
        self.fails_with(errno.EACCES, os.open, self.at / "special/null", os.O_RDONLY)
        reader = os.open(self.at / "special/fifo", os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, reader)
        writer = os.open(self.at / "special/fifo", os.O_WRONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, writer)
        os.write(writer, b"through")
        self.assertEqual(os.read(reader, 100), b"through")

    @needs_root
    def test_S16_set_id_is_not_followed(self):
        source = self.dir / "programs"
        source.mkdir()
        shutil.copy("/usr/bin/id", source / "id")
        os.chmod(source / "id", 0o6755)
        with mounted(self.pack(source), "-o", "allow_other") as at:
            self.assertEqual(stat.S_IMODE(os.stat(at / "id").st_mode), 0o6755)
            out = subprocess.run([at / "id", "-u"], stdout=subprocess.PIPE, check=True, text=True, **as_user(NOBODY))
            self.assertEqual(out.stdout.strip(), str(NOBODY))

    def test_S17_mmap(self):
        packed = (self.source / "sizes/3000000.bin").read_bytes()
        with open(self.at / "sizes/3000000.bin", "rb") as file:
            for flags in (mmap.MAP_SHARED, mmap.MAP_PRIVATE):
                for protection in (mmap.PROT_READ, mmap.PROT_READ | mmap.PROT_EXEC):
                    with mmap.mmap(file.fileno(), 0, flags=flags, prot=protection) as view:
                        self.assertEqual(view[:], packed)
            with mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE) as mine:
                mine[0:4] = b"mine"
                self.assertEqual(mine[0:5], b"mine" + packed[4:5])
            with self.assertRaises(PermissionError):
                mmap.mmap(file.fileno(), 0, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        self.assertEqual((self.at / "sizes/3000000.bin").read_bytes(), packed)

    def test_S17_programs(self):
        source = self.dir / "programs"
        source.mkdir()
        shutil.copy("/bin/echo", source / "echo")
        shard = self.pack(source)
        with mounted(shard) as at:
            self.assertEqual(self.silent(at / "echo", "hello"), "hello\n")
        with mounted(shard, "-o", "noexec") as at:
            self.fails_with(errno.EACCES, subprocess.run, [at / "echo"], check=False)

    def test_S18_direct_io(self):
        for size in (4096, 20_000, 65_537, 3_000_000):
            packed = (self.source / f"sizes/{size:07}.bin").read_bytes()
            file = os.open(self.at / f"sizes/{size:07}.bin", os.O_RDONLY | os.O_DIRECT)
            self.addCleanup(os.close, file)
            with mmap.mmap(-1, 4 << 20) as room:  # Page-aligned memory, as direct reads want it.
                self.assertEqual(os.preadv(file, [room], 0), size)
                self.assertEqual(room[:size], packed)
                got = os.preadv(file, [memoryview(room)[:8192]], 4096)
                self.assertEqual(room[:got], packed[4096:4096 + 8192])

    def test_S18_sendfile_splice_and_advice(self):
        path, packed = self.at / "sizes/0200001.bin", (self.source / "sizes/0200001.bin").read_bytes()
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
            self.assertEqual(self.sent(file.fileno(), len(packed)), packed)
            ends = os.pipe()
            self.assertEqual(os.splice(file.fileno(), ends[1], 4096, offset_src=100), 4096)
            self.assertEqual(os.read(ends[0], 5000), packed[100:4196])
            for end in ends:
                os.close(end)

    @staticmethod
    def sent(file, size):
        here, there = socket.socketpair()
        got = bytearray()

        def receive():
            while part := there.recv(65536):
                got.extend(part)

        thread = threading.Thread(target=receive)
        thread.start()
        offset = 0
        while offset < size:
            offset += os.sendfile(here.fileno(), file, offset, size - offset)
        here.close()
        thread.join()
        there.close()
        return bytes(got)

    def test_S19_locks(self):
        with open(self.at / "many/image_00000.jpg", "rb") as file, open(file.name, "rb") as other:
            fcntl.flock(file, fcntl.LOCK_EX)
            self.fails_with(errno.EWOULDBLOCK, fcntl.flock, other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(file, fcntl.LOCK_UN)
            fcntl.lockf(file, fcntl.LOCK_SH)

    def test_S20_nothing_can_be_written(self):
        file, directory = self.at / "sizes/0000001.bin", self.at / "many"
        refused = [
            lambda: os.open(file, os.O_WRONLY),
            lambda: os.open(file, os.O_RDWR),
            lambda: os.open(file, os.O_RDONLY | os.O_TRUNC),
            lambda: os.open(directory / "new", os.O_WRONLY | os.O_CREAT),
            lambda: os.mkdir(directory / "new"),
            lambda: os.mknod(directory / "new"),
            lambda: os.symlink("x", directory / "new"),
            lambda: os.link(file, directory / "new"),
            lambda: os.rename(file, directory / "new"),
            lambda: os.unlink(file),
            lambda: os.rmdir(self.at / "empty/empty too"),
            lambda: os.truncate(file, 0),
            lambda: os.chmod(file, 0o600),
            lambda: os.chown(file, 1, 1),
            lambda: os.utime(file),
            lambda: os.setxattr(file, "user.x", b"y"),
            lambda: os.removexattr(self.at / "xattrs/file", "user.label"),
        ]
        for number, action in enumerate(refused):
            with self.subTest(number=number):
                self.fails_with(errno.EROFS, action)

    @needs_root
    def test_S20_cannot_be_remounted_for_writing(self):
        with mounted(self.shard) as at:
            run("mount", "-i", "-o", "remount,rw", at)
            self.fails_with(errno.EROFS, os.mkdir, at / "new")
            self.fails_with(errno.EROFS, os.chmod, at / "many", 0o700)
            with self.assertRaises(OSError), open(at / "sizes/0000001.bin", "wb") as file:
                file.write(b"x")

    def test_S31_reports_are_not_listed(self):
        self.assertEqual(os.listxattr(self.at), os.listxattr(self.source))
        self.assertEqual(os.listxattr(self.at / "third"), [])
        self.assertEqual(self.mount.info()["format"], "shard")
        self.assertEqual(self.mount.stats()["schema"], 1)
        for attribute in ("stats", "info"):
            self.fails_with(errno.ENODATA, os.getxattr, self.at / "many", f"user.shardfs.{attribute}")
        self.fails_with(errno.ENODATA, os.getxattr, self.at / "many", "user.shardfs.extents")

    def test_S31_a_mount_stands_for_its_archive(self):
        with Mount(self.shard) as mount:
            for command in (["info", "--json"], ["ls", "-l"], ["verify"]):
                self.assertEqual(self.ok(SHARDFS, *command, mount.path), self.ok(SHARDFS, *command, self.shard))

    def test_S31_extents_tell_where_bytes_lie(self):
        with mounted(self.shards[0]) as at:
            import json
            for path in (self.source / "sizes").iterdir():
                extents = json.loads(os.getxattr(at / "sizes" / path.name, "user.shardfs.extents"))
                data = b""
                for extent in extents:
                    self.assertEqual((extent["encoding"], extent["file"]), ("stored", str(self.shards[0])))
                    with open(extent["file"], "rb") as file:
                        data += os.pread(file.fileno(), extent["length"], extent["offset"])
                self.assertEqual(data, path.read_bytes())


class Semantics(MountTest):
    def test_S3_links_out_of_sight_count(self):
        source = self.tree({"in/a": b"linked", "in/c": b"other"})
        os.link(source / "in/a", source / "out")
        with mounted(self.pack(source), "-o", "subdir=in") as at:
            self.assertEqual(os.stat(at / "a").st_nlink, 2)
            self.assertEqual((at / "a").read_bytes(), b"linked")

    def test_S4_subdir(self):
        source = self.tree({"top": b"1", "a/b/file": b"2", "a/b/c/deep": b"3", "a/x": b"4"})
        os.symlink("a/b", source / "link")
        (self.dir / "at").mkdir()
        for container in self.CONTAINERS:
            shard = self.pack(source, container)
            with mounted(shard, "-o", "subdir=/a/b/") as at:
                self.assertEqual(listing.differences(listing.find(source / "a/b"), listing.find(at)), "")
                self.assertEqual((at / "c/deep").read_bytes(), b"3")
                self.assertEqual(os.stat(at).st_ino, 1)
                self.assertEqual([(n, i) for n, _, i in in_order(at / "c")[:2]],
                                 [(b".", os.stat(at / "c").st_ino), (b"..", 1)])
                self.assertEqual([i for _, _, i in in_order(at)[:2]], [1, os.stat(at.parent).st_ino]
                                 if in_order(at)[1][2] != 1 else [1, 1])
            for wrong in ("a/x", "nothing", "link"):
                result = run(SHARDFS, "mount", shard, self.dir / "at", "-o", f"subdir={wrong}")
                self.assertEqual(result.returncode, 1)
                self.assertIn(wrong, result.stderr)

    @needs_root
    def test_S9_others_are_kept_out(self):
        source = self.tree({"file": b"x", "secret": b"y"})
        os.chmod(source / "secret", 0o600)
        shard = self.pack(source)

        def reads(path):
            return subprocess.run(["cat", path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                  check=False, **as_user(NOBODY)).stdout

        with mounted(shard) as at:
            self.assertEqual(reads(at / "file"), b"")
        with mounted(shard, "-o", "allow_other") as at:
            self.assertEqual((reads(at / "file"), reads(at / "secret")), (b"x", b""))
        with mounted(shard, user=NOBODY) as at:
            self.assertEqual((reads(at / "file"), reads(at / "secret")), (b"x", b"y"))
            self.fails_with(errno.EACCES, os.listdir, at)

    @needs_root
    def test_S11_access_control_lists(self):
        source = self.tree({"file": b"x"})
        os.setxattr(source / "file", "system.posix_acl_access", ACL_USER_1)
        wanted = self.silent("getfacl", "-p", "-c", "-n", source / "file")
        self.assertIn("user:1:r--", wanted)
        for container in self.CONTAINERS:
            with mounted(self.pack(source, container)) as at:
                self.assertEqual(self.silent("getfacl", "-p", "-c", "-n", at / "file"), wanted)
                self.assertEqual(self.silent("rsync", "-anA", "--itemize-changes", f"{source}/", f"{at}/"), "")

    def test_S24_hostile_names_do_not_reach_a_mount(self):
        hostile = self.dir / "hostile.tar"
        with tarfile.open(hostile, "w") as tar:
            for name in ("good", "../up", "a/../../up", "/absolute", "./dot", "a//b", "a/./c"):
                member = tarfile.TarInfo(name)
                member.size = 1
                tar.addfile(member, io.BytesIO(b"x"))
        packed = run(MKSHARD, hostile, "-o", self.dir / "shard.tar", "-q", "--ignore-failed-read")
        if packed.returncode > 1:
            self.assertFalse((self.dir / "shard.tar").exists())
            return
        with mounted(self.dir / "shard.tar") as at:
            for here, directories, files in os.walk(at):
                for name in directories + files:
                    self.assertNotIn(name, (".", "..", ""))
                    self.assertTrue(os.path.realpath(os.path.join(here, name)).startswith(str(at)))
            self.assertEqual((at / "good").read_bytes(), b"x")


if __name__ == "__main__":
    unittest.main()
