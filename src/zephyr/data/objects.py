"""Objects of a bucket as local files: one, or all under a prefix."""

import os
import shutil
from pathlib import Path
from typing import Any

from zephyr.errors import StoreError, disk
from zephyr.s3 import client, errors, finish, transfers
from zephyr.workspace import size


def download(location: str, target: Path) -> Path:
    """Fetch an object, or all objects under a prefix, into folder `target`; returns the local file or folder.

    What was fetched before and has not changed since, by size and time, is kept; what is there no more is deleted.
    """
    bucket, _, key = location.removeprefix("s3://").partition("/")
    s3 = client()
    with errors(location), disk(target):
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key)
        objects = [item for page in pages for item in page.get("Contents", ()) if not item["Key"].endswith("/")]
        wanted = {
            target / (item["Key"].removeprefix(key).lstrip("/") or key.rsplit("/", 1)[-1]): item
            for item in objects
            if item["Key"] == key or item["Key"].startswith(key.rstrip("/") + "/")
        }
        if not wanted:
            raise StoreError(f"{location}: no such object or prefix; mend the location in the recipe")
        target.mkdir(parents=True, exist_ok=True)
        for path in [path for path in target.rglob("*") if path.is_file()]:
            if path not in wanted or not _same(path, wanted[path]):
                path.unlink()
        missing = {path: item for path, item in wanted.items() if not path.exists()}
        needed, free = sum(item["Size"] for item in missing.values()), shutil.disk_usage(target).free
        if needed > free:
            raise StoreError(f"{location}: takes {size(needed)}, {size(free)} are free at {target}; free some space")
        for path in missing:
            path.parent.mkdir(parents=True, exist_ok=True)
        with transfers(s3) as manager:
            finish(manager.download(bucket, item["Key"], str(path)) for path, item in missing.items())
        for path, item in missing.items():
            os.utime(path, (item["LastModified"].timestamp(),) * 2)
    return next(iter(wanted)) if [item["Key"] for item in wanted.values()] == [key] else target


def _same(path: Path, item: Any) -> bool:
    found = path.stat()
    return bool(found.st_size == item["Size"] and found.st_mtime == item["LastModified"].timestamp())
