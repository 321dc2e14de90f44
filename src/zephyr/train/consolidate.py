"""What the processes of a training leave, and the model that one process makes of it once they have ended.

Under ZeRO-3 every process writes the part of the weights that it holds; nothing gathers the whole model on the way.
Making one model of the parts takes the memory of one file of it, and may be done again, by hand as well:
`python -m zephyr.train.consolidate SHARDS FOLDER`.
"""

import json
import math
import shutil
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zephyr.errors import ArtifactError, ModelError, disk, first_line
from zephyr.folder import verify
from zephyr.manifest import describe_file
from zephyr.progress import Progress
from zephyr.train import adapters, ranks
from zephyr.train.job import Job
from zephyr.train.saving import saved

if TYPE_CHECKING:
    from torch import Tensor

SHARDS, TRAINED = "shards", "trained"
DONE = "trained.json"
FILE_BYTES = 5 * 10**9
"""Of one file of weights."""


def leave(model: Any, tokenizer: Any, job: Job) -> None:
    """Called by every process: its part of the weights in `job.work`, all the rest of the model in `job.out`."""
    shard(model, job.work / SHARDS)
    if ranks.rank() == 0:
        model.generation_config.do_sample = False
        for part in (model.config, model.generation_config, tokenizer):
            part.save_pretrained(job.out)


def mark(job: Job, figures: Mapping[str, float]) -> None:
    """Say that the processes have ended: the training's figures, and how each file that they left must look."""
    parts = (job.work / name for name in (TRAINED, SHARDS, adapters.FOLDER))
    paths = [path for part in parts for path in part.rglob("*") if path.is_file()]
    with disk(job.work), ThreadPoolExecutor() as pool:
        names = (path.relative_to(job.work).as_posix() for path in paths)
        files = dict(zip(names, pool.map(describe_file, paths), strict=True))
        aside = job.work / f".{DONE}.part"
        aside.write_text(json.dumps({"figures": dict(figures), "files": files}))
        aside.replace(job.work / DONE)


def marked(job: Job, progress: Progress) -> dict[str, float] | None:
    """The figures of processes that have ended; None where there are none, or what they left is damaged."""
    path = job.work / DONE
    if not path.is_file():
        return None
    try:
        said = json.loads(path.read_text())
        verify(job.work, said["files"])
        return dict(said["figures"])
    except ArtifactError as error:
        why = saved.brief(error)
    except (ValueError, KeyError, TypeError):
        why = f"{path}: can't be read"
    path.unlink()
    progress.note(f"what the training left is damaged ({why}): it goes on from its newest checkpoint")
    return None


def finish(job: Job) -> dict[str, float]:
    """Make the model in `job.out` of what the processes left in `job.work`; figures of the merge of adapters."""
    if (job.work / adapters.FOLDER).exists():
        if (job.work / TRAINED).exists():  # no weights; the merge writes over some of it
            shutil.copytree(job.work / TRAINED, job.out, dirs_exist_ok=True)
        return adapters.merge(job)
    if (job.work / TRAINED).exists():
        saved.link(job.work / TRAINED, job.out)
    if (job.work / SHARDS).exists():
        whole(job.work / SHARDS, job.out)
    return {}


def shard(model: Any, folder: Path) -> None:
    """Write this process's part of each weight that ZeRO-3 has cut up, in the model's own type.

    Weights that share their memory are written once; buffers, which are whole everywhere, by the first process.
    """
    from safetensors.torch import save_file

    named = dict(model.named_parameters())
    parts = {name: parameter.ds_tensor.detach().cpu().contiguous() for name, parameter in named.items()}
    shapes = {name: list(parameter.ds_shape) for name, parameter in named.items()}
    if ranks.rank() == 0:
        kept = set(model.state_dict())
        buffers = {name: buffer.cpu().clone() for name, buffer in model.named_buffers() if name in kept}
        parts |= buffers
        shapes |= {name: list(buffer.shape) for name, buffer in buffers.items()}
    about = {"processes": str(ranks.processes()), "shapes": json.dumps(shapes)}
    with disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{ranks.rank():05d}.safetensors"
        save_file(parts, path.with_suffix(".part"), about)
        path.with_suffix(".part").replace(path)


def whole(folder: Path, out: Path, limit: int = FILE_BYTES) -> None:
    """Write the weights of all shards in `folder` to `out`, as transformers reads them, in files of `limit` bytes."""
    from safetensors.torch import save_file

    shapes, sizes, files = _contents(folder)
    groups: list[list[str]] = [[]]
    filled = 0
    for name, size in sizes.items():
        if groups[-1] and filled + size > limit:
            groups.append([])
            filled = 0
        groups[-1].append(name)
        filled += size
    names = ["model.safetensors"]
    if len(groups) > 1:
        names = [f"model-{n:05d}-of-{len(groups):05d}.safetensors" for n in range(1, len(groups) + 1)]
    with disk(out):
        out.mkdir(parents=True, exist_ok=True)
        for file, group in zip(names, groups, strict=True):
            save_file(dict(_joined(group, shapes, files)), out / file, {"format": "pt"})
        if len(groups) > 1:
            where = {name: file for file, group in zip(names, groups, strict=True) for name in group}
            index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": where}
            (out / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")


def _contents(folder: Path) -> tuple[Mapping[str, list[int]], Mapping[str, int], list[Any]]:
    """Shape and bytes of each weight, and all shards' files, open; their tensors are read when they are asked for."""
    from safetensors import SafetensorError, safe_open

    again = "run the step again, its training goes on from its newest checkpoint"
    paths = sorted(folder.glob("*.safetensors"))
    try:
        files = [safe_open(path, "pt") for path in paths]
    except SafetensorError as error:
        raise ModelError(f"{folder}: a damaged shard ({first_line(error)}); {again}") from None
    wanted = int(_about(files[0])["processes"]) if files else 1
    if len(files) != wanted:
        raise ModelError(f"{folder}: {len(files)} of {wanted} shards; {again}")
    shapes: dict[str, list[int]] = json.loads(_about(files[0])["shapes"])
    sizes = {name: math.prod(shape) * _item(files[0], name) for name, shape in shapes.items()}
    return shapes, sizes, files


def _item(file: Any, name: str) -> int:
    return int(file.get_tensor(name).element_size())


def _about(file: Any) -> dict[str, str]:
    return dict(file.metadata())


def _joined(names: list[str], shapes: Mapping[str, list[int]], files: list[Any]) -> "Iterator[tuple[str, Tensor]]":
    """Each weight: the processes' parts one after another; the last is filled up with nothing of it."""
    import torch

    cut = set(files[-1].keys())
    for name in names:
        holders = files if name in cut else files[:1]
        flat = torch.cat([file.get_tensor(name).reshape(-1) for file in holders])
        yield name, flat[: math.prod(shapes[name])].reshape(shapes[name]).clone()


if __name__ == "__main__":
    whole(Path(sys.argv[1]), Path(sys.argv[2]))
