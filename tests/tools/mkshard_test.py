"""mkshard packs directories: what is in the archive, in which order, in which container, and what is said."""

import ctypes
import os
import pty
import re
import socket
import stat
import subprocess
import unittest

import listing
import odd_tree
from packing import PackingTest, compressible, incompressible, start
from tools import MKSHARD, run

IS_ROOT = os.geteuid() == 0
MASK = (1 << 64) - 1


def splitmix64(state):
    """The generator that the man page names; written apart from mkshard's."""
    while True:
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        yield z ^ (z >> 31)


def shuffled(names, seed):
    names = list(names)
    values = splitmix64(seed)
    for i in range(len(names), 1, -1):
        j = next(values) % i
        names[i - 1], names[j] = names[j], names[i - 1]
    return names


class ContentTest(PackingTest):
    def extracted(self, name):
        directory = self.dir / "extracted"
        directory.mkdir()
        self.ok("tar", "--warning=no-timestamp", "--numeric-owner", "-xpf", self.out / name, "-C", directory)
        return directory

    @unittest.skipUnless(IS_ROOT, "owners and devices need root")
    def test_odd_tree_extracts_as_it_was(self):
        odd_tree.make(self.source / "odd", long_paths=False)
        self.pack(self.source / "odd", "a.tar")
        directory = self.extracted("a.tar")
        expected = listing.find(self.source / "odd", nanoseconds=False)
        actual = listing.find(directory, nanoseconds=False)
        del expected[b""], actual[b""]  # The directory extracted into is not part of the archive.
        self.assertEqual(listing.differences(expected, actual), "")
        for tree in (self.source / "odd", directory):  # diff does not compare devices.
            subprocess.run(["rm", "-r", tree / "special"], check=True)
        self.assertEqual(listing.same_bytes(self.source / "odd", directory), "")

    @unittest.skipUnless(IS_ROOT, "owners and devices need root")
    def test_same_bytes_whatever_the_threads(self):
        odd_tree.make(self.source / "odd")
        for suffix in ("tar", "tar.zst"):
            for threads in ("1", "2", "8"):
                self.pack(self.source / "odd", f"{threads}.{suffix}", "--threads", threads)
            self.assertEqual(self.packed(f"1.{suffix}"), self.packed(f"2.{suffix}"))
            self.assertEqual(self.packed(f"1.{suffix}"), self.packed(f"8.{suffix}"))

    def test_paths_of_4095_bytes(self):
        odd_tree.make_deep(os.fsencode(self.source))
        self.pack(self.source, "a.tar")
        longest = max(self.members("a.tar"), key=len)
        self.assertEqual(len(longest), 4095)
        self.assertEqual(self.data("a.tar", longest), b"deep down")

    def test_deeper_than_there_are_descriptors(self):
        # Python's rmtree cannot remove so deep a tree.
        self.addCleanup(subprocess.run, ["rm", "-rf", self.source], check=True)
        here = os.open(self.source, os.O_RDONLY)
        for _ in range(1500):
            os.mkdir("d", dir_fd=here)
            os.close(os.open("z", os.O_WRONLY | os.O_CREAT, dir_fd=here))
            below = os.open("d", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        os.close(here)
        result = run("sh", "-c", 'ulimit -n 512 && exec "$@"', "-", MKSHARD, self.source, "-o", self.out / "a.tar")
        self.assertEqual(result.returncode, 0, result.stderr)
        members = self.members("a.tar")
        self.assertEqual(len(members), 3000)
        self.assertIn("d/" * 1499 + "z", members)

    def test_a_path_over_4095_bytes_is_refused(self):
        odd_tree.make_deep(os.fsencode(self.source))
        (self.source / "deeper").mkdir()
        for name in os.listdir(self.source):
            if name != "deeper":
                os.rename(self.source / name, self.source / "deeper" / name)
        self.assertIn("4", self.refused(self.source, "-o", self.out / "a.tar"))

    def test_first_name_of_an_inode_is_the_file_later_ones_are_links(self):
        self.write("b/first", b"data")
        os.link(self.source / "b/first", self.source / "c")
        os.link(self.source / "b/first", self.source / "b/second")
        os.symlink("x", self.source / "b/sym")
        os.link(self.source / "b/sym", self.source / "sym2", follow_symlinks=False)
        self.pack(self.source, "a.tar")
        members = self.members("a.tar")
        self.assertEqual(self.files("a.tar"), ["b/first", "b/second", "b/sym", "c", "sym2"])
        self.assertTrue(members["b/first"].isreg())
        for link in ("b/second", "c"):
            self.assertTrue(members[link].islnk())
            self.assertEqual(members[link].linkname, "b/first")
        self.assertTrue(members["sym2"].islnk())
        self.assertEqual(members["sym2"].linkname, "b/sym")

    def test_a_large_inode_with_two_names_is_read_once(self):
        self.write("large", incompressible(6 << 20))
        os.link(self.source / "large", self.source / "name2")
        self.assertEqual(self.pack(self.source, "a.tar")["files"], 1)
        self.assertLess(os.path.getsize(self.out / "a.tar"), 7 << 20)

    def test_sizes_around_the_limits_of_the_pipeline(self):
        data = {}
        for size in (1 << 20, (1 << 20) + 1, 4 << 20, (4 << 20) + 1, (9 << 20) + 123):
            data[f"{size:09}"] = incompressible(size)
            self.write(f"{size:09}", data[f"{size:09}"])
        self.pack(self.source, "a.tar")
        for name, content in data.items():
            self.assertEqual(self.data("a.tar", name), content, name)

    def test_sockets_are_left_out_and_fifos_not_waited_for(self):
        os.mkfifo(self.source / "fifo")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(self.source / "socket"))
            said = self.pack(self.source, "a.tar")
        self.assertIn("socket: socket, not packed", said["stderr"])
        self.assertEqual({name: m.isfifo() for name, m in self.members("a.tar").items()}, {"fifo": True})

    def test_the_output_is_not_packed_into_itself(self):
        self.write("file")
        for name, options in (("a.tar", []), ("b", [])):
            result = run(MKSHARD, self.source, "-o", self.source / name, *options)
            self.assertEqual(result.returncode, 0, result.stderr)
            result = run(MKSHARD, self.source, "-o", self.source / name, "--force", "--exclude", "*.old")
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertIn("is the output, not packed", result.stderr)
            listed = self.ok("tar", "-tf", *self.source.glob(name + "*"))
            self.assertEqual(listed.split(), ["file"] if name == "a.tar" else ["a.tar", "file"])

    def test_a_file_that_is_named_as_the_output_might_have_been_is_packed(self):
        self.write("text", b"compressible " * 10_000)
        self.write("b.tar", b"data " * 1000)
        self.ok(MKSHARD, ".", "-o", "b", cwd=self.source)
        self.assertEqual(self.ok("tar", "--zstd", "-tf", self.source / "b.tar.zst").split(), ["b.tar", "text"])

    def test_an_empty_directory_becomes_an_archive_without_members(self):
        said = self.pack(self.source, "a.tar", "--verify")
        self.assertEqual(said["files"], 0)
        self.assertEqual(self.ok("tar", "-tf", self.out / "a.tar").replace("./\n", ""), "")

    def test_a_symlink_to_the_source_directory_is_followed(self):
        self.write("file")
        os.symlink(self.source, self.dir / "link")
        self.pack(self.dir / "link", "a.tar")
        self.assertEqual(list(self.members("a.tar")), ["file"])

    def test_nanoseconds_in_the_tar_on_demand(self):
        os.utime(self.write("file"), ns=(0, 1_500_000_000_123_456_789))
        self.pack(self.source, "s.tar")
        self.pack(self.source, "ns.tar", "--tar-mtime=ns")
        self.assertNotIn("mtime", self.members("s.tar")["file"].pax_headers)
        self.assertEqual(self.members("ns.tar")["file"].pax_headers["mtime"], "1500000000.123456789")

    def test_align_puts_data_at_multiples(self):
        self.write("a", b"x")
        self.write("b", incompressible(100_000))
        self.pack(self.source, "a.tar", "--align", "4K")
        self.assertEqual(self.members("a.tar")["b"].offset_data % 4096, 0)
        self.assertEqual(self.data("a.tar", "b"), (self.source / "b").read_bytes())


class SelectionTest(PackingTest):
    def setUp(self):
        super().setUp()
        for name in ("a/x.jpg", "a/y.txt", "a/sub/z.jpg", "b/x.jpg", "c", "cache/1", "d/cache/2"):
            self.write(name)

    def names(self, *options, **run_options):
        self.pack(self.source, "a.tar", "--force", *options, **run_options)
        return sorted(self.members("a.tar"))

    def test_exclude(self):
        self.assertEqual(self.names("--exclude", "*.jpg", "--exclude", "cache"),
                         ["a", "a/sub", "a/y.txt", "b", "c", "d"])
        self.assertEqual(self.names("--exclude=a/sub", "--exclude=[bcd]"), ["a", "a/x.jpg", "a/y.txt", "cache", "cache/1"])

    def test_excluding_the_first_name_of_an_inode_keeps_the_data(self):
        os.link(self.source / "a/x.jpg", self.source / "z")
        self.assertNotIn("a/x.jpg", self.names("--exclude", "a"))
        self.assertEqual(self.data("a.tar", "z"), b"content")

    def test_files_from(self):
        (self.dir / "list").write_text("c\na/sub/\n./a/x.jpg\n\n")
        expected = ["a", "a/sub", "a/sub/z.jpg", "a/x.jpg", "c"]
        self.assertEqual(self.names("--files-from", self.dir / "list"), expected)
        self.assertEqual(self.names("--files-from=-", "-0", input="c\0a/sub\0a/x.jpg"), expected)
        self.assertEqual(self.names("--files-from=-", input="c\na/sub\na/x.jpg", ), expected)

    def test_files_from_with_odd_names(self):
        self.write("new\nline")
        self.assertEqual(self.names("--files-from=-", "-0", input="new\nline"), ["new\nline"])

    def test_files_from_dot_is_everything(self):
        self.assertEqual(self.names("--files-from=-", input="."), self.names())

    def test_files_from_what_is_not_there(self):
        said = self.refused(self.source, "-o", self.out / "n.tar", "--files-from=-", input="c\nnone/such\n")
        self.assertIn("none: cannot stat: No such file or directory; try: --ignore-failed-read", said)
        said = self.refused(self.source, "-o", self.out / "n.tar", "--files-from=-", input="c/below\n")
        self.assertIn("c: a listed path goes through it: Not a directory", said)
        said = self.pack(self.source, "n.tar", "--files-from=-", "--ignore-failed-read", input="c\nnone\n", expect=1)
        self.assertEqual([(s["path"], s["errno"]) for s in said["skipped"]], [("none", 2)])
        self.assertEqual(list(self.members("n.tar")), ["c"])

    def test_files_from_that_cannot_be_read(self):
        target = (self.source, "-o", self.out / "n.tar", "--files-from=-")
        directory = os.open(self.dir, os.O_RDONLY)
        try:
            self.assertIn("cannot read the list: Is a directory", self.refused(*target, stdin=directory))
        finally:
            os.close(directory)
        self.assertIn("paths that end in NUL; try: -0", self.refused(*target, input="c\0a/x.jpg\0"))
        self.assertIn("a list without a path", self.refused(*target, input=""))

    def test_files_from_outside_is_refused(self):
        for path in ("/etc/passwd", "../out", "a/../../out"):
            said = self.refused(self.source, "-o", self.out / "n.tar", "--files-from=-", input=path)
            self.assertIn(path, said)


class OrderTest(PackingTest):
    def setUp(self):
        super().setUp()
        for number in range(40):
            self.write(f"{'abc'[number % 3]}/{number:02}", b"%d" % number)
        os.link(self.source / "a/00", self.source / "c/zz")
        os.symlink("x", self.source / "b/sym")

    def test_by_name_is_depth_first_bytewise(self):
        for name in ("B", "a.txt", "a-1", "ä"):
            self.write(name)
        self.pack(self.source, "a.tar")
        names = self.files("a.tar")
        self.assertEqual([n for n in names if "/" not in n], ["B", "a-1", "a.txt", "ä"])
        self.assertEqual(names[:3], ["B", "a/00", "a/03"])
        self.assertEqual(names, sorted(names, key=lambda n: os.fsencode(n).split(b"/")))

    def test_shuffle_is_the_documented_one(self):
        self.pack(self.source, "s.tar", "--order=shuffle:7")
        self.pack(self.source, "t.tar", "--order=shuffle:7", "--threads=8")
        self.pack(self.source, "u.tar", "--order=shuffle:8")
        self.pack(self.source, "n.tar", "--order=name")
        self.assertEqual(self.packed("s.tar"), self.packed("t.tar"))
        self.assertNotEqual(self.packed("s.tar"), self.packed("u.tar"))
        by_name = self.members("n.tar")
        directories = [name for name, member in by_name.items() if member.isdir()]
        others = self.files("n.tar")
        members = self.members("s.tar")
        self.assertEqual(self.files("s.tar"), shuffled(others, 7))
        self.assertEqual(list(members)[:len(directories)], directories)

    def test_links_follow_their_targets_in_any_order(self):
        for seed in range(6):
            self.pack(self.source, "s.tar", f"--order=shuffle:{seed}", "--force")
            members = self.members("s.tar")
            names = list(members)
            link, = [m for m in members.values() if m.islnk()]
            self.assertLess(names.index(link.linkname), names.index(link.name))
            self.assertEqual(self.data("s.tar", link.name), b"0")

    def test_as_listed(self):
        (self.dir / "order").write_text("c/zz\nb/01\na/00\n")
        self.pack(self.source, "l.tar", "--order", self.dir / "order")
        self.assertEqual(self.files("l.tar")[:4], ["c/zz", "b/01", "a/00", "a/03"])
        self.assertTrue(self.members("l.tar")["a/00"].islnk())

    def test_a_list_with_something_else(self):
        (self.dir / "order").write_text("a/00\nnothing\n")
        said = self.refused(self.source, "-o", self.out / "l.tar", "--order", self.dir / "order")
        self.assertIn("nothing: is in the --order list and not in SOURCE", said)

    def test_only_for_directories(self):
        tar = self.tar_of(self.source)
        for source in (tar, "-"):
            with open(tar, "rb") as stream:
                said = self.refused(source, "-o", self.out / "x.tar", "--order=shuffle:1", stdin=stream)
            self.assertIn("--order is for a directory", said)
            said = self.refused(source, "-o", self.out / "x.tar", "--files-from", "/dev/null", stdin=subprocess.DEVNULL)
            self.assertIn("--files-from is for a directory", said)


class ContainerTest(PackingTest):
    def test_incompressible_data_become_a_tar(self):
        self.write("image", incompressible(300_000))
        said = self.pack(self.source, "a")
        self.assertEqual((said["container"], said["output"]), ("tar", str(self.out / "a.tar")))
        self.assertRegex(said["stderr"], r"container tar: the 293\.0 KiB of data shrink to 10\d %")
        self.assertEqual(os.listdir(self.out), ["a.tar"])

    def test_compressible_data_become_a_tar_zst(self):
        self.write("text", compressible(300_000))
        said = self.pack(self.source, "a")
        self.assertEqual(said["container"], "tar.zst")
        self.assertRegex(said["stderr"], r"container tar\.zst: the 293\.0 KiB of data shrink to \d %")
        self.assertEqual(os.listdir(self.out), ["a.tar.zst"])

    def test_the_first_16_mib_in_archive_order_decide(self):
        self.write("a", incompressible(17 << 20))
        self.write("b", compressible(60 << 20))
        said = self.pack(self.source, "a")
        self.assertEqual(said["container"], "tar")
        self.assertIn("the first 16.0 MiB of data shrink to", said["stderr"])
        os.rename(self.source / "a", self.source / "z")
        self.assertEqual(self.pack(self.source, "b")["container"], "tar.zst")

    def test_what_was_sampled_is_packed_as_if_it_had_not_been(self):
        for number in range(50):
            self.write(f"{number:02}", compressible(900_000 + number))
        self.write("large", compressible(20 << 20))
        chosen = self.pack(self.source, "a")["output"]
        self.pack(self.source, "b.tar.zst")
        self.assertEqual(chosen, str(self.out / "a.tar.zst"))
        self.assertEqual(self.packed("a.tar.zst"), self.packed("b.tar.zst"))

    def test_the_name_decides_if_it_can(self):
        self.write("image", incompressible(300_000))
        said = self.pack(self.source, "a.tar.zst")
        self.assertEqual((said["container"], said["stderr"]), ("tar.zst", ""))

    def test_without_data(self):
        os.symlink("x", self.source / "link")
        said = self.pack(self.source, "a")
        self.assertIn("container tar: there are no data that could shrink", said["stderr"])

    def test_align_means_tar(self):
        self.write("text", compressible(300_000))
        self.assertEqual(self.pack(self.source, "a", "--align=4096")["container"], "tar")
        self.assertIn("--align", self.refused(self.source, "-o", self.out / "b.tar.zst", "--align=4096"))


class OutputTest(PackingTest):
    def setUp(self):
        super().setUp()
        self.write("file", compressible(100_000))

    def test_an_existing_output_needs_force(self):
        (self.out / "a.tar").write_text("precious")
        (self.out / "b.tar.zst").write_text("precious")
        for name in ("a.tar", "b"):
            said = self.refused(self.source, "-o", self.out / name)
            self.assertIn("already exists; try: --force", said)
        self.assertEqual(self.packed("a.tar"), b"precious")
        self.pack(self.source, "a.tar", "--force")
        self.assertIn("file", self.members("a.tar"))

    def test_force_replaces_files_only(self):
        (self.out / "a.tar").mkdir()
        os.mkfifo(self.out / "b.tar")
        for name in ("a.tar", "b.tar"):
            said = self.refused(self.source, "-o", self.out / name, "--force")
            self.assertIn("is there and not a regular file", said)

    def test_an_output_made_meanwhile_is_kept(self):
        producer = start("-", "-o", self.out / "a.tar", stdin=subprocess.PIPE)
        tar = self.tar_of(self.source).read_bytes()
        producer.stdin.write(tar[:512])
        producer.stdin.flush()
        while not [name for name in os.listdir(self.out) if ".tmp-" in name]:
            self.assertIsNone(producer.poll())
        (self.out / "a.tar").write_text("another's")
        said = producer.communicate(tar[512:])[1]
        self.assertEqual(producer.returncode, 2)
        self.assertIn(b"already exists", said)
        self.assertEqual(self.packed("a.tar"), b"another's")

    def test_permissions_are_what_the_umask_leaves(self):
        result = run("sh", "-c", 'umask 027; exec "$@"', "-", MKSHARD, self.source, "-o", self.out / "a.tar")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(stat.S_IMODE(os.stat(self.out / "a.tar").st_mode), 0o640)

    def test_a_name_of_255_bytes(self):
        name = "n" * 251 + ".tar"
        self.pack(self.source, name)
        self.assertEqual(os.listdir(self.out), [name])

    def test_result_line_and_json(self):
        result = run(MKSHARD, self.source, "-o", self.out / "a.tar")
        self.assertRegex(result.stdout, r"^%s: 1 files, 97\.7 KiB in, 1\d\d\.\d KiB packed \(tar\), id [0-9a-f]{32}\n$"
                         % re.escape(str(self.out / "a.tar")))
        self.assertEqual(result.stderr, "")
        said = self.pack(self.source, "b.tar")
        self.assertEqual(list(said), ["schema", "version", "archive", "id", "output", "container", "files", "bytes",
                                      "packed_bytes", "seconds", "peak_rss_bytes", "threads", "skipped", "digest",
                                      "stderr"])
        self.assertEqual(said["schema"], 1)
        self.assertEqual((said["files"], said["bytes"], said["skipped"]), (1, 100_000, []))
        self.assertEqual(said["packed_bytes"], os.path.getsize(self.out / "b.tar"))
        self.assertEqual(said["archive"], str(self.out / "b.tar"))
        self.assertIn(said["id"], result.stdout)
        self.assertGreater(said["peak_rss_bytes"], 1 << 20)

    def test_digest_is_xxh3_of_the_file(self):
        hasher = ctypes.CDLL("libxxhash.so.0").XXH3_64bits
        hasher.argtypes, hasher.restype = [ctypes.c_char_p, ctypes.c_size_t], ctypes.c_uint64
        said = self.pack(self.source, "a.tar")
        packed = self.packed("a.tar")
        self.assertEqual(said["digest"], f"{hasher(packed, len(packed)):016x}")

    def test_verify_reads_it_back(self):
        for name in ("a.tar", "a.tar.zst"):
            self.pack(self.source, name, "--verify")

    def test_levels_and_environment(self):
        text = b"".join(b"%d %d\n" % (i, i * i % 977) for i in range(40_000))
        self.write("numbers", text)
        sizes = {level: self.pack(self.source, f"{level}.tar.zst", "--level", level)["packed_bytes"]
                 for level in ("1", "19")}
        self.assertLess(sizes["19"], sizes["1"])
        environment = os.environ | {"SHARDFS_LEVEL": "19"}
        self.pack(self.source, "env.tar.zst", env=environment)
        self.pack(self.source, "both.tar.zst", "--level=1", env=environment)
        self.assertEqual(self.packed("env.tar.zst"), self.packed("19.tar.zst"))
        self.assertEqual(self.packed("both.tar.zst"), self.packed("1.tar.zst"))

    def test_standard_output_that_cannot_be_written(self):
        with open("/dev/full", "w") as full:
            result = subprocess.run([MKSHARD, self.source, "-o", self.out / "a.tar"], stdout=full,
                                    stderr=subprocess.PIPE, text=True)
        self.assertEqual(result.returncode, 2)
        self.assertIn("is complete", result.stderr)
        self.assertIn("file", self.members("a.tar"))


class CommandLineTest(PackingTest):
    def test_help_fits_a_screen(self):
        text = self.silent(MKSHARD, "--help")
        lines = text.splitlines()
        self.assertTrue(24 <= len(lines) <= 40, len(lines))
        self.assertLessEqual(max(map(len, lines)), 80)
        for option in ("--level", "--frame-size", "--align", "--threads", "--order", "--exclude", "--files-from", "-0",
                       "--ignore-failed-read", "--force", "--verify", "--no-progress", "--json", "--tar-mtime"):
            self.assertIn(option, text)
        self.assertEqual(self.silent(MKSHARD, "-h"), text)

    def test_version(self):
        self.assertRegex(self.silent(MKSHARD, "--version"), r"^mkshard \d+\.\d+\.\d+\n$")

    def test_usage_errors(self):
        out = self.out / "a.tar"
        for arguments, word in [
            ([], "SOURCE is missing"), ([self.source], "-o OUT is missing"),
            ([self.source, "-o", out, "--level=0"], "--level"), ([self.source, "-o", out, "--level=23"], "--level"),
            ([self.source, "-o", out, "--frame-size=1K"], "1K"), ([self.source, "-o", out, "--frame-size=17M"], "17M"),
            ([self.source, "-o", out, "--align=1000"], "power of two"), ([self.source, "-o", out, "--align=x"], "'x'"),
            ([self.source, "-o", out, "--threads=0"], "--threads"), ([self.source, "-o", out, "--nonsense"], "nonsense"),
            ([self.source, "-o", out, "--order=shuffle:"], "seed"), ([self.source, "-o", out, "--order=shuffle:x"], "seed"),
            ([self.source, "-o", out, "--tar-mtime=ms"], "--tar-mtime"), ([self.source, "-o", out, "-0"], "-0"),
            ([self.source, "-o", "-"], "must name a file"), ([self.source, "-o", f"{self.out}/"], "must name a file"),
            ([self.source, self.source, "-o", out], "source"), ([self.source, self.source, "-o", out], "-o names OUT"),
            ([self.source, out], "-o names OUT"),
            ([self.source, "-o", out, "--order=shuffle"], "shuffle:1"), ([self.source, "-o", out, "-j", "x"], "--threads"),
            *(([self.source, "-o", self.out / name], "is a .tar or a .tar.zst")
              for name in ("a.zip", "a.tar.gz", "a.zst", "a.squashfs")),
        ]:
            said = self.refused(*arguments)
            self.assertTrue(said.startswith("mkshard: "), said)
            self.assertEqual(said.count("\n"), 1, said)
            self.assertIn(word, said)
            self.assertIn("try: mkshard --help", said)

    def test_an_index_replaces_nothing_else(self):
        tar = self.tar_of(self.source)
        before = tar.read_bytes()
        for output in (tar, self.write("notes")):
            self.assertIn("not replaced", self.refused("index", tar, "-o", output))
        self.assertEqual(tar.read_bytes(), before)
        for _ in range(2):
            self.ok(MKSHARD, "index", tar, "-o", self.out / "index")

    def test_without_standard_descriptors(self):
        for closed in ("<&-", "<&- >&-"):
            result = run("sh", "-c", f"exec {MKSHARD} - -o {self.out}/a.tar {closed}", timeout=20)
            self.assertEqual(result.returncode, 2, result.stderr)
            self.assertIn("standard input: ", result.stderr)

    def test_a_source_or_output_directory_that_is_not_there(self):
        said = self.refused(self.dir / "nothing", "-o", self.out / "a.tar")
        self.assertIn("nothing: cannot open: No such file or directory", said)
        said = self.refused(self.source, "-o", self.dir / "nothing" / "a.tar")
        self.assertIn("nothing: cannot open the output's directory: No such file", said)

    def test_quiet_says_nothing_but_the_result(self):
        self.write("file")
        result = run(MKSHARD, self.source, "-o", self.out / "a", "-q")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertEqual(result.stdout.count("\n"), 1)

    def test_progress_on_a_terminal(self):
        self.write("a", compressible(4 << 20))
        tar = self.tar_of(self.source).read_bytes()
        for options, shown in (([], True), (["--no-progress"], False), (["-q"], False)):
            main, terminal = pty.openpty()
            producer = subprocess.Popen([MKSHARD, "-", "-o", self.out / "a.tar", "--force", *options],
                                        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=terminal)
            os.close(terminal)
            said = self.feed_until_shown(producer, tar, main, shown)
            self.assertEqual(producer.returncode, 0)
            self.assertEqual(b"/s" in said, shown, (options, said))
            if shown:
                self.assertTrue(said.endswith(b" \r"), "the line is wiped at the end")

    @staticmethod
    def feed_until_shown(process, tar, terminal, shown) -> bytes:
        """Writes the archive again and again, as members of one stream, until progress is seen (or for 2,000 times)."""
        said = b""
        body = tar[:tar.rindex(b"epoch") // 512 * 512 + 512]
        os.set_blocking(terminal, False)
        for _ in range(2000 if shown else 50):
            process.stdin.write(body)
            try:
                said += os.read(terminal, 65536)
            except (BlockingIOError, OSError):
                pass
            if b"/s" in said:
                break
        process.stdin.write(bytes(10240))
        process.stdin.close()
        process.wait()
        try:
            while more := os.read(terminal, 65536):
                said += more
        except OSError:
            pass
        os.close(terminal)
        return said


if __name__ == "__main__":
    unittest.main()
