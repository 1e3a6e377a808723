"""What the tests of mkshard share."""

import json
import os
import subprocess
import tarfile

from tools import BUILD, MKSHARD, TemporaryTree, run

CHANGE_ON_READ = BUILD / "tests/tools/libchange_on_read.so"


def incompressible(size: int) -> bytes:
    return os.urandom(size)


def compressible(size: int) -> bytes:
    line = b"epoch 12, loss 0.345, accuracy 0.912\n"
    return (line * (size // len(line) + 1))[:size]


def leftovers(directory) -> list[str]:
    """Temporary files of mkshard's in `directory`."""
    return [name for name in os.listdir(directory) if ".tmp-" in name]


class PackingTest(TemporaryTree):
    """A test with a source directory `self.source` and an empty output directory `self.out`."""

    def setUp(self):
        super().setUp()
        os.chmod(self.dir, 0o755)  # Some tests run mkshard as another user.
        self.source = self.dir / "source"
        self.source.mkdir()
        self.out = self.dir / "out"
        self.out.mkdir()

    def tearDown(self):
        self.assertEqual(leftovers(self.out), [])

    def write(self, name: str, data: bytes = b"content"):
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def pack(self, source, name, *options, expect=0, **run_options) -> dict:
        """Packs `source` into self.out/`name`; returns what --json says, and `stderr`."""
        result = run(MKSHARD, source, "-o", self.out / name, "--json", *options, **run_options)
        self.assertEqual(result.returncode, expect, result.stderr)
        return json.loads(result.stdout) | {"stderr": result.stderr}

    def refused(self, *arguments, expect=2, **run_options) -> str:
        """Runs mkshard, which must fail and leave nothing in self.out; returns its message."""
        before = sorted(os.listdir(self.out))
        result = run(MKSHARD, *arguments, **run_options)
        self.assertEqual(result.returncode, expect, result.stderr + result.stdout)
        self.assertEqual(result.stdout, "")
        self.assertEqual(sorted(os.listdir(self.out)), before, "something was left behind")
        return result.stderr

    def packed(self, name) -> bytes:
        return (self.out / name).read_bytes()

    def members(self, name) -> dict[str, tarfile.TarInfo]:
        """The members of a .tar in archive order, by another reader, without a "./" that stands in for one."""
        with tarfile.open(self.out / name, "r:", errors="surrogateescape") as tar:
            return {member.name: member for member in tar if member.name != "."}

    def files(self, name) -> list[str]:
        """Paths of all members that are not directories, in archive order."""
        return [path for path, member in self.members(name).items() if not member.isdir()]

    def data(self, name, member) -> bytes:
        with tarfile.open(self.out / name, "r:", errors="surrogateescape") as tar:
            return tar.extractfile(member).read()

    def tar_of(self, directory, *options) -> "os.PathLike":
        """A GNU tar of `directory` with all that mkshard keeps, members in mkshard's order."""
        tar = self.dir / "stream.tar"
        self.ok("tar", "--sort=name", "--format=posix", "-S", "--xattrs", "--xattrs-include=*", "--acls", *options,
                "-cf", tar, "-C", directory, ".")
        return tar

    def change_while_reading(self, name: str, how: str, times: int) -> dict:
        """Environment in which `name` is changed when mkshard reads it."""
        return os.environ | {"LD_PRELOAD": str(CHANGE_ON_READ), "CHANGE_NAME": name, "CHANGE_HOW": how,
                             "CHANGE_TIMES": str(times),
                             "ASAN_OPTIONS": "verify_asan_link_order=0:" + os.environ.get("ASAN_OPTIONS", "")}


def as_nobody(**options) -> dict:
    return options | {"user": "nobody", "group": "nogroup", "extra_groups": []}


def start(*arguments, **options) -> subprocess.Popen:
    return subprocess.Popen([MKSHARD, *map(os.fspath, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            **options)
