"""An index that no longer fits its archive is never believed, whichever tool changed the archive."""

import os
import shutil
import subprocess
import unittest

import listing
from mounted import mounted
from tools import MKSHARD, SHARDFS, TemporaryTree, run

# What other tools do to a shard $A of the container named; $B is another shard, $NEW a file to add.
CHANGES = {
    "tar": {
        "tar -r": "tar -rf $A -C $DIR new",
        "tar -r of a name that is there": "tar -rf $A -C $DIR/again 005.txt",
        "tar -u": "touch -d 'next year' $DIR/again/005.txt && tar -uf $A -C $DIR/again 005.txt",
        "tar -A": "tar -Af $A $B",
        "tar --delete, first member": "tar -f $A --delete 000.txt",
        "tar --delete, member in the middle": "tar -f $A --delete 050.txt",
        "tar --delete, last member": "tar -f $A --delete $(tar -tf $A | tail -n 1)",
        "bsdtar -r": "bsdtar -rf $A -C $DIR new",
        "Python append": "/usr/bin/python3 -c 'import tarfile, sys\n"
                         "with tarfile.open(sys.argv[1], \"a\") as t: t.add(sys.argv[2], \"new\")' $A $DIR/new",
        "cat a b": "cat $B >> $A",
        "cat b a": "cat $B $A > $A.x && mv $A.x $A",
        "truncate up a byte": "truncate -s +1 $A",
        "truncate up 64 KiB": "truncate -s +65536 $A",
        "truncate up 1 MiB": "truncate -s +1M $A",
        "truncate down to the end of the archive": "truncate -s -10240 $A",
        "truncate down a block": "truncate -s $(( $(stat -c %s $A) / 2 / 512 * 512 )) $A",
        "truncate to nothing": "truncate -s 0 $A",
        "gzip": "gzip -c $A > $A.x && mv $A.x $A",
        "zstd": "zstd -qc $A > $A.x && mv $A.x $A",
        "extracted and packed by tar": "mkdir $DIR/x && tar -xf $A -C $DIR/x && tar -cf $A -C $DIR/x .",
    },
    "tar.zst": {
        "cat a b": "cat $B >> $A",
        "cat b a": "cat $B $A > $A.x && mv $A.x $A",
        "a frame appended": "echo more | zstd -qc >> $A",
        "truncate up": "truncate -s +1 $A",
        "truncate down": "truncate -s -1 $A",
        "truncate to half": "truncate -s $(( $(stat -c %s $A) / 2 )) $A",
        "truncate to nothing": "truncate -s 0 $A",
        "recompressed": "zstd -dcq $A | zstd -qc > $A.x && mv $A.x $A",
        "decompressed": "zstd -dcq $A > $A.x && mv $A.x $A",
        "compressed once more": "zstd -qc $A > $A.x && mv $A.x $A",
    },
}
# Zeros behind the end are what tar itself writes: up to 64 KiB of them change no content, and verify tells.
HARMLESS = {"truncate up a byte"}
# What has lost a part, or is compressed twice, or that zstd itself refuses, is refused. All else is
# what any archive is, and served as other tools read it.
REFUSED = {"truncate down to the end of the archive", "truncate down a block", "truncate to nothing", "truncate down",
           "truncate to half", "truncate up", "compressed once more"}


class StaleIndexTest(TemporaryTree):
    def make_shards(self, container):
        for name, count in (("a", 100), ("b", 7)):
            source = self.dir / name
            source.mkdir()
            for number in range(count):
                (source / f"{number:03d}.txt").write_text(f"{name} {number}\n" * 50)
            self.ok(MKSHARD, source, "-o", self.dir / f"{name}.{container}", "-q")
        (self.dir / "again").mkdir()
        (self.dir / "again/005.txt").write_text("newer\n")
        (self.dir / "new").write_text("new\n")

    def test_a_changed_archive_is_read_as_it_is_or_refused(self):
        for container, changes in CHANGES.items():
            self.make_shards(container)
            pristine = self.dir / f"a.{container}"
            shard = self.dir / f"changed.{container}"
            for name, command in changes.items():
                with self.subTest(container=container, change=name):
                    shutil.copy(pristine, shard)
                    self.ok("bash", "-o", "pipefail", "-c", command, env={
                        **os.environ, "A": str(shard), "B": str(self.dir / f"b.{container}"), "DIR": str(self.dir)})
                    self.check_outcome(name, shard)
                subprocess.run(["rm", "-rf", self.dir / "x"], check=True)
            for entry in self.dir.iterdir():
                subprocess.run(["rm", "-rf", entry], check=True)

    def check_outcome(self, name, shard):
        result = run(SHARDFS, "ls", shard)
        if name in HARMLESS:
            self.assertEqual(result.returncode, 0, result.stderr)
            verified = run(SHARDFS, "verify", shard)
            self.assertEqual(verified.returncode, 1)
            self.assertIn("closing zeros", verified.stdout + verified.stderr)
            return
        if name in REFUSED:
            self.check_refused(shard, result)
        else:
            self.check_served(shard)

    def check_refused(self, shard, result):
        self.assertEqual((result.returncode, result.stdout), (2, ""))
        self.assertRegex(result.stderr, r"^shardfs: \S*changed\S*: .*(cut|is empty|damaged|behind|not an archive)")
        self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
        mountpoint = self.dir / "mountpoint"
        mountpoint.mkdir()
        self.assertNotEqual(run(SHARDFS, "mount", shard, mountpoint).returncode, 0)
        self.assertFalse(os.path.ismount(mountpoint))
        mountpoint.rmdir()

    def check_served(self, archive):
        tree = self.dir / "extracted"
        tree.mkdir()
        self.ok("bsdtar", "-xpf", archive, "-C", tree)
        with mounted(archive) as mountpoint:
            self.assertEqual(listing.same_bytes(tree, mountpoint), "")
        shutil.rmtree(tree)


if __name__ == "__main__":
    unittest.main()
