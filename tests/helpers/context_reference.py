"""An independent context rule: TWO WHOLE BRANCHES OVER ONE IMAGE STREAM, in double precision, written from the formula.

The prompt and each of its contexts, of the same length, are rows of ONE batch of the model, through ComfyUI's own sampler: each
text stands where a prompt stands, has a prompt's positions and padding, and passes the model's own refiners. An attention
override keeps the branches together: the image, and all that is no prompt's word, is the prompt's row in every branch, and the
image's attention takes what the rule makes of the branches'. Nothing of the pack is used.

    Z+    the prompt's branch         D_c = Z_c - Z+,  Z_c: the branch of context c
    T_c = min(6 strength_c, |Z+| / |D_c|) D_c              |.|: over all heads of a token
    Z   = Z+ - f(t) min(1, max_c |T_c| / |sum T_c|) sum T_c,      f(t) = min(1, (t / 0.75)^2)

Letters of tokens are those of reference.py: P, I and B.
"""
from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from unittest import mock

import comfy.sampler_helpers
import comfy.samplers
import reference
import torch
from comfy.patcher_extension import WrappersMP

Options = dict[str, Any]
Share = Callable[[int], torch.Tensor] | None
"""Image tokens of an attention -> m of each, (1 or rows, tokens)."""


@dataclass(frozen=True)
class Rules:
    """What the branches obey: the truth, or a mutant."""
    sign: float = -1.0
    cap_of_each_head: bool = False
    fades: bool = True
    words_see_the_prompt: bool = False
    rest_is_shared: bool = True


TRUTH = Rules()
MUTANTS = {
    "sign": Rules(sign=1.0),
    "the cap of each head alone": Rules(cap_of_each_head=True),
    "no fade": Rules(fades=False),
    "a context sees the prompt": Rules(words_see_the_prompt=True),
    "each branch has its own padding": Rules(rest_is_shared=False),
}


OF_TEXT_QUERIES = {"a context sees the prompt", "each branch has its own padding"}
"""Mutants that mean nothing where text does not ask."""


def noise_share(model_sampling: Any, sigma: torch.Tensor) -> float:
    """t, by ComfyUI's own mixture of noise and picture: where the picture's part shrinks, what it has lost; else the noise's
    part in the sum."""
    sigma, one, zero = sigma[:1].double(), torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    noise, signal = (model_sampling.noise_scaling(sigma, *parts).item() for parts in ((one, zero), (zero.clone(), one.clone())))
    return 1 - signal if signal < 1 else noise / (noise + signal)


def size(x: torch.Tensor, of_each_head: bool) -> torch.Tensor:
    """|x| of each token, (B, H, L, D) -> (B, H or 1, L, 1)."""
    return x.square().sum(dim=(3,) if of_each_head else (1, 3), keepdim=True).sqrt()


def pushed(plus: torch.Tensor, branches: Sequence[torch.Tensor], strengths: Sequence[float], fade: float,
           rules: Rules, shares: Sequence[Share] = ()) -> torch.Tensor:
    """The formula. plus: Z+, branches: Z_c, (B, H, L, D); shares: of each branch, m of each image token."""
    measure = functools.partial(size, of_each_head=rules.cap_of_each_head)
    pushes = []
    for z, strength in zip(branches, strengths, strict=True):
        d = z - plus
        pushes.append((measure(plus) / measure(d).clamp(min=1e-300)).clamp(max=6 * strength) * d)
    for c, share in enumerate(shares):
        if share is not None:
            pushes[c] = pushes[c] * share(plus.shape[2]).double()[:, None, :, None]
    total = sum(pushes)
    longest = torch.stack([measure(t) for t in pushes]).amax(dim=0)
    return plus + rules.sign * fade * (longest / measure(total).clamp(min=1e-300)).clamp(max=1) * total


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None,
              scale: float | None) -> torch.Tensor:
    """Softmax attention."""
    logits = q @ k.mT * (scale or q.shape[-1] ** -0.5) + (0.0 if mask is None else mask)
    return torch.softmax(logits, -1) @ v


def where(letters: str, wanted: str) -> list[int]:
    return [i for i, letter in enumerate(letters) if letter in wanted]


def branched(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, rows: str, cols: str, mask: torch.Tensor | None,
             scale: float | None, order: list[int], strengths: Sequence[float], fade: float, rules: Rules,
             shares: Sequence[Share] = ()) -> torch.Tensor:
    """q, k, v: (branches * B, H, L, D), order: the branch of each chunk of rows, 0 for the prompt's; rows, cols: letters of
    queries and keys."""
    def apart(t: torch.Tensor) -> list[torch.Tensor]:
        chunks = t.chunk(len(order))
        return [chunks[order.index(branch)].clone() for branch in range(len(order))]

    q, k, v = (apart(t) for t in (q, k, v))
    masks = [mask] * len(order) if mask is None or len(mask) == 1 else apart(mask)
    stream, shared_rows = where(rows, "I"), where(rows, "B") if rules.rest_is_shared else []
    for t in (k, v):
        for own in t[1:]:
            shared = where(cols, "BI" if rules.rest_is_shared else "I")
            own[:, :, shared] = t[0][:, :, shared]
    for own in q[1:]:
        own[:, :, stream] = q[0][:, :, stream]
        own[:, :, shared_rows] = q[0][:, :, shared_rows]
    out = [attention(*parts, scale) for parts in zip(q, k, v, masks, strict=True)]
    if words := where(rows, "P") if rules.words_see_the_prompt else []:
        prompts = where(cols, "P")
        for c in range(1, len(order)):
            keys, values = (torch.cat([t[c], t[0][:, :, prompts]], dim=2) for t in (k, v))
            own = masks[c]
            if own is not None and own.shape[-1] > 1:
                own = torch.cat([own, own[..., prompts]], dim=-1)
            out[c][:, :, words] = attention(q[c], keys, values, own, scale)[:, :, words]
    if stream:
        plus, *others = (z[:, :, stream] for z in out)
        z = pushed(plus, others, strengths, fade, rules, shares)
        for own in out:
            own[:, :, stream] = z
    for own in out[1:]:
        own[:, :, shared_rows] = out[0][:, :, shared_rows]
    return torch.cat([out[branch] for branch in order])


def patch(case: Any, model: Any, words: dict[str, torch.Tensor], strengths: Sequence[float], rules: Rules = TRUTH,
          factor: Callable[[float], float] = lambda sigma: 1.0, shares: Sequence[Share] = ()) -> Any:
    """A clone of a case's model in float64, which keeps the branches of a call together. words: which tokens of the prompt are
    words, by the option of its conditioning that holds them. factor: of every strength."""
    patched = model.clone()

    def apply_model(executor: Any, x: torch.Tensor, t: torch.Tensor, c_concat: Any, context: torch.Tensor, control: Any,
                    options: Options, **conds: Any) -> torch.Tensor:
        order = list(options["cond_or_uncond"])
        has_contexts = len(order) > 1
        assert not has_contexts or sorted(order) == list(range(1 + len(strengths))), "ComfyUI has not put them into one batch"
        call = reference.RefCall(executor.class_obj, x, {"c_crossattn": context, **conds}, [], dict(options), words=words,
                                 branches=len(order))
        lengthen, kinds = case.branches or (case.lengthen, case.kinds)
        lengthen(call)
        by_now = [strength * factor(float(t[0])) for strength in strengths]
        fade = min(1.0, (noise_share(executor.class_obj.model_sampling, t) / 0.75) ** 2) if rules.fades else 1.0

        def override(func: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int, mask: Any = None,
                     attn_precision: Any = None, skip_reshape: bool = False, skip_output_reshape: bool = False,
                     scale: float | None = None, **kwargs: Any) -> torch.Tensor:
            q, k, v = (reference._heads_first(a, heads, skip_reshape) for a in (q, k, v))
            found = kinds(call, q.shape[0], q.shape[2], k.shape[2])
            mask = None if mask is None else reference._additive(mask)
            if found is None or not has_contexts or (case.refines_apart and "I" not in found[0]):
                out = attention(q, k, v, mask, scale)
            else:
                out = branched(q, k, v, *found, mask, scale, order, by_now, fade, rules, shares)
            return (out if skip_output_reshape else out.transpose(1, 2).flatten(2)).to(model.model.get_dtype_inference())

        call.options["optimized_attention_override"] = override
        with ExitStack() as hooks:
            for name in case.of_the_prompt if has_contexts else ():
                module = executor.class_obj.diffusion_model.get_submodule(name)
                forward = functools.partial(_of_the_prompt, module.forward, order)
                hooks.enter_context(mock.patch.object(module, "forward", forward))
            return executor(x, t, c_concat, call.conds.pop("c_crossattn"), control, call.options, **call.conds)

    patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "reference", apply_model)
    return patched


def _of_the_prompt(forward: Any, order: list[int], *args: Any) -> Any:
    """A module's forward on the prompt's rows, for those of every branch. args: tensors with a row for each of the call's."""
    out = forward(*(t if t is None else t.chunk(len(order))[order.index(0)] for t in args))

    def for_all(t: torch.Tensor) -> torch.Tensor:
        return t.repeat(len(order), *[1] * (t.ndim - 1))
    return for_all(out) if isinstance(out, torch.Tensor) else tuple(map(for_all, out))


class Branches(comfy.samplers.CFGGuider):
    """The prompt and its contexts in one call of ComfyUI's, the negative of CFG in another."""
    contexts = 0

    def set_branches(self, positive: list, contexts: list[list], negative: list, cfg: float) -> None:
        self.contexts = len(contexts)
        self.inner_set_conds({"positive": positive, "negative": negative,
                              **{f"context {c}": context for c, context in enumerate(contexts)}})
        self.set_cfg(cfg)

    def predict_noise(self, x: torch.Tensor, timestep: torch.Tensor, model_options: Options = {},  # noqa: B006  ComfyUI's
                      seed: Any = None) -> torch.Tensor:
        conds = [self.conds["positive"], *(self.conds[f"context {c}"] for c in range(self.contexts))]
        out = comfy.samplers.calc_cond_batch(self.inner_model, conds, x, timestep, model_options)[0]
        if self.cfg == 1.0:
            return out
        away = comfy.samplers.calc_cond_batch(self.inner_model, [self.conds["negative"]], x, timestep, model_options)[0]
        return comfy.samplers.cfg_function(self.inner_model, out, away, self.cfg, x, timestep, model_options,
                                           cond=self.conds["positive"], uncond=self.conds["negative"])
