"""What `zephyr serve` refuses to serve: one line, exit code 2."""

import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.served import command, published


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published(tmp_path_factory.mktemp("model"))


def refused(*arguments: str) -> str:
    """The one line of a server that doesn't start."""
    ended = subprocess.run(command("serve", *arguments), capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2, ended.stderr
    (line,) = ended.stderr.splitlines()
    return line


def test_damaged_weights_are_refused(model: Path, tmp_path: Path) -> None:
    damaged = shutil.copytree(model, tmp_path / "damaged")
    weights = damaged / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-5] ^= 1
    weights.write_bytes(content)
    assert re.match(
        r"error: \S+/damaged/model.safetensors: corrupted, expected SHA-256 \w+, found", refused(str(damaged))
    )


def test_a_file_beside_the_verified_ones_is_refused(model: Path, tmp_path: Path) -> None:
    """Transformers would load an adapter's weights on top of the verified ones."""
    more = shutil.copytree(model, tmp_path / "more")
    (more / "adapter_config.json").write_text("{}")
    assert "more: adapter_config.json is not in its manifest, so it can't be verified" in refused(str(more))


def test_weights_that_are_cut_off_or_lack_some_are_refused(model: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    cut = shutil.copytree(model, tmp_path / "cut", ignore=shutil.ignore_patterns("manifest.json"))
    weights = cut / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    assert "cut: not a model that can be loaded (" in refused(str(cut), "--port", "0")
    weights.write_bytes(whole)
    tensors = load_file(weights)
    del tensors["model.norm.weight"]
    save_file(tensors, weights, {"format": "pt"})
    assert "cut: weights lack model.norm.weight, which would be random" in refused(str(cut), "--port", "0")


def test_a_folder_without_tokenizer_is_refused(model: Path, tmp_path: Path) -> None:
    bare = shutil.copytree(model, tmp_path / "bare", ignore=shutil.ignore_patterns("token*", "manifest.json"))
    assert "bare: lacks tokenizer_config.json (there:" in refused(str(bare), "--port", "0")


def test_a_model_of_another_template_is_refused(tmp_path: Path) -> None:
    other = published(tmp_path, trained_with="0" * 64)
    assert "trained with the chat template 000000000000, this Zephyr serves" in refused(str(other))


def test_what_is_not_there_is_refused(model: Path, tmp_path: Path) -> None:
    assert "nowhere: no such folder; name a model folder, or a registered model" in refused(str(tmp_path / "nowhere"))
    assert "--max-batch 0: must be 1 or more" in refused(str(model), "--max-batch", "0")
    assert "NO_SUCH_KEY: this environment variable is not set" in refused(str(model), "--key-env", "NO_SUCH_KEY")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert f"127.0.0.1:{port}: can't listen there (Address already in use)" in refused(str(model), "--port", port)
