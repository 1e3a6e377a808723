"""A cache whose processes are killed and stopped at any moment, under readers that compare every byte."""

import concurrent.futures
import contextlib
import errno
import os
import random
import signal
import threading
import time
import unittest

from cached import HANG, UNIT, CacheDir, CachedMount, CacheTest, LedgerWatch, Reader, read_proc
from mounted import Mount, alive, needs_root, wait_until
from slowstore import SlowStore
from tools import sanitizers

SEED = 20240517
MOUNT_IS_DEAD = (errno.ENOTCONN, errno.ECONNABORTED, errno.ENOENT)  # the last one between unmounting and mounting


def is_stopped(pid: int) -> bool:
    return read_proc(pid, "stat").rpartition(b")")[2].split()[:1] == [b"T"]


def is_sealed(cache: CacheDir) -> bool:
    """Whether all that was cached is complete and verified."""
    mirrors = list(cache.path.glob("mirror/*"))
    return bool(mirrors) and not any(mirror.name.endswith(".part") for mirror in mirrors)


class EachByteOnce(CacheTest):
    """Four mounts of one archive, two processes reading in each."""

    def setUp(self):
        super().setUp()
        self.shard = self.make_shard(24)
        self.store = self.slow_store(bandwidth=100e6)

    def read_by_eight(self, mounts, seed: int):
        with contextlib.ExitStack() as stack:
            readers = [stack.enter_context(Reader(mount.path, self.dir / "source", seed + i, 1))
                       for i, mount in enumerate(mounts * 2)]
            for reader in readers:
                seen = reader.stop()
                self.assertEqual((seen["wrong"], seen["errors"]), ([], []))

    def each_byte_once(self, tier: str):
        size = (self.store.path / self.shard.name).stat().st_size
        with contextlib.ExitStack() as stack:
            mounts = [stack.enter_context(CachedMount(self.store.path / self.shard.name, self.cache, tier=tier))
                      for _ in range(4)]
            self.read_by_eight(mounts, SEED)
            wait_until(lambda: self.store.stats()["distinct_bytes"] >= size, "the rest of the archive", HANG)
            wait_until(lambda: self.store.stats()["in_flight"] == 0, "the store's last answer", HANG)
            first = self.store.stats()
            self.assertEqual((first["distinct_bytes"], first["again_bytes"]), (size, 0))
            self.read_by_eight(mounts, SEED + 100)
            self.assertEqual(self.store.stats()["requests"], first["requests"])
        self.assert_nothing_left(self.cache)

    @needs_root
    def test_S32_on_disk(self):
        self.each_byte_once("disk")
        self.assertEqual(len([file for file in self.cache.left() if file.startswith("mirror/")]), 1)

    @needs_root
    def test_S32_in_memory(self):
        self.each_byte_once("memory")
        self.assertEqual(self.cache.left(), set())


class Killed(CacheTest):
    """Processes that die at random moments. Where a mount dies it is cleared away and mounted anew."""

    # With a sanitizer each kill costs seconds, and its reports come with the first ones or never.
    ROUNDS, KILLS, MOUNTS, INFLIGHT = 1 if sanitizers() else 5, 10, 3, 2

    def setUp(self):
        super().setUp()
        self.shard = self.make_shard(24)
        self.killed_servers = 0
        self.dead_times = {}  # mount → [(from, to), ...], when its readers may fail

    def kill(self, pid: int):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not alive(pid), "the end of a process that was killed", HANG)

    def kill_mount(self, mount: Mount):
        begin = time.monotonic()
        self.kill(mount.pid)
        cleared = mount.umount()
        self.assertEqual(cleared.returncode, 0, cleared.stderr)
        mount.start()
        self.dead_times.setdefault(mount, []).append((begin, time.monotonic()))

    def kill_one(self, mounts, chance: random.Random):
        server = self.cache.server() if chance.random() < 0.5 else None
        if server is None:
            return self.kill_mount(chance.choice(mounts))
        self.killed_servers += 1
        return self.kill(server)

    def check(self, mount: Mount, seen: dict):
        self.assertEqual(seen["wrong"], [])
        self.assertLess(seen["longest"], HANG)
        for name, number, begin, end in seen["errors"]:
            known = number in MOUNT_IS_DEAD and any(begin <= to and end >= since
                                                    for since, to in self.dead_times.get(mount, []))
            self.assertTrue(known, f"{name}: {os.strerror(number)} on a mount that lived; {mount.log()}")

    def one_round(self, store: SlowStore, chance: random.Random):
        at_store = store.path / self.shard.name
        with contextlib.ExitStack() as stack:
            mounts = [stack.enter_context(CachedMount(at_store, self.cache, "--store-inflight", str(self.INFLIGHT)))
                      for _ in range(self.MOUNTS)]
            readers = [(mount, stack.enter_context(Reader(mount.path, self.dir / "source", chance.randrange(1 << 30))))
                       for mount in mounts for _ in range(2)]
            for _ in range(self.KILLS):
                time.sleep(chance.uniform(0.05, 0.4))
                self.kill_one(mounts, chance)
            store.bandwidth(0)
            for mount, reader in readers:
                self.check(mount, reader.stop())
            # Whoever needs it starts the last server, which leaves the directory in order.
            self.kill_mount(mounts[0])
            for mount in mounts:
                self.assert_same(mount.path)
        self.assert_nothing_left(self.cache)

    @needs_root
    def test_at_random(self):
        chance = random.Random(SEED)
        for number in range(self.ROUNDS):
            with self.subTest(round=number), CacheDir() as self.cache, LedgerWatch(self.cache) as ledger, \
                    SlowStore(self.dir / "store", bandwidth=12e6) as store:
                self.killed_servers = 0
                self.one_round(store, chance)
                stats = store.stats()
                # What was under way at each death, and what its server had not yet noted.
                allowed = self.killed_servers * (self.INFLIGHT + 1) * UNIT
                self.assertLessEqual(stats["again_bytes"], allowed, f"{self.killed_servers} servers died")
            self.assertEqual(ledger.together, [])
            self.assertGreater(ledger.seen, 0)


class Ended(CacheTest):
    """Servers that end in good order, one after the other, in one directory."""

    @needs_root
    def test_one_after_the_other_never_share_the_ledger(self):
        shard = self.make_shard(4)
        store = self.slow_store(latency_ms=0)
        with LedgerWatch(self.cache) as ledger:
            for _ in range(20):
                with CachedMount(store.path / shard.name, self.cache):
                    pass
                with CachedMount(store.path / shard.name, self.cache) as mount:
                    self.assertIn("tier disk", mount.log())
        self.assertEqual(ledger.together, [])
        self.assert_nothing_left(self.cache)

    @needs_root
    def test_a_mount_right_after_one_whose_store_hangs_is_cached_too(self):
        shard = self.make_shard(24)
        store = self.slow_store()
        store.stall(offset=2 * UNIT, length=UNIT)
        with CachedMount(store.path / shard.name, self.cache) as mount:
            store.wait_until_stalled()
            self.assertEqual(mount.umount().returncode, 0)
        release = threading.Timer(2.5, store.clear)
        self.addCleanup(release.join)
        release.start()
        with CachedMount(store.path / shard.name, self.cache) as mount:
            self.assertIn("tier disk", mount.log())
            self.assert_same(mount.path)


class Stopped(CacheTest):
    """A server that stops (SIGSTOP) at the worst moments, and then goes on or dies there.

    The first server is killed while a reader waits for it; the one that stops is started by that reader's mount, from
    whose environment it has the name of the moment.
    """

    STEPS = ("locked", "bound", "mid-fetch", "written-not-committed", "sealing")

    def setUp(self):
        super().setUp()
        self.shard = self.make_shard(12)

    def next_server_stops(self, cache: CacheDir, store: SlowStore) -> int:
        store.wait_until_stalled()
        first = cache.server()
        os.kill(first, signal.SIGKILL)
        store.clear()
        server = cache.wait_for_server(other_than=first)
        wait_until(lambda: is_stopped(server), "the server's stop", HANG)
        return server

    def check(self, seen: dict):
        self.assertEqual((seen["wrong"], seen["errors"]), ([], []))
        self.assertLess(seen["longest"], HANG)
        self.assertGreater(seen["files"], 0)

    def stopped_at(self, step: str, then: int):
        with contextlib.ExitStack() as stack:
            cache = stack.enter_context(CacheDir())
            watch = stack.enter_context(LedgerWatch(cache))
            store = stack.enter_context(SlowStore(self.dir / "store"))
            store.stall(offset=UNIT, length=UNIT)
            at_store = store.path / self.shard.name
            other = stack.enter_context(CachedMount(at_store, cache))
            mount = stack.enter_context(CachedMount(at_store, cache, env={"SHARDFS_TEST_STOP_AT": step}))
            reader = stack.enter_context(Reader(mount.path, self.dir / "source", SEED))
            server = self.next_server_stops(cache, store)
            self.assert_same(mount.path)
            self.assert_same(other.path)
            self.check(reader.stop())
            os.kill(server, then)
            if then == signal.SIGKILL:
                wait_until(lambda: not alive(server), "the server's end", HANG)
            last = stack.enter_context(CachedMount(at_store, cache))
            self.assertIn("tier disk", last.log())
            self.assert_same(last.path)
            wait_until(lambda: is_sealed(cache), "all of the archive in the cache", HANG)
            for one in (mount, other):
                self.assert_same(one.path)
            stack.pop_all().close()
            self.assertEqual(watch.together, [])

    def all_steps(self, then: int):
        with concurrent.futures.ThreadPoolExecutor(len(self.STEPS)) as pool:
            runs = {step: pool.submit(self.stopped_at, step, then) for step in self.STEPS}
        for step, done in runs.items():
            with self.subTest(step=step):
                done.result()

    @needs_root
    def test_goes_on(self):
        self.all_steps(signal.SIGCONT)

    @needs_root
    def test_dies_there(self):
        self.all_steps(signal.SIGKILL)


if __name__ == "__main__":
    unittest.main()
