"""The Python package, installed by pip from tools/python, without a GPU: bytes into host memory."""

import json
import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from cached import CacheDir
from mounted import Mount, MountTest
from tools import BUILD, SHARDFS, run

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / "build/venv/bin"  # made by tests/run
LIBRARY = BUILD / "cuda/libshardfs_gpu.so"

FILES = {"train/a/1.bin": os.urandom(20_000), "train/a/2.bin": os.urandom(1), "train/b/empty": b"",
         "train/b/large": os.urandom(3_000_000), "train/b/text": b"compressible " * 20_000, "top": os.urandom(4097)}


@unittest.skipUnless((VENV / "pip").exists(), "there is no build/venv")
class Package(MountTest):
    @classmethod
    def setUpClass(cls):
        cls.home = Path(tempfile.mkdtemp(prefix="shardfs-python-"))
        cls.addClassCleanup(shutil.rmtree, cls.home)
        # setuptools writes beside its source.
        shutil.copytree(ROOT / "tools/python", cls.home / "package")
        result = run(VENV / "pip", "install", "-q", "--no-build-isolation", "--no-deps", "--no-index", "--target",
                     cls.home / "site", cls.home / "package", env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"})
        if result.returncode != 0:
            raise AssertionError(result.stderr + result.stdout)

    def setUp(self):
        super().setUp()
        self.source = self.tree(FILES)
        (self.source / "train/link").symlink_to("a/1.bin")

    def python(self, code: str, *arguments, library=LIBRARY, check=True, **env) -> str:
        """Runs code with `expected`, which maps paths to bytes, and the arguments as `args`."""
        head = ("import os, sys, shardfs\nfrom pathlib import Path\nargs = sys.argv[2:]\n"
                "root = Path(sys.argv[1])\n"
                "expected = {str(p.relative_to(root)): p.read_bytes() for p in root.rglob('*') if p.is_file()}\n")
        result = run(VENV / "python", "-c", head + code, self.source, *arguments,
                     env={**os.environ, "PYTHONPATH": str(self.home / "site"),
                          "SHARDFS_GPU_LIBRARY": str(library), **env}, timeout=120)
        if check:
            self.assertEqual((result.returncode, result.stderr), (0, ""), result.stdout)
        return result.stdout if check else result.stderr

    def test_reads_a_batch_bit_for_bit(self):
        for container in self.CONTAINERS:
            with self.subTest(container=container):
                self.python("""
data = shardfs.Dataset(args[0])
assert dict(data.files()) == {p: len(b) for p, b in expected.items() if p != "train/link"}, data.files()
for directory in ("train/a", "train/a/"):
    assert [p for p, _ in data.files(directory)] == ["train/a/1.bin", "train/a/2.bin"]
paths = list(expected)
batch = data.read_batch(paths)
assert [bytes(t) for t in batch] == [expected[p] for p in paths]
assert batch.routes == ["host"] * len(paths) and all(batch.verified)
assert data.size("train/link") == 20000
packed = bytes(batch.packed)
assert all(packed[o:o + n] == expected[p] for p, o, n in zip(paths, batch.offsets, batch.sizes))
assert data.route("cpu")[0] == "host"
""", self.pack(self.source, container))

    def test_gives_tensors_that_outlive_everything(self):
        self.python("""
import gc, numpy
data = shardfs.Dataset(args[0])
arrays = {p: numpy.from_dlpack(t) for p, t in zip(expected, data.read_batch(list(expected)))}
data.close()
del data
gc.collect()
for path, array in arrays.items():
    assert array.dtype == numpy.uint8 and array.ctypes.data % 256 == 0
    assert array.tobytes() == expected[path], path
# A capsule that nobody takes gives its reference back.
data = shardfs.Dataset(args[0])
tensor = data.read_batch(["top"])[0]
for _ in range(1000):
    tensor.__dlpack__()
before = int(open("/proc/self/statm").read().split()[1])
for _ in range(50):
    data.read_batch(["train/b/large"])[0].__dlpack__()
assert int(open("/proc/self/statm").read().split()[1]) - before < 75e6 / 4096  # of 150 MB
""", self.pack(self.source))

    def test_reads_into_memory_of_the_callers(self):
        self.python("""
import numpy
data = shardfs.Dataset(args[0])
out = numpy.zeros(5_000_000, numpy.uint8)
paths = list(expected)
other = numpy.zeros(5_000_000, numpy.uint8)
pending = [data.submit(paths[:3], out), data.submit(paths[3:], other)]
first = pending[0].wait()
for path, offset, size in zip(paths[:3], first.offsets, first.sizes):
    assert out[offset:offset + size].tobytes() == expected[path]
second = pending[1].wait()
late = data.submit(paths, numpy.zeros(5_000_000, numpy.uint8))
for path, offset, size in zip(paths[3:], second.offsets, second.sizes):
    assert other[offset:offset + size].tobytes() == expected[path]
try:
    data.submit(paths, out[:100])
    raise SystemExit("there was no room")
except ValueError:
    pass
try:
    data.submit(paths, out[::2])
    raise SystemExit("not contiguous")
except ValueError:
    pass
late_out = bytearray(5_000_000)
late = data.submit(paths, late_out)
data.close()  # with batches on their way
late.wait()
for path, offset, size in zip(paths, late.offsets, late.sizes):
    assert late_out[offset:offset + size] == expected[path]
""", self.pack(self.source))

    def test_a_signal_may_come_at_any_time(self):
        """What its handler raises while the library reads: a batch is waited for, and dropped, once."""
        self.python("""
import numpy, signal
sys.unraisablehook = lambda what: None  # what is raised where a batch is dropped: Python goes on
class Signal(Exception):
    pass
def handler(number, frame):
    raise Signal
signal.signal(signal.SIGALRM, handler)
data = shardfs.Dataset(args[0])
paths = [p for p in expected for _ in range(5)]
out = numpy.zeros(40_000_000, numpy.uint8)
raised = read = delay = 0
while delay < 400 or raised <= 20 or read <= 20:
    delay += 1
    pending = batch = None
    try:
        signal.setitimer(signal.ITIMER_REAL, delay * 25e-6)
        if delay % 2:
            pending = data.submit(paths, out).wait()
        else:
            batch = data.read_batch(paths)
        assert len(data.files()) == len(expected) - 1  # a link is none
        read += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
    except Signal:
        raised += 1
    for sizes in (pending and pending.sizes, batch and batch.sizes):
        assert not sizes or sizes == [len(expected[p]) for p in paths]
    if pending:
        pending.wait()
# One that closes it meanwhile.
signal.signal(signal.SIGALRM, lambda number, frame: data.close())
signal.setitimer(signal.ITIMER_REAL, 1e-3)
try:
    data.submit(paths, out).wait()
except ValueError as error:  # it was closed before
    assert "closed" in str(error), error
signal.setitimer(signal.ITIMER_REAL, 0)
""", self.pack(self.source))

    def test_is_closed_while_others_use_it(self):
        self.python("""
import threading
for attempt in range(30):
    data = shardfs.Dataset(args[0])
    inside = threading.Barrier(4)
    wrong = []
    def work():
        inside.wait()
        try:
            while True:
                batch = data.read_batch(list(expected))
                if [bytes(t) for t in batch] != list(expected.values()):
                    wrong.append(batch)
                data.files()
        except ValueError as error:
            if "closed" not in str(error):
                wrong.append(error)
    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    inside.wait()
    data.close()
    for thread in threads:
        thread.join()
    assert not wrong, wrong
""", self.pack(self.source))

    def test_an_error_is_told_each_time(self):
        shard = self.pack(self.source)
        content = bytearray(shard.read_bytes())
        content[content.index(b"compressible ")] ^= 1
        shard.write_bytes(content)
        self.python("""
import errno, numpy
data = shardfs.Dataset(args[0], tier="none")
out = numpy.zeros(1_000_000, numpy.uint8)
for closed in (False, True):
    pending = data.submit(["train/b/text"], out)
    if closed:
        data.close()
    for _ in range(2):
        try:
            pending.wait()
            raise SystemExit("not told")
        except shardfs.Error as error:
            assert error.errno == errno.EIO and "train/b/text" in error.strerror, error
            assert error.batch is pending and pending.errors == [errno.EIO]
try:
    data.submit([], out)
    raise SystemExit("it is closed")
except ValueError:
    pass
# Those that could be read have been.
data = shardfs.Dataset(args[0], tier="none")
try:
    data.read_batch(["top", "train/b/text"])
    raise SystemExit("not told")
except shardfs.Error as error:
    assert error.batch.errors == [0, errno.EIO] and bytes(error.batch[0]) == expected["top"]
""", shard)

    def test_keeps_to_the_memory_that_it_is_given(self):
        self.python("""
import numpy
data = shardfs.Dataset(args[0])
out = numpy.full(10_000, 7, numpy.uint8)
pending = data.submit(["train/a/1.bin", "top"], out[:5000], sizes=[100, 4000]).wait()
assert pending.sizes == [100, 4000] and pending.offsets == [0, 256]
assert out[:100].tobytes() == expected["train/a/1.bin"][:100]
assert out[256:4256].tobytes() == expected["top"][:4000] and (out[5000:] == 7).all()
fixed = numpy.zeros(10_000, numpy.uint8)
fixed.flags.writeable = False
for memory, device, why in ((fixed, "cpu", "read-only"), (out, "cuda:0", "not on a GPU"), (bytes(10_000), "cpu", "read-only"),
                            (numpy.zeros(10_000, object), "cpu", "Python objects")):
    try:
        data.submit(["top"], memory, device=device)
        raise SystemExit("taken")
    except ValueError as error:
        assert why in str(error), error
assert data.submit(["top", "train/a/1.bin"], out[:100], sizes=[100, 0]).wait().sizes == [100, 0]
""", self.pack(self.source))

    def test_is_closed_after_its_batches(self):
        """Whichever of them goes first: together in a cycle, or the data set, or in a child."""
        self.python("""
import gc, numpy, signal
class Loop:
    pass
for _ in range(20):
    loop = Loop()
    loop.data, loop.itself = shardfs.Dataset(args[0]), loop
    loop.next = loop.data.submit(list(expected), numpy.zeros(5_000_000, numpy.uint8))
    del loop
    gc.collect()
data = shardfs.Dataset(args[0])
pending = data.submit(list(expected), numpy.zeros(5_000_000, numpy.uint8))
child = os.fork()
if child == 0:
    signal.alarm(20)
    try:
        pending.wait()
        os._exit(1)
    except shardfs.Error as error:
        assert "fork" in error.strerror
    del pending
    data.close()
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
pending.wait()
""", self.pack(self.source))

    def test_a_capsule_may_go_while_an_exception_is_on_its_way(self):
        self.python("""
import ctypes, numpy
data = shardfs.Dataset(args[0])
tensor = data.read_batch(["train/b/large"])[0]
class OfAnUnknownKind:  # numpy has taken the capsule when it refuses it
    def __dlpack_device__(self):
        return (1, 0)
    def __dlpack__(self, **options):
        capsule = tensor.__dlpack__()
        get = ctypes.pythonapi.PyCapsule_GetPointer
        get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
        ctypes.c_int32.from_address(get(capsule, b"dltensor") + 8).value = 77
        return capsule
try:
    numpy.from_dlpack(OfAnUnknownKind())
    raise SystemExit("taken")
except (RuntimeError, BufferError) as error:
    assert "device" in str(error), error
for options in ({"copy": True}, {"dl_device": (2, 0)}):
    try:
        tensor.__dlpack__(**options)
        raise SystemExit("given")
    except BufferError:
        pass
assert numpy.from_dlpack(tensor).tobytes() == expected["train/b/large"]
""", self.pack(self.source))

    def test_goes_through_fork_and_pickle(self):
        self.python("""
import multiprocessing, pickle
data = shardfs.Dataset(args[0])
assert bytes(data.read_batch(["top"])[0]) == expected["top"]
def work(path):
    return bytes(data.read_batch([path])[0]) == expected[path]
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert all(pool.map(work, list(expected) * 5))
os.chdir(os.path.dirname(args[0]))
near = shardfs.Dataset(os.path.basename(args[0]))
os.chdir("/")
for one in (data, near):
    again = pickle.loads(pickle.dumps(one))
    assert bytes(again.read_batch(["top"])[0]) == expected["top"]
# Threads of a child that all come to open it.
child = os.fork()
if child == 0:
    import threading
    read = []
    threads = [threading.Thread(target=lambda: read.append(near.size("top"))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os._exit(0 if read == [4097] * 6 else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
""", self.pack(self.source))

    def test_reads_what_is_mounted(self):
        with Mount(self.pack(self.source), "-o", "subdir=train") as mount:
            self.python("""
data = shardfs.Dataset(args[0])
paths = ["a/1.bin", "b/large", "link"]
assert [bytes(t) for t in data.read_batch(paths)] == [expected["train/" + p] for p in paths]
""", mount.path)

    def test_a_mount_tells_whether_a_gpu_may_be_used(self):
        shard = self.pack(self.source)
        with Mount(shard, "--gpu", "off") as mount:
            self.assertEqual(mount.info()["gpu"], "off")
            self.python("""
try:
    shardfs.Dataset(args[0]).read_batch(["top"], device="cuda:0")
    raise SystemExit("a GPU was used")
except shardfs.Error as error:
    assert "--gpu off" in error.strerror, error
""", mount.path)
        result = run(SHARDFS, "mount", shard, self.dir, "--gpu", "perhaps")
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertIn("--gpu perhaps: not one of off, auto, require", result.stderr)

    @unittest.skipIf(shutil.which("nvidia-smi"), "there may be a GPU")
    def test_a_mount_that_requires_a_gpu_fails_without(self):
        (self.dir / "mount").mkdir()
        result = run(SHARDFS, "mount", self.pack(self.source), self.dir / "mount", "--gpu", "require")
        self.assertEqual(result.returncode, 32, result.stderr)
        self.assertIn("--gpu require: ", result.stderr)

    def test_reads_through_the_nodes_cache(self):
        shard = self.pack(self.source)
        with CacheDir() as cache:
            self.python("""
data = shardfs.Dataset(args[0], tier="disk", cache_dir=args[1], shardfs=args[2])
assert [bytes(t) for t in data.read_batch(list(expected))] == list(expected.values())
""", shard, cache.parent, SHARDFS)
            listing = json.loads(self.ok(SHARDFS, "cache", "ls", "--json", "--cache-dir", cache.parent))
            self.assertIn(str(shard), json.dumps(listing))

    def test_errors_are_exceptions_with_an_errno(self):
        shard = self.pack(self.source)
        self.python("""
import errno
data = shardfs.Dataset(args[0])
for call, code in [(lambda: data.read_batch(["top", "none"]), errno.ENOENT),
                   (lambda: data.read_batch(["train"]), errno.EINVAL),
                   (lambda: shardfs.Dataset(args[0] + ".none"), errno.ENOENT),
                   (lambda: shardfs.Dataset(os.path.dirname(args[0])), errno.EOPNOTSUPP),
                   (lambda: shardfs.Dataset(args[0], gpu="perhaps"), errno.EINVAL)]:
    try:
        call()
        raise SystemExit("did not fail")
    except shardfs.Error as error:
        assert error.errno == code, (error, code)
for call, kind in [(lambda: data.read_batch(["top"], device="tpu"), ValueError),
                   (lambda: data.read_batch("top"), TypeError),
                   (lambda: data.read_batch(["top\\0"]), ValueError),
                   (lambda: shardfs.Dataset(args[0], readers=-1), ValueError),
                   (lambda: shardfs.Dataset(args[0], cache_bytes=-1), ValueError),
                   (lambda: shardfs.Dataset(args[0], readers=1000), shardfs.Error)]:
    try:
        call()
        raise SystemExit("taken")
    except kind:
        pass
""", shard)

    def test_damage_is_never_handed_over(self):
        shard = self.pack(self.source)
        extents = json.loads(self.python("import json\nprint(json.dumps(shardfs.Dataset(args[0]).extents('top')))",
                                         shard))
        with open(shard, "r+b") as file:
            file.seek(extents[0]["offset"] + 50)
            file.write(b"damaged")
        self.python("""
import errno
data = shardfs.Dataset(args[0])
try:
    data.read_batch(["train/a/1.bin", "top"])
    raise SystemExit("damage was not noticed")
except shardfs.Error as error:
    assert error.errno == errno.EIO and "top" in error.strerror, error
""", shard)

    @unittest.skipIf(shutil.which("nvidia-smi"), "there may be a GPU")
    def test_says_why_there_is_no_gpu(self):
        self.python("""
data = shardfs.Dataset(args[0])
for attempt in (lambda: data.read_batch(["top"], device="cuda:0"), lambda: data.route("cuda"),
                lambda: shardfs.Dataset(args[0], gpu="require")):
    try:
        attempt()
        raise SystemExit("there is a GPU")
    except shardfs.Error as error:
        assert "driver" in error.strerror or "without CUDA" in error.strerror, error
assert bytes(shardfs.Dataset(args[0], gpu="off").read_batch(["top"])[0]) == expected["top"]
""", self.pack(self.source))

    def test_finds_the_library_beside_its_interpreter(self):
        home = self.dir / "venv"
        self.ok(VENV / "python", "-m", "venv", "--without-pip", home)
        self.ok("cmake", "--install", BUILD, "--prefix", home)
        environment = {name: value for name, value in os.environ.items() if name != "SHARDFS_GPU_LIBRARY"}
        environment.update(PYTHONPATH=str(self.home / "site"), PYTHONDONTWRITEBYTECODE="1")
        code = "import shardfs, sys; print(len(shardfs.Dataset(sys.argv[1]).files()))"
        self.assertEqual(self.silent(home / "bin/python", "-c", code, self.pack(self.source), env=environment), "6\n")

    def test_says_where_a_library_was_looked_for(self):
        message = self.python("", library="/nowhere/libshardfs_gpu.so", check=False)
        self.assertIn("cannot be loaded", message)
        self.assertIn("SHARDFS_GPU_LIBRARY", message)

    def test_has_the_interface_of_the_header(self):
        """The names that the package binds are those that the header has, and the library."""
        header = (ROOT / "cuda/shardfs_gpu.h").read_text()
        names = set()
        for line in subprocess.run(["nm", "-D", "--defined-only", LIBRARY], stdout=subprocess.PIPE, text=True,
                                   check=True).stdout.splitlines():
            if " T " in line:
                names.add(line.split()[-1])
        self.assertTrue(names)
        for name in names:
            self.assertIn(f"{name}(", header)
        for name in re.findall(r"SHARDFS_API [^;]*?(shardfs_\w+)\(", header):
            self.assertIn(name, names)
        bound = self.python("from shardfs import _library\nprint(*_library._SIGNATURES)").split()
        self.assertLessEqual(set(bound), names)


if __name__ == "__main__":
    unittest.main()
