"""Archives that are mounted while they are still being scanned."""

import errno
import io
import os
import random
import signal
import stat
import subprocess
import tarfile
import threading
import time
import unittest
from pathlib import Path

from cached import CacheDir
from mounted import Mount, MountTest, alive, is_mounted, wait_until
from slowstore import SlowStore
from tools import MKSHARD, SHARDFS, sanitizers

KIB, MIB = 1 << 10, 1 << 20
HANG = 30  # seconds that nothing takes unless it hangs
HELD = 12 * MIB  # of the archive: a scan that is held comes no further
AT_ONCE = ("-o", "scan_wait=10ms", "--tier", "none")


def random_files(count: int = 130, size: int = 200 * KIB, folder: str = "d") -> dict:
    """Path → bytes, in the order of archives that are sorted by name."""
    dice = random.Random(7)
    return {f"{folder}{n // 50}/f{n:03}": dice.randbytes(size + n) for n in range(count)}


def tar_of(members) -> bytes:
    """`members`: pairs of a path and bytes, which may come twice."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for path, data in members:
            member = tarfile.TarInfo(path)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return stream.getvalue()


def few(cases):
    """The first two where each takes a sanitizer half a minute."""
    return cases[:2] if sanitizers() else cases


class Reader:
    """A process that reads one file, and is gone after the context."""

    def __init__(self, *command):
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        env={**os.environ, "LC_ALL": "C"})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def waits(self) -> bool:
        time.sleep(0.3)
        return self.process.poll() is None

    def result(self):
        out, err = self.process.communicate(timeout=HANG)
        return self.process.returncode, out, err.decode()


class Scan(MountTest):
    def archive(self, data: bytes, how: str = "gzip -1", name: str = "archive") -> Path:
        """A file in a directory of its own, for a store to show."""
        folder = self.dir / "store"
        folder.mkdir(exist_ok=True)
        with open(folder / name, "wb") as file:
            subprocess.run(["bash", "-c", how], input=data, stdout=file, check=True)
        return folder / name

    def held(self, data: bytes, how: str = "gzip -1", offset: int = HELD, options=AT_ONCE):
        """A mount of the archive, and the store where its scan comes no further than `offset`."""
        archive = self.archive(data, how)
        self.assertGreater(archive.stat().st_size, offset + 8 * MIB)
        store = self.enter(SlowStore(archive.parent, latency_ms=0))
        store.stall(offset=offset, length=1)
        return store, self.enter(Mount(store.path / archive.name, *options))

    def test_S43_what_is_found_is_read_and_the_rest_waits(self):
        files = random_files()
        first, last = next(iter(files)), list(files)[-1]
        large = {"a/zeros": bytes(80 * MIB), **files}  # so that it takes one block of more than 64 MiB
        for how, tree in few((("gzip -1", files), ("zstd -q -1", large), ("bzip2 -1", files), ("xz -0 -T1", large),
                              ("pzstd -q -1 -p2", files), ("cat", files))):
            with self.subTest(how=how):
                store, mount = self.held(tar_of(tree.items()), how)
                self.assertEqual((mount.path / first).read_bytes(), files[first])
                inode = os.stat(mount.path / first).st_ino
                with Reader("cat", mount.path / last) as reader, Reader("ls", mount.path) as listing, \
                        Reader("stat", "-c", "%n", mount.path / "nothing") as nothing:
                    self.assertTrue(all(one.waits() for one in (reader, listing, nothing)))
                    scan = mount.stats()["scan"]
                    self.assertEqual(scan["state"], "running")
                    self.assertEqual(scan["bytes"], os.path.getsize(mount.shard))
                    self.assertIn("looking for files in", mount.log())
                    self.assertRegex(self.ok(SHARDFS, "stats", mount.path), r"\nscan      running: \S+ \S+ of ")
                    store.release()
                    self.assertEqual(reader.result(), (0, files[last], ""))
                    self.assertEqual(listing.result()[1].decode().split(), sorted({path.split("/")[0] for path in tree}))
                    self.assertIn("No such file or directory", nothing.result()[2])
                self.assertEqual({path: (mount.path / path).read_bytes() for path in files}, files)
                self.assertEqual(os.stat(mount.path / first).st_ino, inode)
                found = subprocess.run(["find", ".", "-type", "f", "-printf", "%P %i\n"], cwd=mount.path, check=True,
                                       stdout=subprocess.PIPE, text=True).stdout.split("\n")[:-1]
                self.assertEqual(len(found), len(tree))
                self.assertEqual(len({line.split(" ")[1] for line in found}), len(tree))
                self.assertIn(f"{first} {inode}", found)
                stats = mount.stats()
                self.assertIsNone(stats["scan"])
                self.assertEqual(stats["failed_requests"], 0)

    def test_S43_all_of_it_is_right_whatever_is_asked_for_when(self):
        """Links, holes and attributes too, from as many threads as wait."""
        files = random_files(60, 100 * KIB)
        tree = self.tree(files)
        with open(tree / "d0/sparse", "wb") as file:
            file.write(b"begin")
            file.seek(3 * MIB)
            file.write(b"end")
        os.link(tree / "d0/f001", tree / "d1/another")
        (tree / "d1/link").symlink_to("../d0/f000")
        more = {path: (tree / path).read_bytes() for path in ("d0/sparse", "d1/another", "d1/link")}
        wanted = {**files, **more}
        for tier, ways in (("none", ("tar -S --sort=name -c . | gzip -1",
                                     "find . | sort | cpio -o -H newc --quiet | bzip2", "tar -c . | zstd -q",
                                     "tar -c . | lz4 -q", "tar -S -c .")),
                           ("memory", ("tar -S --sort=name -c . | gzip -1", "tar --sort=name -c . | xz -0"))):
            for how in few(ways):
                with self.subTest(how=how, tier=tier):
                    archive = self.archive(b"", f"cd {tree} && {how}")
                    with SlowStore(archive.parent, latency_ms=0, bandwidth=12e6) as store, \
                            Mount(store.path / "archive", "-o", "scan_wait=10ms", "--tier", tier) as mount:
                        paths = random.Random(3).sample(list(wanted), len(wanted))
                        wrong = []

                        def read(some, root=mount.path, wrong=wrong):
                            for path in some:
                                if (root / path).read_bytes() != wanted[path]:
                                    wrong.append(path)

                        threads = [threading.Thread(target=read, args=(paths[n::6],)) for n in range(6)]
                        for thread in threads:
                            thread.start()
                        self.assertEqual(os.readlink(mount.path / "d1/link"), "../d0/f000")
                        for thread in threads:
                            thread.join()
                        self.assertEqual(wrong, [])
                        self.assertEqual(mount.stats()["failed_requests"], 0)
                        self.assertEqual(subprocess.run(["diff", "-r", tree, mount.path], check=False).returncode, 0)
                        self.assertEqual(os.stat(mount.path / "d1/another").st_nlink, 2)

    def test_S43_what_is_not_decoded_yet_is_no_other_files_bytes(self):
        """Files that are made of pieces, as sparse ones are, lie behind all else: also behind what comes still."""
        files = random_files()
        tree = self.tree(files)
        dice = random.Random(8)
        sparse = dice.randbytes(4 * MIB) + bytes(MIB) + dice.randbytes(4 * MIB)
        with open(tree / "a", "wb") as file:
            file.write(sparse[:4 * MIB])
            file.seek(5 * MIB)
            file.write(sparse[5 * MIB:])
        for how in ("tar -S --sort=name -c .", "find . | sort | cpio -o -H newc --quiet"):
            with self.subTest(how=how):
                store, mount = self.held(b"", f"cd {tree} && {how} | gzip -1", 15 * MIB)
                got = {}

                def read(root=mount.path, got=got):
                    for path in files:
                        got[path] = (root / path).read_bytes()

                reader = threading.Thread(target=read)
                reader.start()
                time.sleep(1)
                self.assertTrue(reader.is_alive())
                store.release()
                reader.join()
                self.assertEqual(got, files)
                self.assertEqual((mount.path / "a").read_bytes(), sparse)

    def test_S43_who_waits_can_be_interrupted(self):
        files = random_files()
        store, mount = self.held(tar_of(files.items()))
        for number in (signal.SIGINT, signal.SIGKILL):
            for command in (("cat", mount.path / list(files)[-1]), ("ls", mount.path)):
                with self.subTest(number=number, command=command[0]), Reader(*command) as reader:
                    self.assertTrue(reader.waits())
                    reader.process.send_signal(number)
                    self.assertEqual(reader.process.wait(HANG), -number)
        store.release()
        self.assertEqual((mount.path / list(files)[-1]).read_bytes(), list(files.values())[-1])

    def test_S43_a_mount_ends_whoever_waits(self):
        files = random_files()
        for number in (signal.SIGTERM, signal.SIGKILL):
            with self.subTest(number=number):
                _, mount = self.held(tar_of(files.items()))
                with Reader("cat", mount.path / list(files)[-1]) as reader, Reader("ls", mount.path) as listing:
                    self.assertTrue(reader.waits() and listing.waits())
                    os.kill(mount.pid, number)
                    wait_until(lambda pid=mount.pid: not alive(pid), "the daemon's end", HANG)
                    self.assertNotEqual(reader.result()[0], 0)
                    self.assertNotEqual(listing.result()[0], 0)
                self.assertEqual(is_mounted(mount.path), number == signal.SIGKILL)

    def test_S43_a_mount_in_use_is_left_alone(self):
        files = random_files()
        store, mount = self.held(tar_of(files.items()))
        with Reader("cat", mount.path / list(files)[-1]) as reader:
            self.assertTrue(reader.waits())
            self.assertIn("busy", mount.umount().stderr)
            self.assertEqual(mount.umount("-l").returncode, 0)
            self.assertTrue(reader.waits())
            store.release()
            self.assertEqual(reader.result(), (0, list(files.values())[-1], ""))

    def test_S43_a_scan_that_fails(self):
        files = random_files()
        first, last = next(iter(files)), list(files)[-1]
        archive = self.archive(tar_of(files.items()))
        os.truncate(archive, 16 * MIB)
        store = self.enter(SlowStore(archive.parent, latency_ms=0))
        store.stall(offset=HELD, length=1)
        mount = self.enter(Mount(store.path / "archive", *AT_ONCE))
        self.assertEqual((mount.path / first).read_bytes(), files[first])
        with Reader("cat", mount.path / last) as reader, Reader("ls", mount.path) as listing:
            self.assertTrue(reader.waits() and listing.waits())
            store.release()
            self.assertIn("Input/output error", reader.result()[2])
            self.assertIn("Input/output error", listing.result()[2])
        self.assertEqual((mount.path / first).read_bytes(), files[first])
        self.fails_with(errno.EIO, os.stat, mount.path / last)
        self.fails_with(errno.EIO, os.listdir, mount.path)
        self.assertEqual(mount.stats()["scan"]["state"], "failed")
        self.assertRegex(mount.log(), r"cut short at byte \d+ of the file; what was found until then stays")

    @staticmethod
    def read_or_stale(path):
        """None where the file was replaced after it was opened."""
        try:
            return path.read_bytes()
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            return None

    def test_S43_a_later_member_takes_the_place_of_an_earlier_one(self):
        files = list(random_files().items())
        data = tar_of([("twice", b"first"), ("became/file", b"x"), *files, ("twice", b"second"), ("more/y", b"y")])
        store, mount = self.held(data)
        with open(mount.path / "twice", "rb") as opened:
            self.assertEqual(opened.read(), b"first")
            store.release()
            wait_until(lambda: self.read_or_stale(mount.path / "twice") == b"second", "the other member")
            opened.seek(0)
            self.fails_with(errno.ESTALE, opened.read)
        self.assertEqual(sorted(os.listdir(mount.path)), ["became", "d0", "d1", "d2", "more", "twice"])

    def test_S43_who_has_open_what_is_replaced_is_told_at_once(self):
        files = list(random_files().items())
        archive = self.archive(tar_of([("twice", b"first"), *files[:40], ("twice", b"second"), *files[40:]]))
        store = self.enter(SlowStore(archive.parent, latency_ms=0, bandwidth=4e6))
        mount = self.enter(Mount(store.path / "archive", *AT_ONCE))
        with open(mount.path / "twice", "rb") as opened, Reader("cat", mount.path / files[-1][0]) as reader:
            wait_until(lambda: self.error_of(os.fstat, opened.fileno()) == errno.ESTALE, "the other member")
            self.assertEqual((mount.path / "twice").read_bytes(), b"second")
            self.assertEqual(mount.stats()["scan"]["state"], "running")
            self.assertEqual(reader.result(), (0, files[-1][1], ""))

    def test_S43_a_second_mount_is_there_and_waits_for_the_first_ones_scan(self):
        files = random_files()
        first = next(iter(files))
        with CacheDir() as cache:
            options = ("-o", "scan_wait=10ms", "--tier", "memory", "--cache-dir", cache.parent)
            # Not in one of the units at the beginning, middle and end that tell the archive's state.
            store, one = self.held(tar_of(files.items()), offset=17 * MIB, options=options)
            with Mount(store.path / "archive", *options) as other:
                self.assertEqual((one.path / first).read_bytes(), files[first])
                with Reader("cat", other.path / first) as reader, Reader("ls", other.path) as listing:
                    self.assertTrue(reader.waits() and listing.waits())
                    self.assertEqual(stat.S_IFMT(os.stat(other.path).st_mode), stat.S_IFDIR)
                    store.release()
                    self.assertEqual(reader.result(), (0, files[first], ""))
                    self.assertEqual(listing.result()[1], b"d0\nd1\nd2\n")
                for mount in (one, other):
                    self.assertEqual({path: (mount.path / path).read_bytes() for path in files}, files)

    def test_S43_no_index_takes_the_place_of_a_scan_that_was_seen(self):
        """It would have other inode numbers: the kernel would show the pages of one file as another's."""
        files = dict(reversed(list(random_files().items())))
        store, mount = self.held(tar_of(files.items()),
                                 options=("-o", "scan_wait=10ms", "--tier", "memory", "--store-timeout", "1s"))
        some = list(files)[:20]
        self.assertEqual({path: (mount.path / path).read_bytes() for path in some}, {path: files[path] for path in some})
        self.ok(MKSHARD, "index", self.dir / "store/archive")
        with Reader("cat", mount.path / list(files)[-1]) as reader:
            store.fail(offset=HELD, length=1)
            store.release(errno.EIO)
            self.assertNotEqual(reader.result()[0], 0)
        wait_until(lambda: mount.stats()["scan"]["state"] == "failed", "the scan's end")
        for path in files:
            try:
                self.assertEqual((mount.path / path).read_bytes(), files[path])
            except OSError:
                self.assertNotIn(path, some)

    def test_S26_a_command_that_is_ended_leaves_nothing(self):
        archive = self.archive(tar_of(random_files().items()))
        store = self.enter(SlowStore(archive.parent, latency_ms=0))
        at = self.dir / "at"
        at.mkdir()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL):
            with self.subTest(number=number):
                store.stall(offset=HELD, length=1)
                with Reader(SHARDFS, "mount", store.path / "archive", at, "-o", "scan_wait=600", "--tier", "none") as command:
                    store.wait_until_stalled()
                    children = Path(f"/proc/{command.process.pid}/task/{command.process.pid}/children").read_text()
                    self.assertTrue(children.split())
                    command.process.send_signal(number)
                    self.assertEqual(command.process.wait(HANG), -number)
                    for child in children.split():
                        wait_until(lambda pid=int(child): not alive(pid), "the end of the daemon to be", HANG)
                self.assertFalse(is_mounted(at))
                store.clear()


if __name__ == "__main__":
    unittest.main()
