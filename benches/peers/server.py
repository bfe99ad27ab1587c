"""A Redis server and an upstream for one round, and what is read of them."""
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time

TICKS = os.sysconf("SC_CLK_TCK")


def redis_program():
    """Debian's redis-tools has no server, but its checker is the same binary, which acts by the name that it is called by."""
    found = shutil.which("redis-server") or shutil.which("redis-check-rdb")
    if not found:
        sys.exit("no redis-server on the PATH: run `make redis`")
    return found


class Redis:
    """A redis-server of its own, append-only file on and synced every second, and a connection to it."""

    def __enter__(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder = tempfile.mkdtemp()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.folder, "--save", "",
             "--appendonly", "yes", "--appendfsync", "everysec"], executable=redis_program(), stdout=subprocess.DEVNULL)
        until = time.monotonic() + 10
        while True:
            try:
                self.socket = socket.create_connection(("127.0.0.1", self.port), timeout=60)
                break
            except ConnectionRefusedError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.02)
        self.reader = self.socket.makefile("rb")
        self.asked = 0
        return self

    def __exit__(self, *_):
        self.socket.close()
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder)

    def command(self, *words):
        self.asked += 1
        self.socket.sendall(encode(words))
        return self.reply()

    def pipeline(self, commands):
        """Sends a few hundred at a time; these count as the producer's."""
        batch = []
        for words in commands:
            batch.append(encode(words))
            if len(batch) == 500:
                self.flush(batch)
        self.flush(batch)

    def flush(self, batch):
        self.socket.sendall(b"".join(batch))
        for _ in batch:
            self.reply()
        batch.clear()

    def reply(self):
        line = self.reader.readline()[:-2]
        kind, rest = line[:1], line[1:]
        if kind == b"-":
            raise RuntimeError(rest.decode())
        if kind == b"$":
            return None if rest == b"-1" else self.reader.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self.reply() for _ in range(int(rest))]
        return int(rest) if kind == b":" else rest

    def info(self, name):
        for line in self.command("INFO", "everything").decode().splitlines():
            if line.startswith(name + ":"):
                return int(line.split(":")[1])
        raise KeyError(name)

    def commands(self):
        """The commands that others sent, those inside scripts included."""
        asked = self.asked
        return self.info("total_commands_processed") - asked

    def answers(self, where):
        if isinstance(where, list):
            return int(self.command(*where) or 0)
        return len(self.command("KEYS", where))


def encode(words):
    words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


class Upstream:
    """The upstream of the `bench` program, the same for all."""

    def __enter__(self):
        return self

    def __init__(self, bench):
        self.process = subprocess.Popen([bench, "upstream"], stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().strip()
        self.connection = http.client.HTTPConnection(self.url.split("/")[2], timeout=30)

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def get(self, path):
        self.connection.request("GET", path)
        return self.connection.getresponse().read()

    def calls(self):
        counted = json.loads(self.get("/calls"))
        return counted["calls"], counted["seconds"]


def cpu(sessions):
    """User and system CPU seconds of all processes of these sessions."""
    ticks = 0
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as file:
                    values = file.read().rsplit(")", 1)[1].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(values[3]) in sessions:
                ticks += int(values[11]) + int(values[12])
    return ticks / TICKS


def cpu_of(process):
    with open(f"/proc/{process.pid}/stat") as file:
        values = file.read().rsplit(")", 1)[1].split()
    return (int(values[11]) + int(values[12])) / TICKS
