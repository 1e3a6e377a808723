"""A store that fails, hangs, lies or changes: what readers get is right or an error, soon, and a line says why."""

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

from cache_faults import Reading, SmallDisk, client_of, contents, server_figures
from cached import HANG, UNIT, CacheDir, CachedMount, CacheTest
from memory_group import memory_group
from mounted import Mount, alive, is_mounted, mounted, needs_root, wait_until
from slowstore import SlowStore
from tools import MKSHARD, SHARDFS, run

MOST_LINES = 40


class StoreTest(CacheTest):
    """Archives of 24 MiB of small files, or less; units 2 to 4 are what faults are for."""

    MEBIBYTES = 24
    MIDDLE = {"offset": 2 * UNIT, "length": 3 * UNIT}

    def setUp(self):
        super().setUp()
        self.shards = {}
        self.files = {}
        self.places = {}

    def shard(self, container: str = "tar"):
        """The shard of self.files in that container; made once."""
        if not self.files:
            self.shards[container] = self.make_shard(self.MEBIBYTES, "source", container, 128 << 10)
            self.files = contents(self.dir / "source")
        elif container not in self.shards:
            made = self.pack(self.dir / "source", container)
            self.shards[container] = made.rename(self.dir / "store" / made.name)
        return self.shards[container]

    def offsets(self, shard) -> dict:
        """Where in the archive each file's data begin."""
        if shard not in self.places:
            with mounted(shard, "--tier", "none") as mount:
                self.places[shard] = {name: json.loads(os.getxattr(mount / name, "user.shardfs.extents"))[0]["offset"]
                                      for name in self.files}
        return self.places[shard]

    def between(self, shard, begin: int, end: int) -> dict:
        """Files whose data lie there, whole."""
        margin = 512 << 10
        return {name: self.files[name] for name, at in self.offsets(shard).items() if begin <= at < end - margin}

    def front(self, shard) -> dict:
        return self.between(shard, 0, 2 * UNIT)

    def middle(self, shard) -> dict:
        return self.between(shard, 2 * UNIT + (512 << 10), 5 * UNIT)

    def assert_short(self, log: str):
        self.assertLess(len(log.splitlines()), MOST_LINES, log)

    def sealed(self, cache: CacheDir):
        """The sealed mirror, once there is one."""
        def found():
            return [file for file in cache.path.glob("mirror/*") if file.suffix != ".part"]
        wait_until(found, "a sealed mirror", HANG)
        return found()[0]


class Errors(StoreTest):
    def test_twice_then_fine(self):
        for container in self.CONTAINERS:
            shard = self.shard(container)
            for tier in ("disk", "partial", "memory"):
                with self.subTest(container=container, tier=tier), SlowStore(shard.parent) as store, CacheDir() as cache:
                    store.fail(errno.EIO, count=2, **self.MIDDLE)
                    with CachedMount(store.path / shard.name, cache, tier=tier) as mount:
                        self.assertEqual(Reading(mount.path, self.files).result(), {})
                        figures = server_figures(cache, store.path / shard.name)["store"]
                        self.assertGreaterEqual(figures["retries"], 1)
                        self.assertGreaterEqual(figures["errors"], figures["retries"])
                    self.assertEqual(store.stats()["failed"], 2)

    def test_S34_for_ever(self):
        """An error and a line, soon; what is cached is served on; then all is well again."""
        for container in self.CONTAINERS:
            shard = self.shard(container)
            store = self.enter(SlowStore(shard.parent))
            for number in (errno.EIO, errno.ESTALE):
                store.fail(number, **self.MIDDLE)
                with self.subTest(container=container, errno=number), CacheDir() as cache, \
                        CachedMount(store.path / shard.name, cache, "--store-timeout", "2s") as mount:
                    middle = self.middle(shard)
                    errors = Reading(mount.path, middle, threads=len(middle)).result(HANG)
                    self.assertEqual(errors, dict.fromkeys(middle, number))
                    self.assertEqual(Reading(mount.path, self.front(shard)).result(), {})
                    self.assertIn(os.strerror(number), mount.log())
                    self.assertIn(os.strerror(number), cache.log())
                    store.clear()
                    self.assertEqual(Reading(mount.path, self.files).result(), {})
                    self.assert_short(cache.log())

    def test_a_dead_store_is_left_alone(self):
        """Nobody reads, and staging tries ever more seldom, and says so ever more seldom."""
        shard = self.shard()
        store = self.slow_store()
        store.fail(errno.ESTALE, **self.MIDDLE)
        with CachedMount(store.path / shard.name, self.cache):
            wait_until(lambda: "Stale" in self.cache.log(), "a line", HANG)
            store.reset()
            time.sleep(8)
            self.assertLess(store.stats()["requests"], 40)
            self.assertLess(len(self.cache.log().splitlines()), 8, self.cache.log())

    def test_of_one_place(self):
        """A bad place in the archive keeps readers from nothing but itself, and staging from its unit only."""
        shard = self.shard()
        store = self.slow_store()
        bad = sorted(self.middle(shard))[10]
        place = -(-self.offsets(shard)[bad] // 4096) * 4096  # reads are for whole pages
        store.fail(errno.EIO, offset=place, length=1000)
        others = {name: data for name, data in self.files.items() if name != bad}
        archive = store.path / shard.name
        with CachedMount(archive, self.cache, "--store-timeout", "1s") as mount:
            self.assertEqual(Reading(mount.path, others, threads=8).result(), {})
            wait_until(lambda: server_figures(self.cache, archive)["staged_bytes"] == shard.stat().st_size - UNIT,
                       "all units but one", HANG)
            self.assertEqual(Reading(mount.path, {bad: self.files[bad]}).result(), {bad: errno.EIO})
            self.assert_short(self.cache.log())
            store.clear()
            wait_until(lambda: server_figures(self.cache, archive)["staged_bytes"] == shard.stat().st_size,
                       "the last unit", HANG)

    def test_short_reads(self):
        for container in self.CONTAINERS:
            shard = self.shard(container)
            with SlowStore(shard.parent, latency_ms=0) as store, CacheDir() as cache:
                store.short(70_001)
                for tier in ("disk", "none"):
                    with CachedMount(store.path / shard.name, cache, tier=tier) as mount:
                        self.assertEqual(Reading(mount.path, self.front(shard)).result(), {})

    def test_in_place(self):
        """Without a cache too an error is tried again for a while, then it is the reader's; the next read is as
        good as any."""
        for container in self.CONTAINERS:
            shard = self.shard(container)
            with SlowStore(shard.parent) as store, \
                    Mount(store.path / shard.name, "--tier", "none", "--store-timeout", "500ms") as mount:
                self.assertEqual(Reading(mount.path, self.front(shard)).result(), {})
                middle = self.middle(shard)
                store.fail(errno.EIO, count=2)
                self.assertEqual(Reading(mount.path, middle).result(), {})
                for number in (errno.EIO, errno.ESTALE):
                    store.fail(number)
                    self.assertEqual(Reading(mount.path, middle, threads=len(middle)).result(HANG),
                                     dict.fromkeys(middle, number))
                    store.clear()
                    self.assertEqual(Reading(mount.path, middle).result(), {})
                wanted = 2 * len(self.middle(shard)) + MOST_LINES
                self.assertLess(len(mount.log().splitlines()), wanted)  # each file's error once


class Flips(StoreTest):
    MEBIBYTES = 12

    def each(self):
        for container in self.CONTAINERS:
            for tier in ("disk", "partial", "none"):
                yield self.shard(container), container, tier

    def test_once(self):
        for shard, container, tier in self.each():
            with self.subTest(container=container, tier=tier), SlowStore(shard.parent) as store, CacheDir() as cache:
                store.flip(count=1, offset=5 << 20, length=1)
                store.flip(count=1, offset=9 << 20, length=1)
                with CachedMount(store.path / shard.name, cache, tier=tier) as mount:
                    self.assertEqual(Reading(mount.path, self.files).result(), {})
                self.assertGreaterEqual(store.stats()["flipped"], 1)

    def test_always(self):
        for shard, container, tier in self.each():
            offsets = self.offsets(shard)
            bad = sorted(self.front(shard))[20]
            with self.subTest(container=container, tier=tier), SlowStore(shard.parent) as store, CacheDir() as cache:
                store.flip(offset=offsets[bad] + 5000, length=1)
                with CachedMount(store.path / shard.name, cache, tier=tier) as mount:
                    for _ in range(5):
                        failed = Reading(mount.path, self.files).result()
                        self.assertEqual(failed.pop(bad, 0), errno.EIO)
                        # A compressed frame holds parts of its neighbours.
                        self.assertLessEqual(len(failed), 8 if container == "tar.zst" else 0, failed)
                    self.assertIn("damaged", mount.log())
                    self.assert_short(mount.log())
                    self.assert_short(cache.log())
                    store.clear()
                    self.assertEqual(Reading(mount.path, self.files).result(), {})


class Stalls(StoreTest):
    READERS = 64

    def stalled_readers(self, mount, shard, store) -> Reading:
        """64 readers who wait for the store, each for a file that is nowhere else."""
        middle = dict(list(self.middle(shard).items())[:self.READERS])
        self.assertEqual(len(middle), self.READERS)
        reading = Reading(mount.path, middle, threads=self.READERS)
        store.wait_until_stalled()
        wait_until(lambda: reading.begun == self.READERS, "64 readers", HANG)
        time.sleep(0.5)  # From there they are at once in the kernel, where nobody can see them.
        return reading

    def test_S35_cached_data_are_read_on(self):
        for container in self.CONTAINERS:
            shard = self.shard(container)
            with self.subTest(container=container), SlowStore(shard.parent) as store, CacheDir() as cache:
                store.stall(**self.MIDDLE)
                with CachedMount(store.path / shard.name, cache) as mount:
                    front = self.front(shard)
                    self.assertEqual(Reading(mount.path, front).result(), {})
                    stuck = self.stalled_readers(mount, shard, store)
                    for _ in range(3):
                        self.assertEqual(Reading(mount.path, front).result(HANG), {})
                    self.assertTrue(all(thread.is_alive() for thread in stuck.threads))
                    store.release()
                    self.assertEqual(stuck.result(), {})
                    self.assertEqual(Reading(mount.path, self.files).result(), {})

    def test_a_timeout_ends_the_wait(self):
        shard = self.shard()
        store = self.slow_store()
        store.stall(**self.MIDDLE)
        with CachedMount(store.path / shard.name, self.cache, "--store-timeout", "1s") as mount:
            self.assertEqual(Reading(mount.path, self.front(shard)).result(), {})
            errors = self.stalled_readers(mount, shard, store).result(HANG)
            self.assertEqual(len(errors), self.READERS)
            self.assertLessEqual(set(errors.values()), {errno.EIO, errno.ETIMEDOUT})
            self.assert_short(self.cache.log())
            store.release()
            self.assertEqual(Reading(mount.path, self.files).result(), {})

    def test_another_archive_is_read_on(self):
        """All that may be asked of the one store at a time hangs; the other one's bound is its own."""
        shard = self.shard()
        store = self.slow_store()
        store.stall(**self.MIDDLE)
        other = self.pack(self.tree(self.front(shard), "other"))
        with CachedMount(store.path / shard.name, self.cache, "--store-inflight", "2"):
            store.wait_until_stalled(2)
            with CachedMount(other, self.cache, "--store-inflight", "2", "--store-timeout", "3s") as mount:
                self.assertEqual(Reading(mount.path, self.front(shard)).result(HANG), {})
                self.assertGreater(mount.stats()["daemon"]["miss_bytes"] + mount.stats()["daemon"]["hit_bytes"], 0)
            store.release()

    def test_many_hung_archives_hold_up_no_other(self):
        """More of what they wait for than the server has threads to begin with."""
        shard = self.shard()
        store = self.slow_store()
        store.stall(offset=UNIT, length=64 * UNIT)
        other = self.pack(self.tree(self.front(shard), "other"))
        with contextlib.ExitStack() as hung:
            for number in range(9):
                copy = shard.with_name(f"copy-{number}.tar")
                shutil.copyfile(shard, copy)
                hung.enter_context(contextlib.closing(self.hanging_client(store.path / copy.name)))
            store.wait_until_stalled(33)
            with CachedMount(other, self.cache, "--store-timeout", "3s", "--store-inflight", "2") as mount:
                self.assertEqual(Reading(mount.path, self.front(shard)).result(HANG), {})
                self.assertEqual(mount.stats()["tier"], "disk")
                self.assertGreater(mount.stats()["staged_bytes"], 0)
            store.release()

    def hanging_client(self, archive):
        """One that has the server stage an archive; a mount would wait for its index."""
        self.cache.path.mkdir(mode=0o700, exist_ok=True)
        if self.cache.server() is None:
            self.ok(SHARDFS, "cache-server", self.cache.parent)
        return client_of(self.cache, archive)

    def test_a_queue_is_no_fault_of_the_store(self):
        """Readers whose turn comes later than a request may take: the store gives what it is asked for."""
        shard = self.shard()
        store = self.slow_store()
        with CachedMount(store.path / shard.name, self.cache, "--cache-size", str(UNIT), "--store-rate", "3",
                         "--store-timeout", "1s", tier="partial") as mount:
            some = dict(list(self.middle(shard).items())[:24])
            began = time.monotonic()
            self.assertEqual(Reading(mount.path, some, threads=len(some)).result(2 * HANG), {})
            self.assertGreater(time.monotonic() - began, 3, "nobody waited: this shows nothing")

    def test_a_suspended_job_goes_on(self):
        """The time in which nobody could have answered is nobody's."""
        shard = self.shard()
        store = self.slow_store()
        store.stall(**self.MIDDLE)
        with CachedMount(store.path / shard.name, self.cache, "--store-timeout", "1s") as mount:
            stuck = self.stalled_readers(mount, shard, store)
            suspended = (mount.pid, self.cache.wait_for_server())
            for pid in suspended:
                os.kill(pid, signal.SIGSTOP)
            time.sleep(6)
            for pid in suspended:
                os.kill(pid, signal.SIGCONT)
            store.release()
            self.assertEqual(stuck.result(HANG), {})
            self.assertEqual(self.cache.wait_for_server(), suspended[1])
            self.assertNotIn("cannot be read", mount.log())

    def test_the_mount_can_end(self):
        shard = self.shard()
        for tier in ("disk", "partial", "memory", "none"):
            with self.subTest(tier=tier), SlowStore(shard.parent) as store, CacheDir() as cache:
                store.stall(**self.MIDDLE)
                with CachedMount(store.path / shard.name, cache, tier=tier, check_end=False) as mount:
                    self.assertEqual(Reading(mount.path, self.front(shard)).result(), {})
                    stuck = self.stalled_readers(mount, shard, store)
                    os.kill(mount.pid, signal.SIGTERM)
                    wait_until(lambda m=mount: not is_mounted(m.path), "unmounting", HANG)
                    wait_until(lambda m=mount: not alive(m.pid), "the daemon's end", HANG)
                    self.assertEqual(len(stuck.result(HANG)), self.READERS)
                store.release()
                cache.wait_for_end()


class Replaced(StoreTest):
    def other(self, shard):
        """A shard of other bytes that is as long."""
        for name, data in self.files.items():
            path = self.dir / "other/source" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes([data[0] ^ 1]) + os.urandom(len(data) - 1))
        made = self.dir / "other" / shard.name
        self.ok(MKSHARD, self.dir / "other/source", "-o", made, "-q", "--force")
        os.truncate(made, shard.stat().st_size)  # Compressed it may be some bytes longer or shorter.
        return made

    def check(self, container: str, tier: str, replace: str):
        shard = self.shard(container)
        kept = self.dir / "kept"
        shutil.copy2(shard, kept)
        try:
            with SlowStore(shard.parent) as store, CacheDir() as cache:
                store.stall(**self.MIDDLE)
                with CachedMount(store.path / shard.name, cache, tier=tier) as mount:
                    self.assertEqual(Reading(mount.path, self.front(shard)).result(), {})
                    getattr(store, replace)(shard.name, self.other(shard))
                    store.release()
                    for _ in range(2):
                        errors = Reading(mount.path, self.files).result()  # All others have the old bytes.
                        self.assertLessEqual(set(errors.values()), {errno.EIO})
                    if replace == "replace":
                        self.assertEqual(errors, {})
                    else:
                        self.assertLessEqual(set(self.middle(shard)), set(errors))
                        self.assertRegex(mount.log(), "changed while in use|damaged")
                    self.assert_short(cache.log())
        finally:
            shutil.copy2(kept, shard)

    def test_S36_by_another_of_the_same_size(self):
        for container in self.CONTAINERS:
            for tier in ("disk", "none"):
                for replace in ("replace", "overwrite"):
                    with self.subTest(container=container, tier=tier, replace=replace):
                        self.check(container, tier, replace)

    def test_a_later_mount_shows_the_new_one(self):
        """A mirror of the old one is not taken for one of the new."""
        shard = self.shard()
        store = self.enter(SlowStore(shard.parent))
        with CachedMount(store.path / shard.name, self.cache) as mount:
            self.assertEqual(Reading(mount.path, self.files).result(), {})
            other = self.other(shard)
            store.replace(shard.name, other)
            with CachedMount(store.path / shard.name, self.cache) as new:
                self.assertEqual(Reading(new.path, contents(self.dir / "other/source")).result(), {})
            self.assertEqual(Reading(mount.path, self.files).result(), {})


class Sealing(StoreTest):
    MEBIBYTES = 12

    def test_the_name_is_the_seal(self):
        for container in self.CONTAINERS:
            shard = self.shard(container)
            with self.subTest(container=container), SlowStore(shard.parent) as store, CacheDir() as cache:
                archive = store.path / shard.name
                with CachedMount(archive, cache):
                    mirror = self.sealed(cache)
                    wait_until(lambda m=mirror: m.stat().st_mode & 0o777 == 0o400, "mode 0400", HANG)
                    self.assertEqual(len(mirror.name), 32)
                    self.assertEqual(mirror.read_bytes(), shard.read_bytes())
                    self.assertEqual(server_figures(cache, archive)["cache"]["state"], "sealed")
                cache.wait_for_end()
                store.reset()
                with CachedMount(archive, cache) as mount:
                    self.assertEqual(Reading(mount.path, self.files).result(), {})
                self.assertEqual(store.stats()["requests"], 0)

    def test_scribbled_on(self):
        """It loses its seal, what is damaged is fetched again, and it is sealed again."""
        for container in self.CONTAINERS:
            shard = self.shard(container)
            for mounted_meanwhile in (False, True):
                with self.subTest(container=container, mounted=mounted_meanwhile), \
                        SlowStore(shard.parent) as store, CacheDir() as cache:
                    archive = store.path / shard.name
                    with CachedMount(archive, cache) as mount:
                        mirror = self.sealed(cache)
                        if mounted_meanwhile:
                            self.scribble(mirror)
                            self.assertEqual(Reading(mount.path, self.files).result(), {})
                        else:
                            self.assertEqual(mount.umount().returncode, 0)
                            cache.wait_for_end()
                            self.scribble(mirror)
                            mount.start()
                            self.assertEqual(Reading(mount.path, self.files).result(), {})
                        self.assertIn("is damaged; fetching it again", cache.log())
                        wait_until(lambda m=mirror, s=shard: m.exists() and m.read_bytes() == s.read_bytes(),
                                   "a mirror that is right and sealed", HANG)

    @staticmethod
    def scribble(mirror):
        with open(mirror, "r+b") as file:
            file.seek(5 << 20)
            file.write(os.urandom(1 << 20))

    def test_what_was_put_in_its_place_is_not_sealed(self):
        shard = self.shard()
        store = self.slow_store()
        store.stall(offset=UNIT, length=UNIT)
        with CachedMount(store.path / shard.name, self.cache) as mount:
            wait_until(lambda: list(self.cache.path.glob("mirror/*.part")), "a mirror", HANG)
            part = next(self.cache.path.glob("mirror/*.part"))
            part.unlink()
            part.write_bytes(bytes(shard.stat().st_size))
            store.release()
            wait_until(lambda: "not sealed" in self.cache.log(), "a line that says so", HANG)
            self.assertFalse(part.with_suffix("").exists())
            self.assertEqual(Reading(mount.path, self.files).result(), {})


class Tiers(StoreTest):
    """What is decided, why, and that the files are served then."""

    MEBIBYTES = 8

    def check(self, archive, *options, tier: str, why: str):
        with Mount(archive, *options) as mount:
            self.assertIn(f"tier {tier}: ", mount.log())
            self.assertIn(why, mount.log())
            self.assertEqual(Reading(mount.path, self.files).result(), {})

    def test_an_archive_nearby_is_read_in_place(self):
        self.check(self.shard(), "--cache-dir", self.cache.parent, tier="none", why="on a local file system")
        self.assertFalse(self.cache.path.exists())

    def test_small_and_far_away_goes_into_memory(self):
        shard = self.shard()
        store = self.slow_store()
        self.check(store.path / shard.name, "--cache-dir", self.cache.parent, tier="memory", why="of memory available")
        wait_until(lambda: not self.cache.path.exists(), "an empty cache directory's end", HANG)

    @needs_root
    def test_little_memory_means_disk(self):
        shard = self.shard()
        store = self.slow_store()
        group = self.enter(memory_group(24 << 20))  # not enforced on anything that matters here
        if group is None:
            self.skipTest("no memory control group can be made")
        with CacheDir() as cache:
            self.in_group(group, store.path / shard.name, cache.parent, "tier disk: all of ")
        with SmallDisk("tmpfs", 64) as disk:
            self.in_group(group, store.path / shard.name, disk.parent, "tier none: neither memory nor disk to spare")

    def in_group(self, group, archive, parent, wanted: str):
        """A mount by a process of the group says that, and serves."""
        at = Path(tempfile.mkdtemp(prefix="shardfs-mount-"))
        log = self.dir / "group-log"
        try:
            script = 'echo $$ > "$0/cgroup.procs"; exec "$@"'
            self.ok("bash", "-c", script, group, SHARDFS, "mount", archive, at, "--cache-dir", parent, "--log", log)
            self.assertEqual(Reading(at, self.files).result(), {})
            self.assertIn(wanted, log.read_text(errors="replace"))
        finally:
            run(SHARDFS, "umount", at)
            if is_mounted(at):
                subprocess.run(["umount", "-l", at], check=False)
            at.rmdir()
            log.unlink(missing_ok=True)

    def test_no_directory_that_could_be_used(self):
        shard = self.shard()
        store = self.slow_store()
        archive = store.path / shard.name
        missing = self.dir / "missing"
        self.check(archive, "--tier", "disk", "--cache-dir", missing, tier="none", why=f"{missing}: cannot open: No such")
        self.check(archive, "--tier", "disk", "--cache-dir", store.path, tier="none", why="is on a shared file system (fuse)")
        self.cache.path.mkdir(mode=0o755)
        self.check(archive, "--tier", "disk", "--cache-dir", self.cache.parent, tier="none",
                   why=f"is open to others; try: chmod 700 {self.cache.path}")
        self.cache.path.rmdir()
        self.cache.path.symlink_to(self.dir)
        self.check(archive, "--tier", "disk", "--cache-dir", self.cache.parent, tier="none", why="cannot open the cache")
        self.cache.path.unlink()

    @needs_root
    def test_a_directory_of_somebody_else(self):
        shard = self.shard()
        store = self.slow_store()
        self.cache.path.mkdir(mode=0o700)
        os.chown(self.cache.path, 65534, 65534)
        self.check(store.path / shard.name, "--tier", "disk", "--cache-dir", self.cache.parent, tier="none",
                   why="belongs to user 65534; try: another --cache-dir")

    @needs_root
    def test_a_disk_in_memory_is_said_to_be_one(self):
        shard = self.shard()
        store = self.slow_store()
        with SmallDisk("tmpfs", 64) as disk:
            self.check(store.path / shard.name, "--tier", "disk", "--cache-dir", disk.parent, tier="disk",
                       why="tmpfs, which is charged to the job's memory")


if __name__ == "__main__":
    unittest.main()
