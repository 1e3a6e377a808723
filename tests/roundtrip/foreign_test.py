"""Archives that other tools make are mounted as other tools read them."""

import errno
import io
import os
import random
import re
import shutil
import stat
import tarfile
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import listing
from mounted import mounted
from tools import MKSHARD, SHARDFS, TemporaryTree, run

# How each is made of the tree $S as the archive $A, and what of it `find` can compare: formats and
# packers do not keep all that a tree has. "links": hard links; "ns": nanoseconds; "owners".
TAR = "tar -C $S --sort=name"
ARCHIVES = {
    "gnu.tar": (f"{TAR} -cf $A .", {"links", "owners"}),
    "pax.tar": (f"{TAR} --format=pax -cf $A .", {"links", "owners", "ns"}),
    "v7.tar": (f"{TAR} --format=v7 -cf $A small", {"links", "owners"}),
    "ustar.tar": (f"{TAR} --format=ustar -cf $A small", {"links", "owners"}),
    "sparse.tar": (f"{TAR} --format=pax -Scf $A .", {"links", "owners", "ns"}),
    "gnusparse.tar": (f"{TAR} -Scf $A .", {"links", "owners"}),
    "bsdtar.tar": ("bsdtar -C $S -cf $A .", {"links", "owners", "ns"}),
    "newc.cpio": ("cd $S && find . | cpio -o -H newc --quiet > $A", {"links", "owners"}),
    "odc.cpio": ("bsdtar -C $S --format=odc -cf $A .", {"owners"}),
    "rock.iso": ("genisoimage -quiet -R -o $A $S", {"owners"}),
    "bsdtar.iso": ("bsdtar -C $S --format=iso9660 -cf $A .", {"owners"}),
    "stored.zip": ("cd $S && zip -q0ry $A .", set()),
    "deflated.zip": ("cd $S && zip -qry $A .", set()),
    "bsdtar.zip": ("bsdtar -C $S --format=zip -cf $A .", set()),
    "solid.7z": ("cd $S && $SEVEN a -bd -snl -ms=on $A . > /dev/null", set()),
    "by-file.7z": ("cd $S && $SEVEN a -bd -snl -ms=off $A . > /dev/null", set()),
    "tar.gz": (f"{TAR} -c . | gzip > $A", {"links", "owners"}),
    "pigz.tar.gz": (f"{TAR} -c . | pigz > $A", {"links", "owners"}),
    "bgzip.tar.gz": (f"{TAR} -c . | bgzip > $A", {"links", "owners"}),
    "members.tar.gz": (f"{TAR} -c . | split -b 700000 --filter=gzip > $A", {"links", "owners"}),
    "tar.bz2": (f"{TAR} -c . | bzip2 > $A", {"links", "owners"}),
    "tar.xz": (f"{TAR} -c . | xz -1 > $A", {"links", "owners"}),
    "blocks.tar.xz": (f"{TAR} -c . | xz -1 -T2 --block-size=1MiB > $A", {"links", "owners"}),
    "tar.zst": (f"{TAR} -c . | zstd -q > $A", {"links", "owners"}),
    "pzstd.tar.zst": (f"{TAR} -c . | pzstd -q > $A", {"links", "owners"}),
    "tar.lz4": (f"{TAR} -c . | lz4 -q > $A", {"links", "owners"}),
    "cpio.gz": ("cd $S && find . | cpio -o -H newc --quiet | gzip > $A", {"links", "owners"}),
    **{f"{method}.squashfs": (f"mksquashfs $S $A -comp {method} -quiet -no-progress", {"links", "owners"})
       for method in ("gzip", "xz", "lzo", "lz4", "zstd")},
    "plain.squashfs": ("mksquashfs $S $A -noI -noD -noF -noX -quiet -no-progress", {"links", "owners"}),
}


def damage_where_only_a_scan_sees_it(archive):
    """Outside of what the archive's state samples, and with the time of before."""
    before = archive.stat()
    with open(archive, "r+b") as file:
        file.seek(before.st_size // 4)
        file.write(b"damaged " * 100)
    os.utime(archive, ns=(before.st_atime_ns, before.st_mtime_ns))


def make_tree(root):
    """Some 300 files that compress and some that do not, in directories, with links and holes."""
    make = random.Random(5)
    words = [make.randbytes(6).hex() for _ in range(500)]
    for number in range(300):
        path = root / ("small" if number % 3 else f"dir-{number % 7}/deeper") / f"file-{number:03}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        size = make.choice([0, 1, 511, 512, 513, 4096, 20_000, 70_000])
        path.write_bytes(make.randbytes(size) if number % 2 else " ".join(make.choices(words, k=size // 12)).encode())
    (root / "large.bin").write_bytes(make.randbytes(3_000_000))
    (root / "large.txt").write_text("\n".join(make.choices(words, k=400_000)))
    with open(root / "holes", "wb") as file:
        file.truncate(5 << 20)
        os.pwrite(file.fileno(), b"in the middle", 2 << 20)
    (root / "empty").mkdir()
    (root / "small/link").symlink_to("file-001.txt")
    (root / "dangling").symlink_to("nowhere/at/all")
    os.link(root / "small/file-001.txt", root / "small/second-name")
    (root / "ünïcode").write_text("a name beyond ASCII")
    os.chmod(root / "small/file-002.txt", 0o751)
    for path in [*root.rglob("*"), root]:
        os.utime(path, ns=(1_600_000_000_123_456_789,) * 2, follow_symlinks=False)


class ForeignTest(TemporaryTree):
    def setUp(self):
        super().setUp()
        self.source = self.dir / "source"
        self.source.mkdir()
        make_tree(self.source)

    def make(self, name):
        archive = self.dir / name
        self.ok("bash", "-o", "pipefail", "-c", ARCHIVES[name][0],
                env={**os.environ, "S": str(self.source), "A": str(archive), "LC_ALL": "C.UTF-8", "TZ": "UTC",
                     "SEVEN": shutil.which("7zz") or shutil.which("7z")})
        return archive

    def extract(self, archive):
        """The tree by the format's own tool."""
        tree = self.dir / f"extracted-{archive.name}"
        if archive.suffix == ".squashfs":
            self.ok("unsquashfs", "-q", "-n", "-d", tree, archive)
            return tree
        tree.mkdir()
        self.ok("bsdtar", "-xpf", archive, "-C", tree, env={**os.environ, "LC_ALL": "C.UTF-8", "TZ": "UTC"})
        return tree

    def compare(self, expected, actual, kept):
        self.assertEqual(listing.same_bytes(expected, actual), "")
        left, right = (listing.find(tree, nanoseconds="ns" in kept, owners="owners" in kept)
                       for tree in (expected, actual))
        if "links" not in kept:
            left, right = ({path: row[:7] for path, row in tree.items()} for tree in (left, right))
        for tree in (left, right):
            tree.pop(b"", None)  # not all tools set the root's time
        self.assertEqual(listing.differences(left, right), "")

    def of_each(self, check, names):
        """check(name) of each archive, several at a time."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            checks = {name: pool.submit(check, name) for name in names}
        for name, checked in checks.items():
            with self.subTest(archive=name):
                checked.result()

    def equals_what_its_own_tool_extracts(self, name):
        archive = self.make(name)
        tree = self.extract(archive)
        with mounted(archive, "-o", "owner=archive") as mountpoint:
            self.compare(tree, mountpoint, ARCHIVES[name][1])
        self.ok(SHARDFS, "verify", archive, "-q")
        shutil.rmtree(tree)
        archive.unlink()

    def test_S37_each_format_equals_what_its_own_tool_extracts(self):
        self.of_each(self.equals_what_its_own_tool_extracts, ARCHIVES)

    def test_mkshard_makes_the_same_tree_of_it(self):
        for name in ("tar.gz", "deflated.zip", "tar.xz"):
            with self.subTest(archive=name):
                archive = self.make(name)
                shard = self.dir / "packed.tar"
                self.ok(MKSHARD, archive, "-o", shard, "-q", "--force")
                with mounted(archive) as of_archive, mounted(shard) as of_shard:
                    self.compare(of_archive, of_shard, ARCHIVES[name][1])

    def test_S42_a_kept_index_spares_the_scan(self):
        archive = self.make("tar.gz")
        index = self.dir / "tar.gz.shardfs-index"
        self.assertEqual(self.ok(MKSHARD, "index", archive), f"{index}\n")
        damage_where_only_a_scan_sees_it(archive)
        self.assertIn("large.bin", self.ok(SHARDFS, "ls", archive))
        self.assertEqual(run(SHARDFS, "verify", archive).returncode, 1)
        index.unlink()
        self.assertEqual(run(SHARDFS, "ls", archive).returncode, 2)

    def test_S42_a_cache_directory_keeps_the_index_of_an_archive_that_is_read_in_place(self):
        archive = self.make("tar.gz")
        cache = self.dir / "cache"
        cache.mkdir()
        with mounted(archive, "--cache-dir", cache, "--tier", "none"):
            self.assertEqual(list(cache.iterdir()), [])
        shard = self.dir / "shard.tar"
        self.ok(MKSHARD, archive, "-o", shard, "-q")
        with mounted(shard, "--cache-dir", cache):
            self.assertEqual(list(cache.iterdir()), [], "a shard has its own")
        with mounted(archive, "--cache-dir", cache):
            [index] = cache.glob(".shardfs-*/index/*")
        before = index.stat()
        with mounted(archive, "--cache-dir", cache) as mountpoint:
            self.assertTrue((mountpoint / "large.bin").exists())
            self.assertEqual(index.stat().st_ino, before.st_ino, "another scan writes another one")
        index.write_bytes(b"damaged")
        with mounted(archive, "--cache-dir", cache):
            self.assertEqual(index.stat().st_size, before.st_size)

    def test_S42_an_index_of_another_state_is_not_used(self):
        archive = self.make("deflated.zip")
        tree = self.extract(archive)
        index = self.dir / "deflated.zip.shardfs-index"
        self.ok(MKSHARD, "index", archive, "-q")
        whole = index.read_bytes()
        states = {"another state": lambda: os.utime(archive), "cut short": lambda: index.write_bytes(whole[:-100]),
                  "index": lambda: index.write_bytes(whole[:5000] + b"\xff" + whole[5001:])}
        for said, change in states.items():
            with self.subTest(said):
                change()
                with mounted(archive) as mountpoint:
                    self.assertEqual(listing.same_bytes(tree, mountpoint), "")
                result = run(SHARDFS, "info", archive)
                self.assertRegex(result.stderr, rf"^shardfs: {index}: .*{said}.*; it is not used\n$")

    def test_a_mount_keeps_the_index_where_it_is_told(self):
        archive = self.make("plain.squashfs")
        index = self.dir / "plain.squashfs.shardfs-index"
        with mounted(archive):
            self.assertFalse(index.exists())
        with mounted(archive, "--save-index"):
            self.assertTrue(index.exists())
        self.assertEqual(self.ok(SHARDFS, "ls", archive), self.ok(SHARDFS, "ls", shutil.move(
            archive, self.dir / "moved")), "the same with and without it")

    def odd_tar(self, *members):
        """A tar of (name, type, link, content), as no packer would write it."""
        path = self.dir / "odd.tar"
        with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
            for name, kind, link, content in members:
                member = tarfile.TarInfo(name)
                member.type, member.linkname, member.size, member.mtime = kind, link, len(content), 1_600_000_000
                member.devmajor, member.devminor = 1, 3
                tar.addfile(member, io.BytesIO(content))
        return path

    def test_S38_the_last_member_of_a_path_counts(self):
        archive = self.odd_tar(("/absolute", tarfile.REGTYPE, "", b"leading slash"), ("./dot", tarfile.REGTYPE, "", b"a"),
                               ("twice", tarfile.REGTYPE, "", b"first"), ("no/such/parent", tarfile.REGTYPE, "", b"b"),
                               ("twice", tarfile.REGTYPE, "", b"second, longer"), ("was-a-file", tarfile.REGTYPE, "", b"x"),
                               ("was-a-file", tarfile.SYMTYPE, "twice", b""))
        tree = self.extract(archive)
        with mounted(archive) as mountpoint:
            self.assertEqual(listing.same_bytes(tree, mountpoint), "")
            self.assertEqual((mountpoint / "twice").read_bytes(), b"second, longer")
            self.assertEqual((mountpoint / "no/such").stat().st_mode & 0o7777, 0o755)
        name = "caf\u00e9".encode("latin-1")
        archive = self.odd_tar((os.fsdecode(name), tarfile.REGTYPE, "", b"not UTF-8"))
        with mounted(archive) as mountpoint:
            self.assertEqual(os.listdir(os.fsencode(mountpoint)), [name])

    def test_S39_what_no_tree_can_hold_is_left_out(self):
        archive = self.odd_tar(("ok", tarfile.REGTYPE, "", b"content"), ("../up", tarfile.REGTYPE, "", b"a"),
                               ("a/../../b", tarfile.REGTYPE, "", b"b"), ("n" * 256, tarfile.REGTYPE, "", b"c"),
                               ("to-nothing", tarfile.LNKTYPE, "not/there", b""),
                               ("file", tarfile.REGTYPE, "", b"d"), ("file/below", tarfile.REGTYPE, "", b"e"),
                               ("null", tarfile.CHRTYPE, "", b""), ("pipe", tarfile.FIFOTYPE, "", b""))
        with mounted(archive) as mountpoint:
            self.assertEqual(sorted(os.listdir(mountpoint)), ["file", "null", "ok", "pipe"])
            self.assertEqual((mountpoint / "file/below").read_bytes(), b"e")
            self.assertTrue(stat.S_ISCHR((mountpoint / "null").stat().st_mode))
            self.assertTrue(stat.S_ISFIFO((mountpoint / "pipe").stat().st_mode))
            with self.assertRaises(PermissionError):
                (mountpoint / "null").read_bytes()
        said = run(SHARDFS, "info", archive).stderr
        for name in ("../up", "a/../../b", "n" * 256, "to-nothing", "file"):
            self.assertRegex(said, rf"(?m)^shardfs: {archive}: {re.escape(name)}: .*; left out$")

    def test_S40_what_cannot_be_undone_is_an_error(self):
        shutil.copy(self.source / "large.txt", self.dir / "secret.txt")
        seven = shutil.which("7zz") or shutil.which("7z")
        for name, options, said in (("password.zip", ("-psesame",), "secret.txt.*encrypted"),
                                    ("method.zip", ("-mm=PPMd",), "secret.txt.*PPMd"),
                                    ("volumes.zip", ("-v1m", "-mx0"), "volume")):
            with self.subTest(name):
                archive = self.dir / name
                self.ok(seven, "a", *options, archive, self.dir / "secret.txt")
                if not archive.exists():
                    archive = self.dir / f"{name}.001"
                result = run(SHARDFS, "ls", archive)
                self.assertEqual((result.returncode, result.stdout), (2, ""))
                self.assertRegex(result.stderr, rf"^shardfs: {archive}: .*({said}|cut short|not an archive).*\n$")
        for name in ("gnu.tar", "tar.gz", "tar.zst", "deflated.zip", "zstd.squashfs", "newc.cpio"):
            with self.subTest(name, cut="in half"):
                archive = self.make(name)
                os.truncate(archive, archive.stat().st_size // 2)
                result = run(SHARDFS, "ls", archive)
                self.assertEqual((result.returncode, result.stdout), (2, ""))
                self.assertRegex(result.stderr, rf"^shardfs: {archive}: .*\n$")
                archive.unlink()

    def notices_a_flipped_bit(self, name):
        archive = self.make(name)
        tree = self.extract(archive)
        self.ok(MKSHARD, "index", archive, "-q")
        before = archive.stat()
        place = before.st_size // 3
        with open(archive, "r+b") as file:
            file.seek(place)
            byte = file.read(1)[0]
            file.seek(place)
            file.write(bytes([byte ^ 0x10]))
        os.utime(archive, ns=(before.st_atime_ns, before.st_mtime_ns))
        failed = 0
        with mounted(archive) as mountpoint:
            for path in filter(Path.is_file, sorted(tree.rglob("*"))):
                if failed == 3:  # each such file has its block decoded again
                    break
                try:
                    self.assertEqual((mountpoint / path.relative_to(tree)).read_bytes(), path.read_bytes())
                except OSError as error:
                    self.assertEqual(error.errno, errno.EIO)
                    failed += 1
        self.assertGreater(failed, 0)

    def test_S41_what_a_format_checks_is_checked(self):
        self.of_each(self.notices_a_flipped_bit,
                     ("deflated.zip", "by-file.7z", "solid.7z", "tar.gz", "tar.bz2", "tar.xz", "pzstd.tar.zst"))


if __name__ == "__main__":
    unittest.main()
