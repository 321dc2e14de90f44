"""What can go wrong for a user. Every error says what is wrong, where, and what to do.

ZephyrError (ValueError)          the command line prints one line and exits with 2
├── RecipeError                   an unknown or impossible setting
├── DataError                     a file or row that can't be used
├── ArtifactError                 a missing, torn or corrupted artifact
├── StoreError                    the store (folder or S3) can't be reached, read or written
├── EndpointError                 a model endpoint is down, refuses the key or lacks the model
├── BudgetError                   the calls of a run have cost what they may cost
├── ModelError                    weights or tokenizer that can't be trained or served
├── TrainingError                 a training whose loss is no number any more, or only grows
├── TrackingError                 the MLflow server or registry can't be used
├── ClusterError                  a cluster refuses or can't be reached, or what it serves isn't ready or isn't right
└── RunError                      a run that can't start, is unknown, or is already going on
"""

from collections.abc import Iterator
from contextlib import contextmanager
from unicodedata import category

EXIT_USER_ERROR = 2


class ZephyrError(ValueError):
    """Base of all errors that the user can mend; the message is one line, whatever the names in it hold."""

    def __str__(self) -> str:
        return printable(super().__str__())


class RecipeError(ZephyrError):
    pass


class DataError(ZephyrError):
    pass


class ArtifactError(ZephyrError):
    pass


class StoreError(ZephyrError):
    pass


class EndpointError(ZephyrError):
    pass


class BudgetError(ZephyrError):
    pass


class ModelError(ZephyrError):
    pass


class TrainingError(ZephyrError):
    pass


class TrackingError(ZephyrError):
    pass


class ClusterError(ZephyrError):
    pass


class RunError(ZephyrError):
    pass


def printable(text: str) -> str:
    """A text of a file as a terminal may show it: U+FFFD for each control or format character and half surrogate."""
    return "".join(x if x.isprintable() or category(x) == "Zs" else "\ufffd" for x in text)


def first_line(error: BaseException) -> str:
    """What a foreign error says, for a message of one line; its kind where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


@contextmanager
def disk(where: object) -> Iterator[None]:
    """Turn a full or unwritable disk into a StoreError that names the place."""
    import errno

    try:
        yield
    except OSError as error:
        remedies = {
            errno.ENOSPC: "the disk is full; free some space and run again",
            errno.EDQUOT: "the disk quota is used up; free some space and run again",
            errno.EACCES: "permission denied; choose another place with ZEPHYR_HOME or `store`",
            errno.EROFS: "the file system is read-only; choose another place with ZEPHYR_HOME or `store`",
        }
        if error.errno not in remedies:
            raise
        raise StoreError(f"{where}: {remedies[error.errno]}") from error
