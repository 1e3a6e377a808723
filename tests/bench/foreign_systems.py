"""The systems that mount archives of other formats: shardfs, and what there is beside it."""

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

from systems import SHARDFS, Mounted, memory_mb

TOP = Path(__file__).resolve().parent.parent.parent
VENV = TOP / "build/venv-peers"
MOUNT_SECONDS = 1800  # nothing takes so long unless it hangs
END_SECONDS = 60
TICK = os.sysconf("SC_CLK_TCK")


def wait_exactly(process, timeout):
    """Exit code of a process, which is killed after `timeout` seconds. Popen.wait() with a timeout sleeps up to 50 ms
    between its looks, which is more than many a mount takes."""
    timer = threading.Timer(timeout, process.kill)
    timer.start()
    try:
        return process.wait()
    finally:
        timer.cancel()


class Foreign(Mounted):
    """One mount of one archive, and a folder for what the system keeps for its next mount. Subclasses say how.

    share: one file of so many is read where all would take minutes.
    """

    command = None
    share = 1

    def __init__(self, archive, work, on_store=False):
        self.archive, self.on_store = archive, on_store
        place = work / type(self).__name__.lower()
        self.root, self.kept, self.words = place / "mnt", place / "kept", place / "words"
        self.root.mkdir(parents=True, exist_ok=True)
        self.mount_cpu = 0  # seconds that the mount command took before it went on in the background
        self.forget()

    @classmethod
    def is_there(cls):
        return shutil.which(cls.command) is not None

    def load(self):
        """Brings the programs back into the page cache: reading them from the disk is not what is measured."""
        for program in (self.command, "fusermount3"):
            subprocess.run([program, "--version"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL, timeout=END_SECONDS, check=False)

    def listing(self):
        """Seconds that a listing takes, and how many files it finds. Not bench_reader's: some name no types."""
        start = time.monotonic()
        found = subprocess.run(["find", self.root, "-type", "f", "-printf", "."], check=True, stdout=subprocess.PIPE,
                               timeout=MOUNT_SECONDS).stdout
        return time.monotonic() - start, len(found)

    def forget(self):
        shutil.rmtree(self.kept, ignore_errors=True)
        self.kept.mkdir()

    def mount(self):
        """Seconds until the mount command has returned. Its words go to a file: a daemon would keep a pipe open."""
        env = {**os.environ, "XDG_CACHE_HOME": str(self.kept)}
        with open(self.words, "wb") as words:
            start, used = time.monotonic(), self.waited_cpu()
            command = subprocess.Popen([os.fspath(word) for word in self.mount_command()], stdin=subprocess.DEVNULL,
                                       stdout=words, stderr=words, env=env)
            code = wait_exactly(command, MOUNT_SECONDS)
        seconds, self.mount_cpu = time.monotonic() - start, self.waited_cpu() - used
        if code != 0 or not os.path.ismount(self.root):
            raise RuntimeError(f"mount: exit {code}: {self.words.read_text(errors='replace')[-300:]}")
        return seconds

    def processes(self):
        """All that serve this mount: the daemon, and what it has started with its folder."""
        mine = {os.fsencode(self.root), os.fsencode(self.kept)}
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mine & set((process / "cmdline").read_bytes().split(b"\0")):
                    found.append(int(process.name))
        return found

    @staticmethod
    def waited_cpu():
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    def cpu(self):
        """Seconds of processor time that its processes have taken, without the command that started them."""
        ticks = 0
        for pid in self.processes():
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/stat").read_text(errors="replace").rsplit(")", 1)[1].split()
                ticks += int(words[11]) + int(words[12])
        return ticks / TICK

    def memory(self):
        """Resident MB of their own."""
        sizes = 0
        for pid in self.processes():
            with contextlib.suppress(OSError):
                sizes += memory_mb(pid)["own"]
        return sizes

    def unmount(self):
        """Also after whatever has gone wrong: by force, if it must be."""
        if os.path.lexists(self.root) and self.is_mounted():
            done = subprocess.run(["fusermount3", "-u", self.root], stderr=subprocess.DEVNULL, check=False)
            if done.returncode != 0:
                subprocess.run(["umount", "-l", self.root], check=False)
        end = time.monotonic() + END_SECONDS
        while self.processes():
            if time.monotonic() > end:
                for pid in self.processes():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            time.sleep(0.005)

    def is_mounted(self):
        # Not ismount(): it asks the mount itself, whose daemon may have died.
        lines = Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
        return any(line.split(" ")[4] == str(self.root) for line in lines)


class Shardfs(Foreign):
    name = "shardfs"
    command = SHARDFS

    def mount_command(self):
        tier = ("--tier", "disk") if self.on_store else ()
        return SHARDFS, "mount", self.archive, self.root, "-q", "--cache-dir", self.kept, *tier


class Squashfuse(Foreign):
    name, command = "squashfuse_ll", "squashfuse_ll"

    def mount_command(self):
        return "squashfuse_ll", "-o", "ro", self.archive, self.root


class Archivemount(Foreign):
    name, command = "archivemount", "archivemount"
    share = 10  # each read goes through the archive from its start

    def mount_command(self):
        return "archivemount", "-o", "readonly", self.archive, self.root


class FuseArchive(Foreign):
    name, command = "fuse-archive", "fuse-archive"

    def mount_command(self):
        return "fuse-archive", self.archive, self.root


class FuseZip(Foreign):
    name, command = "fuse-zip", "fuse-zip"

    def mount_command(self):
        return "fuse-zip", "-r", self.archive, self.root


class MountZip(Foreign):
    name, command = "mount-zip", "mount-zip"

    def mount_command(self):
        return "mount-zip", self.archive, self.root


class Ratarmount(Foreign):
    name, command = "ratarmount", str(VENV / "bin/ratarmount")

    def mount_command(self):
        return self.command, "--index-folders", self.kept, self.archive, self.root


class RatarmountZst(Ratarmount):
    share = 10  # decodes from a frame's start


class RatarmountGzip(Ratarmount):
    share = 50  # some 0.1 s a file


PEERS = (Squashfuse, Archivemount, FuseArchive, FuseZip, MountZip, Ratarmount)

# Debian 12 has the first ones, later releases some of the others.
INSTALL = """. packaging/deps
deps_ensure archivemount fuse-zip squashfuse squashfs-tools zip zstd
for package in mount-zip fuse-archive; do
  if apt-cache show "$package" >/dev/null 2>&1; then deps_ensure "$package"; fi
done"""


def install():
    """Installs the peers that can be had: packages as root, ratarmount into a virtual environment of its own."""
    subprocess.run(["bash", "-c", INSTALL], cwd=TOP, check=False, stdout=subprocess.DEVNULL)
    if Ratarmount.is_there():
        return
    shutil.rmtree(VENV, ignore_errors=True)
    VENV.parent.mkdir(exist_ok=True)
    made = subprocess.run(["/usr/bin/python3", "-m", "venv", VENV], check=False).returncode == 0
    if made and subprocess.run([VENV / "bin/pip", "install", "-q", "ratarmount"], check=False).returncode == 0:
        return
    shutil.rmtree(VENV, ignore_errors=True)
