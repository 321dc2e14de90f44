"""A store's bytes in a bucket, through boto3: multipart uploads with checksums, the manifest last.

Settings come from the environment: AWS_* (keys, region), AWS_ENDPOINT_URL for other object stores, and
ZEPHYR_S3_PATH_STYLE=1 for those that want the bucket in the path.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from zephyr.errors import ArtifactError, StoreError, disk
from zephyr.folder import sweep, verify
from zephyr.manifest import MANIFEST


def client() -> Any:
    """An S3 client that retries and, where told so, addresses buckets by path."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    style: Literal["path", "auto"] = "path" if os.environ.get("ZEPHYR_S3_PATH_STYLE") == "1" else "auto"
    config = Config(
        retries={"max_attempts": 5, "mode": "standard"},
        s3={"addressing_style": style},
        connect_timeout=10,
        read_timeout=60,
    )
    try:
        return boto3.client("s3", config=config)
    except ValueError as error:  # botocore's answer to an address without http://
        raise StoreError(f"S3: {error}; write AWS_ENDPOINT_URL as http://host:port or https://host") from error
    except BotoCoreError as error:
        raise StoreError(f"S3: {error}; check AWS_PROFILE, AWS_DEFAULT_REGION and ~/.aws") from error


class Bucket:
    """Implements zephyr.artifacts.Backend for s3://bucket/prefix."""

    def __init__(self, location: str, cache: Path) -> None:
        self.location = location.rstrip("/")
        self._bucket, _, prefix = self.location.removeprefix("s3://").partition("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self._cache = cache
        self._client = client()

    def check(self) -> None:
        """Write and delete a small object: only that shows that results can be kept."""
        key = f"{self._prefix}.check"
        with _errors(self.location):
            self._client.put_object(Bucket=self._bucket, Key=key, Body=b"")
            self._client.delete_object(Bucket=self._bucket, Key=key)

    def staging(self) -> Path:
        root = self._cache / "staging"
        with disk(root):
            root.mkdir(parents=True, exist_ok=True)
            return Path(tempfile.mkdtemp(dir=root))

    def read(self, place: str, name: str) -> str | None:
        from botocore.exceptions import ClientError

        with _errors(self.location):
            try:
                found = self._client.get_object(Bucket=self._bucket, Key=self._key(place, name))
            except ClientError as error:
                if error.response["Error"]["Code"] == "NoSuchKey":
                    return None
                raise
            text: str = found["Body"].read().decode()
            return text

    def probe(self, place: str, files: Mapping[str, Any]) -> None:
        """Presence and size of every file; their content is verified when it is fetched."""
        sizes = dict(self._objects(f"{place}/"))
        for name, file in files.items():
            where = f"{self.location}/{place}/{name}"
            if self._key(place, name) not in sizes:
                raise ArtifactError(f"{where}: missing, the manifest lists it; delete the artifact and run again")
            if sizes[self._key(place, name)] != file["bytes"]:
                raise ArtifactError(
                    f"{where}: corrupted, expected {file['bytes']} bytes, found {sizes[self._key(place, name)]}"
                )

    def fetch(self, place: str, files: Mapping[str, Any]) -> Path:
        target = self._cache / "artifacts" / place
        if target.is_dir():
            try:
                verify(target, files)
            except ArtifactError:
                shutil.rmtree(target)  # of an artifact that was made again, or damaged here: fetch it anew
            else:
                return target
        aside = self.staging()
        try:
            with _errors(self.location), disk(target):
                for name in files:
                    (aside / name).parent.mkdir(parents=True, exist_ok=True)
                    self._client.download_file(self._bucket, self._key(place, name), str(aside / name))
                verify(aside, files, f"{self.location}/{place}")
                target.parent.mkdir(parents=True, exist_ok=True)
                aside.rename(target)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return target

    def commit(self, staging: Path, place: str, files: Mapping[str, Any]) -> Path:
        """Upload data, then the manifest: without it there is no artifact. Extra objects of an old one go last."""
        from boto3.s3.transfer import TransferConfig

        config = TransferConfig(multipart_threshold=16 * 2**20, multipart_chunksize=16 * 2**20)
        with _errors(self.location):
            self._client.delete_object(Bucket=self._bucket, Key=self._key(place, MANIFEST))
            for name in (*files, MANIFEST):
                self._client.upload_file(
                    str(staging / name),
                    self._bucket,
                    self._key(place, name),
                    ExtraArgs={"ChecksumAlgorithm": "SHA256"},
                    Config=config,
                )
            wanted = {self._key(place, name) for name in (*files, MANIFEST)}
            for key, _ in list(self._objects(f"{place}/")):
                if key not in wanted:
                    self._client.delete_object(Bucket=self._bucket, Key=key)
        target = self._cache / "artifacts" / place
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        staging.rename(target)
        return target

    def attach(self, place: str, name: str, text: str) -> None:
        with _errors(self.location):
            self._client.put_object(Bucket=self._bucket, Key=self._key(place, name), Body=text.encode())

    def places(self) -> Iterator[str]:
        for key, _ in self._objects(""):
            if key.endswith(f"/{MANIFEST}"):
                yield key.removeprefix(self._prefix).removesuffix(f"/{MANIFEST}")

    def remove(self, place: str) -> None:
        with _errors(self.location):
            keys = [self._key(place, MANIFEST), *(key for key, _ in self._objects(f"{place}/"))]
            for key in dict.fromkeys(keys):  # the manifest first: what is half deleted is no artifact
                self._client.delete_object(Bucket=self._bucket, Key=key)

    def leftovers(self, seconds: float) -> int:
        return sweep(self._cache / "staging", seconds)

    def _key(self, place: str, name: str) -> str:
        return f"{self._prefix}{place}/{name}"

    def _objects(self, under: str) -> Iterator[tuple[str, int]]:
        with _errors(self.location):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + under
            )
            for page in pages:
                for item in page.get("Contents", ()):
                    yield item["Key"], item["Size"]


def download(location: str, target: Path) -> Path:
    """Fetch an object, or all objects under a prefix, into folder `target`; returns the local file or folder."""
    bucket, _, key = location.removeprefix("s3://").partition("/")
    s3 = client()
    with _errors(location), disk(target):
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key)
        keys = [item["Key"] for page in pages for item in page.get("Contents", ()) if not item["Key"].endswith("/")]
        keys = [found for found in keys if found == key or found.startswith(key.rstrip("/") + "/")]
        if not keys:
            raise StoreError(f"{location}: no such object or prefix; mend the location in the recipe")
        shutil.rmtree(target, ignore_errors=True)
        for found in keys:
            name = found.removeprefix(key).lstrip("/") or found.rsplit("/", 1)[-1]
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            s3.download_file(bucket, found, str(target / name))
    return target / key.rsplit("/", 1)[-1] if keys == [key] else target


@contextmanager
def _errors(where: str) -> Iterator[None]:
    """S3's troubles in one line: what is wrong and what to do."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    remedies = {
        "NoSuchBucket": "there is no such bucket; create it or mend `store`",
        "InvalidAccessKeyId": "the access key is unknown; check AWS_ACCESS_KEY_ID",
        "SignatureDoesNotMatch": "the secret is wrong; check AWS_SECRET_ACCESS_KEY",
        "AccessDenied": "access is denied; the key lacks the permission",
    }
    try:
        yield
    except NoCredentialsError:
        raise StoreError(f"{where}: no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY") from None
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        raise StoreError(f"{where}: {remedies.get(code, f'S3 answers {code}: {error}')}") from error
    except (BotoCoreError, Boto3Error) as error:
        raise StoreError(f"{where}: can't be reached ({error}); check AWS_ENDPOINT_URL and the network") from error
