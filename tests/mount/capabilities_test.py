"""Old kernels: every capability that is used may be missing, and everything works without it."""

import os
import unittest

import listing
import odd_tree
from mounted import Mount, MountTest

# FUSE_CAP_* of libfuse.
CAPABILITIES = {
    "ASYNC_READ": 1 << 0, "READDIRPLUS": 1 << 13, "ASYNC_DIO": 1 << 15, "NO_OPEN_SUPPORT": 1 << 17,
    "PARALLEL_DIROPS": 1 << 18, "CACHE_SYMLINKS": 1 << 23, "NO_OPENDIR_SUPPORT": 1 << 24,
}


class Capabilities(MountTest):
    def setUp(self):
        super().setUp()
        self.source = self.dir / "source"
        odd_tree.make(self.source, long_paths=False)
        self.shard = self.pack(self.source, "tar.zst")

    def all_is_well(self, mask: int) -> Mount:
        mount = self.enter(Mount(self.shard, env={"SHARDFS_TEST_MASK_CAPS": hex(mask)}))
        for _ in range(2):  # Cold and warm.
            self.assertEqual(listing.differences(listing.find(self.source), listing.find(mount.path),), "")
            for below in ("sizes", "many", "names", "links", "holes"):
                self.assertEqual(listing.same_bytes(self.source / below, mount.path / below), "")
        return mount

    def test_each_missing(self):
        for name, bit in CAPABILITIES.items():
            with self.subTest(missing=name):
                self.all_is_well(bit)

    def test_all_missing(self):
        mount = self.all_is_well(sum(CAPABILITIES.values()))
        asked = mount.requests()
        self.assertEqual(asked["readdirplus"], 0)
        self.assertGreater(asked["readdir"], 0)
        # Without the capabilities the kernel asks each time, but keeps what it has read.
        def read():
            with open(mount.path / "sizes/0200001.bin", "rb", buffering=0) as file:
                file.read()

        self.assertEqual(mount.requests_during(read), {"open": 1, "release": 1})
        listing_of_many = mount.requests_during(lambda: os.listdir(mount.path / "many"))
        self.assertEqual(listing_of_many, {"opendir": 1, "releasedir": 1})

    def test_nothing_missing(self):
        mount = self.all_is_well(0)
        asked = mount.requests()
        self.assertEqual((asked["open"], asked["opendir"], asked["release"], asked["readdir"]), (1, 1, 0, 0))


if __name__ == "__main__":
    unittest.main()
