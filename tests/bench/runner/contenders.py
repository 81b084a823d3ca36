"""The contenders: the programs that are measured, and the commands that start them."""

import dataclasses
import itertools
import os
import pathlib
import signal
import socket
import subprocess
import tempfile
import time

import machine

HERE = pathlib.Path(__file__).parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", "target")) / "release"
PYTHON = os.environ.get("PAPO_BENCH_PYTHON", "python3")
# High limits, so that the measurement finds the limits of the program.
PAPO = ["--log-filter", "warn", "--max-connections", "20000", "--max-messages-per-second", "100000", "--message-burst", "100000",
        "--address-messages-per-second", "1000000", "--address-message-burst", "1000000", "--address-bytes-per-second", "100000000",
        "--address-byte-burst", "1073741824", "--address-connections", "1000000", "--address-connects-per-second", "1000000",
        "--address-connect-burst", "1000000",
        "--drain-period", "1"]
rooms = itertools.count()


def papo(port, broker, room=None):
    # Each start gets a new room, so its log is empty.
    room = room or f"bench/room-{os.getpid()}-{next(rooms)}"
    command = [str(TARGET / "papo-server"), "--listen", f"127.0.0.1:{port}", "--admin-listen", f"127.0.0.1:{port + 1}",
               "--room", room, *PAPO]
    return command + (["--broker", broker, "--declare"] if broker else [])


@dataclasses.dataclass(frozen=True)
class Contender:
    name: str
    title: str
    command: object  # (port, URL of the broker) -> command line
    needs_broker: bool = False
    recovery: str | None = None  # the generator's --recovery
    # The floor keeps no log, so it has no part `reconnect`.
    parts: tuple = ("load", "idle")


CONTENDERS = [
    Contender("floor", "floor", lambda port, _: [str(TARGET / "floor"), f"127.0.0.1:{port}"]),
    Contender("papo", "Papo", lambda port, _: papo(port, None), recovery="offset", parts=("load", "idle", "reconnect")),
    Contender("papo-rabbitmq", "Papo, RabbitMQ", papo, True, "offset", ("load", "idle", "reconnect")),
    Contender("node", "Node socket.io", lambda port, _: ["node", str(HERE / "contenders/node/server.mjs"), str(port)]),
    Contender("node-recovery", "Node socket.io, recovery",
              lambda port, _: ["node", str(HERE / "contenders/node/server.mjs"), str(port), "recovery"],
              recovery="session", parts=("load", "idle", "reconnect")),
    Contender("flask", "Flask-SocketIO, RabbitMQ",
              lambda port, broker: [PYTHON, str(HERE / "contenders/flask/server.py"), str(port), broker], True),
]


def versions():
    package = machine.version("node", "-p", f"require('{HERE}/contenders/node/node_modules/socket.io/package.json').version")
    python = machine.version(PYTHON, "-c", "import importlib.metadata as m; "
                             "print(*(p + ' ' + m.version(p) for p in ['flask-socketio', 'python-socketio', 'gevent', 'kombu']), sep=', ')")
    return {"papo": machine.version(str(TARGET / "papo-server"), "--version"),
            "commit": machine.version("git", "describe", "--always", "--dirty"),
            "node": machine.version("node", "--version"), "socket.io": package,
            "python": machine.version(PYTHON, "--version"), "flask": python,
            "rabbitmq": machine.version(str(HERE.parent / "rabbitmq/rabbitmq"), "install")}


class Running:
    """A process on the server's core. It stops at the end of the `with` block."""

    def __init__(self, command, port):
        self.port, self.log = port, tempfile.TemporaryFile()
        pinned = ["taskset", "-c", str(machine.SERVER_CORE), *command]
        self.process = subprocess.Popen(pinned, stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL)

    def __enter__(self):
        limit = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            except OSError:
                if self.process.poll() is not None or time.monotonic() > limit:
                    self.log.seek(0)
                    self.__exit__()
                    raise RuntimeError(f"{self.process.args} does not serve:\n{self.log.read().decode()}")
                time.sleep(0.05)

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    @property
    def pids(self):
        return machine.tree(self.process.pid)


class Broker:
    """A new RabbitMQ on the generator's core, so that its CPU time does not count as the server's."""

    def __enter__(self):
        command = ["taskset", "-c", str(machine.GENERATOR_CORE), str(HERE.parent / "rabbitmq/rabbitmq"), "start"]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        variables = dict(line.split("=", 1) for line in output.split())
        self.url, self.handle = variables["PAPO_TEST_AMQP"], variables["PAPO_TEST_RABBITMQ_HANDLE"]
        self.pid = int(machine.version(str(HERE.parent / "rabbitmq/rabbitmq"), "pid", self.handle))
        return self

    def __exit__(self, *_):
        subprocess.run([str(HERE.parent / "rabbitmq/rabbitmq"), "stop", self.handle], check=False)

    @property
    def pids(self):
        return machine.tree(self.pid)
