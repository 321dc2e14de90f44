"""Where rows come from: real files, a real server on loopback, an S3 server, a hub that says no."""

import gzip
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zephyr.data import locations
from zephyr.errors import DataError, StoreError


class _Server(BaseHTTPRequestHandler):
    busy = 1  # so many times the hub has no list of files yet

    def do_GET(self) -> None:
        if "/tree/" in self.path and _Server.busy:
            _Server.busy -= 1
            self._answer(503, b"")
        elif self.path.startswith("/rows.jsonl"):
            self._answer(200, b'{"n": 1}\n')
        elif self.path.startswith("/torn.jsonl"):
            self._answer(200, b'{"n": 1}\n', length=100)
        elif self.path.endswith(".html"):
            self._answer(404, b"<!DOCTYPE html>\n<html><body>Not here.</body></html>")
        else:
            self._answer(404, b"no such\nfile")

    do_HEAD = do_GET

    def _answer(self, status: int, body: bytes, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length or len(body)))
        if self.path.startswith("/api/"):
            self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Server) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def one_line(error: pytest.ExceptionInfo[ValueError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jsonl").write_text("{}\n")
    monkeypatch.setenv("ROWS_AT", str(tmp_path))
    assert locations.local("${ROWS_AT}/a.jsonl", tmp_path / "cache") == tmp_path / "a.jsonl"
    with pytest.raises(DataError, match=r"b\.jsonl: no such file or folder; mend the path") as caught:
        locations.local("${ROWS_AT}/b.jsonl", tmp_path / "cache")
    # What an error says is the location as the recipe writes it: the variable's value may be a secret.
    assert str(tmp_path) not in one_line(caught)
    with pytest.raises(DataError, match="the environment variable NOT_SET_HERE is not set"):
        locations.local("${NOT_SET_HERE}/a.jsonl", tmp_path)


def test_rows_and_where_they_stand(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"n": 1}\n\n[2]\n{"n": 3}')
    (tmp_path / "sub").mkdir()
    with gzip.open(tmp_path / "sub" / "b.jsonl.gz", "wt") as handle:
        handle.write('{"n": 4}\n')
    pq.write_table(pa.table({"n": [5, 6]}), tmp_path / "sub" / "c.parquet")
    (tmp_path / "README.md").write_text("no rows")
    found = [(where.removeprefix(f"{tmp_path}/"), row) for where, row in locations.read_rows(tmp_path)]
    assert found == [
        ("a.jsonl:1", {"n": 1}),
        ("a.jsonl:3", None),
        ("a.jsonl:4", {"n": 3}),
        ("sub/b.jsonl.gz:1", {"n": 4}),
        ("sub/c.parquet:1", {"n": 5}),
        ("sub/c.parquet:2", {"n": 6}),
    ]
    with pytest.raises(DataError, match=r"a\.jsonl:3: not a JSON object; mend or delete the line"):
        list(locations.checked_rows(tmp_path))


def test_files_that_hold_no_rows(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no \.jsonl, .* file in this folder"):
        locations.files("in", tmp_path)
    (tmp_path / "a.csv").write_text("a,b\n")
    with pytest.raises(DataError, match=r"^a\.csv: not a kind of file that holds rows"):
        locations.files("a.csv", tmp_path / "a.csv")
    with pytest.raises(DataError, match=r"^distill:9: no such file or folder"):
        locations.files("distill:9", tmp_path / "9.jsonl")


def test_only_files_that_people_put_into_a_folder(tmp_path: Path) -> None:
    hidden = (".hidden.jsonl", ".ipynb_checkpoints/b-copy.jsonl")
    for name in (*hidden, "b.jsonl", "c.JSONL", "d.ndjson", "e.json", "README"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}\n")
    (tmp_path / "a.parquet").mkdir()  # a table in several files
    pq.write_table(pa.table({"n": [5, 6]}), tmp_path / "a.parquet" / "0.parquet")
    assert [where for where, _ in locations.files("in/", tmp_path)] == [
        *("in/a.parquet/0.parquet", "in/b.jsonl", "in/c.JSONL", "in/d.ndjson")
    ]
    assert [where for where, _ in locations.read_rows(tmp_path, "in")] == [
        *("in/a.parquet/0.parquet:1", "in/a.parquet/0.parquet:2", "in/b.jsonl:1", "in/c.JSONL:1", "in/d.ndjson:1")
    ]
    assert locations.passed_over(tmp_path) == ["README", "e.json"]
    (tmp_path / "z.jsonl").symlink_to(tmp_path / "nowhere.jsonl")
    with pytest.raises(DataError, match=r"^in/z\.jsonl: a link to a file that is not there"):
        locations.files("in", tmp_path)


def test_no_file_stands_in_two_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.jsonl").write_text("{}\n")
    (tmp_path / "d" / "b.jsonl").write_text("{}\n")  # the same content is no matter
    for one, other in (("d", "d/a.jsonl"), ("d/a.jsonl", "d"), ("d", "d/"), ("d/a.jsonl", "./d/a.jsonl")):
        with pytest.raises(DataError, match=f"{one} holds this file, too; name it in one source alone"):
            locations.apart([(one, Path(one)), (other, Path(other))])
    assert [(n, where) for n, where, _ in locations.apart([(f"d/{n}.jsonl", Path(f"d/{n}.jsonl")) for n in "ba"])] == [
        (0, "d/b.jsonl"),
        (1, "d/a.jsonl"),
    ]


def test_broken_files_are_named(tmp_path: Path) -> None:
    torn = gzip.compress(b'{"n": 1}\n' * 1000)[:-20]
    for name, content in (("a.jsonl.gz", b"plain"), ("b.jsonl.gz", torn), ("c.parquet", b"plain")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=rf"{name}: can't be read .*; fetch or write") as caught:
            list(locations.read_rows(tmp_path / name))
        one_line(caught)


def test_the_digest_is_of_names_and_contents(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jsonl").write_text("{}\n")
    assert locations.digest(tmp_path / "one") == locations.digest(tmp_path / "two")
    # SHA-256 of "{}\n", from sha256sum.
    file = "ca3d163bab055381827226140568f3bef7eaac187cebd76878e0b63e9e442356"
    assert locations.digest(tmp_path / "one" / "a.jsonl") == file
    (tmp_path / "two" / "a.jsonl").rename(tmp_path / "two" / "b.jsonl")
    assert locations.digest(tmp_path / "one") != locations.digest(tmp_path / "two")


def test_http(tmp_path: Path, url: str) -> None:
    path = locations.local(f"{url}/rows.jsonl?n=1", tmp_path)
    assert json.loads(path.read_text()) == {"n": 1}
    assert path.is_relative_to(tmp_path)


def test_http_that_fails_says_so_in_one_line(tmp_path: Path, url: str) -> None:
    with pytest.raises(DataError, match="the server answers 404 Not Found no such file") as caught:
        locations.local(f"{url}/absent.jsonl", tmp_path)
    one_line(caught)
    with pytest.raises(DataError, match=r"the server answers 404 Not Found$"):  # a page for a browser
        locations.local(f"{url}/page.html", tmp_path)
    with pytest.raises(DataError, match="the connection broke off after 9 bytes"):
        locations.local(f"{url}/torn.jsonl", tmp_path)
    with pytest.raises(DataError, match="can't be fetched"):
        locations.local("http://127.0.0.1:9/rows.jsonl", tmp_path)  # the discard port, where nothing listens
    assert not list(tmp_path.rglob("*.jsonl"))


def test_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "ZEPHYR_S3_PATH_STYLE": "1",
        }.items():
            monkeypatch.setenv(name, value)
        from zephyr.s3 import client

        client().create_bucket(Bucket="rows")
        for key in ("talk/a.jsonl", "talk/sub/b.jsonl", "talkative.jsonl"):
            client().put_object(Bucket="rows", Key=key, Body=json.dumps({"key": key}).encode())
        one = locations.local("s3://rows/talk/a.jsonl", tmp_path)
        assert [row for _, row in locations.read_rows(one)] == [{"key": "talk/a.jsonl"}]
        folder = locations.local("s3://rows/talk", tmp_path)
        assert locations.local("s3://rows/talk/", tmp_path) == folder  # so that it is seen to be the same source
        rows = [row for _, row in locations.read_rows(folder)]
        assert rows == [{"key": "talk/a.jsonl"}, {"key": "talk/sub/b.jsonl"}]
        with pytest.raises((DataError, StoreError), match="s3://rows/absent: no such object") as caught:
            locations.local("s3://rows/absent", tmp_path)
        one_line(caught)
        with pytest.raises((DataError, StoreError), match="s3://nowhere/a") as caught:
            locations.local("s3://nowhere/a", tmp_path)
        one_line(caught)
    finally:
        server.stop()


def test_a_hub_location_is_pinned(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="write it as hf://org/name@revision"):
        locations.local("hf://org/name", tmp_path)


@pytest.mark.parametrize("revision", ["0123456789", "0123456789" * 4])
def test_a_hub_that_says_no_is_one_line(tmp_path: Path, url: str, revision: str) -> None:
    # A whole revision's files are listed at once, and the library tries that again after a 503.
    # In a process of its own: the hub's address is read when the library is imported.
    code = (
        "from pathlib import Path\nfrom zephyr.data.locations import local\nfrom zephyr.errors import DataError\n"
        f"try:\n    local('hf://org/name@{revision}', Path('.'))\nexcept DataError as error:\n    print(error)"
    )
    environment = os.environ | {"HF_ENDPOINT": url, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"hf://org/name@{revision}: ") and done.stdout.count("\n") == 1
    assert done.stderr == "" and (len(revision) < 40 or not _Server.busy)
    assert "check name, revision" in done.stdout


def test_a_packages_folder(tmp_path: Path) -> None:
    assert (locations.local("pkg:zephyr.tiny/base", tmp_path) / "config.json").is_file()
    for name in ("zephyr.tiny/nothing", "nowhere.at.all/base", "/base"):
        with pytest.raises(DataError, match=f"pkg:{name}: the package"):
            locations.local(f"pkg:{name}", tmp_path)
