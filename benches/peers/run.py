#!/usr/bin/env python3
"""Redial beside other job queues: the same calls, the same upstream, a Redis of the same settings, one after the other in rounds.

`make bench-peers` runs it; `--help` lists what can be changed. The rate is that between the first and the last call, as the upstream
counts them, so that it means the same for all.
"""
import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time

import chart
from peers import ABSENT, BUILT, PEERS, ROOT, Peer
from server import Redis, Upstream, cpu, cpu_of

RELEASE = ROOT / "target/release"
BARE, REDIAL = "bare reqwest loop", "Redial"
# No progress for so long ends a round: the peer is then named with what happened.
STALL = 20


def payload(url):
    """300 bytes: the address to call, and the body."""
    body = {"text": ""}
    body["text"] = "x" * (300 - len(json.dumps({"url": url, "body": body}, separators=(",", ":"))))
    return {"url": url, "body": body}


def compact(value):
    return json.dumps(value, separators=(",", ":"))


def environment(redis, work, extra):
    return {**os.environ, "REDIS_URL": redis.url, "PAYLOAD": compact(work), **extra}


def redial_itself(programs):
    """As it comes, but for the concurrency, and the permission to call this machine."""
    def work(at_once):
        return [["env", f"REDIAL_CONCURRENCY={at_once}", "REDIAL_ALLOW_PRIVATE=127.0.0.0/8", "REDIAL_METRICS_ADDR=127.0.0.1:0",
                 f"{programs}/redial-worker"]]

    return Peer(REDIAL, "", 40_000, [], [], work, ["HGET", "redial:{default}:stats", "complete"])


def bare_loop(bench, upstream, tasks, at_once):
    work = payload(upstream.url + "v1/extract")
    upstream.get("/reset")
    subprocess.run([bench, "bare-loop", work["url"], str(tasks), str(at_once), compact(work["body"])], check=True,
                   stdout=subprocess.DEVNULL)
    calls, seconds = upstream.calls()
    return {"rate": (calls - 1) / seconds}


def words(command, redis):
    return [redis.url if word == "@redis" else str(word) for word in command]


def enqueue(peer, redis, work, tasks):
    if peer.name == REDIAL:
        redis.pipeline(("LPUSH", "redial:{default}", compact({"id": f"t{n}", **work})) for n in range(tasks))
        # These were sent by the producer, whose commands count.
        return
    subprocess.run(words([*peer.enqueue, tasks], redis), check=True, env=environment(redis, work, peer.environment), timeout=120,
                   stdout=subprocess.DEVNULL)


def measure(peer, upstream, tasks, at_once, log):
    """One round: fill a fresh Redis, then start the worker and wait until all calls were made and their answers stored."""
    work = payload(upstream.url + "v1/extract")
    with Redis() as redis:
        before, commands = redis.info("used_memory_dataset"), redis.commands()
        enqueue(peer, redis, work, tasks)
        waiting = (redis.info("used_memory_dataset") - before) / tasks
        upstream.get("/reset")
        workers = [subprocess.Popen(words(command, redis), env=environment(redis, work, peer.environment), cwd=BUILT,
                                    stdout=log, stderr=log, start_new_session=True) for command in peer.work(at_once)]
        try:
            return {**watch(peer, upstream, tasks, {worker.pid for worker in workers}, redis, commands), "bytes": waiting}
        finally:
            for worker in workers:
                os.killpg(worker.pid, signal.SIGKILL)
                worker.wait()


def watch(peer, upstream, tasks, sessions, redis, commands):
    """CPU is counted from the first look that finds calls until all answers are stored, so that starting the processes is not in it."""
    start, last, moved = None, 0, time.monotonic()
    while True:
        calls, seconds = upstream.calls()
        if calls and start is None:
            start = (calls, cpu(sessions), cpu_of(redis.process))
        if calls > last:
            last, moved = calls, time.monotonic()
        if calls >= tasks:
            break
        if time.monotonic() - moved > STALL:
            raise RuntimeError(f"no call for {STALL} s after {calls} of {tasks}")
        time.sleep(0.02)
    until = time.monotonic() + STALL
    while True:
        time.sleep(0.3)  # The last answers are being stored.
        figures = {"rate": (calls - 1) / seconds, "commands": (redis.commands() - commands) / tasks}
        if (counted := calls - start[0]) > 0:
            figures["worker_us"] = (cpu(sessions) - start[1]) * 1e6 / counted
            figures["redis_us"] = (cpu_of(redis.process) - start[2]) * 1e6 / counted
        if peer.answers is None or (stored := redis.answers(peer.answers)) >= tasks:
            return figures
        if time.monotonic() > until:
            raise RuntimeError(f"{tasks} calls were made, but only {stored} answers are stored after {STALL} s")


def install(peers):
    """The peers that could be installed, and why the others could not."""
    failed, done = {}, set()
    for peer in peers:
        try:
            for command in peer.install:
                command = tuple(map(str, command))
                if command not in done:
                    subprocess.run(command, check=True)
                    done.add(command)
        except (subprocess.CalledProcessError, FileNotFoundError) as error:
            failed[peer.name] = f"installing it failed: {error}"
    return failed


def summary(rounds):
    """Medians and spread of each peer at each concurrency, and the median of its ratios to Redial, each of one round."""
    table = []
    for name, at_once in dict.fromkeys((entry["peer"], entry["at_once"]) for entry in rounds):
        own = [entry for entry in rounds if (entry["peer"], entry["at_once"]) == (name, at_once)]
        redial = {e["round"]: e["rate"] for e in rounds if (e["peer"], e["at_once"]) == (REDIAL, at_once)}
        ratios = [e["rate"] / redial[e["round"]] for e in own if e["round"] in redial]
        row = {"peer": name, "at_once": at_once, "rounds": len(own)}
        for figure in ("rate", "commands", "redis_us", "worker_us", "bytes"):
            values = [entry[figure] for entry in own if figure in entry]
            row[figure] = statistics.median(values) if values else None
        row["lowest"], row["highest"] = min(e["rate"] for e in own), max(e["rate"] for e in own)
        row["of_redial"] = statistics.median(ratios) if ratios else None
        table.append(row)
    return table


def show(table, failures):
    lines = ["| | at once | calls/s (lowest to highest) | of Redial | Redis commands | Redis CPU, µs | worker CPU, µs | bytes waiting |",
             "| --- | --- | --- | --- | --- | --- | --- | --- |"]

    def number(value, digits=0):
        return "" if value is None else f"{value:,.{digits}f}"

    for row in table:
        ratio = "" if row["of_redial"] is None else f"{row['of_redial'] * 100:.0f} %"
        lines.append(f"| {row['peer']} | {row['at_once']} | {number(row['rate'])} ({number(row['lowest'])} to {number(row['highest'])}) | "
                     f"{ratio} | {number(row['commands'], 1)} | {number(row['redis_us'])} | {number(row['worker_us'])} | "
                     f"{number(row['bytes'])} |")
    lines += [f"\nNot measured: {name}: {why}" for name, why in failures.items()]
    return "\n".join(lines)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--scale", type=float, default=1, help="of the number of tasks a round; 0.1 to try it")
    arguments.add_argument("--only", default="", help="names of peers, separated by commas")
    arguments.add_argument("--at-once", default="64,256", help="calls in flight, separated by commas")
    arguments.add_argument("--no-install", action="store_true", help="all peers are installed already")
    arguments.add_argument("--programs", default=RELEASE, help="the folder of redial-worker")
    arguments.add_argument("--bench", default=RELEASE / "bench", help="the bench program")
    options = arguments.parse_args()
    # Servers and workers end with this program, also when it is terminated.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    BUILT.mkdir(parents=True, exist_ok=True)
    wanted = [name for name in options.only.split(",") if name]
    peers = [peer for peer in PEERS if not wanted or peer.name in wanted]
    failures = dict(ABSENT)
    if not options.no_install:
        failures.update(install(peers))
    redial = redial_itself(options.programs)
    rounds = []
    started = time.strftime("%Y-%m-%d %H:%M")
    with Upstream(options.bench) as upstream, open(BUILT / "workers.log", "w") as log:
        for number in range(1, options.rounds + 1):
            for at_once in map(int, options.at_once.split(",")):
                for peer in [None, redial, *peers]:
                    name = peer.name if peer else BARE
                    if name in failures:
                        continue
                    tasks = max(200, int((peer.tasks if peer else 60_000) * options.scale))
                    try:
                        if peer is None:
                            figures = bare_loop(options.bench, upstream, tasks, at_once)
                        else:
                            figures = measure(peer, upstream, tasks, at_once, log)
                    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                        failures[name] = f"round {number}, {at_once} at once: {error}"
                        print(f"{name}: {failures[name]}", file=sys.stderr, flush=True)
                        continue
                    rounds.append({"peer": name, "round": number, "at_once": at_once, "tasks": tasks, **figures})
                    print(f"round {number}, {at_once} at once: {name}: {figures['rate']:,.0f} calls/s", file=sys.stderr, flush=True)
    table = summary(rounds)
    versions = {peer.name: peer.version for peer in PEERS}
    results = {"started": started, "versions": versions, "failures": failures, "table": table, "rounds": rounds}
    (BUILT / "results.json").write_text(json.dumps(results, indent=1))
    (BUILT / "peers.svg").write_text(chart.draw(table, started))
    print(show(table, failures))


if __name__ == "__main__":
    main()
