"""What people ask of a cache: figures that are true, hints, marks, hot lists, listing and clearing."""

import errno
import json
import os
import re
import signal
import subprocess
import unittest
from pathlib import Path

from cached import HANG, UNIT, CachedMount, CacheDir
from mounted import MountTest, needs_root, wait_until
from odd_tree import content
from slowstore import SlowStore
from tools import SHARDFS, run

FILES, SIZE = 600, 50_000  # 30 MB: eight units


@needs_root
class Commands(MountTest):
    def setUp(self):
        super().setUp()
        self.files = {f"{n % 6}/{n:04}": content(SIZE, n) for n in range(FILES)}
        (self.dir / "store").mkdir()
        self.archive = self.pack(self.tree(self.files), "tar")
        self.archive = self.archive.rename(self.dir / "store/a.tar")
        self.size = self.archive.stat().st_size
        self.store = self.enter(SlowStore(self.archive.parent, latency_ms=1))
        self.cache = self.enter(CacheDir())
        self.shard = self.store.path / "a.tar"

    def mount(self, *options, tier="disk"):
        """Without pushes: what they bring instead of readers depends on who is faster."""
        return CachedMount(self.shard, self.cache, *options, tier=tier,
                           env={"SHARDFS_TEST_NO_PUSH": "1"})

    def read(self, mount, names=None):
        for name in names or self.files:
            self.assertEqual((mount.path / name).read_bytes(), self.files[name])

    def staged(self, mount):
        wait_until(lambda: mount.stats()["staged_bytes"] == self.size, "the whole archive in the cache", HANG)

    # ---- figures ----

    def test_figures_are_those_of_the_store(self):
        for tier in ("disk", "memory", "partial", "none"):
            options = ("--cache-size", str(3 * UNIT)) if tier == "partial" else ()
            with self.subTest(tier), CacheDir() as self.cache:
                self.store.reset()
                with self.mount(*options, tier=tier) as mount:
                    self.read(mount)
                    if tier in ("disk", "memory"):
                        self.staged(mount)
                    told = mount.stats()
                    seen = self.store.stats()
                    self.assertEqual(told["tier"], tier)
                    self.assertEqual(told["store"]["bytes"], seen["bytes"])
                    self.assertEqual((told["store"]["errors"], told["store"]["retries"]), (0, 0))
                    # The kernel cuts a request for 4 MiB into some of 1 MiB.
                    self.assertLessEqual(told["store"]["requests"], seen["requests"])
                    self.assertEqual(told["daemon"]["read_bytes"], sum(map(len, self.files.values())))

    def test_requests_are_those_that_a_tracer_sees(self):
        trace = self.dir / "trace"
        with CacheDir() as self.cache:
            tracer = subprocess.Popen(["strace", "-f", "-y", "-e", "trace=pread64", "-o", trace, SHARDFS, "cache-server",
                                       self.cache.parent], stderr=subprocess.DEVNULL)
            try:
                self.cache.wait_for_server()
                with self.mount(tier="memory") as mount:
                    self.read(mount)
                    self.staged(mount)
                    told = mount.stats()["store"]["requests"]
                tracer.wait(HANG)
            finally:
                tracer.kill()
                tracer.wait()
        calls = [line for line in trace.read_text(errors="replace").splitlines()
                 if re.search(r"pread64\(\d+<[^>]*a\.tar>", line)]
        self.assertEqual(len(calls), told)

    def test_the_archive_is_not_in_the_page_cache_as_well(self):
        """But for its last unit, whose end no direct read could have, and what a mount reads itself."""
        try:
            file = os.open(self.archive, os.O_RDONLY | os.O_DIRECT)
        except OSError:
            self.skipTest("a file system without direct reads")
        self.addCleanup(os.close, file)
        os.sync()
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        with CachedMount(self.archive, self.cache, tier="memory") as mount:
            self.staged(mount)
            held = run("fincore", "--bytes", "--noheadings", "--output", "RES", self.archive).stdout
        self.assertLess(int(held), 2 * UNIT)

    def test_hits_and_misses_add_up(self):
        with self.mount("--cache-size", str(3 * UNIT), tier="partial") as mount:
            wait_until(lambda: mount.stats()["cache"]["state"] == "full", "a full cache", HANG)
            before = mount.stats()["daemon"]
            self.read(mount)
            after = mount.stats()["daemon"]
            hit, missed = (after[key] - before[key] for key in ("hit_bytes", "miss_bytes"))
            read = sum(map(len, self.files.values()))
            # And, once, the index's checksums.
            self.assertGreaterEqual(hit + missed, read)
            self.assertLess(hit + missed, read + UNIT)
            self.assertGreater(hit, 0.9 * 3 * UNIT - UNIT)
            self.assertIn("cache-size", mount.stats()["suggestion"])

    def test_a_report_is_left_at_the_end(self):
        report = self.dir / "report.json"
        with self.mount("--report", report) as mount:
            self.read(mount)
            self.staged(mount)
            log = mount.log_file
            self.assertEqual(mount.umount().returncode, 0)
            figures = json.loads(report.read_text())
            self.assertEqual(figures["store"]["bytes"], self.store.stats()["bytes"])
            self.assertEqual(figures["daemon"]["read_bytes"], sum(map(len, self.files.values())))
            self.assertRegex(log.read_text(), r"shared storage: \d+ requests, [0-9.]+ MiB, 0 errors")

    def test_marks_keep_the_figures_of_their_moment(self):
        with self.mount() as mount:
            self.ok(SHARDFS, "mark", mount.path, "before")
            self.read(mount)
            self.ok(SHARDFS, "mark", mount.path, "after \N{GREEK SMALL LETTER ALPHA}")
            first, second = mount.stats()["marks"]
            self.assertEqual((first["label"], second["label"]), ("before", "after α"))
            self.assertLess(first["t_s"], second["t_s"])
            self.assertEqual(second["daemon"]["read_bytes"] - first["daemon"]["read_bytes"],
                             sum(map(len, self.files.values())))
            self.assertIn("after α", self.ok(SHARDFS, "stats", mount.path))
            self.assertEqual(run(SHARDFS, "mark", mount.path / "0", "x").returncode, 2)
            self.assertEqual(run(SHARDFS, "mark", mount.path, "x" * 300).returncode, 2)

    def test_prometheus_has_what_json_has(self):
        with self.mount() as mount:
            self.read(mount)
            self.staged(mount)
            text = self.ok(SHARDFS, "stats", mount.path, "--prometheus")
            value = re.search(r"^shardfs_store_bytes_total\{[^}]*\} ([0-9.e+]+)$", text, re.MULTILINE)[1]
            self.assertEqual(float(value), self.store.stats()["bytes"])

    # ---- hints ----

    def test_warm_brings_all_without_a_reader(self):
        with self.mount() as mount:
            self.ok(SHARDFS, "warm", mount.path, "--wait")
            self.assertEqual(mount.stats()["staged_bytes"], self.size)
            before = self.store.stats()["requests"]
            self.read(mount)
            self.assertEqual(self.store.stats()["requests"], before)

    def test_warm_tells_what_could_not_be_read(self):
        self.store.fail(errno.EIO, offset=4 * UNIT, length=UNIT)
        with self.mount("--store-timeout", "1s") as mount:
            result = run(SHARDFS, "warm", "--wait", mount.path)
            self.assertEqual(result.returncode, 2, result.stderr)
            self.assertIn("not all of it could be read", result.stderr)
            self.store.clear()
            self.ok(SHARDFS, "warm", "--wait", mount.path)

    def test_a_known_order_takes_few_requests_and_gives_right_bytes(self):
        names = sorted(self.files, key=lambda name: content(4, int(name[2:])))
        listing = self.dir / "list"
        listing.write_text("".join(f"./{name}\n" for name in names))
        counts = {}
        for known in (False, True):
            with CacheDir() as self.cache, self.mount("--cache-size", str(2 * UNIT), tier="partial") as mount:
                wait_until(lambda m=mount: m.stats()["cache"]["state"] == "full", "a full cache", HANG)
                self.store.reset()
                if known:
                    self.ok(SHARDFS, "warm", mount.path, "--files-from", listing, "--wait")
                self.read(mount, names)
                counts[known] = self.store.stats()["requests"]
                self.assertLessEqual(mount.stats()["cache"]["used_bytes"], 2 * UNIT)
        self.assertLess(counts[True], counts[False] / 4)

    def test_a_list_sent_in_parts_is_looked_at_as_one(self):
        names = sorted(self.files, key=lambda name: content(4, int(name[2:])))
        filler = "x" * 15_000  # so that one command takes no more than some names
        parts = [names[n:n + 20] for n in range(0, FILES, 20)]
        with self.mount("--cache-size", str(2 * UNIT), tier="partial") as mount:
            wait_until(lambda: mount.stats()["cache"]["state"] == "full", "a full cache", HANG)
            self.store.reset()
            told = subprocess.run([SHARDFS, "warm", mount.path, "--files-from", "-", "--wait"], check=False, text=True,
                                  input="".join("\n".join([*part, filler, ""]) for part in parts), capture_output=True)
            self.assertEqual((told.returncode, told.stderr.split()[1]), (1, str(len(parts))), told.stderr)
            self.read(mount, names)
            seen = self.store.stats()
        # Part by part, hardly two of the 600 files would lie close to each other.
        self.assertLess(seen["requests"], 2 * self.size >> 20)
        self.assertLess(seen["bytes"], self.size)

    def test_names_that_are_none_are_counted(self):
        with self.mount() as mount:
            told = subprocess.run([SHARDFS, "warm", mount.path, "--files-from", "-", "-0", "--json"], check=False,
                                  input=b"0/0000\0nothing\0" + b"0\0" + b"x" * 20_000 + b"\0", capture_output=True)
            self.assertEqual(told.returncode, 1)
            self.assertEqual(json.loads(told.stdout)["unknown"], 3)
            self.assertIn(b"3 of 3 names", told.stderr)  # the longest is not sent

    def test_where_nothing_is_cached_there_is_nothing_to_warm(self):
        with self.mount(tier="none") as mount:
            refused = run(SHARDFS, "warm", mount.path)
            self.assertEqual(refused.returncode, 2)
            self.assertIn("read in place", refused.stderr)

    def test_a_hot_list_has_the_next_job_begin_with_its_units(self):
        hot = self.dir / "hot"
        with self.mount("--hot-list", hot, "--cache-size", str(3 * UNIT), tier="partial") as mount:
            wait_until(lambda: mount.stats()["staged_bytes"] > 2 * UNIT, "three units", HANG)
        lines = hot.read_text().splitlines()
        self.assertRegex(lines[0], r"^shardfs-hot-list 1 [0-9a-f]{32}$")
        self.assertEqual(len(lines), 1 + 3)
        hot.write_text("\n".join([lines[0], "5", "6", "99999999"]) + "\n")
        with CacheDir() as self.cache, \
                self.mount("--hot-list", hot, "--cache-size", str(3 * UNIT), tier="partial") as mount:
            wait_until(lambda: mount.stats()["staged_bytes"] > 2 * UNIT, "three units", HANG)
        self.assertLessEqual({"5", "6"}, set(hot.read_text().splitlines()[1:]))

    def test_a_hot_list_that_is_none_is_no_reason_to_fail(self):
        hot = self.dir / "hot"
        for text in ("", "something else\n", "shardfs-hot-list 1 0123\n1\n"):
            hot.write_text(text)
            with self.subTest(text), CacheDir() as self.cache, self.mount("--hot-list", hot) as mount:
                self.read(mount)

    # ---- the directory ----

    def cache_command(self, *arguments) -> dict:
        return json.loads(self.ok(SHARDFS, "cache", *arguments, "--json", "--cache-dir", self.cache.parent))

    def test_listing_and_clearing(self):
        with self.mount() as mount:
            self.staged(mount)
            [listed] = self.cache_command("ls")["archives"]
            self.assertEqual((listed["archive"], listed["cached_bytes"]), (str(self.shard), self.size))
            self.assertGreaterEqual(listed["clients"], 1)
            self.assertEqual(self.cache_command("clear")["freed_bytes"], 0)  # it is in use
        self.cache.wait_for_end()
        [listed] = self.cache_command("ls")["archives"]
        self.assertEqual((listed["archive"], listed["clients"]), (str(self.shard), 0))
        self.cache.wait_for_end()
        self.assertGreaterEqual(self.cache_command("clear")["freed_bytes"], self.size)
        self.cache.wait_for_end()
        self.assertFalse(self.cache.path.exists())
        self.assertEqual(run(SHARDFS, "cache", "ls", "--cache-dir", self.cache.parent).returncode, 0)

    def test_what_a_mount_uses_is_kept_by_a_later_server_too(self):
        """The mount need not ask the next one for anything, so that does not know of it."""
        with self.mount() as mount:
            self.staged(mount)
            os.kill(self.cache.server(), signal.SIGKILL)
            self.cache.wait_for_end()
            self.read(mount)
            self.assertIsNone(self.cache.server())
            [listed] = self.cache_command("ls")["archives"]
            self.assertGreaterEqual(listed["clients"], 1)
            self.assertEqual(self.cache_command("clear")["freed_bytes"], 0)
            self.assertEqual([file.stat().st_size for file in self.cache.path.glob("mirror/*")], [self.size])
        self.cache.wait_for_end()
        self.assertGreaterEqual(self.cache_command("clear")["freed_bytes"], self.size)

    def test_gc_keeps_what_the_limits_allow(self):
        with self.mount() as mount:
            self.staged(mount)
        self.cache.wait_for_end()
        self.assertEqual(self.cache_command("gc", "--cache-size", "1G", "--reserve", "0")["freed_bytes"], 0)
        self.cache.wait_for_end()
        self.assertGreater(self.cache_command("gc", "--cache-size", "1M")["freed_bytes"], 0)

    def test_an_unused_archive_makes_room_for_one_in_use(self):
        other = self.archive.with_name("b.tar")
        other.write_bytes(self.archive.read_bytes())
        room = ("--cache-size", str(self.size + UNIT))
        with self.mount(*room) as mount:
            self.staged(mount)
        self.cache.wait_for_end()
        with CachedMount(self.store.path / "b.tar", self.cache, *room) as mount:
            self.staged(mount)
            self.assertEqual(len(self.cache_command("ls")["archives"]), 1)


if __name__ == "__main__":
    unittest.main()
