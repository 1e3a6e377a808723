"""shardfs info, ls, verify and stats: what they print and how they exit."""

import json
import os
import re
import signal
import subprocess
import unittest
from pathlib import Path

import odd_tree
from mounted import Mount, MountTest, needs_root
from tools import SHARDFS, run, without_sanitizer


class Tool(MountTest):
    def setUp(self):
        super().setUp()
        self.source = self.tree({"a.txt": b"one", "dir/b.bin": b"\1" * 100_000, "dir/sub/c": b""})
        os.symlink("a.txt", self.source / "link")
        os.chmod(self.source / "a.txt", 0o4754)
        os.utime(self.source / "a.txt", ns=(0, 1_500_000_000_123_456_789))
        self.shard = self.pack(self.source)

    def json(self, *command):
        return json.loads(self.silent(SHARDFS, *command, "--json"))

    def fails(self, code, *command) -> str:
        result = run(SHARDFS, *command)
        self.assertEqual((result.returncode, result.stdout), (code, ""), result.stderr)
        self.assertRegex(result.stderr, r"\Ashardfs: [^\n]+\n\Z")
        return result.stderr

    # ------------------------------------------------------------------------------ the command line

    def test_help_fits_a_screen(self):
        for command in ([], ["mount"], ["umount"], ["stats"], ["info"], ["ls"], ["verify"]):
            text = self.silent(SHARDFS, *command, "--help")
            self.assertLessEqual(text.count("\n"), 24, text)
            self.assertLessEqual(max(map(len, text.splitlines())), 100, text)
            self.assertEqual(self.silent(SHARDFS, *command, "-h"), text)
            self.assertIn("Usage: shardfs", text)

    def test_version(self):
        self.assertRegex(self.silent(SHARDFS, "--version"), r"\Ashardfs \d+\.\d+\.\d+\n\Z")

    def test_wrong_usage(self):
        self.assertEqual(run(SHARDFS).returncode, 2)
        for wrong in (["--colour"], ["info"], ["info", self.shard, "more"], ["ls"], ["verify"], ["stats"],
                      ["stats", self.dir, "--watch", "x"]):
            command = "" if wrong[0].startswith("-") else wrong[0] + " "
            self.assertIn(f"try: shardfs {command}--help", self.fails(2, *wrong))
        for wrong in (["mout"], ["unmount", self.dir], ["help"]):
            self.assertIn(f"{wrong[0]}: no such command; try: shardfs --help", self.fails(2, *wrong))
        for wrong in (["mount"], ["mount", self.shard], ["umount", "--colour"], [self.shard, self.dir, "--colour"]):
            self.fails(1, *wrong)

    # ------------------------------------------------------------------------------ info

    def test_info(self):
        for container, access in (("tar", "random"), ("tar.zst", "frame")):
            shard = self.pack(self.source, container)
            info = self.json("info", shard)
            self.assertEqual(list(info), ["schema", "version", "archive", "id", "format", "container", "access", "files",
                                          "dirs", "bytes", "packed_bytes", "index_bytes", "checksum", "remedy"])
            self.assertEqual((info["schema"], info["archive"], info["format"], info["container"], info["access"]),
                             (1, str(shard), "shard", container, access))
            self.assertEqual((info["files"], info["dirs"], info["bytes"]), (3, 3, 100_003))
            self.assertEqual(info["packed_bytes"], os.stat(shard).st_size)
            self.assertRegex(info["id"], r"\A[0-9a-f]{32}\Z")
            text = self.silent(SHARDFS, "info", shard)
            for word in (info["id"], str(shard), container, "3 files"):
                self.assertIn(word, text)

    def test_what_cannot_be_opened(self):
        (self.dir / "text").write_text("text" * 10_000)
        os.mkfifo(self.dir / "fifo")
        for command in ("info", "ls", "verify"):
            self.assertIn("No such file", self.fails(2, command, self.dir / "none"))
            self.assertIn(str(self.dir / "text"), self.fails(2, command, self.dir / "text"))
            self.fails(2, command, self.dir)
            self.fails(2, command, self.dir / "fifo")

    @needs_root
    def test_shards_do_not_need_libarchive(self):
        libraries = [Path(line.split()[-1]).resolve() for line in self.silent("/sbin/ldconfig", "-p").splitlines()
                     if "libarchive.so" in line]
        hidden = "".join(f"mount --bind /dev/null '{library}' && " for library in set(libraries))
        plain = self.dir / "plain.tar"
        self.silent("tar", "-cf", plain, "-C", self.source, ".")
        self.silent("unshare", "-m", "bash", "-c", hidden + f"exec '{SHARDFS}' verify '{self.shard}'")
        refused = run("unshare", "-m", "bash", "-c", hidden + f"exec '{SHARDFS}' info '{plain}'")
        self.assertEqual((refused.returncode, refused.stdout), (2, ""), refused.stderr)
        self.assertRegex(refused.stderr, r"\Ashardfs: [^\n]*libarchive[^\n]+; try: install it[^\n]+\n\Z")

    # ------------------------------------------------------------------------------ ls

    def test_ls(self):
        self.assertEqual(self.silent(SHARDFS, "ls", self.shard), "a.txt\ndir\nlink\n")
        self.assertEqual(self.silent(SHARDFS, "ls", self.shard, "dir"), "b.bin\nsub\n")
        self.assertEqual(self.silent(SHARDFS, "ls", self.shard, "/dir/"), "b.bin\nsub\n")
        self.assertEqual(self.silent(SHARDFS, "ls", self.shard, "./a.txt"), "a.txt\n")
        self.assertEqual(self.silent(SHARDFS, "ls", self.shard, "dir/sub"), "c\n")
        self.assertEqual(self.silent(SHARDFS, "ls", "-R", self.shard),
                         "a.txt\ndir\ndir/b.bin\ndir/sub\ndir/sub/c\nlink\n")
        self.assertEqual(self.silent(SHARDFS, "ls", "-R", self.shard, "dir"), "dir/b.bin\ndir/sub\ndir/sub/c\n")
        self.assertEqual(self.silent(SHARDFS, "ls", "-R0", self.shard), "a.txt\0dir\0dir/b.bin\0dir/sub\0dir/sub/c\0link\0")
        self.assertIn("nothing: not in", self.fails(2, "ls", self.shard, "nothing"))

    def test_output_that_cannot_be_written(self):
        for command in (("ls", "-R"), ("info",), ("verify",)):
            with open("/dev/full", "w") as full:
                result = subprocess.run([SHARDFS, *command, self.shard], stdout=full, stderr=subprocess.PIPE, text=True)
            self.assertEqual((result.returncode, result.stderr),
                             (2, "shardfs: standard output: cannot be written\n"), command)

    def test_mount_without_standard_descriptors(self):
        with Mount(self.shard) as mount:
            mount.umount()
            for closed in ("<&-", "<&- >&-", "<&- >&- 2>&-"):
                self.ok("sh", "-c", f"exec {SHARDFS} mount {self.shard} {mount.path} -q {closed}")
                self.assertEqual((mount.path / "a.txt").read_bytes(), b"one")
                self.assertEqual(mount.umount().returncode, 0)

    def test_ls_with_details_is_what_ls_prints(self):
        wanted = self.silent("ls", "-ln", "--time-style=+%Y-%m-%d %H:%M:%S", self.source,
                             env={**os.environ, "LC_ALL": "C"})
        squeeze = re.compile(" +")
        rows = [squeeze.sub(" ", line) for line in wanted.splitlines()[1:] if not line.startswith("d")]
        mine = [squeeze.sub(" ", line) for line in self.silent(SHARDFS, "ls", "-l", self.shard).splitlines()]
        self.assertEqual([row for row in mine if not row.startswith("d")], rows)
        self.assertIn("-rwsr-xr-- 1", mine[0])
        self.assertTrue(mine[1].startswith("drwxr-xr-x 3 "), mine[1])

    def test_ls_as_json(self):
        lines = [json.loads(line) for line in self.silent(SHARDFS, "ls", "-R", "--json", self.shard).splitlines()]
        self.assertEqual([line["path"] for line in lines], ["a.txt", "dir", "dir/b.bin", "dir/sub", "dir/sub/c", "link"])
        self.assertEqual("".join(line["type"] for line in lines), "fdfdfl")
        self.assertEqual(lines[-1]["link"], "a.txt")
        self.assertEqual((lines[0]["mode"], lines[0]["size"], lines[0]["mtime_s"], lines[0]["mtime_ns"]),
                         ("4754", 3, 1_500_000_000, 123_456_789))

    def test_ls_of_odd_names_is_one_line_each(self):
        source = self.dir / "odd"
        odd_tree.make(source)
        shard = self.pack(source)
        count = sum(len(directories) + len(files) for _, directories, files, _ in os.fwalk(source))
        text = subprocess.run([SHARDFS, "ls", "-lR", shard], stdout=subprocess.PIPE, check=True).stdout
        self.assertEqual(text.count(b"\n"), count)
        self.assertIn(rb"names/new\nline", text)
        names = subprocess.run([SHARDFS, "ls", "-R0", shard], stdout=subprocess.PIPE, check=True).stdout.split(b"\0")
        self.assertEqual(len(names), count + 1)
        self.assertIn(b"names/new\nline", names)
        self.assertIn(b"names/\xff\xfe not utf-8", names)

    # ------------------------------------------------------------------------------ verify

    def test_verify(self):
        for container in self.CONTAINERS:
            shard = self.pack(self.source, container)
            self.assertIn(", ok\n", self.silent(SHARDFS, "verify", shard))
            self.assertEqual(self.silent(SHARDFS, "verify", "-q", shard), "")
            found = self.json("verify", shard)
            self.assertEqual((found["ok"], found["bad"]), (True, []))
            self.assertEqual(found["checked_bytes"], os.stat(shard).st_size)

    def test_verify_finds_damage(self):
        damaged = bytearray(self.shard.read_bytes())
        at = damaged.index(b"\1" * 100_000) + 70_000
        damaged[at] ^= 1
        self.shard.write_bytes(damaged)
        result = run(SHARDFS, "verify", self.shard)
        self.assertEqual((result.returncode, result.stderr), (1, ""))
        self.assertIn("dir/b.bin: piece 1, byte", result.stdout)
        self.assertIn("1 damaged place", result.stdout)

    def test_verify_of_a_damaged_index_is_damage_found(self):
        damaged = bytearray(self.shard.read_bytes())
        at = damaged.index(b"comment=") + 200
        damaged[at] ^= 1
        self.shard.write_bytes(damaged)
        self.fails(1, "verify", self.shard)
        self.fails(2, "info", self.shard)

    def test_verify_of_a_shard_whose_end_is_damaged(self):
        """Its index is not found then: it is read as any other archive, and that is said."""
        for container in self.CONTAINERS:
            with self.subTest(container):
                shard = self.pack(self.source, container)
                damaged = bytearray(shard.read_bytes())
                trailer = damaged.rfind(b"shardfs-trailer 1")
                damaged[trailer + 30 if trailer >= 0 else -2] ^= 1
                shard.write_bytes(damaged)
                result = run(SHARDFS, "verify", shard)
                self.assertEqual(result.returncode, 1, result)
                self.assertIn("was a shard", result.stderr)
                self.assertIn("index: piece 0", result.stdout)
                with Mount(shard) as mount:
                    self.assertEqual((mount.path / "a.txt").read_bytes(), b"one")
                    self.assertIn("was a shard", mount.log())

    @without_sanitizer()
    def test_verify_with_little_memory_ends(self):
        large = self.dir / "large"
        large.mkdir()
        (large / "file").write_bytes(os.urandom(60 << 20))
        shard = self.pack(large, "tar.zst", "--frame-size", "16M")
        codes = set()
        for megabytes in range(60, 200, 10):
            done = subprocess.run(["prlimit", f"--as={megabytes << 20}", SHARDFS, "verify", shard], check=False,
                                  capture_output=True, timeout=60)
            codes.add(done.returncode)
        self.assertEqual(codes, {0, 2})

    def test_verify_can_be_interrupted(self):
        large = self.dir / "large"
        large.mkdir()
        with open(large / "zeros", "wb") as file:
            file.truncate(2 << 30)
        shard = self.pack(large, "tar.zst")
        with subprocess.Popen([SHARDFS, "verify", shard], stderr=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            while not os.path.exists(f"/proc/{process.pid}/task") or len(os.listdir(f"/proc/{process.pid}/task")) < 2:
                if process.poll() is not None:
                    break
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate()
        self.assertEqual(process.returncode, 128 + signal.SIGTERM, err)

    # ------------------------------------------------------------------------------ stats

    def test_stats(self):
        with Mount(self.shard) as mount:
            self.assertEqual((mount.path / "dir/b.bin").read_bytes(), b"\1" * 100_000)
            stats = self.json("stats", mount.path)
            self.assertEqual(list(stats)[:10], ["schema", "version", "archive", "id", "uptime_s", "files", "bytes", "tier",
                                                "tier_reason", "staged_bytes"])
            self.assertEqual((stats["archive"], stats["files"], stats["bytes"], stats["tier"]),
                             (str(self.shard), 3, 100_003, "none"))
            self.assertGreaterEqual(stats["fuse"]["read"], 1)
            self.assertEqual(stats["daemon"]["read_bytes"], 100_000)
            self.assertGreaterEqual(stats["store"]["bytes"], 100_000)
            self.assertEqual((stats["store"]["errors"], stats["errors"]), (0, []))
            text = self.silent(SHARDFS, "stats", mount.path)
            self.assertIn("3 files", text)
            self.assertIn("97.7 KiB answered", text)

    def test_stats_for_prometheus(self):
        with Mount(self.shard) as mount:
            text = self.silent(SHARDFS, "stats", mount.path, "--prometheus")
            sample = re.compile(r'shardfs_[a-z_]+\{archive="[^"]+",mount="[^"]+"(,op="[a-z_]+")?\} [0-9.e+-]+')
            for line in text.splitlines():
                self.assertTrue(line.startswith(("# HELP ", "# TYPE ")) or sample.fullmatch(line), line)
            names = re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)
            self.assertEqual(len(names), len(set(names)))
            self.assertIn('op="read"', text)

    def test_stats_again_and_again(self):
        with Mount(self.shard) as mount:
            with subprocess.Popen([SHARDFS, "stats", "--json", mount.path, "--watch", "0.1"],
                                  stdout=subprocess.PIPE, text=True) as process:
                counts = [json.loads(process.stdout.readline())["fuse"]["getxattr"] for _ in range(3)]
                process.send_signal(signal.SIGINT)
                process.communicate()
            self.assertEqual(process.returncode, 0)
            self.assertEqual(counts, sorted(set(counts)))

    def test_stats_of_what_is_no_mount(self):
        self.assertIn("no shardfs mount", self.fails(2, "stats", self.dir))
        with Mount(self.shard) as mount:
            self.assertIn("no shardfs mount", self.fails(2, "stats", mount.path / "dir"))


if __name__ == "__main__":
    unittest.main()
