"""Redis for tests: a real one where it is installed, and one of our own that can fail on demand."""

import shutil
import socket
import socketserver
import subprocess
import threading
import time
from collections import defaultdict
from contextlib import contextmanager

SERVERS = ("redis-server", "valkey-server")


class FakeRedis(socketserver.ThreadingTCPServer):
    """The few commands that the store uses, in RESP2, over loopback.

    ``delay_s`` makes every answer late; ``fail`` closes connections instead of answering.
    """

    allow_reuse_address = daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Connection)
        self.strings, self.lists, self.changes = {}, defaultdict(list), defaultdict(int)
        self.lock, self.delay_s, self.fail, self.trips = threading.RLock(), 0.0, False, 0
        self.url = f"redis://127.0.0.1:{self.server_address[1]}/0"

    def run(self, name, arguments):
        do = getattr(self, f"do_{name.decode().lower()}", None)
        return Exception(f"ERR unknown command {name.decode()}") if do is None else do(*arguments)

    def do_ping(self):
        return "PONG"

    def do_client(self, *_):
        return "OK"

    do_select = do_client

    def do_info(self, _):
        return b"used_memory:%d\r\n" % sum(map(len, self.strings.values()))

    def do_get(self, key):
        return self.strings.get(key)

    def do_set(self, key, value, *options):
        if b"NX" in options and key in self.strings:
            return None
        self.strings[key] = value
        self.changes[key] += 1
        return "OK"

    def do_exists(self, key):
        return int(key in self.strings)

    def do_append(self, key, value):
        self.do_set(key, self.strings.get(key, b"") + value)
        return len(self.strings[key])

    def do_getrange(self, key, start, end):
        return _range(self.strings.get(key, b""), start, end)

    def do_incrby(self, key, by):
        self.do_set(key, b"%d" % (int(self.strings.get(key, 0)) + int(by)))
        return int(self.strings[key])

    def do_decrby(self, key, by):
        return self.do_incrby(key, -int(by))

    def do_rpush(self, key, *values):
        self.lists[key] += values
        return len(self.lists[key])

    def do_llen(self, key):
        return len(self.lists[key])

    def do_lrange(self, key, start, end):
        return _range(self.lists[key], start, end)

    def do_ltrim(self, key, start, end):
        self.lists[key] = _range(self.lists[key], start, end)
        return "OK"


def _range(values, start, end):
    size, (start, end) = len(values), (int(start), int(end))
    start = max(0, start + size) if start < 0 else start
    return values[start : (end + size if end < 0 else end) + 1]


class Connection(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True

    def handle(self):
        self.queue, self.watched = None, {}
        while (line := self.rfile.readline()) and not self.server.fail:
            size = int(line[1:])
            command = [self.bulk() for _ in range(size)]
            time.sleep(self.server.delay_s)
            with self.server.lock:
                self.server.trips += 1
                answer = self.answer(command[0].upper(), command[1:])
            try:
                self.wfile.write(encode(answer))
            except OSError:
                return

    def bulk(self):
        size = int(self.rfile.readline()[1:])
        return self.rfile.read(size + 2)[:-2]

    def answer(self, name, arguments):
        server = self.server
        if name == b"WATCH":
            self.watched = {key: server.changes[key] for key in arguments}
            return "OK"
        if name in (b"UNWATCH", b"DISCARD"):
            self.queue, self.watched = None, {}
            return "OK"
        if name == b"MULTI":
            self.queue = []
            return "OK"
        if name == b"EXEC":
            queue, self.queue = self.queue, None
            untouched = all(server.changes[k] == n for k, n in self.watched.items())
            self.watched = {}
            return [server.run(*command) for command in queue] if untouched else Nothing
        if self.queue is not None:
            self.queue.append((name, arguments))
            return "QUEUED"
        return server.run(name, arguments)


class Nothing:
    """The null array of an EXEC that did not happen."""


def encode(answer):
    if answer is Nothing:
        return b"*-1\r\n"
    if answer is None:
        return b"$-1\r\n"
    if isinstance(answer, Exception):
        return b"-%s\r\n" % str(answer).encode()
    if isinstance(answer, str):
        return b"+%s\r\n" % answer.encode()
    if isinstance(answer, int):
        return b":%d\r\n" % answer
    if isinstance(answer, bytes):
        return b"$%d\r\n%s\r\n" % (len(answer), answer)
    return b"*%d\r\n" % len(answer) + b"".join(map(encode, answer))


@contextmanager
def fake():
    with FakeRedis() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def real(program):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", "/tmp"]
    process = subprocess.Popen([*command, "--appendonly", "no"], stdout=subprocess.DEVNULL)
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 0.1).close()
                break
            except OSError:
                assert process.poll() is None
                time.sleep(0.02)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait()


@contextmanager
def any_redis():
    """The URL of a Redis or Valkey if one is installed, else of the one above: never nothing."""
    program = next(filter(None, map(shutil.which, SERVERS)), None)
    if program is not None:
        with real(program) as url:
            yield url
    else:
        with fake() as server:
            yield server.url
