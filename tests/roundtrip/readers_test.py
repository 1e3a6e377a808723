"""Every tar reader reads every shard: exit 0, nothing on standard error, and the tree that was packed."""

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import unittest

import listing
import odd_tree
from tools import BUILD, MKSHARD, SHARDFS, TemporaryTree, run

SEVEN_ZIP = shutil.which("7zz") or shutil.which("7z") or "7zz"
VENV_PYTHON = BUILD.parent / "venv/bin/python"
PYTHON_EXTRACT = "import tarfile, sys; tarfile.open({source}, mode={mode!r}).extractall('.')"
# Listing a future time is a warning of GNU tar's that has nothing to do with the archive.
GNU_TAR = "tar --warning=no-timestamp --numeric-owner -xp --xattrs --xattrs-include='*'"

# name: (containers it reads, shell command that extracts $A into the current directory,
#        what the tool cannot restore, as FORMAT.md section 8 says)
READERS = {
    "GNU tar": ("tar tar.zst", f"{GNU_TAR} -f $A", {"holes"}),
    "GNU tar, pipe": ("tar", f"cat $A | {GNU_TAR} -f -", {"holes"}),
    "GNU tar, zstd pipe": ("tar.zst", f"zstd -dcq $A | {GNU_TAR} -f -", {"holes"}),
    "bsdtar": ("tar tar.zst", "bsdtar --numeric-owner -xp --xattrs -f $A", {"holes", "xattr names"}),
    "bsdtar, pipe": ("tar tar.zst", "cat $A | bsdtar --numeric-owner -xp --xattrs -f -", {"holes", "xattr names"}),
    "busybox tar": ("tar", "busybox tar -xp -f $A", {"holes", "xattrs", "directory times"}),
    "busybox tar, zstd pipe": ("tar.zst", "zstd -dcq $A | busybox tar -xp -f -",
                               {"holes", "xattrs", "directory times"}),
    "Python r:": ("tar", "/usr/bin/python3 -c \"" + PYTHON_EXTRACT.format(source="sys.argv[1]", mode="r:") + "\" $A",
                  {"holes", "xattrs"}),
    "Python r|": ("tar", "cat $A | /usr/bin/python3 -c \"import tarfile, sys; "
                  "tarfile.open(fileobj=sys.stdin.buffer, mode='r|').extractall('.')\"", {"holes", "xattrs"}),
    "Python r|, zstd pipe": ("tar.zst", "zstd -dcq $A | /usr/bin/python3 -c \"import tarfile, sys; "
                             "tarfile.open(fileobj=sys.stdin.buffer, mode='r|').extractall('.')\"",
                             {"holes", "xattrs"}),
    "7-Zip": ("tar", f"umask 0; {SEVEN_ZIP} x -snld20 -y -bso0 -bsp0 $A",
              {"holes", "xattrs", "owners", "set-id modes", "special"}),
    "7-Zip, zstd": ("tar.zst", f"umask 0; {SEVEN_ZIP} x -so -bso0 -bsp0 $A | {SEVEN_ZIP} x -snld20 -si -ttar -y -bso0 -bsp0",
                    {"holes", "xattrs", "owners", "set-id modes", "special"}),
}


def forget(tree: dict, losses: set) -> dict:
    """A listing without what a tool is known to lose."""
    kept = {}
    for path, (kind, mode, uid, gid, size, when, link, names, inode) in tree.items():
        if "special" in losses and (kind in (b"c", b"b", b"p") or path.startswith(b"special/")):
            continue
        if "owners" in losses:
            uid = gid = b""
        if "set-id modes" in losses:
            mode = mode[-3:]
        if "directory times" in losses and kind == b"d":
            when = b""
        if kind == b"l":
            when = b""  # Not every tool sets the times of symlinks, and no program reads them.
        if path == b"":
            continue  # The directory extracted into is not part of a shard.
        kept[path] = (kind, mode, uid, gid, size, when, link, names, inode)
    return kept


class ReadersTest(TemporaryTree):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        if os.geteuid() != 0:
            raise unittest.SkipTest("restoring owners and devices needs root")

    def pack_odd_tree(self):
        source = self.dir / "source"
        odd_tree.make(source, long_paths=False, old_times=False)
        shards = {}
        for container in ("tar", "tar.zst"):
            shards[container] = self.dir / f"shard.{container}"
            self.ok(MKSHARD, source, "-o", shards[container], "-q")
        return source, shards

    def test_every_reader_restores_the_tree_silently(self):
        source, shards = self.pack_odd_tree()
        whole = listing.find(source, nanoseconds=False)
        for name, (containers, command, losses) in READERS.items():
            for container in containers.split():
                with self.subTest(reader=name, container=container):
                    out = self.dir / "out"
                    out.mkdir()
                    result = run("bash", "-o", "pipefail", "-c", command, cwd=out,
                                 env={**os.environ, "A": str(shards[container]), "LC_ALL": "C.UTF-8"})
                    self.assertEqual((result.returncode, result.stderr), (0, ""), result.stdout[-500:])
                    actual = forget(listing.find(out, nanoseconds=False), losses)
                    self.assertEqual(listing.differences(forget(whole, losses), actual), "")
                    if "special" not in losses:
                        self.assertEqual(listing.same_bytes(source, out), "")
                    if "xattrs" not in losses:
                        self.assertEqual(listing.xattrs(source / "xattrs"), listing.xattrs(out / "xattrs"))
                    if "xattrs" not in losses and "xattr names" not in losses:
                        self.assertEqual(listing.xattrs(source), listing.xattrs(out))
                shutil.rmtree(self.dir / "out")

    def test_deep_paths_and_old_times(self):
        source = self.dir / "source"
        odd_tree.make(source)
        for container in ("tar", "tar.zst"):
            shard = self.dir / f"shard.{container}"
            self.ok(MKSHARD, source, "-o", shard, "-q")
            for command in (f"{GNU_TAR} -f $A", "bsdtar --numeric-owner -xp -f $A"):
                with self.subTest(container=container, command=command):
                    out = self.dir / "out"
                    subprocess.run(["rm", "-rf", out], check=True)
                    out.mkdir()
                    self.ok("bash", "-c", command, cwd=out, env={**os.environ, "A": str(shard)})
                    losses = {"holes"}
                    self.assertEqual(
                        listing.differences(forget(listing.find(source, nanoseconds=False), losses),
                                            forget(listing.find(out, nanoseconds=False), losses)), "")

    def test_nanoseconds_in_the_tar_on_request(self):
        source = self.dir / "source"
        odd_tree.make(source, long_paths=False, old_times=False)
        shard = self.dir / "shard.tar"
        self.ok(MKSHARD, source, "-o", shard, "-q", "--tar-mtime=ns")
        out = self.dir / "out"
        out.mkdir()
        self.silent("bash", "-c", f"{GNU_TAR} -f {shard}", cwd=out)
        self.assertEqual(listing.differences(forget(listing.find(source), set()), forget(listing.find(out), set())),
                         "")

    def test_python_packages_read_shards(self):
        """zstandard and indexed_zstd read the frames, webdataset the samples."""
        if not VENV_PYTHON.exists():
            self.skipTest(f"{VENV_PYTHON} is not there (tests/run makes it)")
        source = self.dir / "samples"
        source.mkdir()
        for number in range(200):
            (source / f"{number:06d}.txt").write_bytes(odd_tree.content(3000, number))
            (source / f"{number:06d}.cls").write_text(str(number % 10))
        tar, zst = self.dir / "samples.tar", self.dir / "samples.tar.zst"
        self.ok(MKSHARD, source, "-o", tar, "-q")
        self.ok(MKSHARD, source, "-o", zst, "-q")
        plain = subprocess.run(["zstd", "-dcq", zst], stdout=subprocess.PIPE, check=True).stdout
        (self.dir / "plain").write_bytes(plain)
        self.silent(VENV_PYTHON, "-W", "error", "-c", """
import pathlib, sys, random, zstandard, indexed_zstd
archive, plain = sys.argv[1], pathlib.Path(sys.argv[2]).read_bytes()
with open(archive, 'rb') as f:
    assert zstandard.ZstdDecompressor().stream_reader(f, read_across_frames=True).read() == plain
z = indexed_zstd.IndexedZstdFile(archive)
for _ in range(100):
    at = random.randrange(len(plain)); z.seek(at); assert z.read(5000) == plain[at:at + 5000]
""", zst, self.dir / "plain")
        out = self.silent(VENV_PYTHON, "-c", """
import sys, webdataset
samples = list(webdataset.WebDataset(sys.argv[1], shardshuffle=False))
print(len(samples), sum(len(s['txt']) for s in samples), sum(int(s['cls']) for s in samples))
""", tar)
        self.assertEqual(out.split(), ["200", "600000", str(sum(n % 10 for n in range(200)))])


class LargeIndexTest(TemporaryTree):
    """Names that do not shrink: the index, of over 30 MB, takes two runs of global headers, of at most 28 MB each."""

    FILES = 125_000

    def test_every_reader_lists_a_shard_with_a_large_index(self):
        shard = self.dir / "large.tar"
        producer = subprocess.Popen([sys.executable, "-B", __file__, "--stream", str(self.FILES)],
                                    stdout=subprocess.PIPE)
        self.ok(MKSHARD, "-", "-o", shard, "-q", stdin=producer.stdout)
        producer.stdout.close()
        self.assertEqual(producer.wait(), 0)
        info = json.loads(self.ok(SHARDFS, "info", "--json", shard))
        self.assertGreater(info["index_bytes"], 28_000_000)
        for command in ("tar -tf $A", "cat $A | tar -tf -", "bsdtar -tf $A", "cat $A | bsdtar -tf -",
                        "busybox tar -tf $A", f"{SEVEN_ZIP} l -ba -slt $A | grep '^Path = '",
                        "cat $A | /usr/bin/python3 -c \"import tarfile, sys\n"
                        "for m in tarfile.open(fileobj=sys.stdin.buffer, mode='r|'): print(m.name)\""):
            with self.subTest(command=command):
                result = run("bash", "-o", "pipefail", "-c", f"{command} | wc -l",
                             env={**os.environ, "A": str(shard)})
                self.assertEqual((result.returncode, result.stderr, result.stdout.strip()),
                                 (0, "", str(self.FILES)))


def stream(count: int) -> None:
    """Writes a tar of `count` empty files with names of 248 random characters to standard output."""
    import tarfile
    member = tarfile.TarInfo()
    for number in range(count):
        member.name = base64.urlsafe_b64encode(hashlib.shake_256(b"%d" % number).digest(186)).decode()
        sys.stdout.buffer.write(member.tobuf(tarfile.GNU_FORMAT))
    sys.stdout.buffer.write(bytes(10240))


if __name__ == "__main__":
    if len(sys.argv) > 2 and sys.argv[1] == "--stream":
        stream(int(sys.argv[2]))
    else:
        unittest.main()
