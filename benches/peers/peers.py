"""The peers of `make bench-peers`: how each is installed, filled and run. Why it runs with these settings stands at the head of its
program, and here for what the command line decides."""
import os
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILT = ROOT / "target" / "peers"
CORES = os.cpu_count()


@dataclass
class Peer:
    """`enqueue` is a command that takes the number of tasks last; `work` answers the commands to run for a concurrency."""

    name: str
    version: str
    # Tasks a round: about two seconds of work, and time enough for all processes of the worker to take part.
    tasks: int
    install: list
    enqueue: list
    work: object
    # How many answers Redis holds at the end: a command that answers a number, or the pattern of their keys. None: it stores none.
    answers: object = None
    environment: dict = field(default_factory=dict)


def python(name, version, tasks, work, answers):
    """`pip freeze` wrote `python/<name>.txt`."""
    venv, folder = BUILT / name, HERE / "python"
    install = [["python3", "-m", "venv", venv], [venv / "bin/pip", "install", "-q", "-r", folder / f"{name}.txt"]]
    fill = [venv / "bin/python", folder / f"{name}_app.py", "enqueue"]
    return Peer(name, version, tasks, install, fill, lambda at_once: work(venv / "bin", at_once), answers,
                {"PYTHONPATH": str(folder)})


def each(at_once):
    """The share of a process in the concurrency, one process a core."""
    return max(1, at_once // CORES)


def processes(command, at_once):
    return [["env", f"CONCURRENCY={each(at_once)}", *command]] * CORES


def rust(name, version, tasks, program, answers):
    """All three are built together, as Redial is."""
    build = ["env", f"CARGO_TARGET_DIR={BUILT / 'rust'}", "cargo", "build", "--release", "--locked", "--quiet", "--manifest-path",
             HERE / "rust/Cargo.toml"]
    program = BUILT / "rust/release" / program
    return Peer(name, version, tasks, [build], [program, "enqueue"], lambda at_once: [[program, "work", at_once]], answers)


NODE = ["node", BUILT / "bullmq/bullmq.js"]
SIDEKIQ = HERE / "ruby/sidekiq_app.rb"

PEERS = [
    # With 10,000 waiting tasks its worker ends with an error of Lua.
    rust("apalis-redis", "1.0.0", 6_000, "apalis", ["SCARD", "calls:done"]),
    rust("bullmq-official", "1.4.4", 15_000, "bullmq", ["ZCARD", "bull:calls:completed"]),
    rust("rusty-sidekiq", "0.15.2", 10_000, "sidekiq", None),
    Peer("BullMQ", "6.7.0", 6_000,
         [["mkdir", "-p", BUILT / "bullmq"], ["cp", HERE / "node/package.json", HERE / "node/bullmq.js", BUILT / "bullmq"],
          ["npm", "install", "--silent", "--no-package-lock", "--prefix", BUILT / "bullmq"]],
         [*NODE, "enqueue"], lambda at_once: [[*NODE, "work", each(at_once)]] * CORES, ["ZCARD", "bull:calls:completed"]),
    python("saq", "0.26.4", 3_000, lambda bin, n: processes([bin / "saq", "--quiet", "saq_app.settings"], n), "saq:job:*"),
    python("arq", "0.28.0", 2_000, lambda bin, n: processes([bin / "python", HERE / "python/arq_app.py", "work"], n), "arq:result:*"),
    python("celery", "5.7.0", 2_000,
           lambda bin, n: [[bin / "celery", "-A", "celery_app", "worker", "--pool", "gevent", "-c", each(n), "-n", f"{i}@%h",
                            "--without-gossip", "--without-mingle", "--without-heartbeat"] for i in range(CORES)],
           "celery-task-meta-*"),
    # Its keys are hashes of 32 digits.
    python("dramatiq", "2.2.1", 2_000,
           lambda bin, n: [[bin / "dramatiq", "dramatiq_app", "--processes", CORES, "--threads", each(n)]], "?" * 32),
    python("rq", "3.0.0", 1_500,
           lambda bin, n: [[bin / "rq", "worker-pool", "-q", "-n", CORES, "-w", "rq.worker.SimpleWorker", "-u", "@redis"]],
           "rq:results:*"),
    Peer("sidekiq", "6.4.1", 4_000, [["apt-get", "install", "-y", "-q", "ruby-sidekiq"]], ["ruby", SIDEKIQ, "enqueue"],
         lambda at_once: [["sidekiq", "-q", "default", "-r", SIDEKIQ, "-c", each(at_once), "-e", "production"]] * CORES),
]

# What cannot be measured here, and why.
ABSENT = {
    "glide-mq": "it is not in the npm registry",
}

if __name__ == "__main__":
    for peer in PEERS:
        print(peer.name, peer.version)
    for name in ABSENT:
        print(name)
