"""What one mount has decoded of an archive that is slow to decode, no other of the node decodes again."""

import concurrent.futures
import contextlib
import json
import os
import random
import subprocess
import tempfile
import unittest
from pathlib import Path

import foreign
from cache_faults import Reading
from cached import HANG, CacheDir, CachedMount, CacheTest
from mounted import wait_until
from slowstore import SlowStore
from tools import SHARDFS

TAR = "tar --format=gnu --sort=name -C $S -c ."
# How each is made of the tree $S as the archive $A, and how many files it has.
ARCHIVES = {
    "points.tar.gz": (f"{TAR} | gzip -1 > $A", 200),
    "blocks.tar.bz2": (f"{TAR} | bzip2 -1 > $A", 60),
    "block.tar.xz": (f"{TAR} | xz -0 -T1 > $A", 100),
    "frame.tar.zst": (f"{TAR} | zstd -1 -q > $A", 800),  # over 64 MiB: decoded from its beginning on
}
FILES, DECODED = {}, {}  # of each archive; bytes that it decodes to
STORE = Path()


def setUpModule():
    global STORE
    home = tempfile.TemporaryDirectory(prefix="shardfs-test-")
    unittest.addModuleCleanup(home.cleanup)
    STORE = Path(home.name) / "store"
    STORE.mkdir()
    for name, (packer, count) in ARCHIVES.items():
        FILES[name] = foreign.make_files(seed=3, count=count)
        source = foreign.write_tree(Path(home.name) / name, FILES[name])
        env = {**os.environ, "S": str(source), "A": str(STORE / name)}
        subprocess.run(["bash", "-o", "pipefail", "-c", packer], check=True, env=env)
        size = subprocess.run(f"{TAR} | wc -c", shell=True, check=True, stdout=subprocess.PIPE, env=env).stdout
        DECODED[name] = int(size)


def archive_bytes(mount) -> int:
    """Of the archive, that this mount has read."""
    figures = mount.stats()["daemon"]
    return figures["hit_bytes"] + figures["miss_bytes"]


def size(name: str) -> int:
    return (STORE / name).stat().st_size


class DecodedTest(CacheTest):
    def assert_read(self, mount, name: str, **options):
        self.assertEqual(Reading(mount.path, FILES[name], **options).result(), {})


class Kept(DecodedTest):
    def kept(self, cache) -> int:
        """Bytes of pieces in the cache."""
        return json.loads(self.ok(SHARDFS, "cache", "ls", "--json", "--cache-dir", cache.parent))["block_bytes"]

    def keep_the_rest(self, cache, name):
        """On a slow machine pieces are dropped that are decoded faster than they are kept: others decode them again."""
        for seed in range(10, 15):
            with contextlib.suppress(AssertionError):
                return wait_until(lambda: self.kept(cache) >= DECODED[name], "all of it", HANG / 3)
            with CachedMount(STORE / name, cache) as another:
                self.assert_read(another, name, seed=seed)
        return self.fail("not all of it is kept")

    def test_a_second_mount_decodes_nothing(self):
        for name in ARCHIVES:
            with self.subTest(name), CacheDir() as cache, CachedMount(STORE / name, cache) as first:
                self.assert_read(first, name, seed=1)
                self.keep_the_rest(cache, name)
                with CachedMount(STORE / name, cache) as second:
                    before = archive_bytes(second)
                    self.assert_read(second, name, seed=2)
                    self.assertEqual(archive_bytes(second), before)

    def test_of_those_that_begin_together_one_scans(self):
        store = self.enter(SlowStore(STORE))
        name = "points.tar.gz"
        mounts = [self.mounting(store.path / name) for _ in range(4)]
        with concurrent.futures.ThreadPoolExecutor(len(mounts)) as pool:
            list(pool.map(lambda mount: self.enter(mount), mounts))
        self.assertEqual(sum(archive_bytes(mount) > size(name) // 2 for mount in mounts), 1)
        for mount in mounts:
            self.assert_read(mount, name)

    def mounting(self, archive) -> CachedMount:
        return CachedMount(archive, self.cache)

    def test_where_there_is_no_room(self):
        """A part is kept, and all is right."""
        for name in ARCHIVES:
            room = ("--cache-size", str(2 * size(name)))  # a tenth of it is for what is decoded
            with self.subTest(name), CacheDir() as cache, CachedMount(STORE / name, cache, *room) as mount:
                for seed in range(2):
                    self.assert_read(mount, name, seed=seed)


class Faults(DecodedTest):
    def test_who_scans_is_killed(self):
        """Another one that waits for it scans instead."""
        store = self.enter(SlowStore(STORE, bandwidth=4e6))
        name = "points.tar.gz"
        at = self.dir / "killed"
        at.mkdir()
        first = subprocess.Popen([SHARDFS, "mount", store.path / name, at, "--cache-dir", self.cache.parent,
                                  "--tier", "disk"], stderr=subprocess.DEVNULL)
        self.addCleanup(first.wait)
        self.addCleanup(first.kill)
        wait_until(lambda: store.stats()["bytes"] > 1 << 20, "a scan", HANG)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            second = CachedMount(store.path / name, self.cache)
            entered = pool.submit(self.enter, second)
            with contextlib.suppress(concurrent.futures.TimeoutError):
                entered.result(0.5)
            self.assertFalse(entered.done())
            first.kill()
            store.bandwidth(0)
            entered.result(HANG)
        self.assert_read(second, name)

    def test_what_is_kept_is_damaged(self):
        for name in ARCHIVES:
            with self.subTest(name), CacheDir() as cache, CachedMount(STORE / name, cache) as first:
                self.assert_read(first, name)
                kept = cache.path / "blocks/data.mdb"
                place = random.Random(5)
                with open(kept, "r+b") as file:
                    for at in range(0, kept.stat().st_size, 100_000):
                        file.seek(at + place.randrange(90_000))
                        file.write(place.randbytes(50))
                with CachedMount(STORE / name, cache) as second:
                    self.assert_read(second, name)

    def test_the_server_is_killed(self):
        for name in ARCHIVES:
            with self.subTest(name), CacheDir() as cache, CachedMount(STORE / name, cache) as mount:
                reading = Reading(mount.path, FILES[name], seed=7)
                os.kill(cache.wait_for_server(), 9)
                self.assertEqual(reading.result(), {})
                self.assert_read(mount, name, seed=8)


if __name__ == "__main__":
    unittest.main()
