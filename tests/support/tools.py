"""Where the built tools are, and how tests call them."""

import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

BUILD = Path(os.environ.get("SHARDFS_BUILD", "build/release")).absolute()
MKSHARD = str(BUILD / "tools/mkshard/mkshard")
SHARDFS = str(BUILD / "tools/shardfs/shardfs")


def sanitizers() -> str:
    """What the tools were built with, as CMake was told; "" if without."""
    cache = BUILD / "CMakeCache.txt"
    found = re.search(r"^SHARDFS_SANITIZE:STRING=(.*)$", cache.read_text() if cache.exists() else "", re.MULTILINE)
    return found[1] if found else ""


def without_sanitizer(reason: str = "a sanitizer takes memory and threads of its own"):
    """Skips a test of limits where the tools were built with a sanitizer."""
    return unittest.skipIf(sanitizers(), reason)


def run(*command, **options) -> subprocess.CompletedProcess:
    """Runs a command to its end and returns what it printed, as text that may hold any byte."""
    return subprocess.run([os.fspath(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, errors="surrogateescape", **options)


class TemporaryTree(unittest.TestCase):
    """A test with a directory of its own, `self.dir`, that is gone afterwards whatever is in it."""

    def setUp(self):
        self.dir = Path(tempfile.mkdtemp(prefix="shardfs-test-"))
        self.addCleanup(shutil.rmtree, self.dir, onerror=self._remove_deep)

    @staticmethod
    def _remove_deep(function, path, error):
        del function, error
        subprocess.run(["rm", "-rf", "--", path], check=False)

    def ok(self, *command, **options) -> str:
        """Runs a command that must succeed; returns its standard output."""
        result = run(*command, **options)
        self.assertEqual(result.returncode, 0, f"{command}: {result.stderr}{result.stdout}")
        return result.stdout

    def silent(self, *command, **options) -> str:
        """Runs a command that must succeed without a word on standard error."""
        result = run(*command, **options)
        self.assertEqual((result.returncode, result.stderr), (0, ""), f"{command}: {result.stdout[-2000:]}")
        return result.stdout
