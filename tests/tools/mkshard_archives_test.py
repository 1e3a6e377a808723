"""mkshard packs archives: any kind, from a file or a pipe, as the directory they were made of would be packed."""

import bz2
import gzip
import io
import lzma
import os
import subprocess
import tarfile
import unicodedata
import unittest
import zipfile

import listing
import odd_tree
from packing import PackingTest, compressible, incompressible
from tools import MKSHARD, run

IS_ROOT = os.geteuid() == 0


def tar_with(*members, form=tarfile.PAX_FORMAT, end=True) -> bytes:
    """A tar of (name, data or dict of TarInfo attributes) pairs."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form, errors="surrogateescape") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            data = content if isinstance(content, bytes) else b""
            for key, value in (content if isinstance(content, dict) else {}).items():
                setattr(info, key, value)
            if not info.size:
                info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        length = stream.tell()
    return stream.getvalue() if end else stream.getvalue()[:length]


class SameBytesTest(PackingTest):
    """A directory and its `tar --sort=name` stream give the same archive."""

    def assert_same(self, source):
        tar = self.tar_of(source)
        for container in ("tar", "tar.zst"):
            self.pack(source, f"directory.{container}")
            self.pack(tar, f"file.{container}")
            with open(tar, "rb") as stream:
                self.pack("-", f"pipe.{container}", input=None, stdin=stream)
            with subprocess.Popen(["cat", tar], stdout=subprocess.PIPE) as piped:
                self.pack("-", f"real-pipe.{container}", "--threads", "8", stdin=piped.stdout)
            self.assertEqual(piped.returncode, 0)
            expected = self.packed(f"directory.{container}")
            for name in ("file", "pipe", "real-pipe"):
                self.assertEqual(self.packed(f"{name}.{container}"), expected, (name, container))

    @unittest.skipUnless(IS_ROOT, "owners and devices need root")
    def test_odd_tree(self):
        odd_tree.make(self.source / "odd")
        self.assert_same(self.source / "odd")

    def test_a_shard_that_is_packed_again(self):
        """What only its index has is not lost: from one container to the other and back it is the same shard."""
        tree = self.source / "tree"
        (tree / "directory").mkdir(parents=True)
        (tree / "directory/file").write_bytes(compressible(5000))
        (tree / "large").write_bytes(incompressible(300_000))
        with open(tree / "holes", "wb") as file:
            file.seek(200_000)
            file.write(b"x")
            file.truncate(400_000)
        os.link(tree / "directory/file", tree / "link")
        os.symlink("large", tree / "symlink")
        os.setxattr(tree, "user.root", b"r")
        os.chmod(tree, 0o750)
        for number, path in enumerate([tree / "symlink", tree / "large", tree / "holes", tree / "directory/file",
                                       tree / "directory", tree]):
            os.utime(path, ns=(0, 1_500_000_000_123_456_789 + number), follow_symlinks=False)
        self.pack(tree, "first.tar")
        self.pack(self.out / "first.tar", "other.tar.zst")
        self.pack(self.out / "other.tar.zst", "back.tar")
        self.assertEqual(self.packed("back.tar"), self.packed("first.tar"))

    def test_access_control_lists(self):
        for name, acl in (("named", "u:1:rw,g:1234:r"), ("mask", "u:2:rwx,m::r"), ("plain", "u::rw")):
            self.ok("setfacl", "-m", acl, self.write(name))
        self.ok("setfacl", "-d", "-m", "u:1:rwx", self.source)
        self.assert_same(self.source)

    def test_fractions_of_times_before_1970(self):
        for number, when in enumerate((-1, -500_000_000, -999_999_999, -1_000_000_000, -1_750_000_000,
                                       -86_400_000_000_000_001, 0, 1, 999_999_999)):
            path = self.write(f"{number}")
            os.utime(path, ns=(0, when))
        self.assert_same(self.source)

    def test_holes(self):
        for name, pieces in {"end": [(0, 4096)], "all": [], "middle": [(0, 8192), (1 << 20, 8192)],
                             "large": [(6 << 20, 100), (20 << 20, 1)]}.items():
            with open(self.source / name, "wb") as file:
                for offset, size in pieces:
                    file.seek(offset)
                    file.write(b"d" * size)
                file.truncate(24 << 20 if name == "large" else 2 << 20)
        self.assert_same(self.source)

    def test_names_of_xattrs_that_tar_encodes(self):
        os.setxattr(self.write("file"), "user.a=b%c", b"value")
        os.setxattr(self.source / "file", "user.100%3D", b"value")
        self.assert_same(self.source)

    def test_composed_and_decomposed_accents(self):
        for form in ("NFC", "NFD"):
            self.write(unicodedata.normalize(form, "café"))
        self.assertEqual(len(os.listdir(self.source)), 2)
        self.assert_same(self.source)

    def test_large_and_small_files(self):
        for size in (1 << 20, (1 << 20) + 1, 4 << 20, (4 << 20) + 1, 9_000_000):
            self.write(f"{size}", incompressible(size))
        self.assert_same(self.source)

    def test_the_choice_of_the_container(self):
        for number in range(40):
            self.write(f"{number:02}", compressible(500_000) if number % 3 else incompressible(500_000))
        tar = self.tar_of(self.source)
        said = [self.pack(source, name)["stderr"] for source, name in ((self.source, "a"), (tar, "b"))]
        self.assertEqual(said[0], said[1])
        self.assertEqual(self.packed("a.tar.zst"), self.packed("b.tar.zst"))


class KindsTest(PackingTest):
    """Archives other than a plain tar."""

    def setUp(self):
        super().setUp()
        self.write("a/text", compressible(200_000))
        self.write("a/data", incompressible(200_000))
        self.write("ünïcode 日本")
        os.symlink("text", self.source / "a/link")
        (self.source / "empty").mkdir()

    def contents(self, source, *options, **run_options):
        self.pack(source, "a.tar", "--force", *options, **run_options)
        directory = self.dir / "extracted"
        subprocess.run(["rm", "-rf", directory], check=True)
        directory.mkdir()
        self.ok("tar", "-xf", self.out / "a.tar", "-C", directory)
        return listing.same_bytes(self.source, directory)

    def test_compressed_tars(self):
        tar = self.tar_of(self.source).read_bytes()
        for suffix, compress in (("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)):
            (self.dir / f"c.{suffix}").write_bytes(compress(tar))
            self.assertEqual(self.contents(self.dir / f"c.{suffix}"), "")
            with open(self.dir / f"c.{suffix}", "rb") as stream:
                self.assertEqual(self.contents("-", stdin=stream), "")

    def test_a_shard(self):
        for container in ("tar", "tar.zst"):
            self.pack(self.source, f"first.{container}")
            self.assertEqual(self.contents(self.out / f"first.{container}"), "")
            said = self.pack(self.out / f"first.{container}", "again.tar", "--force")
            self.assertEqual(said["stderr"], "")

    def test_formats_of_bsdtar(self):
        for form in ("ustar", "gnutar", "pax", "newc", "odc", "zip", "7zip", "xar", "iso9660"):
            archive = self.dir / f"archive.{form}"
            # bsdtar names members in Unicode formats right in a UTF-8 locale only.
            made = run("bsdtar", "--format", form, "-cf", archive, "-C", self.source, ".",
                       env=os.environ | {"LC_ALL": "C.UTF-8"})
            if form == "xar" and made.returncode != 0:
                continue  # libarchive without an XML library
            self.assertEqual(made.returncode, 0, made.stderr)
            self.assertEqual(self.contents(archive), "", form)

    def test_zip_by_python_and_from_a_pipe(self):
        os.unlink(self.source / "a/link")
        archive = self.dir / "a.zip"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
            for directory, names, files in os.walk(self.source):
                for name in names + files:
                    path = os.path.join(directory, name)
                    out.write(path, os.path.relpath(path, self.source))
        self.assertEqual(self.contents(archive), "")
        with subprocess.Popen(["cat", archive], stdout=subprocess.PIPE) as piped:
            self.assertIn("stand at the end of a zip", self.refused("-", "-o", self.out / "x.tar", stdin=piped.stdout))

    def test_cpio_with_the_data_at_the_last_name(self):
        os.link(self.source / "a/text", self.source / "z")
        listed = "a/text\nz\n"
        made = subprocess.run(["bsdcpio", "-o", "-H", "newc"], input=listed.encode(), cwd=self.source,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
        (self.dir / "a.cpio").write_bytes(made.stdout)
        result = run(MKSHARD, self.dir / "a.cpio", "-o", self.out / "b.tar")
        if result.returncode == 0:  # This writer put the data at the first name.
            self.assertEqual(self.data("b.tar", "a/text"), (self.source / "a/text").read_bytes())
        else:
            self.assertIn("hard link with the data of a/text", result.stderr)


class StreamTest(PackingTest):
    """Helpers for archives made byte by byte."""

    def packed_from(self, *members, options=(), expect=0, **tar_options):
        with self.pipe(tar_with(*members, **tar_options)) as stream:
            said = self.pack("-", "a.tar", "--force", *options, expect=expect, stdin=stream)
        return said, self.members("a.tar")

    def pipe(self, data: bytes):
        (self.dir / "stdin").write_bytes(data)
        return open(self.dir / "stdin", "rb")

    def fails(self, data: bytes, *options) -> str:
        with self.pipe(data) as stream:
            return self.refused("-", "-o", self.out / "x.tar", *options, stdin=stream)


class NamesTest(StreamTest):
    def test_absolute_and_dotted_names(self):
        said, members = self.packed_from(("/etc/a", b"1"), ("./b", b"2"), ("c//./d/", {"type": tarfile.DIRTYPE}),
                                         ("/etc/l", {"type": tarfile.LNKTYPE, "linkname": "/etc/a"}),
                                         ("s", {"type": tarfile.SYMTYPE, "linkname": "/etc/../a"}))
        self.assertEqual(sorted(set(members) - {"etc", "c"}), ["b", "c/d", "etc/a", "etc/l", "s"])
        self.assertEqual(members["etc/l"].linkname, "etc/a")
        self.assertEqual(members["s"].linkname, "/etc/../a")
        self.assertEqual(said["stderr"].count("leading '/'"), 1)

    def test_names_that_lead_out_are_refused(self):
        for name in ("../evil", "a/../../evil", "a/..", "/../etc/passwd"):
            said = self.fails(tar_with(("good", b"1"), (name, b"2")))
            self.assertIn(f"{name}: a path with '..'; try: --ignore-failed-read", said)
            said, members = self.packed_from(("good", b"1"), (name, b"2"), options=["--ignore-failed-read"], expect=1)
            self.assertEqual(list(members), ["good"])
            self.assertEqual([s["path"] for s in said["skipped"]], [name])
        said = self.fails(tar_with(("link", {"type": tarfile.LNKTYPE, "linkname": "../../etc/passwd"})))
        self.assertIn("link: a hard link to a path with '..'", said)

    def test_any_byte_in_a_name(self):
        names = [b"\xff\xfe", b"new\nline", b"a\x1b[31mred", b"-dash", "ä".encode(), b"n" * 255]
        self.packed_from(*[(os.fsdecode(name), b"x") for name in names], form=tarfile.GNU_FORMAT)
        self.assertEqual(sorted(os.fsencode(name) for name in self.members("a.tar")), sorted(names))

    def test_names_in_messages_cannot_drive_the_terminal(self):
        said = self.fails(tar_with(("../\x1b[2J\n", b"x")))
        self.assertIn("../\\033[2J\\n", said)
        self.assertEqual(said.count("\n"), 1)

    def test_a_component_over_255_bytes_is_refused(self):
        self.assertIn("n" * 256, self.fails(tar_with(("n" * 256, b"x"))))

    def test_the_last_of_two_members_counts(self):
        said, _ = self.packed_from(("a", b"old"), ("b", b"x"), ("a", b"new one"))
        self.assertEqual(said["files"], 2)
        self.ok("tar", "-xf", self.out / "a.tar", "-C", self.source)
        self.assertEqual((self.source / "a").read_bytes(), b"new one")

    def test_owners_beyond_an_octal_field(self):
        _, members = self.packed_from(("a", {"uid": 3_000_000_000, "gid": 2_097_152}), form=tarfile.GNU_FORMAT)
        self.assertEqual((members["a"].uid, members["a"].gid), (3_000_000_000, 2_097_152))
        said = self.fails(tar_with(("a", {"uid": 2**32})))
        self.assertIn("a: an owner beyond 32 bits", said)

    def test_a_hard_link_to_nothing(self):
        said = self.fails(tar_with(("a", b"x"), ("b", {"type": tarfile.LNKTYPE, "linkname": "gone"})))
        self.assertIn("gone", said)

    def test_exclude(self):
        members = [("a/1.txt", b"x"), ("a/2.jpg", b"y"), ("cache/3.jpg", b"z" * 3_000_000),
                   ("big", b"q" * 5_000_000), ("4.jpg", b"w")]
        _, packed = self.packed_from(*members, options=["--exclude=cache", "--exclude=*.txt", "--exclude=big"])
        self.assertEqual(self.files("a.tar"), ["a/2.jpg", "4.jpg"])
        link = ("l", {"type": tarfile.LNKTYPE, "linkname": "a/1.txt"})
        said = self.fails(tar_with(*members, link), "--exclude=*.txt")
        self.assertIn("l: is a hard link to a/1.txt, which is not packed", said)


class DamagedTest(StreamTest):
    def test_not_an_archive(self):
        for content in (b"", gzip.compress(b""), gzip.compress(b"just text\n" * 100), b"just text\n" * 100, incompressible(5000), b"\0" * 100):
            (self.dir / "file").write_bytes(content)
            said = self.refused(self.dir / "file", "-o", self.out / "x.tar")
            self.assertIn("file: ", said)
            self.assertIn("not an archive", said, content[:20])
            with open(self.dir / "file", "rb") as stream:
                self.assertIn("standard input: ", self.refused("-", "-o", self.out / "x", stdin=stream))

    def test_mtree_reads_no_files_that_it_names(self):
        (self.dir / "list").write_text("#mtree\n./passwd type=file contents=/etc/passwd\n")
        self.assertIn("not an archive", self.refused(self.dir / "list", "-o", self.out / "x.tar"))

    def test_cut_in_the_data(self):
        data = tar_with(("a", b"x" * 10_000), ("b", b"y" * 10_000))
        self.assertIn("(in b): Truncated", self.fails(data[:15_000]))
        large = tar_with(("a", b"x" * 10_000_000))
        self.assertIn("(in a): Truncated", self.fails(large[:9_000_000]))

    def test_cut_between_two_members(self):
        whole = tar_with(("a", b"x" * 1000), ("b", bytes(1024)))
        for cut in (1536, 1536 + 1536):  # The second one ends in zeros that are data.
            said = self.fails(whole[:cut])
            self.assertIn("ends without a tar's closing zeros and may have been cut; try: --ignore-failed-read", said)
            with self.pipe(whole[:cut]) as stream:
                said = self.pack("-", "c.tar", "--ignore-failed-read", "--force", expect=1, stdin=stream)
            self.assertEqual(said["files"], cut // 1536)

    def test_one_closing_block_is_enough(self):
        with self.pipe(tar_with(("a", b"x"))[:1536]) as stream:
            self.assertEqual(self.pack("-", "a.tar", stdin=stream)["stderr"], "")

    def test_cut_or_damaged_compression(self):
        packed = gzip.compress(tar_with(("a", incompressible(100_000))))
        for cut in (60_000, -10, -1):
            self.assertEqual("mkshard: standard input: is damaged or cut short (gzip: the data end too early); "
                             "try: copy it again\n", self.fails(packed[:cut]))

    def test_a_flipped_byte_in_compressed_data(self):
        tar = tar_with(("a", incompressible(100_000)))
        for name, compress in (("gzip", gzip.compress), ("bzip2", bz2.compress), ("xz", lzma.compress)):
            for place in (20, 50_000):
                flipped = bytearray(compress(tar))
                flipped[place] ^= 1
                said = self.fails(bytes(flipped), "--ignore-failed-read")
                self.assertIn(f"standard input: is damaged or cut short ({name}", said, place)
        # In a stored block the flipped byte still inflates; only the checksum tells.
        stored = bytearray(gzip.compress(tar, compresslevel=0))
        stored[50_000] ^= 1
        self.assertIn("(gzip: incorrect data check)", self.fails(bytes(stored)))
        (self.dir / "a.tar.gz").write_bytes(stored)
        self.assertIn("(gzip: incorrect data check)", self.refused(self.dir / "a.tar.gz", "-o", self.out / "x"))

    def test_gzip_of_several_members(self):
        tar = tar_with(("a", incompressible(3_000_000)), ("b", b"x"))
        for step in (1 << 20, 100_000, len(tar)):
            packed = b"".join(gzip.compress(tar[at:at + step]) for at in range(0, len(tar), step))
            for padding in (b"", bytes(3), bytes(3_000_000)):
                with self.pipe(packed + padding) as stream:
                    self.assertEqual(self.pack("-", "a.tar", "--force", stdin=stream)["stderr"], "")
                self.assertEqual(self.files("a.tar"), ["a", "b"])
            with subprocess.Popen(["sh", "-c", 'printf "\\037"; sleep 0.1; tail -c +2 "$1"', "-", self.dir / "stdin"],
                                  stdout=subprocess.PIPE) as piped:
                self.pack("-", "a.tar", "--force", stdin=piped.stdout)
        self.assertIn("bytes that are not gzip follow", self.fails(packed + b"garbage"))
        with self.pipe(packed + b"garbage") as stream:
            self.pack("-", "a.tar", "--force", "--ignore-failed-read", expect=1, stdin=stream)
        self.assertEqual(self.files("a.tar"), ["a", "b"])

    def test_a_flipped_byte_in_a_stored_member(self):
        self.write("bad", b"@" * 3000 + b"needle" + b"@" * 3000)
        self.write("good")
        for form, options in (("zip", ["--options=zip:compression=store"]),
                              ("7zip", ["--options=7zip:compression=store"])):
            archive = self.dir / f"a.{form}"
            self.ok("bsdtar", "--format", form, *options, "-cf", archive, "-C", self.source, "bad", "good")
            data = archive.read_bytes()
            self.assertEqual(data.count(b"needle"), 1)
            archive.write_bytes(data.replace(b"needle", b"noodle"))
            said = self.refused(archive, "-o", self.out / "x.tar")
            self.assertRegex(said, r"cannot be read \(in bad\): .*CRC")
            if form == "7zip":
                continue  # One stream with a single checksum for each file, read to the end in any case.
            said = self.pack(archive, "a.tar", "--ignore-failed-read", "--force", expect=1)
            self.assertEqual([one["path"] for one in said["skipped"]], ["bad"])
            self.assertEqual(self.files("a.tar"), ["good"])

    def test_what_follows_the_end(self):
        two = tar_with(("a", b"x")) + tar_with(("b", b"y"))
        for data in (two, gzip.compress(two)):
            self.assertIn("something follows the end of the archive, perhaps a second one; try: join tars with tar -A",
                          self.fails(data))
            with self.pipe(data) as stream:
                said = self.pack("-", "a.tar", "--ignore-failed-read", "--force", expect=1, stdin=stream)
            self.assertEqual([one["path"] for one in said["skipped"]], ["standard input"])
            self.assertEqual(self.files("a.tar"), ["a"])

    def test_a_producer_does_not_die_of_sigpipe(self):
        command = 'set -o pipefail; { cat "$1"; head -c 3000000 /dev/zero; } | "$2" - -o "$3"'
        (self.dir / "t").write_bytes(tar_with(("a", b"x")))
        result = run("bash", "-c", command, "-", self.dir / "t", MKSHARD, self.out / "a.tar")
        self.assertEqual((result.returncode, result.stderr), (0, ""))


if __name__ == "__main__":
    unittest.main()
