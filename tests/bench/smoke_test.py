"""The benchmark driver runs, and the counts it prints are what the design promises.

Counts, not times: how many requests the kernel sends to the daemon is the same on any machine.
"""

import json
import os
import subprocess
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import systems  # noqa: E402
from tools import SHARDFS, TemporaryTree  # noqa: E402

FILES = 200
READERS = 4
KINDS = ("lookup", "getattr", "open", "opendir", "readdir", "readdirplus", "read", "flush", "release")


class Smoke(TemporaryTree):
    def compare(self, *options):
        output = self.dir / "result.json"
        table = self.ok(Path(__file__).with_name("compare"), "--files", FILES, "--sample", FILES,
                        "--rounds", 1, "--without", "squashfuse_ll", "--keep-caches",
                        "--work", self.dir, "--json", output, *options)
        return table, json.loads(output.read_text())

    def ok(self, *command, **options):
        return super().ok(*map(str, command), **options)

    def test_prints_a_table_and_leaves_nothing_mounted(self):
        table, result = self.compare()
        self.assertIn("| read, again, 4 processes |", table)
        self.assertEqual(result["files"], FILES)
        self.assertFalse([line for line in Path("/proc/mounts").read_text().splitlines()
                          if str(self.dir) in line])


class Requests(TemporaryTree):
    """What reaches the daemon, by its own counters."""

    def setUp(self):
        super().setUp()
        source = self.dir / "source"
        self.paths = [f"c{i % 4}/f{i:03}" for i in range(FILES)]
        for number, path in enumerate(self.paths):
            full = source / path
            full.parent.mkdir(parents=True, exist_ok=True)
            full.write_bytes(os.urandom(15_000 + number))
        self.list = self.dir / "list"
        self.list.write_text("".join(path + "\n" for path in self.paths))
        self.source = source

    def mount(self, kind):
        system = kind(self.source, self.dir)
        system.pack()
        self.addCleanup(system.unmount)
        system.mount()
        return system

    def requests(self, system, action):
        """Requests by kind that `action` causes, those that there were."""
        def now():
            return json.loads(self.ok(SHARDFS, "stats", system.root, "--json"))["fuse"]
        before = now()
        action()
        after = now()
        return {kind: after[kind] - before[kind] for kind in KINDS if after[kind] != before[kind]}

    def assert_requests(self, counts, expected):
        """Counts are as expected. The kernel learns by asking that files need no open and no flush:
        each reader may ask once before the first answer is there. On a busy machine it has been seen to ask
        for one file's attributes once more, as it does where it dropped an inode while a reply came."""
        for asked, most in ("open", READERS), ("flush", READERS), ("getattr", 1):
            self.assertLessEqual(counts.pop(asked, 0), most)
        self.assertEqual(counts, expected)

    def epoch(self, system, workers="threads"):
        seen = systems.read(system, "read", self.list, workers, READERS)
        self.assertEqual(seen["bytes"], sum(15_000 + i for i in range(FILES)))

    def test_a_warm_epoch_sends_nothing(self):
        for kind in systems.ShardfsTar, systems.ShardfsTarZst:
            with self.subTest(kind.name):
                system = self.mount(kind)
                self.epoch(system)
                self.assertEqual(self.requests(system, lambda: self.epoch(system)), {})
                self.assertEqual(self.requests(system, lambda: self.epoch(system, "processes")), {})
                system.unmount()

    def test_a_first_epoch_sends_at_most_one_lookup_and_one_read_a_file(self):
        system = self.mount(systems.ShardfsTar)
        counts = self.requests(system, lambda: self.epoch(system))
        # Fewer where directories were listed ahead, and neighbours pushed, in time.
        self.assertLessEqual(counts.pop("lookup"), FILES + 4)
        self.assertLessEqual(counts.pop("read"), FILES)
        counts.pop("readdirplus", 0)
        self.assertLessEqual(counts.pop("opendir", 0), 1)
        self.assert_requests(counts, {})

    def test_no_lookup_after_a_walk_with_attributes(self):
        system = self.mount(systems.ShardfsTar)
        systems.read(system, "stat")
        counts = self.requests(system, lambda: self.epoch(system))
        self.assertLessEqual(counts.pop("read"), FILES)
        self.assert_requests(counts, {})
        self.assertEqual(self.requests(system, lambda: systems.read(system, "stat")), {})


if __name__ == "__main__":
    unittest.main()
