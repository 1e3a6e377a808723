"""What a cache server does with clients that break its rules, and a mount with servers that do."""

import contextlib
import errno
import fcntl
import json
import os
import socket
import struct
import subprocess
import threading
import time
import unittest
from pathlib import Path

import cache_client as wire
from cache_client import Client, memfd, open_request, packet, want
from cached import HANG, UNIT, CachedMount, CacheTest, descriptors
from mounted import NOBODY, alive, as_user, needs_root, wait_until
from tools import SHARDFS

PAGE = 4096


class ServerTest(CacheTest):
    """A server of its own, and a good client that keeps it and must go on being served."""

    MEBIBYTES = 12

    def setUp(self):
        super().setUp()
        self.archive = self.make_archive(self.MEBIBYTES)
        self.content = self.archive.read_bytes()
        self.ok(SHARDFS, "cache-server", self.cache.parent)
        self.server = self.cache.wait_for_server()
        self.addCleanup(self.end_server)
        self.good = self.connect()
        self.good.open(self.archive)
        wait_until(lambda: all(self.good.has_unit(unit) for unit in range((self.MEBIBYTES << 20) // UNIT)), "the mirror", HANG)
        self.descriptors = len(descriptors(self.server))

    def make_archive(self, mebibytes: int, name: str = "archive") -> Path:
        (self.dir / "store").mkdir(exist_ok=True)
        archive = self.dir / "store" / name
        archive.write_bytes(os.urandom(mebibytes << 20))
        return archive

    def end_server(self):
        """By the end of its last client; what it has left is in order."""
        self.good.close()
        self.assert_nothing_left(self.cache)

    def connect(self) -> Client:
        return self.enter(Client(self.cache.path, HANG))

    def greeted(self) -> Client:
        client = self.connect()
        self.assertEqual(client.hello()[0], wire.WELCOME)
        return client

    def opened(self, file=None, tier: int = wire.DISK, **bounds) -> Client:
        client = self.connect()
        client.open(file or self.archive, tier, **bounds)
        return client

    def still_well(self):
        """The server lives, serves the good client, and holds nothing of the others."""
        self.assertEqual(self.cache.server(), self.server)
        self.assertEqual(self.good.ask(wire.PING)[0], wire.PONG)
        self.assertEqual(self.good.read(UNIT + 5, 1000), self.content[UNIT + 5:UNIT + 1005])
        self.assertEqual(self.good.read(77, 500, wire.DISTRUST), self.content[77:577])
        wait_until(lambda: len(descriptors(self.server)) <= self.descriptors, "the end of others' descriptors", HANG)

    def figures(self, client: Client | None = None) -> dict:
        kind, text, _ = (client or self.good).ask(wire.STAT, struct.pack("<I", 0))
        self.assertEqual(kind, wire.STATS)
        return json.loads(text)

    def is_dropped(self, client: Client):
        while (kind := client.take()[0]) != wire.GONE:
            self.assertIn(kind, (wire.WELCOME, wire.OPENED, wire.PONG, wire.LOCAL, wire.BUFFER))
        client.close()


class BrokenRules(ServerTest):
    def test_what_is_no_packet(self):
        hello = struct.pack("<I", os.getpid())
        for data in (b"", b"\0", b"GET / HTTP/1.0\r\n\r\n", os.urandom(11), os.urandom(12), os.urandom(wire.PACKET_BYTES),
                     packet(wire.HELLO, hello, protocol=wire.PROTOCOL + 1), packet(wire.HELLO, hello, zero=1),
                     packet(wire.HELLO, hello, size=3), packet(wire.HELLO, hello, size=5),
                     packet(wire.HELLO, hello, size=(1 << 32) - 1), packet(wire.HELLO, hello)[:13],
                     packet(wire.HELLO, bytes(wire.PACKET_BYTES))):
            for greeted in (False, True):
                with self.subTest(data=data[:20], greeted=greeted):
                    client = self.greeted() if greeted else self.connect()
                    client.send_raw(data, [client.own(memfd())])
                    self.is_dropped(client)
        self.still_well()

    def test_requests_before_hello(self):
        for kind in range(wire.OPEN, wire.CLEAR + 1):
            with self.subTest(kind=kind):
                client = self.connect()
                if kind == wire.PING:
                    self.assertEqual(client.ask(kind)[0], wire.PONG)
                    client.close()
                    continue
                client.send(kind, bytes(64), [client.own(memfd(PAGE))])
                self.is_dropped(client)
        self.still_well()

    def test_requests_that_make_no_sense(self):
        block = wire.BLOCK.pack(bytes(16), 0, 100, 0)
        file = self.enter(open(self.archive, "rb")).fileno()
        for kind, payload, sent in (
                (0, b"", []), (11, b"", []), (wire.WELCOME, bytes(4), []), (wire.PONG, b"", []), (65535, bytes(100), []),
                (wire.HELLO, bytes(4), [file]), (wire.OPEN, open_request(), []), (wire.OPEN, bytes(47), [file]),
                (wire.OPEN, open_request(wire.NONE), [file]), (wire.OPEN, open_request(9), [file]),
                (wire.WANTED, want(0, 10, archive=1), []), (wire.WANTED, want(0, 10, archive=(1 << 32) - 1), []),
                (wire.WANTED, want(0, 10)[:-1], []), (wire.HINTED, wire.HINT.pack(7, 0), []), (wire.HINTED, b"123", []),
                (wire.GET, block[:-1], []), (wire.GET, wire.BLOCK.pack(bytes(16), 0, 0, 0), []),
                (wire.PUT, wire.BLOCK.pack(bytes(16), 0, wire.BUFFER_BYTES + 1, 0), []),
                (wire.PUT, block, []), (wire.STAT, b"", [])):
            with self.subTest(kind=kind, payload=payload[:20]):
                client = self.opened()
                client.send(kind, payload, sent)
                self.is_dropped(client)
        self.still_well()

    def test_hello_without_a_buffer(self):
        client = self.connect()
        client.send(wire.HELLO, bytes(4))
        self.is_dropped(client)
        client = self.connect()
        client.send(wire.HELLO, bytes(3), [client.own(memfd())])
        self.is_dropped(client)
        self.still_well()

    def test_descriptors_that_nobody_asked_for(self):
        for count in (1, 3, 4, 100, 250):
            client = self.greeted()
            many = [client.own(memfd()) for _ in range(count)]
            client.send(wire.STAT, bytes(4), many)
            client.take()
            client.close()
        self.still_well()

    def test_ranges_that_are_none(self):
        client = self.opened()
        size = len(self.content)
        for offset, length in ((0, 0), (size, 1), (size - 1, 2), (1 << 63, 1), ((1 << 64) - 1, 1), ((1 << 64) - 1, PAGE),
                               (0, wire.BUFFER_BYTES + 1), (0, (1 << 32) - 1), (UNIT - 1, 2), ((1 << 64) - PAGE, PAGE)):
            for flags in (0, wire.DISTRUST, (1 << 32) - 1):
                with self.subTest(offset=offset, length=length, flags=flags):
                    self.assertEqual(client.ask(wire.WANTED, want(offset, length, flags=flags))[0], wire.FAILED)
        self.assertEqual(client.read(size - 10, 10), self.content[-10:])
        client.close()
        self.still_well()

    def test_hints_that_are_none(self):
        client = self.opened()
        size = len(self.content)
        ranges = [(0, 0), (size, 1), (0, size + 1), ((1 << 64) - 1, (1 << 64) - 1), (1 << 63, 1 << 63), (1, (1 << 64) - 1)]
        payload = wire.HINT.pack(0, 1) + b"".join(wire.RANGE.pack(*one) for one in ranges) + b"rest"
        self.assertEqual(client.ask(wire.HINTED, payload)[0], wire.DONE)
        self.assertEqual(client.read(PAGE, 10), self.content[PAGE:PAGE + 10])
        client.close()
        self.still_well()

    def test_staging_waits_for_hints_that_were_announced(self):
        other = self.make_archive(5 * UNIT >> 20, "other")
        store = self.slow_store()
        client = self.opened(store.path / other.name, hints_follow=True)
        self.assertEqual(client.ask(wire.PING)[0], wire.PONG)  # The server has its archive in sight.
        time.sleep(0.5)  # Without the announcement staging begins after 30 ms.
        self.assertEqual(store.stats()["requests"], 0)
        hint = wire.HINT.pack(0, 0) + wire.RANGE.pack(3 * UNIT, 2 * UNIT)
        self.assertEqual(client.ask(wire.HINTED, hint)[0], wire.DONE)
        wait_until(lambda: all(client.has_unit(unit) for unit in range(5)), "what was hinted, and the rest", HANG)
        client.close()
        self.still_well()

    def test_a_second_request_while_one_is_pending(self):
        store = self.slow_store()
        other = self.make_archive(4, "other")
        client = self.opened(store.path / other.name, memory=0, tier=wire.MEMORY)
        store.stall()
        client.send(wire.WANTED, want(0, 100))
        store.wait_until_stalled()
        self.assertEqual(client.ask(wire.PING)[0], wire.PONG)
        client.send(wire.WANTED, want(0, 100))
        self.is_dropped(client)
        self.assertEqual(self.good.ask(wire.PING)[0], wire.PONG)
        store.clear()
        self.still_well()

    def test_200_connections(self):
        for close_first in (False, True):
            clients = [Client(self.cache.path, HANG) for _ in range(200)]
            for number, client in enumerate(clients):
                client.__enter__()
                if number % 3 == 1:
                    client.send_raw(packet(wire.HELLO, bytes(4)), [client.own(memfd())])
                if number % 3 == 2:
                    client.send_raw(packet(wire.HELLO, bytes(4)), [client.own(memfd())])
                    client.send(wire.OPEN, open_request(), [client.own(os.open(self.archive, os.O_RDONLY))])
                if close_first:
                    client.close()
            if not close_first:
                self.assertEqual(self.good.ask(wire.PING)[0], wire.PONG)
            for client in clients:
                client.close()
            self.still_well()
        # What still_well() distrusts is fetched again.
        wait_until(lambda: self.figures()["staged_bytes"] == len(self.content), "the whole archive", HANG)

    def test_a_peer_that_never_reads(self):
        client = self.opened()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, TimeoutError):
            for _ in range(100_000):
                client.send(wire.PING)
            self.fail("the server takes any number of requests whose answers nobody reads")
        self.still_well()

    def test_a_dead_client_s_limits_go_with_it(self):
        other = self.make_archive(8, "other")
        for _ in range(20):
            client = self.greeted()
            client.send(wire.OPEN, open_request(most=0, memory=0, inflight=1), [client.own(os.open(other, os.O_RDONLY))])
            client.close()
        client = self.opened(other)
        self.assertGreater(self.figures(client)["cache"]["limit_bytes"], 0)
        wait_until(lambda: client.has_unit(1), "the archive in the mirror", HANG)

    def test_what_nobody_has_open_makes_room(self):
        """Also where its last client went while the server lived."""
        one, two = self.make_archive(8, "one"), self.make_archive(8, "two")
        room = {"most": len(self.content) + (12 << 20)}
        first = self.opened(one, **room)
        wait_until(lambda: first.has_unit(0) and first.has_unit(1), "the first archive in the mirror", HANG)
        first.close()
        second = self.opened(two, **room)
        wait_until(lambda: second.has_unit(0) and second.has_unit(1), "the second archive in the mirror", HANG)


    def test_no_more_than_is_needed_makes_room(self):
        archives = [self.make_archive(8, f"number {n}") for n in range(4)]
        mirrors = self.cache.path / "mirror"

        def stage(archive):
            client = self.opened(archive, most=len(self.content) + (28 << 20))
            wait_until(lambda: client.has_unit(0) and client.has_unit(1), "an archive in the mirror", HANG)
            client.close()
        for archive in archives[:3]:
            stage(archive)
        before = {file.stem for file in mirrors.iterdir()}
        stage(archives[3])
        self.assertEqual(len(before - {file.stem for file in mirrors.iterdir()}), 1)


class OddDescriptors(ServerTest):
    def refused(self, store: int, tier: int):
        client = self.greeted()
        kind, text, _ = client.ask(wire.OPEN, open_request(tier), [store])
        self.assertEqual(kind, wire.FAILED, f"opened: {text!r}")
        self.assertEqual(client.ask(wire.PING)[0], wire.PONG)
        client.close()

    def test_stores_that_are_no_files(self):
        reader, writer = os.pipe()
        one, two = socket.socketpair()
        with one, two, open(reader, "rb"), open(writer, "wb"):
            directory = os.open(self.dir, os.O_RDONLY)
            zero = os.open("/dev/zero", os.O_RDONLY)
            before = self.cache.left()
            try:
                for store in (directory, reader, writer, one.fileno(), zero):
                    for tier in (wire.DISK, wire.MEMORY):
                        with self.subTest(store=os.readlink(f"/proc/self/fd/{store}"), tier=tier):
                            self.refused(store, tier)
                self.assertEqual(self.cache.left() - before, set())
            finally:
                for store in (directory, zero):
                    os.close(store)
        self.still_well()

    def test_a_store_that_cannot_be_read(self):
        other = self.make_archive(1, "other")
        for flags in (os.O_WRONLY, os.O_PATH):
            with self.subTest(flags=flags):
                client = self.greeted()
                store = client.own(os.open(other, flags))
                if client.ask(wire.OPEN, open_request(wire.MEMORY), [store])[0] == wire.OPENED:
                    self.assertEqual(client.ask(wire.WANTED, want(0, 100))[0], wire.FAILED)
                client.close()
        self.still_well()
        self.assertEqual(self.opened(other).read(0, 100), other.read_bytes()[:100])

    def test_an_empty_store(self):
        empty = self.dir / "empty"
        empty.touch()
        for tier in (wire.DISK, wire.MEMORY, wire.PARTIAL):
            client = self.greeted()
            client.ask(wire.OPEN, open_request(tier), [client.own(os.open(empty, os.O_RDONLY))])
            self.assertIn(client.ask(wire.WANTED, want(0, 1))[0], (wire.FAILED, wire.GONE))
            client.close()
        self.still_well()

    def test_a_store_larger_than_anything(self):
        for size in (1 << 60, (1 << 63) - 1):
            for tier in (wire.MEMORY, wire.DISK):
                with self.subTest(size=size, tier=tier):
                    self.refused(self.good.own(memfd(size)), tier)
        self.still_well()

    def test_a_hint_larger_than_memory(self):
        huge = self.good.own(memfd(1 << 40))
        client = self.opened(huge, wire.MEMORY, memory=0)
        hint = wire.HINT.pack(0, 0) + wire.RANGE.pack(0, 1 << 40)
        self.assertEqual(client.ask(wire.HINTED, hint)[0], wire.DONE)
        self.assertEqual(client.read(10, 100), bytes(100))
        client.close()
        self.still_well()

    def test_a_want_across_two_requests_of_a_hint(self):
        """A hinted range is fetched 4 MiB at a time; what is asked for lies in both of two parts."""
        store = self.slow_store()
        other = self.make_archive(16, "other")
        client = self.opened(store.path / other.name, wire.MEMORY, memory=0)
        store.stall()
        begin = 1 << 20
        hint = wire.HINT.pack(0, 0) + wire.RANGE.pack(begin, 2 * UNIT)
        self.assertEqual(client.ask(wire.HINTED, hint)[0], wire.DONE)
        store.wait_until_stalled()
        client.send(wire.WANTED, want(begin + UNIT - PAGE, 2 * PAGE))
        time.sleep(0.2)
        store.clear()
        self.assertTrue(client.has_answer(HANG), "no answer")
        self.assertEqual(client.take()[0], wire.BUFFER)
        at = begin + UNIT - PAGE
        self.assertEqual(os.pread(client.buffer, 2 * PAGE, 0), other.read_bytes()[at:at + 2 * PAGE])
        client.close()
        self.still_well()

    def test_buffers_that_cannot_be_written(self):
        small = memfd(PAGE, flags=os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        fcntl.fcntl(small, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
        sealed = memfd(wire.BUFFER_BYTES, flags=os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        fcntl.fcntl(sealed, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
        writable = memfd(wire.BUFFER_BYTES)
        read_only = os.open(f"/proc/self/fd/{writable}", os.O_RDONLY)
        reader, writer = os.pipe()
        directory = os.open(self.dir, os.O_RDONLY)
        other = self.make_archive(8, "other")
        for name, buffer in (("small", small), ("sealed", sealed), ("read-only", read_only), ("pipe", writer),
                             ("pipe's other end", reader), ("directory", directory)):
            with self.subTest(name):
                client = self.connect()
                client.own(buffer)
                self.assertIn(client.hello(buffer)[0], (wire.WELCOME, wire.GONE))
                store = client.own(os.open(other, os.O_RDONLY))
                if client.ask(wire.OPEN, open_request(wire.MEMORY, memory=0), [store])[0] != wire.GONE:
                    self.assertIn(client.ask(wire.WANTED, want(0, 2 * PAGE))[0], (wire.FAILED, wire.GONE))
                    self.assertIn(client.ask(wire.PUT, wire.BLOCK.pack(bytes(16), 0, 2 * PAGE, 0))[0],
                                  (wire.FAILED, wire.GONE, wire.DONE))
                client.close()
        os.close(writable)
        self.still_well()

    def test_memory_comes_back_when_the_last_reader_dies(self):
        """Also that of units which were on their way."""
        store = self.slow_store()
        other = self.make_archive(24, "other")
        client = self.opened(store.path / other.name, wire.MEMORY)
        store.stall()
        store.wait_until_stalled()
        client.close()
        store.clear()
        wait_until(lambda: store.stats()["in_flight"] == 0, "the store's last answer", HANG)
        self.still_well()
        self.assertEqual(self.figures()["cache"]["memory_bytes"], 0)


class Strangers(ServerTest):
    SCRIPT = """
import socket, sys
one = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
one.settimeout(30)
try:
    one.connect(sys.argv[1])
    one.send(bytes.fromhex(sys.argv[2]))
    print("answer" if one.recv(100) else "closed")
except ConnectionError:
    print("closed")
except OSError as error:
    print(error.strerror)
"""

    def as_nobody(self) -> str:
        command = ["/usr/bin/python3", "-c", self.SCRIPT, str(self.cache.path / "socket"), packet(wire.PING).hex()]
        return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd="/", **as_user(NOBODY)).stdout.strip()

    @needs_root
    def test_another_user(self):
        self.cache.parent.chmod(0o755)
        self.assertEqual(self.as_nobody(), os.strerror(errno.EACCES))
        self.cache.path.chmod(0o755)
        (self.cache.path / "socket").chmod(0o777)
        self.assertEqual(self.as_nobody(), "closed")
        self.cache.path.chmod(0o700)
        self.still_well()


class Leases(ServerTest):
    """Decoded blocks: one client decodes, the others wait for what it puts."""

    def setUp(self):
        super().setUp()
        self.block = wire.BLOCK.pack(os.urandom(16), 12345, 2 * PAGE, 1)
        self.bytes = os.urandom(2 * PAGE)

    def put(self, client: Client):
        os.pwrite(client.buffer, self.bytes, 0)
        self.assertEqual(client.ask(wire.PUT, self.block)[0], wire.DONE)

    def gets_bytes(self, client: Client):
        self.assertEqual(client.take()[0], wire.BUFFER)
        self.assertEqual(os.pread(client.buffer, 2 * PAGE, 0), self.bytes)

    def holder_and_waiting(self, count: int = 2):
        holder = self.greeted()
        self.assertEqual(holder.ask(wire.GET, self.block)[0], wire.LEASE)
        waiting = [self.greeted() for _ in range(count)]
        for client in waiting:  # Served in their turn: one that gets a PONG has its place in the queue.
            client.send(wire.GET, self.block)
            self.assertEqual(client.ask(wire.PING)[0], wire.PONG)
            self.assertFalse(client.has_answer(0))
        return holder, waiting

    def test_one_decodes_all_get(self):
        holder, waiting = self.holder_and_waiting()
        self.put(holder)
        for client in waiting:
            self.gets_bytes(client)
        late = self.greeted()
        late.send(wire.GET, self.block)
        self.gets_bytes(late)
        for client in (holder, late, *waiting):
            client.close()
        self.still_well()

    def test_abandoned(self):
        holder, (second, third) = self.holder_and_waiting()
        self.assertEqual(holder.ask(wire.ABANDON, self.block)[0], wire.DONE)
        self.assertEqual(second.take()[0], wire.LEASE)
        self.assertFalse(third.has_answer(0))
        self.assertEqual(third.ask(wire.PING)[0], wire.PONG)
        self.put(second)
        self.gets_bytes(third)
        for client in (holder, second, third):
            client.close()
        self.still_well()

    def test_the_holder_dies(self):
        holder, (second, third) = self.holder_and_waiting()
        holder.close()
        self.assertEqual(second.take()[0], wire.LEASE)
        second.close()
        self.assertEqual(third.take()[0], wire.LEASE)
        self.put(third)
        third.close()
        self.still_well()

    def test_one_who_waits_dies(self):
        holder, (second, third) = self.holder_and_waiting()
        second.close()
        self.assertEqual(self.good.ask(wire.PING)[0], wire.PONG)
        self.assertEqual(holder.ask(wire.ABANDON, self.block)[0], wire.DONE)
        self.assertEqual(third.take()[0], wire.LEASE)
        for client in (holder, third):
            client.close()
        self.still_well()

    def test_the_holder_asks_again(self):
        holder = self.greeted()
        self.assertEqual(holder.ask(wire.GET, self.block)[0], wire.LEASE)
        holder.send(wire.GET, self.block)
        self.assertTrue(holder.has_answer(5), "it waits for itself")
        self.assertEqual(holder.take()[0], wire.LEASE)
        holder.close()
        self.still_well()

    def test_from_one_who_holds_no_lease(self):
        holder, (second, third) = self.holder_and_waiting()
        stranger = self.greeted()
        self.assertEqual(stranger.ask(wire.ABANDON, self.block)[0], wire.DONE)
        self.assertFalse(second.has_answer(0))
        self.put(holder)
        for client in (second, third):
            self.gets_bytes(client)
        for client in (holder, stranger, second, third):
            client.close()
        self.still_well()


class FakeServer:
    """Somebody who holds a cache directory's lock and socket; `behave` is called with each connection."""

    def __init__(self, cache, behave):
        self.cache, self.behave = cache, behave
        self.stack = contextlib.ExitStack()
        self.connections = []
        self.ending = False

    def __enter__(self):
        self.cache.path.mkdir(mode=0o700, exist_ok=True)
        lock = self.stack.enter_context(open(self.cache.path / "lock", "wb"))
        fcntl.flock(lock, fcntl.LOCK_EX)
        self.listening = self.stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        self.listening.bind(str(self.cache.path / "socket"))
        self.listening.listen(100)
        self.listening.settimeout(0.05)
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()
        return self

    def __exit__(self, *_):
        """Leaves the directory to a real server."""
        self.ending = True
        self.thread.join()
        for one in self.connections:
            one.close()
        (self.cache.path / "socket").unlink()
        (self.cache.path / "lock").unlink()
        self.stack.close()

    def _serve(self):
        threads = []
        while not self.ending:
            with contextlib.suppress(TimeoutError):
                one, _ = self.listening.accept()
                one.settimeout(0.05)
                self.connections.append(one)
                threads.append(threading.Thread(target=self._talk, args=[one]))
                threads[-1].start()
        for thread in threads:
            thread.join()

    def _talk(self, one):
        with contextlib.suppress(OSError):
            self.behave(self, one)

    def requests(self, one):
        """The requests of a connection, until either end goes."""
        while not self.ending:
            try:
                data = one.recv(wire.PACKET_BYTES)
            except TimeoutError:
                continue
            if not data:
                return
            yield wire.HEADER.unpack_from(data)[1], data[wire.HEADER.size:]


def closes_at_once(server, one):
    del server
    one.close()


def never_answers(server, one):
    for _ in server.requests(one):
        pass


def speaks_garbage(server, one):
    for _ in server.requests(one):
        one.send(os.urandom(100))


def speaks_another_version(server, one):
    for _ in server.requests(one):
        one.send(packet(wire.WELCOME, bytes(4), protocol=wire.PROTOCOL + 1))


def only_pongs(server, one):
    for _ in server.requests(one):
        one.send(packet(wire.PONG))


def opens_without_descriptors(server, one):
    for kind, _ in server.requests(one):
        one.send(packet(wire.WELCOME, bytes(4)) if kind == wire.HELLO else packet(wire.OPENED, struct.pack("<II", 0, 1)))


def array_of(size: int, content: int = 0) -> int:
    """Shared memory of a fixed size."""
    descriptor = memfd(size, flags=os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.pwrite(descriptor, bytes([content]) * size, 0)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
    return descriptor


def attaches(units: int, answer: bytes, present: int = 0, mirror_bytes: int = 0):
    """Opens as a server would, with a mirror of so many zeros; then gives the same answer to all requests."""
    def behave(server, one):
        for kind, _ in server.requests(one):
            if kind == wire.HELLO:
                one.send(packet(wire.WELCOME, bytes(4)))
            elif kind == wire.OPEN:
                sent = [memfd(mirror_bytes), array_of(max(units, 1), present), array_of(max(units, 1) * 8)]
                socket.send_fds(one, [packet(wire.OPENED, struct.pack("<II", 0, units))], sent)
                for descriptor in sent:
                    os.close(descriptor)
            elif kind == wire.PING:
                one.send(packet(wire.PONG))
            else:
                one.send(answer)
    return behave


class FakeServers(CacheTest):
    """A mount reads right whatever sits behind the socket, and goes on with a real server when there is one."""

    MEBIBYTES = 12

    def setUp(self):
        super().setUp()
        self.shard = self.make_shard(self.MEBIBYTES)
        self.units = (self.shard.stat().st_size + UNIT - 1) // UNIT

    def right_bytes(self, behave):
        with FakeServer(self.cache, behave):
            with CachedMount(self.shard, self.cache) as mount:
                self.assert_same(mount.path)
                self.assertTrue(alive(mount.pid))
        with CachedMount(self.shard, self.cache) as mount:
            self.assertIn("tier disk", mount.log())
            self.assert_same(mount.path)
        self.assert_nothing_left(self.cache)

    def test_closes_at_once(self):
        self.right_bytes(closes_at_once)

    def test_never_answers(self):
        self.right_bytes(never_answers)

    def test_speaks_garbage(self):
        self.right_bytes(speaks_garbage)

    def test_speaks_another_version(self):
        self.right_bytes(speaks_another_version)

    def test_opens_without_descriptors(self):
        self.right_bytes(opens_without_descriptors)

    def test_answers_with_what_is_no_answer(self):
        self.right_bytes(attaches(self.units, packet(wire.LEASE)))
        self.right_bytes(attaches(self.units, packet(200, b"text")))
        self.right_bytes(attaches(self.units, b"\0"))

    def test_says_that_an_empty_mirror_has_it(self):
        self.right_bytes(attaches(self.units, packet(wire.LOCAL)))

    def test_marks_all_of_an_empty_mirror(self):
        self.right_bytes(attaches(self.units, packet(wire.LOCAL), present=1))

    def test_speaks_of_fewer_units(self):
        for units in (0, 1):
            self.right_bytes(attaches(units, packet(wire.LOCAL), present=1))


if __name__ == "__main__":
    unittest.main()
