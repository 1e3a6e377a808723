"""How a mount begins and ends."""

import errno
import os
import random
import signal
import subprocess
import time
import unittest
from pathlib import Path

from mounted import (NOBODY, Mount, MountTest, alive, as_user, fuse_for_everybody, is_mounted, mount_line,
                     needs_root, wait_until)
from tools import SHARDFS, run, sanitizers, without_sanitizer


class Session(MountTest):
    def setUp(self):
        super().setUp()
        self.source = self.tree({"file": b"content", "directory/other": b"more" * 50_000})
        self.shard = self.pack(self.source)
        self.at = self.dir / "at"
        self.at.mkdir()
        self.addCleanup(self.leave_nothing_mounted)

    def leave_nothing_mounted(self):
        if is_mounted(self.at):
            subprocess.run(["umount", "-l", self.at], check=False)

    def mount_fails(self, code: int, *arguments, **options) -> str:
        result = run(SHARDFS, "mount", *arguments, **options)
        self.assertEqual(result.returncode, code, result.stderr)
        self.assertFalse(is_mounted(self.at))
        self.assertTrue(result.stderr.startswith("shardfs: "), result.stderr)
        self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
        return result.stderr

    # --------------------------------------------------------------------------------- beginning

    def test_S26_returns_when_the_tree_can_be_read(self):
        for _ in range(10):
            with Mount(self.shard) as mount:
                self.assertEqual((mount.path / "file").read_bytes(), b"content")
                self.assertTrue(alive(mount.pid))

    def test_S26_the_directory_must_be_fit(self):
        (self.dir / "full").mkdir()
        (self.dir / "full/file").touch()
        self.assertIn("not empty", self.mount_fails(1, self.shard, self.dir / "full"))
        self.assertIn("not a directory", self.mount_fails(1, self.shard, self.dir / "full/file"))
        self.assertIn(f"No such file or directory; try: mkdir -p {self.dir}/none",
                      self.mount_fails(32, self.shard, self.dir / "none"))
        self.assertIn("No such file", self.mount_fails(32, self.dir / "none.tar", self.at))

    @needs_root
    def test_S26_the_directory_must_be_the_user_s_own(self):
        with fuse_for_everybody():
            self.at.chmod(0o777)
            self.assertIn("belongs to somebody else", self.mount_fails(1, self.shard, self.at, **as_user(NOBODY)))

    def test_S26_the_same_again(self):
        with Mount(self.shard) as mount:
            again = run(SHARDFS, "mount", self.shard, mount.path)
            self.assertEqual((again.returncode, again.stderr),
                             (0, f"shardfs: {mount.path}: already mounted\n"))
            relative = run(SHARDFS, "mount", self.shard.name, os.path.relpath(mount.path, self.dir), "-q", cwd=self.dir)
            self.assertEqual((relative.returncode, relative.stderr), (0, ""))
            self.assertEqual(mount_line(mount.path).count("\n"), 1)
            other = self.pack(self.tree({"x": b"y"}, "other"))
            result = run(SHARDFS, "mount", other, mount.path)
            self.assertEqual(result.returncode, 32)
            self.assertIn(f"try: shardfs umount {mount.path}", result.stderr)
            subdir = run(SHARDFS, "mount", self.shard, mount.path, "-o", "subdir=directory")
            self.assertEqual(subdir.returncode, 32)

    def test_what_is_no_shard(self):
        (self.dir / "text.tar").write_text("no archive\n" * 1000)
        self.mount_fails(32, self.dir / "text.tar", self.at)
        self.mount_fails(1, self.dir, self.at)
        self.assertIn("unknown option", self.mount_fails(1, self.shard, self.at, "-o", "ro,colour=blue"))
        self.assertIn("owner is me or archive", self.mount_fails(1, self.shard, self.at, "-o", "owner=you"))
        for wrong in ("uid=-1", "uid=x", "gid=4294967295", "umask=9", "umask=1777"):
            self.mount_fails(1, self.shard, self.at, "-o", wrong)
        self.mount_fails(1, self.shard)
        self.mount_fails(1, self.shard, self.at, "--colour")
        self.mount_fails(1, self.shard, self.at, "--log", self.dir / "no such directory/log", "-o", "uid=x")
        self.mount_fails(32, self.shard, self.at, "--log", self.dir / "no such directory/log")

    def test_S27_always_read_only(self):
        for option in ("rw", "suid", "dev", "ro,rw"):
            self.assertIn("always ro,nosuid,nodev", self.mount_fails(1, self.shard, self.at, "-o", option))
        with Mount(self.shard, "-o", "ro,nosuid,nodev,noexec") as mount:
            options = mount_line(mount.path).split()[5].split(",")
            self.assertLessEqual({"ro", "nosuid", "nodev", "noexec"}, set(options))
            self.assertIn(f" - fuse.shardfs {self.shard} ro,", mount_line(mount.path))
        with Mount(self.shard) as mount:
            self.assertLessEqual({"ro", "nosuid", "nodev"}, set(mount_line(mount.path).split()[5].split(",")))

    @needs_root
    def test_S27_through_mount8(self):
        if not os.path.exists("/usr/sbin/mount.fuse3"):
            self.skipTest("mount.fuse3 is not installed")
        path = f"{Path(SHARDFS).parent}:{os.environ['PATH']}"
        for options in ("defaults", "rw,suid,dev,exec,nofail,owner=me", "ro,x-systemd.automount"):
            self.ok("/usr/sbin/mount.fuse3", self.shard, self.at, "-t", "fuse.shardfs", "-o", options,
                    env={**os.environ, "PATH": path})
            self.assertEqual((self.at / "file").read_bytes(), b"content")
            self.assertLessEqual({"ro", "nosuid", "nodev"}, set(mount_line(self.at).split()[5].split(",")))
            self.silent(SHARDFS, "umount", self.at)

    def test_names_with_anything_in_them(self):
        strange = self.dir / "comma, back\\slash and space"
        strange.mkdir()
        shard = strange / "name, with\\odd things.tar"
        shard.write_bytes(self.shard.read_bytes())
        at = strange / "at,here\\there"
        at.mkdir()
        with Mount(shard, directory=at) as mount:
            self.assertEqual((mount.path / "file").read_bytes(), b"content")
            self.assertEqual(mount.info()["archive"], str(shard))
            self.assertEqual(run(SHARDFS, "mount", shard, at).returncode, 0)
            self.assertEqual(mount.umount().stderr, "")
        self.assertFalse(is_mounted(at))

    def test_holds_nothing_of_the_caller(self):
        reader, writer = os.pipe()
        os.set_inheritable(writer, True)
        with Mount(self.shard) as mount:
            result = subprocess.run([SHARDFS, "mount", self.shard, self.at], pass_fds=[writer], check=True,
                                    stderr=subprocess.PIPE, stdout=subprocess.PIPE, cwd=self.source)
            self.assertIn(b"2 files", result.stderr)
            os.close(writer)
            self.assertEqual(os.read(reader, 1), b"")
            self.assertEqual(os.readlink(f"/proc/{mount.pid}/cwd"), "/")
            self.silent(SHARDFS, "umount", self.at)
        os.close(reader)

    # --------------------------------------------------------------------------------- umount

    def test_S28_unused(self):
        with Mount(self.shard) as mount:
            result = mount.umount()
            self.assertEqual((result.returncode, result.stderr), (0, ""))
            self.assertFalse(is_mounted(mount.path))
            self.assertFalse(alive(mount.pid))
            again = mount.umount()
            self.assertEqual(again.returncode, 32)
            self.assertIn("not mounted", again.stderr)

    def test_S28_by_fusermount3_and_umount(self):
        for command in (["fusermount3", "-u"], ["umount"]):
            with Mount(self.shard) as mount:
                self.silent(*command, mount.path)
                wait_until(lambda pid=mount.pid: not alive(pid), "the daemon's end")

    def test_S28_in_use(self):
        for user in (None, NOBODY) if os.geteuid() == 0 else (None,):
            with Mount(self.shard, user=user) as mount:
                script = "import sys; f = open(sys.argv[1]); print(f.read(1), flush=True); sys.stdin.read(); print(f.read())"
                with subprocess.Popen(["/usr/bin/python3", "-c", script, mount.path / "directory/other"],
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE, **as_user(user)) as reader:
                    self.assertEqual(reader.stdout.readline(), b"m\n")
                    busy = mount.umount()
                    self.assertEqual(busy.returncode, 32)
                    self.assertIn(f"busy; try: shardfs umount -l {mount.path}", busy.stderr)
                    self.assertTrue(is_mounted(mount.path))
                    reader.stdin.close()
                    reader.stdout.read()

    def test_S28_lazily(self):
        with Mount(self.shard) as mount:
            with open(mount.path / "directory/other", "rb", buffering=0) as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
                self.assertEqual(file.read(4), b"more")
                lazy = mount.umount("-l")
                self.assertEqual(lazy.returncode, 0, lazy.stderr)
                self.assertFalse(is_mounted(mount.path))
                self.assertEqual(os.listdir(mount.path), [])
                self.assertTrue(alive(mount.pid))
                self.assertEqual(os.pread(file.fileno(), 4, 180_000), b"more")
            wait_until(lambda: not alive(mount.pid), "the daemon's end")

    def test_S28_a_new_mount_is_left_alone(self):
        """The daemon of a lazily unmounted directory does not touch what was mounted there since."""
        with Mount(self.shard) as mount, open(mount.path / "file", "rb"):
            self.assertEqual(mount.umount("-l").returncode, 0)
            old = mount.pid
            mount.start()
            os.kill(old, signal.SIGTERM)
            wait_until(lambda: not alive(old), "the old daemon's end")
            self.assertEqual((mount.path / "file").read_bytes(), b"content")

    def test_S28_several(self):
        with Mount(self.shard) as one, Mount(self.shard) as two:
            result = run(SHARDFS, "umount", one.path, self.at, two.path)
            self.assertEqual(result.returncode, 64)
            self.assertIn("not mounted", result.stderr)
            self.assertFalse(is_mounted(one.path) or is_mounted(two.path))
            self.assertEqual(run(SHARDFS, "umount").returncode, 1)
            self.assertEqual(run(SHARDFS, "umount", one.path, "--job").returncode, 1)

    @needs_root
    def test_S28_somebody_else_s(self):
        with Mount(self.shard) as mount, fuse_for_everybody():
            result = run(SHARDFS, "umount", mount.path, **as_user(NOBODY))
            self.assertNotEqual(result.returncode, 0)
            self.assertIn("cannot unmount", result.stderr)
            self.assertTrue(is_mounted(mount.path))

    @needs_root
    def test_S28_by_job(self):
        """In a mount namespace of its own: --job takes all mounts of the user outside of a job."""
        script = f"""
            umount -a -l -t fuse.shardfs
            mount -t tmpfs none {self.at} && mkdir {self.at}/a {self.at}/b {self.at}/c
            for job in a b; do SLURM_JOB_ID=$job {SHARDFS} mount -q {self.shard} {self.at}/$job || exit 10; done
            {SHARDFS} mount -q {self.shard} {self.at}/c || exit 11
            {SHARDFS} umount --job b || exit 12
            test -e {self.at}/a/file -a ! -e {self.at}/b/file -a -e {self.at}/c/file || exit 13
            SLURM_JOB_ID=a {SHARDFS} umount --job || exit 15
            test ! -e {self.at}/a/file -a -e {self.at}/c/file || exit 16
            unset SLURM_JOB_ID
            {SHARDFS} umount --job || exit 14
            test ! -e {self.at}/a/file -a ! -e {self.at}/c/file
        """
        self.silent("unshare", "-m", "bash", "-c", script)

    # --------------------------------------------------------------------------------- signals

    def test_S29_signals_unmount(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            with Mount(self.shard) as mount:
                os.kill(mount.pid, number)
                wait_until(lambda pid=mount.pid: not alive(pid), "the daemon's end")
                self.assertFalse(is_mounted(mount.path))
                self.assertIn(f"unmounting on {number.name}", mount.log())

    def test_S29_with_files_open(self):
        for user in (None, NOBODY) if os.geteuid() == 0 else (None,):
            with Mount(self.shard, user=user) as mount:
                script = ("import os, sys; f = os.open(sys.argv[1], os.O_RDONLY); print('open', flush=True)\n"
                          "sys.stdin.read()\ntry: os.read(f, 9)\nexcept OSError as e: print(e.errno)")
                with subprocess.Popen(["/usr/bin/python3", "-c", script, mount.path / "directory/other"],
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE, **as_user(user)) as reader:
                    self.assertEqual(reader.stdout.readline(), b"open\n")
                    os.kill(mount.pid, signal.SIGTERM)
                    wait_until(lambda pid=mount.pid: not alive(pid), "the daemon's end")
                    self.assertFalse(is_mounted(mount.path))
                    reader.stdin.close()
                    self.assertIn(int(reader.stdout.read()), (errno.ENOTCONN, errno.ECONNABORTED))

    def test_S29_in_the_foreground(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            with subprocess.Popen([SHARDFS, "mount", "-f", self.shard, self.at], stderr=subprocess.PIPE) as daemon:
                wait_until(lambda: is_mounted(self.at), "the mount")
                self.assertEqual((self.at / "file").read_bytes(), b"content")
                daemon.send_signal(number)
                self.assertEqual(daemon.wait(10), 0)
                self.assertFalse(is_mounted(self.at))
                self.assertIn(b"shardfs: ", daemon.stderr.read())

    def test_S29_with_readers_at_work(self):
        with Mount(self.shard) as mount:
            loop = "while cat directory/other file >/dev/null 2>&1; do :; done"
            readers = [subprocess.Popen(["bash", "-c", loop], cwd=mount.path) for _ in range(4)]
            time.sleep(0.3)
            os.kill(mount.pid, signal.SIGTERM)
            wait_until(lambda: not alive(mount.pid), "the daemon's end")
            self.assertFalse(is_mounted(mount.path))
            for reader in readers:  # They may go on with what the kernel has cached.
                reader.kill()
                reader.wait()

    def test_S29_with_a_store_that_hangs(self):
        """The archive lies on a mount whose daemon is stopped, as a file system whose server is gone."""
        inner = self.pack(self.tree({"large": b"large" * 1_000_000}, "inner"))
        outer = self.pack(self.tree({"inner.tar": inner.read_bytes()}, "outer"))
        with Mount(outer) as store, Mount(store.path / "inner.tar", "--tier", "none") as mount:
            os.kill(store.pid, signal.SIGSTOP)
            try:
                with subprocess.Popen(["dd", f"if={mount.path}/large", "of=/dev/null", "bs=4k", "skip=500", "count=1"],
                                      stderr=subprocess.DEVNULL) as reader:
                    wait_until(lambda: mount.stats()["fuse"]["read"] > 0, "the read")
                    os.kill(mount.pid, signal.SIGTERM)
                    wait_until(lambda: not alive(mount.pid), "the daemon's end")
                    self.assertNotEqual(reader.wait(), 0)
                self.assertFalse(is_mounted(mount.path))
                # Whichever came first: the read's request to the store, or the end.
                self.assertRegex(mount.log(), "still busy 5 s after|the mount is ending")
            finally:
                os.kill(store.pid, signal.SIGCONT)

    def test_S30_killed(self):
        with Mount(self.shard) as mount:
            os.kill(mount.pid, signal.SIGKILL)
            wait_until(lambda: not alive(mount.pid), "the daemon's end")
            with self.assertRaises(OSError) as caught:
                os.listdir(mount.path / "directory")
            self.assertIn(caught.exception.errno, (errno.ENOTCONN, errno.ECONNABORTED))
            # The kernel aborts what each of the daemon's descriptors had taken, then the connection.
            wait_until(lambda: self.error_of(os.statvfs, mount.path) == errno.ENOTCONN, "the connection's end")
            self.assertTrue(is_mounted(mount.path))
            again = run(SHARDFS, "mount", self.shard, mount.path)
            self.assertEqual(again.returncode, 32)
            self.assertIn(f"has died is there; try: shardfs umount {mount.path}", again.stderr)
            cleared = mount.umount()
            self.assertEqual((cleared.returncode, cleared.stderr), (0, ""))
            self.assertEqual(os.listdir(mount.path), [])
            mount.start()
            self.assertEqual((mount.path / "file").read_bytes(), b"content")

    @unittest.skipIf("thread" in sanitizers(), "with ThreadSanitizer all threads have the same descriptors")
    def test_S30_killed_at_work(self):
        """Whoever waits for it gets an error, and no thread of it stays in the kernel."""
        files = {f"{n // 100:02}/{n:04}": random.Random(n).randbytes(8_000) for n in range(3000)}
        shard = self.pack(self.tree(files, "many"))
        commands = ("find . -ls", "tar -cf - . | cat", "cat */*", "cat 1*/* 2*/* 0*/*")
        for turn in range(12):
            with self.subTest(turn), Mount(shard) as mount:
                users = [subprocess.Popen(["sh", "-c", command], cwd=mount.path, stdout=subprocess.DEVNULL,
                                          stderr=subprocess.DEVNULL) for command in commands]
                for user in users:
                    self.addCleanup(user.wait)
                    self.addCleanup(user.kill)
                time.sleep(random.Random(turn).uniform(0.02, 0.1))
                os.kill(mount.pid, signal.SIGKILL)
                wait_until(lambda pid=mount.pid: not alive(pid), "the daemon's end")
                for user in users:
                    user.wait(20)
                self.assertEqual(mount.umount().returncode, 0)

    def test_S30_killed_with_auto_unmount(self):
        for user in (None, NOBODY) if os.geteuid() == 0 else (None,):
            with Mount(self.shard, "-o", "auto_unmount", user=user) as mount:
                subprocess.run(["find", mount.path], check=True, stdout=subprocess.DEVNULL, **as_user(user))
                os.kill(mount.pid, signal.SIGKILL)
                wait_until(lambda path=mount.path: not is_mounted(path), "unmounting by itself")

    @without_sanitizer()
    def test_S30_crashed(self):
        for crash in (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT):
            with Mount(self.shard) as mount:
                os.kill(mount.pid, crash)
                wait_until(lambda path=mount.path: not is_mounted(path), f"unmounting at {crash.name}")

    @without_sanitizer()
    def test_S30_without_memory_to_go_on(self):
        """A daemon that a limit of memory ends leaves no mount behind. With more it goes on, or does not begin."""
        # What ends one that has begun lies in a narrow band, which is another with each number of CPUs.
        for first in (200_000, 220_000, 240_000, 210_000, 230_000):
            ended = [self.is_ended_by_a_limit(kibibytes) for kibibytes in range(first, first + 500_000, 50_000)]
            if any(ended):
                return
        self.fail("no limit ended a daemon that was mounted")

    def is_ended_by_a_limit(self, kibibytes):
        """Whether a daemon that may have so much address space was mounted, and ended unasked."""
        daemon = subprocess.Popen(["bash", "-c", f'ulimit -v {kibibytes}; exec "$0" "$@"', SHARDFS, "mount", "-f", "-q",
                                   self.shard, self.at], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: daemon.poll() is not None or is_mounted(self.at), "a mount, or the end of its daemon")
            began = is_mounted(self.at)
            if began:
                readers = [subprocess.Popen(["find", self.at, "-type", "f", "-exec", "cat", "{}", "+"],
                                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(8)]
                for reader in readers:
                    reader.wait(30)
            ended = daemon.poll() is not None
            daemon.terminate()
            daemon.wait(30)
        finally:
            daemon.kill()
            daemon.wait()
        self.assertFalse(is_mounted(self.at), kibibytes)
        return began and ended

    def test_the_log_goes_to_a_file(self):
        with Mount(self.shard) as mount:
            self.assertIn(f"{mount.path}: 2 files", mount.log())
        with Mount(self.shard, "-v") as mount:
            self.assertIn("FUSE 7.", mount.log())

    @needs_root
    @without_sanitizer()
    def test_memory_is_about_the_index(self):
        with Mount(self.shard) as mount:
            with open(f"/proc/{mount.pid}/status", encoding="ascii") as status:
                resident = next(int(line.split()[1]) for line in status if line.startswith("RssAnon:"))
            self.assertLess(resident, 8 * 1024)  # KiB; libraries and thread stacks


if __name__ == "__main__":
    unittest.main()
