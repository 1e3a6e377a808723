"""What the kernel has to ask: counted, because it decides how fast a mount is."""

import os
import random
import unittest

from memory_group import memory_limit
from mounted import Mount, MountTest, needs_root, wait_until
from odd_tree import content

FILES = 400


class Requests(MountTest):
    def setUp(self):
        super().setUp()
        self.files = {f"{n % 8}/file{n:03}": content(3000 + n, 3 * n + 1) for n in range(FILES)}
        self.source = self.tree(self.files)
        for n in range(8):
            os.symlink(f"file{n:03}", self.source / str(n) / "link")

    def read_shuffled(self, mount, seed: int = 0):
        names = list(self.files)
        random.Random(seed).shuffle(names)
        for name in names:
            self.assertEqual(self.read(mount.path / name), self.files[name])

    @staticmethod
    def read(path) -> bytes:
        """Without the question whether the file is a terminal that open() asks (see below)."""
        with open(path, "rb", buffering=0) as file:
            return file.read()

    @staticmethod
    def walk(mount):
        for here, directories, files in os.walk(mount.path):
            for name in directories + files:
                os.lstat(os.path.join(here, name))
                if os.path.islink(os.path.join(here, name)):
                    os.readlink(os.path.join(here, name))

    def test_S25_warm_epochs_ask_nothing(self):
        for container in self.CONTAINERS:
            with self.subTest(container), Mount(self.pack(self.source, container)) as mount:
                self.walk(mount)
                self.read_shuffled(mount)
                for seed in (1, 2):
                    self.assertEqual(mount.requests_during(lambda m=mount, s=seed: self.read_shuffled(m, s)), {})
                # A directory that was listed ahead while it was being read may have to be read once more.
                wait_until(lambda m=mount: m.requests_during(lambda: self.walk(m)) == {}, "a walk that asks nothing")

    def test_S25_names_that_are_not_there_are_asked_for_once(self):
        with Mount(self.pack(self.source)) as mount:
            self.assertFalse((mount.path / "nothing").exists())
            self.assertEqual(mount.requests_during(lambda: (mount.path / "nothing").exists()), {})

    def test_a_cold_epoch_costs_at_most_a_lookup_and_a_read_a_file(self):
        with Mount(self.pack(self.source)) as mount:
            asked = mount.requests_during(lambda: self.read_shuffled(mount))
            # Fewer where directories were listed ahead, and neighbours pushed, in time.
            self.assertLessEqual(asked.pop("lookup"), FILES + 8)
            self.assertLessEqual(asked.pop("read"), FILES)
            asked.pop("readdirplus", 0)
            # One OPEN, FLUSH and OPENDIR teach the kernel not to send more.
            self.assertLessEqual(asked.pop("opendir", 1), 1)
            self.assertEqual(asked, {"open": 1, "flush": 1})

    def test_directories_are_listed_ahead(self):
        """Once some of a directory's names have been asked for, the kernel knows all of them soon."""
        names = sorted(name for name in self.files if name.startswith("0/"))
        with Mount(self.pack(self.source)) as mount:
            unknown = iter(names)
            wait_until(lambda: mount.requests_during(lambda: os.lstat(mount.path / next(unknown))) == {}, "a listing")
            left = list(unknown)
            self.assertGreater(len(left), len(names) // 2)
            self.assertEqual(mount.requests_during(lambda: [os.lstat(mount.path / name) for name in left]), {})
            # A file and nothing else of another directory: that one is let alone.
            self.assertEqual(mount.requests_during(lambda: os.lstat(mount.path / "1/link")), {"lookup": 2})

    def test_after_a_listing_files_are_only_read(self):
        with Mount(self.pack(self.source)) as mount:
            self.walk(mount)
            asked = mount.requests_during(lambda: self.read_shuffled(mount))
            self.assertLessEqual(asked.pop("read"), FILES)
            # A name that is asked for just when it is listed ahead: the kernel may drop the inode it has made.
            self.assertLessEqual(asked.pop("getattr", 0), FILES // 100)
            self.assertEqual(asked, {"open": 1, "flush": 1})

    def test_a_listing_of_names_takes_few_requests(self):
        """And makes the kernel know no files, of which it might have no use."""
        with Mount(self.pack(self.source)) as mount:
            asked = mount.requests_during(lambda: [os.listdir(mount.path / str(n)) for n in range(8)])
            # Each entry takes 152 to 160 bytes of a reply; the kernel asks for 4 KiB at least. One more request
            # finds the end of each directory.
            self.assertLessEqual(asked.pop("readdirplus"), (FILES + 16) * 160 // (4096 - 160) + 2 * 8)
            self.assertEqual(asked, {"opendir": 1, "lookup": 8})
            self.assertEqual(mount.requests_during(lambda: os.lstat(mount.path / "5/link")), {"lookup": 1})

    def test_names_that_were_listed_and_are_asked_for_are_listed_again_with_all(self):
        names = sorted(name for name in self.files if name.startswith("3/"))
        with Mount(self.pack(self.source)) as mount:
            self.assertEqual(len(os.listdir(mount.path / "3")), len(names) + 1)
            self.assertEqual(mount.requests_during(lambda: [os.lstat(mount.path / name) for name in names[:2]])["lookup"], 2)
            unknown = iter(names[2:])
            wait_until(lambda: mount.requests_during(lambda: os.lstat(mount.path / next(unknown))) == {}, "a listing")
            left = list(unknown)
            self.assertGreater(len(left), len(names) // 2)
            self.assertEqual(mount.requests_during(lambda: [os.lstat(mount.path / name) for name in left]), {})
            self.assertEqual(sorted(os.listdir(mount.path / "3")), sorted([*(name[2:] for name in names), "link"]))
            # Who did so once will do so in the next directory.
            self.assertEqual(len(os.listdir(mount.path / "4")), len(names) + 1)
            self.assertEqual(mount.requests_during(lambda: os.lstat(mount.path / "4/link")), {})

    def test_a_listing_with_stats_in_between_is_kept_too(self):
        """Of a directory that is being listed and is listed ahead meanwhile."""
        names = {f"d/{n:04}" for n in range(3000)}  # more than one answer holds
        with Mount(self.pack(self.tree(dict.fromkeys(names, b"x"), "many"))) as mount:
            def walk():
                with os.scandir(mount.path / "d") as entries:
                    self.assertEqual({f"d/{entry.name}" for entry in entries if entry.stat().st_size == 1}, names)
            walk()
            wait_until(lambda: mount.requests_during(walk) == {}, "a listing that asks nothing")

    @staticmethod
    def make_listings_tell_all(mount, directory: str):
        """Has a directory of at least 16 files listed ahead: then those listed next tell attributes at once."""
        unknown = iter(sorted(os.listdir(mount.path / directory)))
        wait_until(lambda: mount.requests_during(lambda: os.lstat(mount.path / directory / next(unknown))) == {},
                   "a listing")

    def assert_pushed(self, mount, text: dict, read: str, pushed: list):
        """Reading one file of a walked mount puts the others named, and no more, into the page cache."""
        self.walk(mount)
        self.assertEqual(self.read(mount.path / read), text[read])
        wait_until(lambda: mount.stats()["fuse"]["notify_store"] == len(pushed), "the push of neighbours")
        asked = mount.requests_during(lambda: [self.read(mount.path / name) for name in pushed])
        self.assertEqual(asked, {})
        for name, wanted in text.items():
            self.assertEqual(self.read(mount.path / name), wanted)

    def test_neighbours_in_the_window_are_pushed(self):
        """Where the data set fits into memory, the first file read brings the others around it."""
        text = {f"d/{n:03}": content(3000, n) for n in range(200)}
        source = self.tree({**text, **{f"a/{n:04}": b"" for n in range(200)}}, "text")
        for container in self.CONTAINERS:
            with self.subTest(container), Mount(self.pack(source, container)) as mount:
                # Only of files that a listing has told of is it known that nobody is about to read them.
                self.make_listings_tell_all(mount, "a")
                self.assert_pushed(mount, text, "d/100", [name for name in text if name != "d/100"])

    def test_nothing_is_read_ahead_that_cannot_be_pushed(self):
        """Without a listing the kernel knows no neighbours; in shuffled order they lie elsewhere."""
        # So few in a directory that none is listed ahead.
        text = {f"{n // 10:02}/{n:03}": content(20_000, 3 * n + 1) for n in range(400)}
        source = self.tree(text, "text")
        total = sum(map(len, text.values()))
        for options, listed in (((), False), (("--order", "shuffle:1"), True)):
            with self.subTest(options), Mount(self.pack(source, "tar", *options)) as mount:
                if listed:
                    self.walk(mount)
                before = mount.stats()["store"]["bytes"]
                for name in reversed(text):
                    self.assertEqual(self.read(mount.path / name), text[name])
                self.assertLess(mount.stats()["store"]["bytes"] - before, 1.2 * total + (2 << 20))

    @needs_root
    def test_neighbours_in_a_frame_are_pushed(self):
        """Where it does not fit, a frame that was decoded anyway still serves all the files in it."""
        text = {f"d/{n:03}": b"the same words %03d, " % n * 90 for n in range(200)}
        source = self.tree({**text, "zeros": b""}, "text")
        os.truncate(source / "zeros", 600 << 20)
        shard = self.pack(source, "tar.zst")
        leave = self.enter(memory_limit(1 << 30))  # of which half is for the data
        if leave is None:
            self.skipTest("no memory control group can be made")
        with Mount(shard) as mount:
            leave()
            # 2,560 bytes each with header and padding: 64 KiB hold 25.
            self.assert_pushed(mount, text, "d/000", [f"d/{n:03}" for n in range(1, 25)])

    def test_python_s_open_asks_whether_it_is_a_terminal(self):
        """An ioctl, which the kernel passes on each time; nothing can be done about it here, so it is known."""
        with Mount(self.pack(self.source)) as mount:
            self.read_shuffled(mount)
            asked = mount.requests_during(lambda: [open(mount.path / name, "rb").close() for name in self.files])
            # Newer Pythons do not ask for regular files.
            self.assertIn(asked, ({"ioctl": FILES}, {}))

    def test_large_files_take_large_reads(self):
        source = self.tree({"large": content(8 << 20, 1)}, "big")
        with Mount(self.pack(source)) as mount:
            asked = mount.requests_during((mount.path / "large").read_bytes)
            self.assertLessEqual(asked["read"], 8 * 8 + 4)  # The kernel reads ahead 128 KiB at a time.


if __name__ == "__main__":
    unittest.main()
