"""Damaged archives give EIO and one line in the log, never a wrong byte."""

import errno
import json
import os
import unittest

from mounted import Mount, MountTest, mounted
from odd_tree import content
from tools import SHARDFS, run

PIECE = 65536


def flip(path, offset: int) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))


class Damage(MountTest):
    def setUp(self):
        super().setUp()
        self.files = {f"dir/file{n:02}": content(20_000, 3 * n + 1) for n in range(20)}
        self.files["large"] = content(300_000, 1)
        self.source = self.tree(self.files)

    def damage(self, container: str, name: str, at: int):
        """A shard where the byte `at` of the file's data (or of what encodes it) is not as packed."""
        shard = self.pack(self.source, container)
        with mounted(shard) as mount:
            extents = json.loads(os.getxattr(mount / name, "user.shardfs.extents"))
        for extent in extents:
            if at < extent["length"]:
                flip(shard, extent["offset"] + at)
                return shard, extent["offset"]
            at -= extent["length"]
        raise AssertionError("no such byte")

    def read_all(self, mount) -> dict:
        """Files that could not be read, with their errno; all others must be right."""
        failed = {}
        for name, wanted in self.files.items():
            try:
                self.assertEqual((mount.path / name).read_bytes(), wanted)
            except OSError as error:
                failed[name] = error.errno
        return failed

    def test_S21_only_the_damaged_file_fails(self):
        for container in self.CONTAINERS:
            shard, _ = self.damage(container, "dir/file07", 1000)
            with Mount(shard) as mount:
                for _ in range(3):
                    self.assertEqual(self.read_all(mount), {"dir/file07": errno.EIO})

    def test_S21_other_pieces_of_the_file_are_served(self):
        shard, _ = self.damage("tar", "large", 2 * PIECE + 5)
        with Mount(shard) as mount, open(mount.path / "large", "rb", buffering=0) as file:
            wanted = self.files["large"]
            self.assertEqual(os.pread(file.fileno(), 2 * PIECE, 0), wanted[:2 * PIECE])
            self.fails_with(errno.EIO, os.pread, file.fileno(), 10, 2 * PIECE)
            self.fails_with(errno.EIO, os.pread, file.fileno(), PIECE, 3 * PIECE - 10 - PIECE + 11)
            self.assertEqual(os.pread(file.fileno(), 200_000, 3 * PIECE), wanted[3 * PIECE:])

    def test_S22_one_line_in_the_log(self):
        for container in self.CONTAINERS:
            shard, offset = self.damage(container, "dir/file07", 1000)
            with Mount(shard) as mount:
                for _ in range(5):
                    self.read_all(mount)
                lines = [line for line in mount.log().splitlines() if "dir/file07" in line]
                self.assertEqual(len(lines), 1, lines)
                for word in ("piece" if container == "tar" else "frame", str(offset), str(shard)):
                    self.assertIn(word, lines[0])
                errors = mount.stats()["errors"]
                self.assertEqual([(e["path"], e["offset"], e["errno"]) for e in errors],
                                 [("dir/file07", offset, errno.EIO)])
                self.assertIn(errors[0]["text"], lines[0])
            verified = run(SHARDFS, "verify", shard, "--json")
            self.assertEqual(verified.returncode, 1)
            self.assertEqual([bad["path"] for bad in json.loads(verified.stdout)["bad"]], ["dir/file07"])

    def test_S22_the_last_16_are_kept(self):
        shard = self.pack(self.source)
        with mounted(shard) as mount:
            offsets = [json.loads(os.getxattr(mount / name, "user.shardfs.extents"))[0]["offset"]
                       for name in self.files]
        for offset in offsets:
            flip(shard, offset)
        with Mount(shard) as mount:
            self.assertEqual(len(self.read_all(mount)), 21)
            self.assertEqual(len(mount.stats()["errors"]), 16)

    def test_S23_cut_while_mounted(self):
        for container in self.CONTAINERS:
            shard = self.pack(self.source, container)
            with Mount(shard) as mount:
                self.assertEqual((mount.path / "dir/file00").read_bytes(), self.files["dir/file00"])
                os.truncate(shard, 200_000)
                failed = self.read_all(mount)
                self.assertIn("large", failed)
                self.assertEqual(set(failed.values()), {errno.EIO})
                self.assertNotIn("dir/file00", failed)

    def test_S23_overwritten_while_mounted(self):
        for container in self.CONTAINERS:
            shard = self.pack(self.source, container)
            with Mount(shard) as mount:
                with open(shard, "r+b") as file:
                    file.write(b"\xaa" * (os.stat(shard).st_size // 2))
                failed = self.read_all(mount)
                self.assertGreater(len(failed), 3)
                self.assertEqual(set(failed.values()), {errno.EIO})

    def test_S23_replaced_or_removed_while_mounted(self):
        shard = self.pack(self.source)
        with Mount(shard) as mount:
            other = self.pack(self.tree({"something": b"else"}, "other"))
            os.rename(other, shard)
            self.assertEqual(self.read_all(mount), {})
            os.unlink(shard)
            self.assertEqual(self.read_all(mount), {})


if __name__ == "__main__":
    unittest.main()
