"""One of two processes that hold a model as ZeRO-3 cuts it up: `python -m tests.sharded BASE SHARDS GATHERED`."""

import os
import sys
from pathlib import Path

from zephyr.recipe import check
from zephyr.train import consolidate, model, ranks, zero

if __name__ == "__main__":
    import deepspeed
    import torch
    from safetensors.torch import save_file

    section = {"zero_stage": 3, "global_batch_size": 2}
    recipe = check({"name": "t", "model": {"base": "unused"}, "sft": section, "dpo": section})
    with zero.read_in_parts(recipe, recipe.sft):
        network, _ = model.load(Path(sys.argv[1]), recipe, recipe.sft)
    assert all(parameter.numel() == 0 for parameter in network.parameters())  # none is whole
    consolidate.shard(network, Path(sys.argv[2]))
    with deepspeed.zero.GatheredParameters(list(network.parameters())):
        if ranks.rank() == 0:
            save_file({name: p.detach().clone() for name, p in network.named_parameters()}, sys.argv[3])
    torch.distributed.destroy_process_group()
    os._exit(0)  # as the workers do: threads of gloo that still run abort an interpreter that ends
