"""OpenStack Swift with its S3 interface: a proxy, an account, a container and an object server, all on loopback.

One replica, no memcached, no background daemons: what a PUT stored, the next GET and listing find.
"""

import os
import pwd
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

KEY, SECRET = "tests:tester", "swift-secret"
SERVERS = ("account", "container", "object", "proxy")
REQUIREMENTS = Path(__file__).with_name("swift.txt")


def install(folder: Path) -> Path:
    """An environment with Swift; one that is there already is used again. Returns its folder of commands."""
    ready = folder / "ready.txt"  # written last, so that an interrupted installation is done again
    if not ready.is_file() or ready.read_text() != REQUIREMENTS.read_text():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        pip: list[str | Path] = [folder / "bin" / "python", "-m", "pip", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--no-deps", "--only-binary", ":all:", "-r", REQUIREMENTS], check=True)
        ready.write_text(REQUIREMENTS.read_text())
    return folder / "bin"


class Swift:
    """Four processes over one folder; what is stored outlives `stop` and `start`."""

    def __init__(self, commands: Path, root: Path) -> None:
        self._commands, self._root = commands, root
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._ports = dict(zip(SERVERS, _free_ports(len(SERVERS)), strict=True))
        self.url = f"http://127.0.0.1:{self._ports['proxy']}"
        self.device = root / "devices" / "disk"
        self.device.mkdir(parents=True)
        self._configure()
        self._rings()

    def start(self, *names: str) -> None:
        for name in names or SERVERS:
            self._start(name)
        for name in names or SERVERS:
            self._wait(name)

    def stop(self, *names: str) -> None:
        """End these servers, or all, and only processes that `start` started."""
        for name in names or SERVERS:
            process = self._processes.pop(name, None)
            if process:
                process.kill()  # no grace: a store that fails says nothing before
                process.wait()

    @contextmanager
    def without(self, name: str) -> Iterator[None]:
        """While one server is down."""
        self.stop(name)
        try:
            yield
        finally:
            self.start(name)

    def log(self) -> str:
        return "\n".join((self._root / f"{name}.log").read_text() for name in SERVERS)

    def _start(self, name: str) -> None:
        command: list[str | Path] = [self._commands / f"swift-{name}-server", self._root / f"{name}.conf", "-v"]
        with (self._root / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(command, stdout=log, stderr=log)

    def _wait(self, name: str) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            assert self._processes[name].poll() is None, f"{name} ended:\n{self.log()}"
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self._ports[name]}/healthcheck", timeout=5).close()
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.05)
            else:
                return
        raise AssertionError(f"{name} doesn't answer:\n{self.log()}")

    def _configure(self) -> None:
        (self._root / "swift.conf").write_text("[swift-hash]\nswift_hash_path_suffix = tests\n")
        for name in SERVERS:
            pipeline, app, filters = PROXY if name == "proxy" else ("healthcheck", "", "")
            (self._root / f"{name}.conf").write_text(
                f"""[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {self._ports[name]}
workers = 0
user = {pwd.getpwuid(os.getuid()).pw_name}
swift_dir = {self._root}
devices = {self.device.parent}
mount_check = false
fallocate_reserve = 0
log_level = WARNING
[pipeline:main]
pipeline = {pipeline} {name}-server
[app:{name}-server]
use = egg:swift#{name}
{app}
[filter:healthcheck]
use = egg:swift#healthcheck
{filters}
"""
            )

    def _rings(self) -> None:
        """Where each kind of thing lies: 16 partitions, one replica, one device."""
        for name in SERVERS[:3]:
            builder = self._root / f"{name}.builder"
            device = f"r1z1-127.0.0.1:{self._ports[name]}/{self.device.name}"
            for step in (["create", "4", "1", "1"], ["add", device, "1"], ["rebalance"]):
                command: list[str | Path] = [self._commands / "swift-ring-builder", builder, *step]
                done = subprocess.run(command, capture_output=True, text=True, cwd=self._root)
                assert done.returncode == 0, done.stdout + done.stderr


FILTERS = ("catch_errors", "gatekeeper", "listing_formats", "s3api", "bulk", "slo")
PROXY = (
    "catch_errors gatekeeper healthcheck listing_formats s3api tempauth bulk slo",
    # A server that was stopped and started is asked again at once.
    "account_autocreate = true\nerror_suppression_limit = 1000000",
    f"[filter:tempauth]\nuse = egg:swift#tempauth\nuser_{KEY.replace(':', '_')} = {SECRET} .admin\n"
    + "".join(f"[filter:{name}]\nuse = egg:swift#{name}\n" for name in FILTERS),
)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
