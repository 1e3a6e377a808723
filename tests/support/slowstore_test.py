"""The store that other tests read from: what it serves, counts and breaks, and that it is always gone afterwards."""

import contextlib
import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mounted import NOBODY, MountTest, alive, as_user, is_mounted, needs_root, wait_until
from odd_tree import content
from slowstore import SLOWSTORE, SlowStore
from tools import run

MIB = 1 << 20
HANG_SECONDS = 60
NEVER_MS = 1e9

READER = """
import os, signal, sys
signal.signal(signal.SIGUSR1, lambda *_: None)
print(len(os.pread(os.open(sys.argv[1], os.O_RDONLY), 4096, 0)))
"""
HOLDER = """
import sys
from slowstore import SlowStore
with SlowStore(sys.argv[1]) as store:
    print(store.home, store.process.pid, flush=True)
    sys.stdin.read()
"""


class StoreTest(MountTest):
    """A directory with files a and b of 3 MiB, and a way to read them in other threads."""

    def setUp(self):
        super().setUp()
        self.files = {"a": content(3 * MIB, 1), "b": content(3 * MIB, 2)}
        self.source = self.tree(self.files)
        self.pool = self.enter(ThreadPoolExecutor(256))

    def store(self, **options) -> SlowStore:
        return self.enter(SlowStore(self.source, **{"latency_ms": 0, "bandwidth": 0, **options}))

    def open(self, store, name="a") -> int:
        fd = os.open(store.path / name, os.O_RDONLY)
        self.addCleanup(self.close, fd)
        return fd

    @staticmethod
    def close(fd):
        with contextlib.suppress(OSError):  # The store may be gone, which closing a file tells.
            os.close(fd)

    def start_reads(self, store, count=1, name="a", size=4096) -> list:
        """Reads in threads of their own, at offsets one after the other."""
        fd = self.open(store, name)
        return [self.pool.submit(os.pread, fd, size, size * n) for n in range(count)]

    def assert_fails_later(self, number, futures):
        for future in futures:
            self.fails_with(number, future.result, HANG_SECONDS)

    def another_file(self, data: bytes) -> Path:
        path = self.dir / "another"
        path.write_bytes(data)
        return path


class Serving(StoreTest):
    def test_shows_the_files_and_their_attributes(self):
        (self.source / "directory").mkdir()
        (self.source / "link").symlink_to("b")
        os.mkfifo(self.source / "fifo")
        os.chmod(self.source / "a", 0o640)
        store = self.store(blksize=1 << 20)
        self.assertEqual(sorted(os.listdir(store.path)), ["a", "b", "link"])
        for name in self.files:
            self.assertEqual((store.path / name).read_bytes(), self.files[name])
            shown, real = os.stat(store.path / name), os.stat(self.source / name)
            for field in ("st_mode", "st_size", "st_mtime_ns", "st_uid"):
                self.assertEqual(getattr(shown, field), getattr(real, field), field)
            self.assertEqual(shown.st_blksize, 1 << 20)
        self.assertEqual((store.path / "link").read_bytes(), self.files["b"])
        self.assertEqual(os.statvfs(store.path).f_blocks, os.statvfs(self.source).f_blocks)
        for name in ("directory", "fifo", "none"):
            self.fails_with(errno.ENOENT, os.stat, store.path / name)

    def test_has_blocks_of_4_mib_unless_told(self):
        store = self.store()
        self.assertEqual([os.stat(store.path / name).st_blksize for name in ("", "a")], [4 << 20] * 2)

    def test_lists_a_large_directory(self):
        names = {f"file{n:05}" for n in range(3000)}
        for name in names:
            (self.source / name).touch()
        self.assertEqual(set(os.listdir(self.store().path)), names | set(self.files))

    def test_cannot_be_written(self):
        path = self.store().path
        self.fails_with(errno.EROFS, open, path / "a", "r+b")
        self.fails_with(errno.EROFS, open, path / "new", "wb")
        self.fails_with(errno.EROFS, os.unlink, path / "a")
        self.fails_with(errno.EROFS, os.rename, path / "a", path / "c")
        self.fails_with(errno.EROFS, os.chmod, path / "a", 0o777)
        self.fails_with(errno.EROFS, os.truncate, path / "a", 0)

    @needs_root
    def test_serves_other_users_by_the_modes(self):
        self.source.chmod(0o755)
        os.chmod(self.source / "b", 0o600)
        store = self.store()
        self.assertEqual(run("head", "-c1", store.path / "a", **as_user(NOBODY)).returncode, 0)
        self.assertIn("Permission denied", run("head", "-c1", store.path / "b", **as_user(NOBODY)).stderr)

    @needs_root
    def test_serves_no_other_user_if_not_told(self):
        store = self.store(allow_other=False)
        self.assertNotEqual(run("ls", store.path, **as_user(NOBODY)).returncode, 0)


class Counting(StoreTest):
    def test_counts_every_read(self):
        store = self.store()
        a, b = self.open(store), self.open(store, "b")
        for fd, size, offset in [(a, 4096, 0), (a, 4096, 8192), (a, 10_000, 2048), (b, 100, 7), (b, 1, 7)]:
            self.assertEqual(os.pread(fd, size, offset), self.files["a" if fd == a else "b"][offset:offset + size])
        of_a = {"opens": 1, "requests": 3, "bytes": 18192, "distinct_bytes": 12288, "again_bytes": 5904}
        of_b = {"opens": 1, "requests": 2, "bytes": 101, "distinct_bytes": 100, "again_bytes": 1}
        both = {key: of_a[key] + of_b[key] for key in of_a}
        self.assertEqual(store.stats(), {
            **both, "files": {"a": of_a, "b": of_b}, "in_flight": 0, "max_in_flight": 1, "stalled": 0,
            "failed": 0, "shortened": 0, "flipped": 0, "sizes": {"1": 1, "128": 1, "4096": 2, "16384": 1}})

    def test_counts_what_the_file_has_and_not_what_was_asked_for(self):
        store = self.store()
        fd = self.open(store)
        self.assertEqual(len(os.pread(fd, 4096, 3 * MIB - 10)), 10)
        self.assertEqual(os.pread(fd, 4096, 3 * MIB + 10), b"")
        stats = store.stats()
        self.assertEqual((stats["requests"], stats["bytes"], stats["distinct_bytes"]), (2, 10, 10))

    def test_counts_from_zero_after_a_reset(self):
        store = self.store()
        fd = self.open(store)
        os.pread(fd, 4096, 0)
        store.reset()
        self.assertEqual((store.stats()["requests"], store.stats()["files"], store.stats()["sizes"]), (0, {}, {}))
        os.pread(fd, 4096, 0)
        self.assertEqual(store.stats()["distinct_bytes"], 4096)

    def test_every_read_arrives_without_the_page_cache(self):
        store = self.store()
        for _ in range(2):
            self.assertEqual((store.path / "a").read_bytes(), self.files["a"])
        stats = store.stats()
        self.assertEqual((stats["bytes"], stats["distinct_bytes"]), (6 * MIB, 3 * MIB))
        self.assertEqual(max(map(int, stats["sizes"])), MIB)

    def test_a_byte_arrives_once_with_the_page_cache(self):
        store = self.store(page_cache=True)
        for _ in range(2):
            self.assertEqual((store.path / "a").read_bytes(), self.files["a"])
        self.assertEqual((store.stats()["opens"], store.stats()["bytes"]), (2, 3 * MIB))


class Pace(StoreTest):
    """A latency of days or a bandwidth of hours is one that a test sees without a clock."""

    def test_reads_wait_for_their_latency_side_by_side(self):
        with SlowStore(self.source, latency_ms=NEVER_MS) as store:
            reads = self.start_reads(store, 200)
            wait_until(lambda: store.stats()["in_flight"] == 200, "200 reads", HANG_SECONDS)
            store.latency(0)
            self.assertEqual((store.path / "b").read_bytes(), self.files["b"])
            self.assertFalse(any(read.done() for read in reads))
            stats = store.stats()
            self.assertEqual((stats["in_flight"], stats["max_in_flight"], stats["stalled"]), (200, 201, 0))
        self.assert_fails_later(errno.EIO, reads)

    def test_reads_share_the_bandwidth(self):
        store = self.store(bandwidth=1)
        reads = self.start_reads(store)
        wait_until(lambda: store.stats()["in_flight"] == 1, "a read")
        reads += self.start_reads(store, name="b")
        wait_until(lambda: store.stats()["in_flight"] == 2, "a read behind it")
        store.bandwidth(0)
        self.assertEqual((store.path / "b").read_bytes(), self.files["b"])
        self.assertFalse(any(read.done() for read in reads))

    def test_a_failure_takes_no_bandwidth(self):
        store = self.store(bandwidth=1)
        store.fail(name="a")
        self.fails_with(errno.EIO, os.pread, self.open(store), 4096, 0)

    def test_reads_arrive_in_the_end(self):
        store = self.store(latency_ms=3, bandwidth=1e9)
        for read, n in zip(self.start_reads(store, 200), range(200)):
            self.assertEqual(read.result(HANG_SECONDS), self.files["a"][4096 * n:4096 * (n + 1)])


class Faults(StoreTest):
    def test_fails_always(self):
        store = self.store()
        fd = self.open(store)
        store.fail()
        for _ in range(3):
            self.fails_with(errno.EIO, os.pread, fd, 4096, 0)
        stats = store.stats()
        self.assertEqual((stats["requests"], stats["failed"], stats["bytes"]), (3, 3, 0))
        store.clear()
        self.assertEqual(os.pread(fd, 4096, 0), self.files["a"][:4096])

    def test_fails_so_many_times(self):
        store = self.store()
        fd = self.open(store)
        store.fail(errno.ESTALE, count=2)
        for _ in range(2):
            self.fails_with(errno.ESTALE, os.pread, fd, 4096, 0)
        self.assertEqual(os.pread(fd, 4096, 0), self.files["a"][:4096])

    def test_fails_where_told(self):
        store = self.store()
        a, b = self.open(store), self.open(store, "b")
        store.fail(name="a", offset=4096, length=100)
        self.assertEqual(os.pread(b, 8192, 0), self.files["b"][:8192])
        self.assertEqual(os.pread(a, 4096, 0), self.files["a"][:4096])
        self.assertEqual(os.pread(a, 4096, 4196), self.files["a"][4196:8292])
        self.fails_with(errno.EIO, os.pread, a, 4097, 0)
        self.fails_with(errno.EIO, os.pread, a, 1, 4195)

    def test_fails_in_the_page_cache_too(self):
        store = self.store(page_cache=True)
        store.fail(errno.EIO, count=1000)
        self.fails_with(errno.EIO, (store.path / "a").read_bytes)
        store.clear()
        self.assertEqual((store.path / "a").read_bytes(), self.files["a"])

    def test_serves_one_file_while_64_reads_of_another_are_held(self):
        for page_cache in (False, True):
            with self.subTest(page_cache=page_cache):
                store = self.store(page_cache=page_cache)
                store.stall(name="a")
                fd = self.open(store)
                if page_cache:
                    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
                reads = [self.pool.submit(os.pread, fd, 4096, 8192 * n) for n in range(64)]
                store.wait_until_stalled(64)
                self.assertEqual((store.path / "b").read_bytes(), self.files["b"])
                self.assertFalse(any(read.done() for read in reads))
                store.release()
                for n, read in enumerate(reads):
                    self.assertEqual(read.result(HANG_SECONDS), self.files["a"][8192 * n:8192 * n + 4096])
                self.assertEqual((store.stats()["in_flight"], store.stats()["failed"]), (0, 0))

    def test_holds_so_many_reads(self):
        store = self.store()
        store.stall(count=1)
        held = self.start_reads(store)
        store.wait_until_stalled()
        self.assertEqual(os.pread(self.open(store), 4096, 0), self.files["a"][:4096])
        store.clear()
        self.assertEqual(held[0].result(HANG_SECONDS), self.files["a"][:4096])

    def test_lets_reads_go_with_an_error(self):
        store = self.store()
        store.stall()
        held = self.start_reads(store, 3)
        store.wait_until_stalled(3)
        store.release(errno.ESTALE)
        self.assert_fails_later(errno.ESTALE, held)
        self.assertEqual(os.pread(self.open(store), 4096, 0), self.files["a"][:4096])

    def reader(self, store) -> subprocess.Popen:
        process = subprocess.Popen([sys.executable, "-c", READER, store.path / "a"], stdout=subprocess.PIPE)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        store.wait_until_stalled()
        return process

    def test_a_held_reader_can_be_killed(self):
        store = self.store()
        store.stall()
        reader = self.reader(store)
        reader.kill()
        self.assertEqual(reader.wait(HANG_SECONDS), -signal.SIGKILL)
        wait_until(lambda: store.stats()["failed"] == 1, "the end of the read")
        self.assertEqual(store.stats()["stalled"], 0)

    def test_a_held_reader_is_not_disturbed_by_a_signal(self):
        store = self.store()
        store.stall()
        reader = self.reader(store)
        reader.send_signal(signal.SIGUSR1)
        store.release()
        self.assertEqual(reader.communicate(timeout=HANG_SECONDS)[0], b"4096\n")
        self.assertEqual((store.stats()["requests"], store.stats()["failed"]), (1, 0))

    def test_gives_fewer_bytes(self):
        store = self.store()
        fd = self.open(store)
        store.short(count=1)
        self.assertEqual(os.pread(fd, 4096, 0), self.files["a"][:2048])
        self.assertEqual(os.pread(fd, 4096, 0), self.files["a"][:4096])
        store.short(100)
        self.assertEqual(os.pread(fd, 4096, 0), self.files["a"][:100])
        self.assertEqual(os.pread(fd, 100, 0), self.files["a"][:100])
        self.assertEqual((store.stats()["shortened"], store.stats()["bytes"]), (2, 2048 + 4096 + 200))

    def test_flips_one_bit(self):
        store = self.store()
        fd = self.open(store)
        store.flip(count=1)
        wrong = os.pread(fd, 4096, 0)
        differing = [n for n in range(4096) if wrong[n] != self.files["a"][n]]
        self.assertEqual(differing, [2048])
        self.assertEqual((wrong[2048] ^ self.files["a"][2048]).bit_count(), 1)
        self.assertEqual(os.pread(fd, 4096, 0), self.files["a"][:4096])

    def test_flips_the_bit_that_was_named(self):
        store = self.store()
        fd = self.open(store)
        store.flip(name="a", offset=5000, length=1)
        damaged = bytearray(self.files["a"])
        damaged[5000] ^= 1
        self.assertEqual(os.pread(fd, MIB, 0), damaged[:MIB])
        self.assertEqual(os.pread(fd, 1, 5000), damaged[5000:5001])
        self.assertEqual(os.pread(fd, 4096, 5001), damaged[5001:5001 + 4096])
        self.assertEqual((store.path / "b").read_bytes(), self.files["b"])
        self.assertEqual(store.stats()["flipped"], 2)

    def test_faults_add_up(self):
        store = self.store()
        store.stall(count=1)
        store.fail(errno.ESTALE, count=1)
        held = self.start_reads(store)
        store.wait_until_stalled()
        store.release()
        self.assert_fails_later(errno.ESTALE, held)

    def test_an_open_file_outlives_its_replacement(self):
        for page_cache in (False, True):
            with self.subTest(page_cache=page_cache):
                store = self.store(page_cache=page_cache)
                before = (store.path / "b").read_bytes()
                fd = self.open(store, "b")
                new = content(MIB + page_cache, 5)
                store.replace("b", self.another_file(new))
                self.assertEqual((store.path / "b").read_bytes(), new)
                self.assertEqual(os.pread(fd, 4096, MIB), before[MIB:MIB + 4096])
                self.assertNotEqual(os.fstat(fd).st_ino, os.stat(store.path / "b").st_ino)
                self.assertEqual(store.stats()["files"]["b"]["opens"], 3)

    def test_an_open_file_shows_what_is_written_over_it(self):
        for page_cache in (False, True):
            with self.subTest(page_cache=page_cache):
                store = self.store(page_cache=page_cache)
                fd = self.open(store)
                os.pread(fd, MIB, 0)
                new = content(3 * MIB, 7 + page_cache)
                store.overwrite("a", self.another_file(new))
                self.assertEqual(os.pread(fd, MIB, 0), new[:MIB])
        with self.assertRaises(ValueError):
            store.overwrite("a", self.another_file(b"short"))

    def test_a_file_is_cut(self):
        for page_cache in (False, True):
            with self.subTest(page_cache=page_cache):
                store = self.store(page_cache=page_cache)
                fd = self.open(store)
                store.truncate("a", MIB - page_cache)
                self.assertEqual(os.fstat(fd).st_size, MIB - page_cache)
                self.assertEqual(os.pread(fd, 4096, MIB - 10), self.files["a"][MIB - 10:MIB - page_cache])


class Commands(StoreTest):
    def test_refuses_what_it_does_not_know(self):
        store = self.store()
        for do, arguments in [("dance", {}), ("fail", {}), ("fail", {"errno": "ENONE"}), ("latency", {}),
                              ("fail", {"errno": "EIO", "cuont": 1}), ("stats", {"count": 1}),
                              ("stall", {"count": "many"})]:
            with self.assertRaises(ValueError, msg=f"{do} {arguments}"):
                store.command(do, **arguments)
        self.assertEqual((store.path / "a").read_bytes(), self.files["a"])

    def test_answers_line_by_line_and_many_at_once(self):
        store = self.store()
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(store.home / "control"))
            connection.sendall(b'{"do":"fail","errno":"ESTALE","count":1}\nnonsense\n[]\n{"do":"stats"}\n')
            with connection.makefile() as answers:
                done, first, second, stats = (json.loads(answers.readline()) for _ in range(4))
        self.assertEqual((done, stats["requests"]), ({}, 0))
        self.assertIn("error", first)
        self.assertIn("error", second)
        self.fails_with(errno.ESTALE, (store.path / "a").read_bytes)

    def test_says_why_it_does_not_start(self):
        with self.assertRaisesRegex(AssertionError, "cannot open"):
            SlowStore(self.dir / "none").__enter__()
        result = run(SLOWSTORE, self.source, self.dir, "--control", self.dir / ("x" * 200))
        self.assertEqual(result.returncode, 1)
        self.assertIn("cannot listen", result.stderr)
        wait_until(lambda: not is_mounted(self.dir), "the end of the mount")


class Ending(StoreTest):
    def assert_gone(self, home, pid):
        wait_until(lambda: not alive(pid), "the end of the store", HANG_SECONDS)
        wait_until(lambda: not is_mounted(Path(home) / "mount"), "the end of the mount", HANG_SECONDS)

    def test_leaves_nothing_behind(self):
        with SlowStore(self.source) as store:
            self.assertTrue(is_mounted(store.path))
            self.assertEqual((store.path / "a").read_bytes(), self.files["a"])
        self.assertFalse(alive(store.process.pid))
        self.assertFalse(is_mounted(store.path))
        self.assertFalse(store.home.exists())
        self.assertEqual(sorted(os.listdir(self.source)), ["a", "b"])

    def test_a_signal_ends_it_whatever_is_held(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(signal=number), SlowStore(self.source, page_cache=number == signal.SIGINT) as store:
                store.stall()
                held = self.start_reads(store, 10) + self.start_reads(store, 3, "b", MIB)
                store.wait_until_stalled(2)
                store.process.send_signal(number)
                self.assertEqual(store.process.wait(HANG_SECONDS), 0)
                self.assertFalse(is_mounted(store.path))
                for read in held:
                    self.assertIsInstance(read.exception(HANG_SECONDS), OSError)

    def test_held_readers_get_an_error_at_the_end(self):
        with SlowStore(self.source) as store:
            store.stall()
            held = self.start_reads(store, 64)
            store.wait_until_stalled(64)
        self.assert_fails_later(errno.EIO, held)

    def test_ends_when_it_is_unmounted(self):
        with SlowStore(self.source) as store:
            subprocess.run(["fusermount3", "-u", store.path], check=True)
            store.process.wait(HANG_SECONDS)
            store.process.returncode = 0  # It had nothing to unmount.

    def test_ends_with_the_process_that_started_it(self):
        with subprocess.Popen([sys.executable, "-B", "-c", HOLDER, self.source], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE) as holder:
            home, pid = holder.stdout.readline().decode().split()
            self.addCleanup(shutil.rmtree, home)
            self.assertTrue(is_mounted(Path(home) / "mount"))
            holder.kill()
        self.assert_gone(home, int(pid))

    def test_outlives_the_thread_that_started_it(self):
        store = SlowStore(self.source)
        thread = threading.Thread(target=store.__enter__)
        thread.start()
        thread.join(HANG_SECONDS)
        self.addCleanup(store.__exit__, None)
        self.assertEqual((store.path / "a").read_bytes(), self.files["a"])

    def test_its_mount_does_not_outlive_it(self):
        with self.assertRaisesRegex(AssertionError, "ended with -9"), SlowStore(self.source) as store:
            store.stall()
            held = self.start_reads(store, 10)
            store.wait_until_stalled(10)
            store.process.kill()
            self.assert_gone(store.home, store.process.pid)
            for read in held:
                self.assertIsInstance(read.exception(HANG_SECONDS), OSError)
        self.assertFalse(store.home.exists())


if __name__ == "__main__":
    unittest.main()
