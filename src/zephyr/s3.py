"""A store's bytes in a bucket, through boto3: several objects at a time, the manifest last.

Settings come from the environment: AWS_* (keys, region), AWS_ENDPOINT_URL for other object stores, and
ZEPHYR_S3_PATH_STYLE=1 for those that want the bucket in the path.

    {prefix}/{step}/{key[:16]}/…                 an artifact
    {prefix}/.staging/{step}/{key[:16]}/{id}/…   a writer's mark, and what shall replace an artifact that is there
"""

import os
import shutil
import tempfile
import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from zephyr.errors import ArtifactError, StoreError, disk, first_line
from zephyr.folder import STAGING, discard, settle, sweep, verify
from zephyr.manifest import MANIFEST

PART = 16 * 2**20
WAITING = 100
"""Transfers begun and not yet awaited: a store that fails is noticed after so many, not after all."""


def client(attempts: int = 7) -> Any:
    """An S3 client that asks up to so often (7: for 30 s on average) and, where told so, addresses buckets by path.

    Checksums beside the signature's are left out: the SHA-256 that signs a body guards it on its way, older stores
    refuse the newer trailers, and readers verify the manifest's digests. The `legacy` retries are those that outlast a
    restart of the store; `standard` ones are used up in a second when several transfers fail at once.
    """
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    style: Literal["path", "auto"] = "path" if os.environ.get("ZEPHYR_S3_PATH_STYLE") == "1" else "auto"
    config = Config(
        retries={"total_max_attempts": attempts, "mode": "legacy"},
        s3={"addressing_style": style},
        connect_timeout=10,
        read_timeout=60,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
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
        quick = client(attempts=3)
        with errors(self.location):
            quick.put_object(Bucket=self._bucket, Key=key, Body=b"")
            quick.delete_object(Bucket=self._bucket, Key=key)

    def staging(self) -> Path:
        root = self._cache / "staging"
        with disk(root):
            root.mkdir(parents=True, exist_ok=True)
            return Path(tempfile.mkdtemp(dir=root))

    def read(self, place: str, name: str) -> str | None:
        from botocore.exceptions import ClientError

        with errors(self.location):
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
        sizes = {item["Key"]: item["Size"] for item in self._objects(f"{place}/")}
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
            if _whole(target, files):
                return target
            discard(target, self.staging())  # of an artifact that was made again, or damaged here: fetch it anew
        aside = self.staging()
        try:
            with errors(self.location), disk(target):
                for name in files:
                    (aside / name).parent.mkdir(parents=True, exist_ok=True)
                with transfers(self._client) as manager:
                    finish(manager.download(self._bucket, self._key(place, name), str(aside / name)) for name in files)
                verify(aside, files, f"{self.location}/{place}")
                return settle(aside, target, self.staging, lambda: _whole(target, files))
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def commit(self, staging: Path, place: str, files: Mapping[str, Any]) -> Path:
        """Upload data, then the manifest: without it there is no artifact.

        What shall replace an artifact is uploaded aside and copied inside the store: if the upload breaks off, the
        old artifact is still there. A mark lies aside until all is done, so that `leftovers` finds what is not.
        """
        aside = f"{STAGING}/{place}/{uuid.uuid4().hex}"
        with errors(self.location), transfers(self._client) as manager:

            def upload(folder: str, names: Iterable[str]) -> None:
                finish(manager.upload(str(staging / n), self._bucket, self._key(folder, n)) for n in names)

            self.attach(aside, "mark", "")
            if self.read(place, MANIFEST) is None:
                upload(place, files)
            else:
                upload(aside, files)
                self._client.delete_object(Bucket=self._bucket, Key=self._key(place, MANIFEST))
                here = {"Bucket": self._bucket}
                finish(
                    manager.copy(here | {"Key": self._key(aside, n)}, self._bucket, self._key(place, n)) for n in files
                )
            upload(place, [MANIFEST])
            wanted = {self._key(place, name) for name in (*files, MANIFEST)}
            extra = [item["Key"] for item in self._objects(f"{place}/") if item["Key"] not in wanted]
            self._delete([*extra, *(item["Key"] for item in self._objects(f"{aside}/"))])
        target = self._cache / "artifacts" / place
        return settle(staging, target, self.staging, lambda: _whole(target, files))

    def attach(self, place: str, name: str, text: str) -> None:
        with errors(self.location):
            self._client.put_object(Bucket=self._bucket, Key=self._key(place, name), Body=text.encode())

    def names(self, place: str) -> list[str]:
        return [item["Key"].removeprefix(self._key(place, "")) for item in self._objects(f"{place}/")]

    def places(self) -> Iterator[str]:
        for item in self._objects(""):
            if item["Key"].endswith(f"/{MANIFEST}"):
                yield item["Key"].removeprefix(self._prefix).removesuffix(f"/{MANIFEST}")

    def remove(self, place: str) -> None:
        with errors(self.location):  # the manifest first: what is half deleted is no artifact
            self._client.delete_object(Bucket=self._bucket, Key=self._key(place, MANIFEST))
            self._delete([item["Key"] for item in self._objects(f"{place}/")])

    def leftovers(self, seconds: float) -> int:
        """Only what a writer's mark leads to: the bucket may hold other things than this store."""
        before = datetime.now(UTC) - timedelta(seconds=seconds)
        freed = sweep(self._cache / "staging", seconds)
        with errors(self.location):
            marks = [i["Key"] for i in self._objects(f"{STAGING}/") if i["LastModified"] <= before]
            for place in sorted({"/".join(key.removeprefix(self._prefix).split("/")[1:3]) for key in marks}):
                both = (f"{place}/", f"{STAGING}/{place}/")  # the marks last
                freed += sum(self._abort(under, before) for under in both)
                for under in both if self.read(place, MANIFEST) is None else both[1:]:
                    old = [item for item in self._objects(under) if item["LastModified"] <= before]
                    self._delete([item["Key"] for item in old])
                    freed += sum(item["Size"] for item in old)
        return freed

    def _abort(self, under: str, before: datetime) -> int:
        """Abort the multipart uploads that were begun so long ago; returns bytes freed."""
        freed = 0
        pages = self._client.get_paginator("list_multipart_uploads")
        for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix + under):
            for upload in page.get("Uploads", ()):
                if upload["Initiated"] <= before:
                    one = {"Bucket": self._bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
                    parts = self._client.get_paginator("list_parts").paginate(**one)
                    freed += sum(part["Size"] for listed in parts for part in listed.get("Parts", ()))
                    self._client.abort_multipart_upload(**one)
        return freed

    def _delete(self, keys: Iterable[str]) -> None:
        with transfers(self._client) as manager:
            finish(manager.delete(self._bucket, key) for key in keys)

    def _key(self, place: str, name: str) -> str:
        return f"{self._prefix}{place}/{name}"

    def _objects(self, under: str) -> Iterator[dict[str, Any]]:
        with errors(self.location):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + under
            )
            for page in pages:
                yield from page.get("Contents", ())


@contextmanager
def transfers(s3: Any) -> Iterator[Any]:
    """A manager of ten transfers at a time, each of at most 16 MiB: big objects go in parts."""
    from boto3.s3.transfer import TransferConfig
    from s3transfer.manager import TransferManager

    with TransferManager(s3, TransferConfig(multipart_threshold=PART, multipart_chunksize=PART)) as manager:
        yield manager


def finish(transfers: Iterable[Any]) -> None:
    """Begin transfers one after another and await them all; the first failure ends them."""
    waiting: deque[Any] = deque()
    for transfer in transfers:
        waiting.append(transfer)
        if len(waiting) > WAITING:
            waiting.popleft().result()
    for transfer in waiting:
        transfer.result()


def _whole(folder: Path, files: Mapping[str, Any]) -> bool:
    try:
        verify(folder, files)
    except ArtifactError:
        return False
    return True


@contextmanager
def errors(where: str) -> Iterator[None]:
    """S3's troubles in one line: what is wrong and what to do."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, ParamValidationError
    from s3transfer.exceptions import RetriesExceededError

    remedies = {
        "NoSuchBucket": "there is no such bucket; create it or mend `store`",
        "NoSuchKey": "an object is gone that was there before; run again",
        "InvalidAccessKeyId": "the access key is unknown; check AWS_ACCESS_KEY_ID",
        "SignatureDoesNotMatch": "the secret isn't the key's; check AWS_SECRET_ACCESS_KEY and AWS_ACCESS_KEY_ID",
        "AccessDenied": "access is denied; the key lacks the permission",
    }
    try:
        yield
    except NoCredentialsError:
        raise StoreError(f"{where}: no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY") from None
    except ParamValidationError as error:  # its last line says which name of a bucket is impossible
        raise StoreError(f"{where}: {str(error).splitlines()[-1]}; mend `store`") from None
    except ClientError as error:
        answer = error.response.get("Error", {})
        said = f"S3 answers {answer.get('Code')}: {answer.get('Message') or first_line(error)}"
        if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500:
            said += "; the object store itself fails, run again when it is well"
        raise StoreError(f"{where}: {remedies.get(answer.get('Code', ''), said)}") from error
    except RetriesExceededError as error:
        said = first_line(error.last_exception)
        raise StoreError(f"{where}: the connection breaks off again and again ({said}); check the network") from error
    except BotoCoreError as error:
        said = first_line(error)
        raise StoreError(f"{where}: can't be reached ({said}); check AWS_ENDPOINT_URL and the network") from error
