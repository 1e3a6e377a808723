"""What is packed is what is mounted, by the word of rsync, diff, find and getfattr."""

import os
import stat
import subprocess
import unittest

import listing
import odd_tree
from mounted import NOBODY, as_user, mounted
from tools import MKSHARD, TemporaryTree, run


def rsync_differences(source, mountpoint, *options) -> str:
    """What rsync would change to make the mount equal to the source: nothing, if all is well."""
    result = run("rsync", "-ancHAX", "--modify-window=-1", "--delete", "--itemize-changes", *options,
                 f"{source}/", f"{mountpoint}/")
    return result.stdout + result.stderr


class RoundTripTest(TemporaryTree):
    CONTAINERS = ("tar", "tar.zst")

    def pack(self, source, container):
        shard = self.dir / f"shard.{container}"
        self.ok(MKSHARD, source, "-o", shard, "-q", "--force")
        shard.chmod(0o644)
        return shard

    def test_as_root_with_the_archive_s_owners(self):
        if os.geteuid() != 0:
            self.skipTest("making files of other owners needs root")
        source = self.dir / "source"
        odd_tree.make(source, long_paths=False)
        for container in self.CONTAINERS:
            with self.subTest(container=container), \
                    mounted(self.pack(source, container), "-o", "owner=archive") as mountpoint:
                self.assertEqual(rsync_differences(source, mountpoint), "")
                self.assertEqual(listing.same_bytes(source, mountpoint), "")
                self.assertEqual(listing.differences(listing.find(source), listing.find(mountpoint)), "")
                self.assertEqual(listing.xattrs(source), listing.xattrs(mountpoint))

    def test_holes_are_where_they_were(self):
        source = self.dir / "source"
        odd_tree.make(source, long_paths=False)
        for container in self.CONTAINERS:
            with self.subTest(container=container), mounted(self.pack(source, container)) as mountpoint:
                for name in os.listdir(source / "holes"):
                    self.assertEqual(hole_map(source / "holes" / name), hole_map(mountpoint / "holes" / name), name)
                    self.assertLess(os.stat(mountpoint / "holes" / name).st_blocks * 512,
                                    os.stat(mountpoint / "holes" / name).st_size)

    def test_paths_of_4095_bytes(self):
        source = self.dir / "source"
        source.mkdir()
        odd_tree.make_deep(os.fsencode(source))
        odd_tree.stamp_all(os.fsencode(source))
        for container in self.CONTAINERS:
            with self.subTest(container=container), mounted(self.pack(source, container)) as mountpoint:
                self.assertEqual(listing.differences(listing.find(source), listing.find(mountpoint)), "")
                self.assertEqual(deepest_file(source), deepest_file(mountpoint))

    def test_as_a_plain_user(self):
        if os.geteuid() != 0:
            self.skipTest("becoming another user needs root")
        source = self.dir / "source"
        odd_tree.make(source, long_paths=False, special=False, odd_owners=False)
        self.dir.chmod(0o755)
        for container in self.CONTAINERS:
            with self.subTest(container=container), \
                    mounted(self.pack(source, container), user=NOBODY) as mountpoint:
                compare = subprocess.run(
                    ["diff", "-r", "--no-dereference", "--brief", source / "many", mountpoint / "many"],
                    **as_user(NOBODY), stdout=subprocess.PIPE, text=True)
                self.assertEqual((compare.returncode, compare.stdout), (0, ""))
                result = subprocess.run(
                    ["rsync", "-rlncHt", "--modify-window=-1", "--delete", "--itemize-changes",
                     f"{source}/many/", f"{mountpoint}/many/"],
                    **as_user(NOBODY), stdout=subprocess.PIPE, text=True)
                self.assertEqual((result.returncode, result.stdout), (0, ""))
                out = subprocess.run(["find", mountpoint, "-printf", "%U %G %m %y\n"], **as_user(NOBODY),
                                     stdout=subprocess.PIPE, text=True, check=True)
                for line in set(out.stdout.splitlines()):
                    uid, gid, mode, kind = line.split()
                    self.assertEqual((uid, gid), (str(NOBODY), str(NOBODY)))
                    self.assertTrue(int(mode, 8) & stat.S_IRUSR, line)
                    self.assertTrue(kind != "d" or int(mode, 8) & stat.S_IXUSR, line)


def hole_map(path) -> list:
    """Where data begins and ends in a file."""
    edges = []
    with open(path, "rb") as file:
        size, at = os.fstat(file.fileno()).st_size, 0
        while at < size:
            try:
                data = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:
                break
            at = os.lseek(file.fileno(), data, os.SEEK_HOLE)
            edges.append((data, at))
    return edges


def deepest_file(root) -> bytes:
    """Content of the file at the end of a chain of directories."""
    here = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        while True:
            (name,) = os.listdir(here)
            below = os.open(name, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
            if not stat.S_ISDIR(os.fstat(here).st_mode):
                return os.read(here, 100)
    finally:
        os.close(here)


if __name__ == "__main__":
    unittest.main()
