"""Commands, processes and questions to a bucket that tests of the store share."""

import os
import subprocess
import sys
import time
from pathlib import Path

from zephyr.artifacts import Artifact, Store
from zephyr.s3 import client

ROOT = Path(__file__).resolve().parents[2]


def command(module: str, *arguments: object) -> list[str]:
    return [sys.executable, "-m", module, *map(str, arguments)]


def zephyr(home: Path, *arguments: str, code: int = 0, **environment: str) -> str:
    """What a command says, on stdout where it succeeds and on stderr where it fails."""
    done = subprocess.run(
        command("zephyr.cli", *arguments),
        env=os.environ | {"ZEPHYR_HOME": str(home)} | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stderr if code == 2 else done.stdout


def worker(*arguments: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(command("tests.storage.worker", *arguments), cwd=ROOT, stdout=subprocess.PIPE, text=True)


def many(store: Store, name: str, count: int, text: str = "") -> Artifact:
    with store.writing() as staging:
        for i in range(count):
            (staging / f"{i:04}.txt").write_text(f"{i} {text}")
        return store.publish(staging, "prepare", 1, {"name": name}, {})


def objects(bucket: str) -> list[str]:
    pages = client().get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return [item["Key"] for page in pages for item in page.get("Contents", ())]


def uploads(bucket: str, parts: int = 0) -> list[str]:
    """Keys of multipart uploads that are neither complete nor aborted, with at least so many parts."""
    s3 = client()
    begun = {u["Key"]: u["UploadId"] for u in s3.list_multipart_uploads(Bucket=bucket).get("Uploads", ())}
    return [
        key
        for key, number in begun.items()
        if len(s3.list_parts(Bucket=bucket, Key=key, UploadId=number).get("Parts", ())) >= parts
    ]


def kill_midway(process: "subprocess.Popen[str]", bucket: str) -> None:
    """Wait for the first parts of a big file, and end the process that uploads it."""
    deadline = time.monotonic() + 60
    while not uploads(bucket, parts=2):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.kill()
