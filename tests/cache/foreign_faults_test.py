"""The faults of the store and of the cache, for archives of other formats: one for each way to get at the data.

Such an archive has no checksum for each piece of its data, as a shard has. What the cache holds is checked by sums
that its server took as the bytes came from the store, so nothing that becomes of the cache reaches a reader. What
the store itself gives is believed as far as the format lets it: of a plain tar nobody can tell whether a byte was
right when it was first read, and no test here asks for that. A zip and a gzip carry a CRC, so of them readers get
right bytes or an error, whoever lied; a squashfs image carries none.
"""

import contextlib
import errno
import json
import os
import random
import shutil
import signal
import tempfile
import threading
import unittest
from pathlib import Path

import foreign
from cache_faults import Reading, SmallDisk, loop_devices_work
from cached import HANG, UNIT, CacheDir, CachedMount, CacheTest
from mounted import alive, mounted, needs_root, wait_until
from slowstore import SlowStore
from tools import SHARDFS, run

MOST_LINES = 30  # of a log, whatever happens and however often
# Of an archive, what its readers are to find in the cache, and a tenth as much decoded: not all of it, for then
# nobody would read the archive.
TIGHT = ("--cache-size", "24M")
PARTIAL = ("disk", "--cache-size", "6M")  # a tier, and options by which one unit of several has room
FILES = {}
STORE = Path()  # the archives of FILES


def setUpModule():
    global STORE
    home = tempfile.TemporaryDirectory(prefix="shardfs-test-")
    unittest.addModuleCleanup(home.cleanup)
    FILES.update(foreign.make_files(seed=1))
    source = foreign.write_tree(Path(home.name) / "source", FILES)
    STORE = Path(home.name) / "store"
    STORE.mkdir()
    for name in foreign.PACKERS:
        foreign.pack(source, STORE / name)


def flip(file, at: int) -> None:
    with open(file, "r+b") as opened:
        byte = os.pread(opened.fileno(), 1, at)
        os.pwrite(opened.fileno(), bytes([byte[0] ^ 1]), at)


class ForeignTest(CacheTest):
    def slow_store(self, **options) -> SlowStore:
        return self.enter(SlowStore(STORE, **options))

    @staticmethod
    def size(archive) -> int:
        return (STORE / archive.name).stat().st_size

    def assert_read(self, mount, files=None, **options):
        self.assertEqual(Reading(mount.path, files or FILES, **options).result(), {})

    def staged(self, mount):
        """Waits until all of the archive is in the cache."""
        wait_until(lambda: mount.stats()["staged_bytes"] == self.size(Path(mount.shard)), "all of it staged", HANG)

    def assert_short(self, *logs):
        for log in logs:
            self.assertLess(len(log.splitlines()), MOST_LINES, log)


class Once(ForeignTest):
    def test_each_byte_is_read_once_a_node(self):
        """By the scan at mounting, by staging, by all readers and by a second mount, together."""
        store = self.slow_store()
        for name in foreign.PACKERS:
            for tier in ("disk", "memory"):
                with self.subTest(archive=name, tier=tier), CacheDir() as cache:
                    archive = store.path / name
                    store.reset()
                    with CachedMount(archive, cache, tier=tier) as mount:
                        for epoch in range(2):
                            self.assert_read(mount, seed=epoch)
                        self.staged(mount)
                        self.assertLessEqual(store.stats()["bytes"], 1.02 * self.size(archive))
                        store.reset()
                        with CachedMount(archive, cache, tier=tier) as beside:
                            self.assert_read(beside, seed=2)
                            self.assertEqual(store.stats()["requests"], 0)
                        self.assert_short(mount.log(), cache.log())
                    if tier == "memory":
                        continue
                    cache.wait_for_end()
                    with CachedMount(archive, cache) as later:
                        self.assert_read(later)
                        self.assertEqual(store.stats()["requests"], 0)


class Damage(ForeignTest):
    """Of a cache that has all of the archive, before any of its data were read: blocks that are decoded already
    would not be looked for in it."""

    @staticmethod
    def scribble(mirror):
        place = random.Random(2)
        size = mirror.stat().st_size
        with open(mirror, "r+b") as file:
            for _ in range(64):
                file.seek(place.randrange(size))
                file.write(place.randbytes(50))
        os.truncate(mirror, size)

    @staticmethod
    def flip_a_bit_in_each_chunk(mirror):
        for at in range(12_345, mirror.stat().st_size, 64 << 10):
            flip(mirror, at)

    @staticmethod
    def cut(mirror):
        os.truncate(mirror, mirror.stat().st_size // 3)

    @staticmethod
    def delete(mirror):
        mirror.unlink()

    @staticmethod
    def delete_the_directory(mirror):
        shutil.rmtree(mirror.parent.parent)

    WRONG = (scribble, flip_a_bit_in_each_chunk, cut)
    GONE = (delete, delete_the_directory)

    def check(self, store, name: str, how):
        archive = store.path / name
        with CacheDir() as cache, CachedMount(archive, cache, *TIGHT) as mount:
            self.staged(mount)
            store.reset()
            how(next(cache.path.glob("mirror/*")))
            self.assert_read(mount)
            if how in self.WRONG:
                self.assertGreater(store.stats()["bytes"], 0)
                self.assertIn("is damaged; fetching it again", cache.log())
            self.assert_short(mount.log(), cache.log())
            with CachedMount(archive, cache) as beside:
                self.assert_read(beside)

    def test_while_mounted(self):
        store = self.slow_store(latency_ms=1)
        for name in foreign.PACKERS:
            for how in (*self.WRONG, *self.GONE):
                with self.subTest(archive=name, how=how.__name__):
                    self.check(store, name, how)

    def test_between_two_mounts(self):
        """By the time of the second one all that the first one's server knew is in files."""
        store = self.slow_store(latency_ms=1)
        for name in foreign.PACKERS:
            with self.subTest(archive=name), CacheDir() as cache:
                archive = store.path / name
                with CachedMount(archive, cache) as mount:
                    self.staged(mount)
                cache.wait_for_end()
                self.flip_a_bit_in_each_chunk(next(cache.path.glob("mirror/*")))
                with CachedMount(archive, cache) as mount:
                    self.assert_read(mount)
                    self.assertIn("is damaged; fetching it again", cache.log())
                    self.assert_short(mount.log(), cache.log())

    def test_of_the_kept_index(self):
        """The archive is scanned again where what an earlier scan has left cannot be used."""
        store = self.slow_store(latency_ms=1)
        for name in foreign.PACKERS:
            for how in (self.scribble, self.cut, self.delete):
                with self.subTest(archive=name, how=how.__name__), CacheDir() as cache:
                    archive = store.path / name
                    with CachedMount(archive, cache):
                        (kept,) = cache.path.glob("index/*")
                        before = kept.read_bytes()
                        how(kept)
                        with CachedMount(archive, cache) as beside:
                            self.assertEqual(kept.read_bytes(), before)
                            self.assert_read(beside)

    def test_one_bit_of_a_plain_tar(self):
        """Nothing in the archive tells that it is wrong, only the sum of the cache does."""
        store = self.slow_store()
        name = sorted(FILES)[len(FILES) // 2]
        with CachedMount(store.path / "plain.tar", self.cache) as mount:
            self.staged(mount)
            (extent,) = json.loads(os.getxattr(mount.path / name, "user.shardfs.extents"))
            mirror = next(self.cache.path.glob("mirror/*"))
            at = extent["offset"] + 5000
            flip(mirror, at)
            store.reset()
            for _ in range(3):
                self.assert_read(mount, {name: FILES[name]})
            self.assertEqual(self.cache.log().count("is damaged; fetching it again"), 1, self.cache.log())
            right = (STORE / "plain.tar").read_bytes()
            wait_until(lambda: mirror.read_bytes() == right, "a mirror that is right", HANG)
            self.assertLessEqual(store.stats()["bytes"], UNIT + (1 << 20))


@needs_root
class SmallDisks(ForeignTest):
    def kinds(self):
        return [("tmpfs", 8), ("ext4", 12)] if loop_devices_work() else [("tmpfs", 8)]

    def test_it_is_smaller_than_the_archive(self):
        store = self.slow_store(latency_ms=1)
        for name in foreign.PACKERS:
            for kind, mebibytes in self.kinds():
                with self.subTest(archive=name, disk=kind), SmallDisk(kind, mebibytes) as disk, \
                        CachedMount(store.path / name, disk) as mount:
                    for epoch in range(2):
                        self.assert_read(mount, seed=epoch)
                    wait_until(lambda m=mount: m.stats()["cache"]["state"] == "full", "a full disk", HANG)
                    self.assertLess(mount.stats()["staged_bytes"], self.size(Path(name)))
                    self.assert_short(mount.log(), disk.log())

    def test_it_is_full_before_and_after(self):
        store = self.slow_store(latency_ms=1)
        for name in foreign.PACKERS:
            with self.subTest(archive=name), SmallDisk("tmpfs", 40) as disk:
                disk.fill()
                with CachedMount(store.path / name, disk) as mount:
                    self.assert_read(mount)
                    disk.empty()
                    self.assert_read(mount)
                    disk.fill()
                    self.assert_read(mount)
                    self.assert_short(mount.log(), disk.log())


class StoreErrors(ForeignTest):
    SOON = ("--store-timeout", "300ms", "--store-inflight", "32")  # an error for whoever waits

    def setUp(self):
        super().setUp()
        names = sorted(FILES)
        self.FIRST = {name: FILES[name] for name in names[:20]}
        self.SOME = {name: FILES[name] for name in names[5::10]}

    def assert_fails(self, mount):
        """Many of the files that have not been read yet are EIO, and come to that; the others are right."""
        errors = Reading(mount.path, self.SOME, threads=len(self.SOME)).result(HANG)
        self.assertGreater(len(errors), len(self.SOME) // 4)
        self.assertEqual(set(errors.values()), {errno.EIO})

    def test_twice_then_fine(self):
        store = self.slow_store(latency_ms=1)
        for name in foreign.PACKERS:
            for tier in ("disk", "memory", "none"):
                with self.subTest(archive=name, tier=tier), CacheDir() as cache:
                    store.reset()
                    store.fail(errno.EIO, count=2)
                    with CachedMount(store.path / name, cache, tier=tier) as mount:
                        self.assert_read(mount)
                        self.assertEqual(store.stats()["failed"], 2)
                        self.assert_short(mount.log(), cache.log())

    def test_for_ever(self):
        """Nothing is wrong and nothing hangs: files that are not cached whole are EIO, until the store is back."""
        store = self.slow_store(latency_ms=1)
        for name in foreign.PACKERS:
            with self.subTest(archive=name), CacheDir() as cache, \
                    CachedMount(store.path / name, cache, *PARTIAL[1:], *self.SOON) as mount:
                store.fail(errno.EIO)
                self.assert_fails(mount)
                self.assertIn(os.strerror(errno.EIO), mount.log())
                self.assert_short(cache.log())
                store.clear()
                self.assert_read(mount)

    def test_for_ever_with_all_of_it_cached(self):
        """Nobody notices, until the cache is damaged too: then it is EIO, and still nothing wrong."""
        store = self.slow_store(latency_ms=1)
        for name in foreign.PACKERS:
            with self.subTest(archive=name), CacheDir() as cache, \
                    CachedMount(store.path / name, cache, *TIGHT, *self.SOON) as mount:
                self.staged(mount)
                store.fail(errno.EIO)
                self.assert_read(mount, self.FIRST)
                Damage.flip_a_bit_in_each_chunk(next(cache.path.glob("mirror/*")))
                self.assert_fails(mount)
                self.assert_short(cache.log())
                store.clear()
                self.assert_read(mount)

    def test_for_ever_from_the_start(self):
        """The mount says so instead of hanging."""
        store = self.slow_store(latency_ms=1)
        for name in foreign.PACKERS:
            for tier in ("disk", "none"):
                with self.subTest(archive=name, tier=tier), CacheDir() as cache:
                    store.fail(errno.EIO)
                    at = self.dir / "at"
                    at.mkdir(exist_ok=True)
                    result = run(SHARDFS, "mount", store.path / name, at, "--cache-dir", cache.parent, "--tier", tier,
                                 "--store-timeout", "300ms", timeout=HANG)
                    self.assertNotEqual(result.returncode, 0)
                    self.assertIn(os.strerror(errno.EIO), result.stderr)
                    self.assertFalse(os.path.ismount(at))
                    store.clear()


class Stalls(ForeignTest):
    def test_cached_data_are_read_on(self):
        """One reader waits for the store, for a block that is damaged in the cache; nobody waits with it but those
        who want something of the same unit."""
        store = self.slow_store(latency_ms=1)
        bad = "3/file-150"
        for name in foreign.PACKERS:
            with self.subTest(archive=name), CacheDir() as cache, \
                    CachedMount(store.path / name, cache, *TIGHT) as mount:
                self.staged(mount)
                (extent, *_) = json.loads(os.getxattr(mount.path / bad, "user.shardfs.extents"))
                damaged = extent["offset"] + extent["length"] // 2
                flip(next(cache.path.glob("mirror/*")), damaged)
                others = {file: data for file, data in FILES.items() if not self.touches(mount, file, damaged // UNIT)}
                self.assertGreater(len(others), len(FILES) // 3)
                store.stall()
                try:
                    stuck = Reading(mount.path, {bad: FILES[bad]})
                    store.wait_until_stalled()
                    self.assertEqual(Reading(mount.path, others).result(HANG), {})
                    self.assertTrue(any(thread.is_alive() for thread in stuck.threads))
                finally:
                    store.clear()
                    self.assertEqual(stuck.result(), {})

    @staticmethod
    def touches(mount, file: str, unit: int) -> bool:
        """Whether a read of the file may read that unit: the cache drops and fetches whole ones."""
        extents = json.loads(os.getxattr(mount.path / file, "user.shardfs.extents"))
        margin = 2 << 20  # the kernel reads ahead, the cache checks whole chunks, pieces of 1 MiB are decoded
        return any(e["offset"] - margin < (unit + 1) * UNIT and e["offset"] + e["length"] + margin > unit * UNIT
                   for e in extents)


class Flips(ForeignTest):
    """A store that gives one bit wrong, in the middle of one file's packed data."""

    BAD = "3/file-150"  # random bytes, which are in the archive as they are: nothing but a CRC can tell
    TIERS = (("disk",), ("memory",), PARTIAL, ("none",))

    def place(self, name: str) -> dict:
        with mounted(STORE / name, "--tier", "none") as mount:
            (extent, *_) = json.loads(os.getxattr(mount / self.BAD, "user.shardfs.extents"))
        return {"offset": extent["offset"] + extent["length"] // 2, "length": 1}

    def each(self, name: str):
        place = self.place(name)
        store = self.slow_store(latency_ms=1)
        for tier in self.TIERS:
            store.clear()
            store.reset()
            yield store, place, tier

    def test_once_in_a_zip(self):
        """What fails its CRC is asked for again, from the store."""
        for store, place, tier in self.each("deflate.zip"):
            with self.subTest(tier=tier), CacheDir() as cache:
                store.flip(count=1, **place)
                with CachedMount(store.path / "deflate.zip", cache, *tier[1:], tier=tier[0]) as mount:
                    self.assert_read(mount)
                self.assertEqual(store.stats()["flipped"], 1)

    def test_always_in_a_zip(self):
        some = dict(list(FILES.items())[140:160])
        for store, place, tier in self.each("deflate.zip"):
            with self.subTest(tier=tier), CacheDir() as cache:
                store.flip(**place)
                with CachedMount(store.path / "deflate.zip", cache, *tier[1:], tier=tier[0]) as mount:
                    for _ in range(2):
                        self.assertEqual(Reading(mount.path, some).result(), {self.BAD: errno.EIO})
                    self.assertEqual(mount.log().count(f"{self.BAD}: damaged zip data"), 1, mount.log())
                    self.assert_short(mount.log(), cache.log())
                    store.clear()
                    self.assert_read(mount)

    def read_or_refused(self, store, tier) -> None:
        """Files of a tar.gz that is mounted are right or EIO; one that fails its CRC is not mounted at all."""
        with CacheDir() as cache, contextlib.ExitStack() as stack:
            try:
                mount = stack.enter_context(
                    CachedMount(store.path / "points.tar.gz", cache, *tier[1:], tier=tier[0]))
            except AssertionError as refused:
                self.assertIn("damaged gzip data (wrong checksum or size)", str(refused))
            else:
                self.assertLessEqual(set(Reading(mount.path, FILES).result().values()), {errno.EIO})

    def test_some_times_in_a_tar_gz(self):
        """The scan checks the CRC of what it reads, but what it has read is not all that will be: units are fetched
        again, dropped, or never kept."""
        for store, place, tier in self.each("points.tar.gz"):
            for count in (1, 3, None):
                with self.subTest(tier=tier, count=count):
                    store.clear()
                    store.flip(count=count, **place)
                    self.read_or_refused(store, tier)

    def test_after_the_mount_in_a_tar_gz(self):
        for store, place, tier in self.each("points.tar.gz"):
            with self.subTest(tier=tier), CacheDir() as cache, \
                    CachedMount(store.path / "points.tar.gz", cache, *tier[1:], tier=tier[0]) as mount:
                store.flip(**place)
                errors = Reading(mount.path, FILES).result()
                self.assertLessEqual(set(errors.values()), {errno.EIO})
                self.assertLess(len(errors), 40)  # all of the pieces of 1 MiB that its block has a part in
                store.clear()
                self.assert_read(mount)

    def test_in_a_squashfs(self):
        """Where nothing checks, bytes may be wrong; but nothing else goes wrong."""
        bits = random.Random(3)
        size = self.size(STORE / "zstd.squashfs")
        for store, place, tier in self.each("zstd.squashfs"):
            with self.subTest(tier=tier), CacheDir() as cache:
                with CachedMount(store.path / "zstd.squashfs", cache, *tier[1:], tier=tier[0]) as mount:
                    for _ in range(20):
                        store.flip(offset=bits.randrange(size), length=1)
                    store.flip(**place)
                    for name in FILES:
                        self.assertIn(self.error_of((mount.path / name).read_bytes), (0, errno.EIO))
                    self.assertTrue(alive(mount.pid))
                    self.assertEqual(len(list(mount.path.rglob("file-*"))), len(FILES))


class Replaced(ForeignTest):
    """By one of the same size, of the same files with other bytes; the mount was there before."""

    @classmethod
    def setUpClass(cls):
        home = tempfile.TemporaryDirectory(prefix="shardfs-test-")
        cls.addClassCleanup(home.cleanup)
        cls.packed = Path(home.name)
        source = foreign.write_tree(cls.packed / "source", {name: cls.other(data) for name, data in FILES.items()})
        for name in foreign.PACKERS:
            packed = foreign.pack(source, cls.packed / name)
            os.truncate(packed, cls.size(packed))  # it may be some bytes longer or shorter

    @staticmethod
    def other(data: bytes) -> bytes:
        """As many bytes, which compress as well."""
        middle = len(data) // 2
        return data[middle:] + data[:middle]

    def check(self, name: str, replace: str, tier, *, without_server: bool = False):
        own = self.dir / "store"
        own.mkdir(exist_ok=True)
        shutil.copy2(STORE / name, own / name)
        with SlowStore(own, latency_ms=1) as store, CacheDir() as cache, \
                CachedMount(store.path / name, cache, *tier[1:], tier=tier[0]) as mount:
            if without_server:
                cache.path.chmod(0o755)  # which no server is started in
                for pid in cache.processes():
                    os.kill(pid, signal.SIGKILL)
                self.assert_read(mount, dict(list(FILES.items())[:20]))
            getattr(store, replace)(name, self.packed / name)
            errors = Reading(mount.path, FILES).result()  # the others have the old bytes
            if replace == "replace":
                self.assertEqual(errors, {})
            self.assertLessEqual(set(errors.values()), {errno.EIO})
            if errors:
                self.assertRegex(mount.log(), "changed while in use|damaged")
            self.assert_short(cache.log())

    def check_each(self, *cases, **others):
        for name in foreign.PACKERS:
            for replace, tier in cases:
                with self.subTest(archive=name, how=replace, tier=tier):
                    self.check(name, replace, tier, **others)

    def test_with_a_cache(self):
        self.check_each(("replace", PARTIAL), ("overwrite", ("disk",)), ("overwrite", PARTIAL))

    def test_in_place(self):
        self.check_each(("replace", ("none",)), ("overwrite", ("none",)))

    def test_without_a_server(self):
        """Which reads the archive itself."""
        self.check_each(("overwrite", PARTIAL), without_server=True)


class Servers(ForeignTest):
    def test_killed_in_the_middle_of_an_epoch(self):
        store = self.slow_store(latency_ms=1, bandwidth=60e6)
        for name in foreign.PACKERS:
            for tier in (("disk",), PARTIAL):
                with self.subTest(archive=name, tier=tier), CacheDir() as cache, \
                        CachedMount(store.path / name, cache, *tier[1:], tier=tier[0]) as mount:
                    reading = Reading(mount.path, FILES)
                    for part in range(1, 4):
                        wait_until(lambda p=part, r=reading: r.begun >= len(FILES) * p // 4, "a part of an epoch", HANG)
                        for pid in cache.processes():
                            with contextlib.suppress(ProcessLookupError):
                                os.kill(pid, signal.SIGKILL)
                    self.assertEqual(reading.result(), {})
                    self.assert_short(mount.log(), cache.log())

    def test_killed_under_the_scan(self):
        """Which goes on with the next server."""
        store = self.slow_store(latency_ms=1)
        for name in foreign.PACKERS:
            with self.subTest(archive=name), CacheDir() as cache:
                end = self.size(STORE / name) // UNIT * UNIT  # both a scan of all and one of a directory get there
                store.stall(offset=end, length=UNIT)
                mount = CachedMount(store.path / name, cache)
                with contextlib.ExitStack() as stack:
                    entering = threading.Thread(target=stack.enter_context, args=(mount,))
                    entering.start()
                    store.wait_until_stalled()
                    os.kill(cache.wait_for_server(), signal.SIGKILL)
                    store.release()
                    entering.join(HANG)
                    self.assertFalse(entering.is_alive())
                    self.assert_read(mount)


if __name__ == "__main__":
    unittest.main()
