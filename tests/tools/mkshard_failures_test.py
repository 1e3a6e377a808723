"""What goes wrong while mkshard packs: it says which file and what to do, ends with the right code, and leaves nothing."""

import os
import signal
import subprocess
import time
import unittest

from packing import CHANGE_ON_READ, PackingTest, as_nobody, incompressible, leftovers, start
from tools import MKSHARD, run, without_sanitizer

IS_ROOT = os.geteuid() == 0


def wait_until(condition, process):
    """Waits for `condition`, which `process` must bring about while it lives."""
    while not condition():
        if process.poll() is not None:
            raise AssertionError(f"ended too early: {process.communicate()}")
        time.sleep(0.005)


class SignalTest(PackingTest):
    def assert_stopped(self, process, number):
        out, err = process.communicate()
        self.assertEqual(process.returncode, 128 + number, err)
        self.assertEqual(out, b"")
        self.assertIn(b"stopped by signal SIG" + signal.Signals(number).name[3:].encode(), err)
        self.assertEqual(os.listdir(self.out), [])

    def test_while_waiting_for_standard_input(self):
        self.write("file", incompressible(6 << 20))
        tar = self.tar_of(self.source).read_bytes()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGXCPU, signal.SIGQUIT):
            for sent in (b"", tar[:512], tar[:5 << 20]):
                process = start("-", "-o", self.out / "a.tar", stdin=subprocess.PIPE)
                wait_until(lambda: leftovers(self.out), process)
                process.stdin.write(sent)
                process.stdin.flush()
                process.send_signal(number)
                # The pipe stays open: it is the signal that ends the waiting.
                with process.stdin:
                    process.wait()
                process.stdin = None
                self.assert_stopped(process, number)

    def test_while_compressing(self):
        for number in range(64):
            self.write(f"{number:02}", incompressible(1 << 20))
        for options in (["--level=19"], ["--level=19", "--threads=1"]):
            process = start(self.source, "-o", self.out / "a.tar.zst", *options)
            wait_until(lambda: any(os.path.getsize(self.out / name) for name in leftovers(self.out)), process)
            process.send_signal(signal.SIGTERM)
            self.assert_stopped(process, signal.SIGTERM)

    def test_while_sampling(self):
        process = start("-", "-o", self.out / "a", stdin=subprocess.PIPE)
        wait_until(lambda: leftovers(self.out), process)
        process.send_signal(signal.SIGINT)
        with process.stdin:
            process.wait()
        process.stdin = None
        self.assert_stopped(process, signal.SIGINT)

    def test_an_ignored_hangup_stays_ignored(self):
        self.write("file")
        tar = self.tar_of(self.source).read_bytes()
        process = subprocess.Popen(["sh", "-c", 'trap "" HUP; exec "$@"', "-", MKSHARD, "-", "-o", self.out / "a.tar"],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        wait_until(lambda: leftovers(self.out), process)
        process.send_signal(signal.SIGHUP)
        process.communicate(tar)
        self.assertEqual(process.returncode, 0)
        self.assertEqual(self.files("a.tar"), ["file"])


class FullDiskTest(PackingTest):
    def full(self, source, name, *options, **run_options):
        said = self.refused(source, "-o", self.out / name, *options, **run_options)
        self.assertRegex(said, r"a\.tar(\.zst)?: cannot write (to the device )?after [\d.]+ \w+: No space left on device; try: ")
        return said

    def mount_small(self):
        if not IS_ROOT:
            self.skipTest("mounting a small tmpfs needs root")
        self.ok("mount", "-t", "tmpfs", "-o", "size=2m", "none", self.out)
        self.addCleanup(subprocess.run, ["umount", self.out], check=True)

    def tearDown(self):
        if os.path.ismount(self.out):
            self.assertEqual(os.listdir(self.out), [])
        super().tearDown()

    def test_small_file_system(self):
        self.mount_small()
        for number in range(30):
            self.write(f"{number}", incompressible(500_000))
        for name in ("a.tar", "a.tar.zst"):
            for threads in ("1", "4"):
                self.full(self.source, name, "--threads", threads)
        self.write("0", incompressible(20 << 20))
        self.full(self.source, "a.tar")
        self.full(self.source, "a.tar.zst")

    def test_full_at_the_very_end(self):
        self.mount_small()
        self.write("0", incompressible(2 << 20))  # The buffer of some MiB is written last.
        self.full(self.source, "a.tar")

    def test_the_producer_of_a_pipe_need_not_end_first(self):
        self.mount_small()
        self.write("0", incompressible(20 << 20))
        tar = self.tar_of(self.source).read_bytes()
        process = start("-", "-o", self.out / "a.tar", stdin=subprocess.PIPE)
        try:
            process.stdin.write(tar[:12 << 20])
            process.stdin.flush()
        except BrokenPipeError:
            pass
        process.wait()  # With the pipe still open.
        try:
            process.stdin.close()
        except BrokenPipeError:
            pass
        process.stdin = None
        self.assertIn(b"No space left on device", process.communicate()[1])
        self.assertEqual(process.returncode, 2)
        self.assertEqual(os.listdir(self.out), [])

    def test_file_size_limit(self):
        self.write("0", incompressible(9 << 20))
        result = run("bash", "-c", 'ulimit -f 1000; exec "$@"', "-", MKSHARD, self.source, "-o", self.out / "a.tar")
        self.assertEqual(result.returncode, 2, result.stderr)
        self.assertIn("File too large; try: ulimit -f unlimited", result.stderr)
        self.assertEqual(os.listdir(self.out), [])


@without_sanitizer()
class LimitTest(PackingTest):
    """Limits of threads and memory."""

    def test_memory(self):
        for number in range(20):
            self.write(f"{number}", incompressible(3 << 20))
        tar = self.tar_of(self.source)
        for source in (self.source, tar):
            for mebibytes in (60, 100, 150, 200, 300, 500):
                self.limited(f"ulimit -v {mebibytes << 10}", source)
        said = self.limited(f"ulimit -v {60 << 10}", self.source, expect=2)
        self.assertIn("try: --threads 1, or a higher limit", said)

    @unittest.skipUnless(IS_ROOT, "running as another user needs root")
    def test_threads(self):
        self.write("file")
        os.chmod(self.out, 0o777)
        tar = self.tar_of(self.source)
        for source in (self.source, tar):
            said = self.limited("ulimit -u 0", source, expect=2, **as_nobody())
            self.assertIn("cannot start a thread", said)

    def limited(self, limit, source, expect=None, **options):
        result = run("bash", "-c", f'{limit} && exec "$@"', "-", MKSHARD, source, "-o", self.out / "a", "--threads=8",
                     "--quiet", **options)
        self.assertIn(result.returncode, (0, 2) if expect is None else (expect,), (limit, result.stderr))
        if result.returncode == 0:
            os.unlink(self.out / result.stdout.split(":")[0])
        self.assertEqual(os.listdir(self.out), [], limit)
        return result.stderr


class UnreadableTest(PackingTest):
    def setUp(self):
        super().setUp()
        if not IS_ROOT:
            self.skipTest("running as another user needs root")
        if run("test", "-x", MKSHARD, **as_nobody()).returncode != 0:
            self.skipTest(f"nobody cannot read {MKSHARD}")
        os.chmod(self.out, 0o777)
        self.write("a")
        self.write("secret").chmod(0o600)
        self.write("locked/file")
        self.write("z")

    def test_a_file(self):
        (self.source / "locked/file").unlink()
        said = self.refused(self.source, "-o", self.out / "a.tar", **as_nobody())
        self.assertEqual(said, "mkshard: secret: cannot open: Permission denied; try: --ignore-failed-read, or pack a "
                               "snapshot of the directory\n")
        said = self.pack(self.source, "a.tar", "--ignore-failed-read", expect=1, **as_nobody())
        self.assertEqual(said["skipped"], [{"path": "secret", "errno": 13, "text": "cannot open: Permission denied"}])
        self.assertIn("mkshard: warning: secret: cannot open: Permission denied\n", said["stderr"])
        self.assertIn("1 files were skipped or changed", said["stderr"])
        self.assertEqual(self.files("a.tar"), ["a", "z"])

    def test_a_directory(self):
        (self.source / "locked").chmod(0o000)
        (self.source / "secret").unlink()
        for order in ([], ["--order=shuffle:1"]):
            said = self.refused(self.source, "-o", self.out / "a.tar", *order, **as_nobody())
            self.assertIn("mkshard: locked: cannot open the directory: Permission denied; try: ", said)
            said = self.pack(self.source, "a.tar", "--ignore-failed-read", "--force", *order, expect=1, **as_nobody())
            self.assertEqual([s["path"] for s in said["skipped"]], ["locked"])
            self.assertEqual(sorted(self.files("a.tar")), ["a", "z"])
            (self.out / "a.tar").unlink()

    def test_the_source_itself(self):
        self.source.chmod(0o000)
        said = self.refused(self.source, "-o", self.out / "a.tar", **as_nobody())
        self.assertIn("source: cannot open the directory: Permission denied", said)

    def test_an_output_directory_without_permission(self):
        self.out.chmod(0o755)
        said = self.refused(self.source, "-o", self.out / "a.tar", **as_nobody())
        self.assertIn("a.tar: cannot create a file beside it: Permission denied", said)

    def test_an_owner_keeps_unreadable_xattrs_to_itself(self):
        os.setxattr(self.source / "a", "trusted.secret", b"root only")
        os.setxattr(self.source / "a", "user.label", b"cat")
        (self.source / "secret").unlink()
        self.pack(self.source, "a.tar", **as_nobody())
        headers = self.members("a.tar")["a"].pax_headers
        self.assertEqual([k for k in headers if k.startswith("SCHILY")], ["SCHILY.xattr.user.label"])


@unittest.skipUnless(CHANGE_ON_READ.exists(), "libchange_on_read.so is not built")
class ChangingTest(PackingTest):
    """Files that another process changes between two of mkshard's reads; see change_on_read.cpp."""

    def setUp(self):
        super().setUp()
        self.write("a")
        self.write("z")

    def changing(self, size, how, times):
        self.write("moving", incompressible(size))
        return self.change_while_reading("/moving", how, times)

    def test_a_small_file_is_fatal_by_default(self):
        for how in ("touch", "grow", "truncate"):
            said = self.refused(self.source, "-o", self.out / "a.tar", env=self.changing(300_000, how, 1))
            self.assertEqual(said, "mkshard: moving: changed while it was read; try: --ignore-failed-read, or pack a "
                                   "snapshot of the directory\n", how)

    def test_a_small_file_is_read_again(self):
        for how in ("touch", "grow", "truncate"):
            environment = self.changing(300_000, how, 3)
            said = self.pack(self.source, "a.tar", "--ignore-failed-read", "--force", env=environment)
            self.assertEqual(said["skipped"], [])
            self.assertEqual(self.data("a.tar", "moving"), (self.source / "moving").read_bytes())

    def test_a_small_file_that_never_rests_is_skipped(self):
        for how in ("touch", "grow", "truncate"):
            environment = self.changing(300_000, how, 100)
            said = self.pack(self.source, "a.tar", "--ignore-failed-read", "--force", expect=1, env=environment)
            self.assertEqual(said["skipped"], [{"path": "moving", "errno": 0, "text": "changed while it was read"}])
            self.assertEqual(self.files("a.tar"), ["a", "z"])

    def test_a_large_file_that_shrinks_is_always_fatal(self):
        for options in ([], ["--ignore-failed-read"]):
            environment = self.changing(30 << 20, "truncate", 1)
            said = self.refused(self.source, "-o", self.out / "a.tar", *options, env=environment)
            self.assertIn("moving: became shorter while it was read; what a tar has promised cannot be taken back", said)

    def test_a_large_file_that_changes_is_kept_with_a_warning(self):
        for how in ("touch", "grow"):
            environment = self.changing(9 << 20, how, 1)
            said = self.refused(self.source, "-o", self.out / "a.tar", env=environment)
            self.assertIn("moving: changed while it was read; try: --ignore-failed-read", said)
            environment = self.changing(9 << 20, how, 1)
            said = self.pack(self.source, "a.tar", "--ignore-failed-read", "--force", expect=1, env=environment)
            self.assertEqual(said["skipped"][0]["text"], "changed while it was read; packed as it was read")
            self.assertEqual(self.data("a.tar", "moving"), (self.source / "moving").read_bytes()[:9 << 20])
            (self.out / "a.tar").unlink()

    def test_another_name_of_a_file_that_changed_is_no_link(self):
        """Nor is that of another file that has got its number."""
        environment = self.changing(9 << 20, "grow", 1)
        os.link(self.source / "moving", self.source / "zz")
        for number in range(30):  # more than is looked at ahead
            self.write(f"x{number:02}", bytes(4 << 20))
        self.pack(self.source, "a.tar", "--ignore-failed-read", "--threads=1", expect=1, env=environment)
        now = (self.source / "zz").read_bytes()
        self.assertEqual(self.data("a.tar", "moving"), now[:9 << 20])
        self.assertTrue(self.members("a.tar")["zz"].isreg())
        self.assertEqual(self.data("a.tar", "zz"), now)

    def test_an_attribute_that_cannot_be_read_is_named(self):
        environment = self.changing(1000, "lose", 100)
        os.setxattr(self.source / "moving", "user.label", b"cat")
        done = run(MKSHARD, self.source, "-o", self.out / "a.tar", env={**os.environ, **environment})
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("moving: cannot read user.label, not packed: Input/output error\n", done.stderr)
        self.assertEqual(self.data("a.tar", "moving"), (self.source / "moving").read_bytes())

    def test_verify_finds_what_the_disk_changed(self):
        self.write("moving", incompressible(300_000))
        environment = self.change_while_reading(".tmp-", "flip", 1)
        for name in ("a.tar", "a.tar.zst"):
            said = self.refused(self.source, "-o", self.out / name, "--verify", env=environment)
            self.assertIn("what was written reads back wrong", said)
            self.pack(self.source, name, env=environment)  # Without --verify nobody looks.


if __name__ == "__main__":
    unittest.main()
