"""Whatever becomes of the cache's disk: readers get right bytes, soon, and the log does not grow without end."""

import contextlib
import os
import shutil
import signal
import socket
import time
import unittest

from cache_faults import Reading, SmallDisk, contents, loop_devices_work, server_figures
from cached import HANG, CacheDir, CachedMount, CacheTest
from mounted import alive, needs_root, wait_until
from slowstore import SlowStore
from tools import without_sanitizer

MOST_LINES = 30  # of a log, whatever happens and however often


class DiskTest(CacheTest):
    def setUp(self):
        super().setUp()
        self.lines = 0

    def shard(self, mebibytes: int, container: str = "tar"):
        """A shard and what is in it."""
        path = self.make_shard(mebibytes, "source", container)
        return path, contents(self.dir / "source")

    def assert_read(self, mount, files: dict, **options):
        self.assertEqual(Reading(mount.path, files, **options).result(), {})

    def assert_no_flood(self, mount, cache):
        """Both logs are short, and the mount's has no line twice."""
        own = mount.log().splitlines()
        self.assertLess(len(own), MOST_LINES, "\n".join(own))
        servers = cache.log().splitlines()
        self.assertLess(len(servers), MOST_LINES, "\n".join(servers))


@needs_root
class SmallDisks(DiskTest):
    """Disks on which the archive has no room, or not always."""

    CASES = (("ext4", "disk", "tar.zst"), ("tmpfs", "disk", "tar"), ("ext4", "partial", "tar"),
             ("tmpfs", "partial", "tar.zst"))

    def cases(self):
        return [case for case in self.CASES if case[0] == "tmpfs" or loop_devices_work()]

    def test_S33_a_neighbour_fills_and_empties_it(self):
        for kind, tier, container in self.cases():
            shard, files = self.shard(24, container)
            with SmallDisk(kind, 40) as disk, CachedMount(shard, disk, tier=tier) as mount:
                disk.fill_and_empty()
                for epoch in range(3):
                    self.assert_read(mount, files, seed=epoch)
                self.assert_no_flood(mount, disk)

    def test_it_is_smaller_than_the_archive(self):
        for kind, tier, container in self.cases():
            shard, files = self.shard(24, container)
            with SmallDisk(kind, 20) as disk, CachedMount(shard, disk, tier=tier) as mount:
                for epoch in range(2):
                    self.assert_read(mount, files, seed=epoch)
                wait_until(lambda d=disk, s=shard: server_figures(d, s)["cache"]["state"] == "full", "a full disk")
                figures = server_figures(disk, shard)
                self.assertEqual(figures["tier"], "partial")
                self.assertGreater(figures["staged_bytes"], 4 << 20)
                self.assert_no_flood(mount, disk)

    def test_room_is_given_back_to_others(self):
        """What others are to have free stays free, also if they come later; then all is fetched again."""
        for kind in ("ext4", "tmpfs"):
            if kind == "ext4" and not loop_devices_work():
                continue
            shard, files = self.shard(24)
            with SmallDisk(kind, 60) as disk, CachedMount(shard, disk, "--reserve", "16M") as mount:
                def free(at=disk.parent):
                    return os.statvfs(at).f_bavail * os.statvfs(at).f_bsize
                whole = shard.stat().st_size
                wait_until(lambda m=mount: m.stats()["staged_bytes"] == whole, "the whole archive", HANG)
                (disk.parent / "neighbour").write_bytes(bytes(24 << 20))
                self.assertLess(free(), 16 << 20, "there was room for both: this shows nothing")
                wait_until(lambda: free() >= 16 << 20, "room for others", HANG)
                self.assertLess(mount.stats()["staged_bytes"], whole)
                self.assert_read(mount, files)
                disk.empty()
                wait_until(lambda m=mount: m.stats()["staged_bytes"] == whole, "the whole archive again", HANG)
                self.assert_read(mount, files, seed=1)
                self.assert_no_flood(mount, disk)

    def test_what_is_left_to_others_ends_the_staging(self):
        """Nothing is given up and fetched again where nobody else needs the disk."""
        shard, files = self.shard(40)
        store = self.slow_store(latency_ms=60)
        with SmallDisk("tmpfs", 60) as disk, \
                CachedMount(store.path / shard.name, disk, "--reserve", "30M") as mount:
            wait_until(lambda: server_figures(disk, store.path / shard.name)["cache"]["state"] == "full", "a full disk",
                       HANG)
            for _ in range(4):  # A last unit may find room when those on their way have come.
                before = store.stats()["bytes"]
                time.sleep(4)
                if store.stats()["bytes"] == before:
                    break
            self.assertEqual(store.stats()["bytes"], before)
            self.assert_read(mount, files)

    def test_full_before_the_first_mount(self):
        for kind, tier, container in self.cases():
            shard, files = self.shard(12, container)
            with SmallDisk(kind, 40) as disk:
                disk.fill()
                with CachedMount(shard, disk, tier=tier) as mount:
                    self.assert_read(mount, files)
                    disk.empty()
                    self.assert_read(mount, files)
                    wait_until(lambda m=mount: m.stats()["staged_bytes"] > 0, "a cache, as soon as there is room", HANG)
                    wait_until(lambda d=disk: (d.path / "version").exists(), "the layout's version", HANG)
                    self.assert_no_flood(mount, disk)
                self.assertTrue((disk.path / "version").read_text())
                disk.wait_for_end()
                with CachedMount(shard, disk, tier=tier) as mount:
                    self.assert_read(mount, files)
                    disk.fill()
                    self.assert_read(mount, files)
                    os.kill(disk.server(), signal.SIGKILL)
                    self.assert_read(mount, files)
                    self.assert_no_flood(mount, disk)

    def test_it_fills_while_the_server_is_killed(self):
        """The next server finds no room for anything of its own."""
        for kind in ("ext4", "tmpfs"):
            if kind == "ext4" and not loop_devices_work():
                continue
            shard, files = self.shard(24)
            store = self.slow_store(latency_ms=1, bandwidth=4e6)
            with SmallDisk(kind, 40) as disk, CachedMount(store.path / shard.name, disk) as mount:
                self.assert_read(mount, dict(list(files.items())[:1]))
                shutil.rmtree(disk.path)
                disk.fill()
                wait_until(lambda d=disk: not d.processes(), "the end of a server without a directory", HANG)
                store.bandwidth(0)
                self.assert_read(mount, files)
                disk.empty()
                self.assert_read(mount, files)
                self.assert_no_flood(mount, disk)

    @unittest.skipUnless(loop_devices_work(), "needs a loop device")
    def test_it_becomes_read_only_between_two_mounts(self):
        shard, files = self.shard(12)
        for complete in (False, True):
            with SmallDisk("ext4", 40) as disk:
                with CachedMount(shard, disk) as mount:
                    self.assert_read(mount, files)
                    if complete:
                        wait_until(lambda d=disk: list(d.path.glob("mirror/*[!t]")), "a sealed mirror", HANG)
                disk.wait_for_end()
                wait_until(lambda d=disk: d.remount("ro") == 0, "a disk that nobody writes to", HANG)
                with CachedMount(shard, disk) as mount:
                    self.assert_read(mount, files)
                    self.assert_no_flood(mount, disk)

    @unittest.skipUnless(loop_devices_work(), "needs a loop device")
    def test_it_becomes_read_only_while_mounted(self):
        """As after an error of the disk; staging is at work. The store is not read in vain."""
        shard, files = self.shard(24, "tar.zst")
        store = self.slow_store(latency_ms=1, bandwidth=20e6)
        with SmallDisk("ext4", 60) as disk, CachedMount(store.path / shard.name, disk) as mount:
            some = dict(list(files.items())[:8])
            self.assert_read(mount, some)
            self.assertEqual(disk.remount("abort"), 0)
            self.assert_read(mount, files, seed=1)
            self.assert_read(mount, files, seed=2)
            store.reset()
            self.assert_idle(store, shard.stat().st_size // 2)
            os.kill(disk.server(), signal.SIGKILL)
            self.assert_read(mount, files, seed=3)
            self.assert_no_flood(mount, disk)

    def assert_idle(self, store, most_bytes: int):
        """Nobody reads the store for long who does not need it."""
        with contextlib.suppress(AssertionError):
            wait_until(lambda: store.stats()["bytes"] > most_bytes, "reads in vain", 4)
        self.assertLessEqual(store.stats()["bytes"], most_bytes)


class Damage(DiskTest):
    """Files of the cache directory that are deleted, cut, scribbled on, or older than they should be."""

    FILES = ("ledger/data.mdb", "lock", "version", "socket", "mirror/*")

    @staticmethod
    def delete(file, old):
        del old
        file.unlink()

    @staticmethod
    def cut(file, old):
        del old
        if file.is_file():
            os.truncate(file, file.stat().st_size // 3)

    @staticmethod
    def cut_to_nothing(file, old):
        del old
        if file.is_file():
            os.truncate(file, 0)

    @staticmethod
    def scribble(file, old):
        del old
        if file.is_file():
            with open(file, "r+b") as open_file:
                open_file.write(os.urandom(file.stat().st_size))

    @staticmethod
    def age(file, old):
        """An older copy takes its place; of a socket, one that nobody listens at."""
        file.unlink()
        if file.name == "socket":
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as deaf:
                deaf.bind(str(file))
        else:
            below = file.parent.name if file.parent.name in ("ledger", "mirror") else ""
            shutil.copy2(next((old / below).glob(file.stem + "*")), file)

    HOWS = (delete, cut, cut_to_nothing, scribble, age)

    def prepare(self, container: str, sealed: bool):
        """A shard, its files, and a cache directory of it as it was left, with an older state of its files."""
        shard, files = self.shard(12, container)
        wanted = "sealed" if sealed else "complete"
        with CachedMount(shard, self.cache):
            wait_until(lambda: server_figures(self.cache, shard)["cache"]["state"] == wanted, f"a {wanted} mirror", HANG)
        self.cache.wait_for_end()
        self.ok("cp", "-a", "--sparse=always", self.cache.path, self.dir / "left")
        self.ok("cp", "-a", self.dir / "left", self.dir / "old")
        self.make_older(self.dir / "old")
        return shard, files

    @staticmethod
    def make_older(old):
        """A mirror that has only its first unit, a ledger that knows nothing, and others as they are."""
        for mirror in (old / "mirror").iterdir():
            size = mirror.stat().st_size
            os.chmod(mirror, 0o600)
            os.truncate(mirror, 4 << 20)
            os.truncate(mirror, size)
        for name in ("lock", "socket"):
            (old / name).touch()

    @contextlib.contextmanager
    def copy(self):
        with CacheDir() as cache:
            self.ok("cp", "-a", "--sparse=always", self.dir / "left", cache.path)
            yield cache

    def damage(self, cache, pattern: str, how):
        found = list(cache.path.glob(pattern))
        for file in found:
            how(file, self.dir / "old")
        return found

    def check_between(self, shard, files, pattern, how):
        with self.copy() as cache:
            self.damage(cache, pattern, how)
            with CachedMount(shard, cache) as mount:
                self.assert_read(mount, files)
                self.assert_no_flood(mount, cache)
            cache.wait_for_end()

    def check_while_mounted(self, shard, files, pattern, how):
        with self.copy() as cache, CachedMount(shard, cache) as mount:
            self.assert_read(mount, dict(list(files.items())[:4]))
            self.assertTrue(self.damage(cache, pattern, how))
            self.assert_read(mount, files, seed=1)
            for pid in cache.processes():
                os.kill(pid, signal.SIGKILL)
            self.assert_read(mount, files, seed=2)
            self.assert_no_flood(mount, cache)
            self.assertEqual(mount.umount().returncode, 0)
            cache.wait_for_end()
            with CachedMount(shard, cache) as again:
                self.assert_read(again, files)
                self.assert_no_flood(again, cache)

    def check_each(self, check, container: str, sealed: bool):
        shard, files = self.prepare(container, sealed)
        for pattern in self.FILES:
            for how in self.HOWS:
                with self.subTest(file=pattern, how=how.__name__):
                    check(shard, files, pattern, how)

    def test_between_two_mounts(self):
        self.check_each(self.check_between, "tar", False)

    def test_between_two_mounts_of_a_sealed_mirror(self):
        self.check_each(self.check_between, "tar.zst", True)

    def test_S33_while_mounted(self):
        self.check_each(self.check_while_mounted, "tar.zst", False)

    def test_while_mounted_with_a_sealed_mirror(self):
        self.check_each(self.check_while_mounted, "tar", True)

    def test_the_directory_goes(self):
        shard, files = self.shard(24)
        store = self.slow_store(latency_ms=1, bandwidth=8e6)
        with CachedMount(store.path / shard.name, self.cache) as mount:
            for part in range(3):
                self.assert_read(mount, dict(list(files.items())[part * 20:part * 20 + 2]))
                before = self.cache.processes()
                shutil.rmtree(self.cache.path, ignore_errors=True)
                self.assert_read(mount, dict(list(files.items())[part * 20:part * 20 + 10]))
                wait_until(lambda b=before: not any(alive(pid) for pid in b), "its server's end", HANG)
            store.bandwidth(0)
            self.assert_read(mount, files)
            self.assert_no_flood(mount, self.cache)

    def test_the_parent_goes(self):
        shard, files = self.shard(24)
        store = self.slow_store(latency_ms=1, bandwidth=8e6)
        with CachedMount(store.path / shard.name, self.cache) as mount:
            self.assert_read(mount, dict(list(files.items())[:1]))
            shutil.rmtree(self.cache.parent)
            wait_until(lambda: not self.cache.processes(), "its server's end", HANG)
            store.bandwidth(0)
            self.assert_read(mount, files)
            self.cache.parent.mkdir()
            self.assert_read(mount, files)
            self.assert_no_flood(mount, self.cache)

    def test_the_directory_becomes_somebody_else_s(self):
        shard, files = self.shard(24)
        for mode, owner in ((0o755, 0), (0o700, 65534)) if os.geteuid() == 0 else ((0o755, os.geteuid()),):
            store = self.slow_store(latency_ms=1, bandwidth=4e6)
            with CacheDir() as cache, CachedMount(store.path / shard.name, cache) as mount:
                self.assert_read(mount, dict(list(files.items())[:1]))
                os.chown(cache.path, owner, -1)
                cache.path.chmod(mode)
                for pid in cache.processes():
                    os.kill(pid, signal.SIGKILL)
                store.bandwidth(0)
                self.assert_read(mount, files)
                self.assert_no_flood(mount, cache)


class Servers(DiskTest):
    """A server that is stopped or killed."""

    def test_stopped(self):
        for container in self.CONTAINERS:
            shard, files = self.shard(24, container)
            store = self.enter(SlowStore(shard.parent))
            store.stall(offset=4 << 20, length=8 << 20)
            with CacheDir() as cache, CachedMount(store.path / shard.name, cache) as mount:
                server = cache.wait_for_server()
                os.kill(server, signal.SIGSTOP)
                store.release()
                try:
                    self.assert_read(mount, files, seed=1)
                    self.assertEqual(mount.log().count("no cache server"), 1, mount.log())
                finally:
                    os.kill(server, signal.SIGCONT)
                self.assert_read(mount, files, seed=2)
                self.assert_no_flood(mount, cache)

    @without_sanitizer()
    def test_killed_again_and_again(self):
        for container in self.CONTAINERS:
            shard, files = self.shard(24, container)
            store = self.slow_store(latency_ms=1, bandwidth=40e6)
            with CacheDir() as cache, CachedMount(store.path / shard.name, cache) as mount:
                for epoch in range(3):
                    reading = Reading(mount.path, files, seed=epoch)
                    for pid in cache.processes():
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)
                    self.assertEqual(reading.result(), {})
                self.assert_no_flood(mount, cache)


if __name__ == "__main__":
    unittest.main()
