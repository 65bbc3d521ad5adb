"""What other nodes do to a model: overrides of attention, torch.compile, calls with other rows than ComfyUI's."""
from __future__ import annotations

import comfy.ldm.modules.attention
import torch
from comfy_api.torch_helpers import set_torch_compile_wrapper
from comfy_extras.nodes_torch_compile import skip_torch_compile_dict

OVERRIDE = "optimized_attention_override"


def with_override(model, calls: list):
    """As sage and its like are installed: written on a clone's options, ignoring func and whatever was there before."""
    patched = model.clone()

    def terminal(func, *args, **kwargs):
        calls.append(1)
        return comfy.ldm.modules.attention.attention_pytorch.__wrapped__(*args, **kwargs)

    patched.model_options["transformer_options"][OVERRIDE] = terminal
    return patched


def compiled(model):
    """TorchCompileModel's own wrapper and its guard filter, with a back end that needs no compiler."""
    patched = model.clone()
    torch._dynamo.reset()

    def aot_eager(graph, inputs, **_):
        return graph.forward

    set_torch_compile_wrapper(model=patched, backend=aot_eager, options={"guard_filter_fn": skip_torch_compile_dict})
    return patched


def rows_of(c: dict, change) -> dict:
    rows = len(c["c_crossattn"])
    return {k: change(v) if isinstance(v, torch.Tensor) and v.ndim and len(v) == rows else v for k, v in c.items()}


def single(apply, args):
    x, t, c = args["input"], args["timestep"], args["c"]
    return torch.cat([apply(x[i:i + 1], t[i:i + 1], **rows_of(c, lambda v, i=i: v[i:i + 1])) for i in range(len(x))])


def tiles(apply, args):
    x, t, c = args["input"], args["timestep"], args["c"]
    return apply(torch.cat([x, x]), torch.cat([t, t]), **rows_of(c, lambda v: torch.cat([v, v])))[:len(x)]
