"""An independent VSF: dense masks, double precision, negatives AFTER the positive (the authors' order), every row alike.

It shares no code with the pack. It patches a model of its own in float64 and knows positive rows by cond_or_uncond. What
differs between model families is told to it by a Case (tests/helpers/cases): how to lengthen the text, and which tokens
are which in an attention call, one letter a token: P, I, and the digit of each negative. B stands for what is
no prompt's word: to the paper's rule it is P, to context_reference.py it is not.
"""
from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from unittest import mock

import comfy.ldm.cosmos.position_embedding
import comfy.ldm.flux.math
import comfy.quant_ops
import torch
from comfy.patcher_extension import WrappersMP


def _rotate(x: torch.Tensor, freqs: torch.Tensor, split_half: bool) -> torch.Tensor:
    """Rotary embedding of x: (..., D) in its own precision; freqs: (..., D / 2, 2, 2)."""
    if x.ndim == 4 and 1 != freqs.shape[2] > x.shape[2] != 1:
        freqs = freqs[:, :, :x.shape[2]]  # the rotations of keys that are cached (FluxKVCache), as ComfyUI does
    f = freqs.to(x.dtype)
    pairs = x.unflatten(-1, (2, -1)).mT if split_half else x.unflatten(-1, (-1, 2))
    out = f[..., 0] * pairs[..., :1] + f[..., 1] * pairs[..., 1:]
    return out.mT.flatten(-2) if split_half else out.flatten(-2)


def _rms(x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + epsilon) * weight


def _in_double(kernel: Callable[..., Any], split_half: bool, pair: bool, norm: bool, in_place: bool) -> Callable[..., Any]:
    """ComfyUI's rotation kernels refuse float64: for it, compute by hand; every other dtype is left to ComfyUI. rot_dim: how
    many of the channels are rotated, the first ones; 0 for all."""
    def call(*args: Any, **kwargs: Any) -> Any:
        if args[0].dtype != torch.float64:
            return kernel(*args, **kwargs)
        count = 2 if pair else 1
        tensors, freqs, rest = args[:count], args[count], args[count + 1:]
        whole, rotated = tensors, kwargs.get("rot_dim") or tensors[0].shape[-1]
        if norm:
            epsilon = kwargs["epsilon"] if "epsilon" in kwargs else rest[count]
            tensors = [_rms(t, w, epsilon) for t, w in zip(tensors, rest[:count], strict=True)]
        out = tuple(torch.cat([_rotate(t[..., :rotated], freqs, split_half), t[..., rotated:]], dim=-1) for t in tensors)
        if in_place:
            out = tuple(t.copy_(o) for t, o in zip(whole, out, strict=True))
        return out if pair else out[0]
    return call


for _name in [f"{kind}_rope{half}{one}{in_place}" for kind in ("apply", "rms") for half in ("", "_split_half")
              for one in ("", "1") for in_place in ("", "_")]:
    # ComfyUI before 0.20 keeps names of its own for two of them
    for _module, _here in ((comfy.quant_ops.ck, _name), (comfy.ldm.flux.math, f"q_{_name}")):
        if hasattr(_module, _here):
            setattr(_module, _here, _in_double(getattr(_module, _here), "split_half" in _name, "1" not in _name,
                                               "rms" in _name, _name.endswith("_")))


def _layer(x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    return torch.nn.functional.layer_norm(x, x.shape[-1:], eps=epsilon) * weight


def _adaln_in_double(kernel: Callable[..., torch.Tensor], norm: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Newer ComfyUIs normalise and modulate in one kernel: LTX, Qwen-Image 2.1."""
    def call(x: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor, eps: float = 1e-6) -> torch.Tensor:
        if x.dtype != torch.float64:
            return kernel(x, scale, shift, eps)
        return norm(x, 1 + scale, eps) + shift
    return call


for _name, _norm in (("rms_adaln", _rms), ("adaln", _layer)):
    if hasattr(comfy.quant_ops.ck, _name):
        setattr(comfy.quant_ops.ck, _name, _adaln_in_double(getattr(comfy.quant_ops.ck, _name), _norm))


def _unit_in_double(normalize: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Cosmos takes norms in float32 alone."""
    def call(x: torch.Tensor, dim: list[int] | None = None, eps: float = 0) -> torch.Tensor:
        if x.dtype != torch.float64:
            return normalize(x, dim, eps)
        norm = torch.linalg.vector_norm(x, dim=dim or list(range(1, x.ndim)), keepdim=True)
        return x / (eps + norm * math.sqrt(norm.numel() / x.numel()))
    return call


comfy.ldm.cosmos.position_embedding.normalize = _unit_in_double(comfy.ldm.cosmos.position_embedding.normalize)


TEXT = "cross_attn"
"""ComfyUI's name for a conditioning's own tensor among its options."""


@dataclass
class RefNegative:
    tokens: torch.Tensor  # (1, LN, C)
    alpha: float
    beta: float = 0.0
    active: Callable[[float], bool] = lambda sigma: True
    factor: Callable[[float], float] = lambda sigma: 1.0  # of alpha
    options: dict[str, Any] = field(default_factory=dict)  # the rest of its conditioning
    share: Callable[[int], torch.Tensor] | None = None  # image tokens of an attention -> m of each, (1 or rows, tokens)


def visible(query: str, key: str) -> bool:
    """DESIGN.md section 1, without N1. Kinds: P, I, N0, N1, ... (the number is the negative's)."""
    if query in "PI":
        return key in "PI"
    return key == "I" or key == query


@dataclass
class RefCall:
    """One call of apply_model that the reference is to lengthen. text: LP and LN of each negative.

    words, branches: for context_reference.py: which tokens are words, by the option that holds them (None: all that are a
    prompt's); in how many branches, of as many rows each, the prompt is in the call.
    """
    model: Any
    x: torch.Tensor
    conds: dict[str, Any]
    negatives: list[RefNegative]
    options: dict[str, Any]
    text: list[int] = field(default_factory=list)
    words: dict[str, torch.Tensor] | None = None
    branches: int = 1

    def prompt(self, length: int, option: str = TEXT) -> str:
        """The letters of so many tokens of the prompt: P, and B for those that are no words."""
        own = (self.words or {}).get(option)
        own = [True] * length if own is None else own.tolist()[:length]
        return "".join("P" if word else "B" for word in own) + "B" * (length - len(own))

    @property
    def text_kinds(self) -> str:
        """[P][N0 of each], one letter a token."""
        return self.prompt(self.text[0]) + "".join(str(c) * n for c, n in enumerate(self.text[1:]))


def append_text(call: RefCall) -> None:
    """[P][N0 of each]; attention masks of the text's length get ones."""
    context = call.conds["c_crossattn"]
    extra = [n.tokens.to(context).expand(len(call.x), -1, -1) for n in call.negatives]
    call.text = [context.shape[1], *(e.shape[1] for e in extra)]
    call.conds["c_crossattn"] = torch.cat([context, *extra], dim=1)
    mask = call.conds.get("attention_mask")
    if mask is not None:
        call.conds["attention_mask"] = torch.nn.functional.pad(mask, (0, sum(call.text[1:])), value=1)


Kinds = Callable[[RefCall, int, int, int], "tuple[str, str] | None"]
"""(call, batch, queries, keys) -> one letter a query, one letter a key; None for attention that text takes no part in"""


def joint(call: RefCall, batch: int, queries: int, keys: int) -> tuple[str, str] | None:
    """[text][image] where there are more tokens than text and image apart; text alone block-diagonal."""
    text, image = call.text_kinds, math.prod(call.x.shape[2:-2]) * math.prod(-(-n // 2) for n in call.x.shape[-2:])
    if keys == len(text) != image and batch == len(call.x):
        return text, text
    if keys <= max(len(text), image) or batch != len(call.x):
        return None
    return text + "I" * (queries - len(text)), text + "I" * (keys - len(text))


def cross(call: RefCall, batch: int, queries: int, keys: int) -> tuple[str, str] | None:
    """Image queries, text keys."""
    return ("I" * queries, call.text_kinds) if keys == len(call.text_kinds) != queries else None


@dataclass(frozen=True)
class Rules:
    """What the dense attention obeys: the truth, or one of the mutants that the tests must be able to tell from it."""
    visible: Callable[[str, str], bool] = visible
    sign: float = -1.0
    use_beta: bool = True
    refiner_leaks: bool = False


TRUTH = Rules()
MUTANTS = {
    "sign of the values": Rules(sign=1.0),
    "beta forgotten": Rules(use_beta=False),
    "the prompt sees the negative": Rules(lambda q, k: visible(q, k) or (q == "P" and k not in "PI")),
    "the image sees the unflipped negative": Rules(lambda q, k: visible(q, k) or (q == "I" and k not in "PI")),
    "the negative sees the prompt": Rules(lambda q, k: visible(q, k) or (q not in "PI" and k == "P")),
    "the negative does not see the image": Rules(lambda q, k: visible(q, k) and not (q not in "PI" and k == "I")),
    "negatives see each other": Rules(lambda q, k: visible(q, k) or (q not in "PI" and k not in "PI")),
    "a text refiner mixes prompt and negative": Rules(refiner_leaks=True),
}


def dense_attention(q, k, v, kinds: Sequence[str], negatives: list[RefNegative], is_positive: list[bool]) -> torch.Tensor:
    """q, k, v: (B, H, L, D) -> (B, H, L, D), float64, one token kind a letter. Joint attention, by loops."""
    q, k, v = q.double(), k.double(), v.double()
    out = torch.empty_like(v)
    for b in range(q.shape[0]):
        for i, query in enumerate(kinds):
            logits, values = [], []
            for j, key in enumerate(kinds):
                s = (q[b, :, i] * k[b, :, j]).sum(-1) / math.sqrt(q.shape[-1])
                if is_positive[b]:
                    if visible(query, key):
                        logits.append(s)
                        values.append(v[b, :, j])
                    if query == "I" and key not in "PI":
                        n = negatives[int(key)]
                        logits.append(s - n.beta)
                        values.append(-n.alpha * v[b, :, j])
                elif key in "PI" or query not in "PI":  # a row without VSF: nobody sees the negatives
                    logits.append(s)
                    values.append(v[b, :, j])
            weights = torch.softmax(torch.stack(logits, dim=-1), dim=-1)
            out[b, :, i] = torch.einsum("hj,jhd->hd", weights, torch.stack(values))
    return out


def vectorised_attention(q, k, v, kinds, negatives, is_positive, key_kinds=None, mask=None, scale=None,
                         rules: Rules = TRUTH) -> torch.Tensor:
    """The same by matrices, for any queries and keys: core/test_forms.py holds the two together."""
    q, k, v = q.double(), k.double(), v.double()
    key_kinds = list(kinds if key_kinds is None else key_kinds)
    all_kinds = list(key_kinds)
    keys, values = [k], [v]
    for c, n in enumerate(negatives):
        where = [j for j, kind in enumerate(key_kinds) if kind == str(c)]
        keys.append(k[:, :, where])
        values.append(rules.sign * n.alpha * v[:, :, where])
        all_kinds += [f"flip{c}"] * len(where)
    is_text = rules.refiner_leaks and "I" not in kinds

    def bias(positive: bool, query: str, key: str) -> float:
        if key.startswith("flip"):
            beta = negatives[int(key[4:])].beta if rules.use_beta else 0.0
            return -beta if positive and query == "I" else -math.inf
        if positive:
            return 0.0 if is_text or rules.visible(query, key) else -math.inf
        return 0.0 if key in "PI" or query not in "PI" else -math.inf

    rows, cols = list(dict.fromkeys(kinds)), list(dict.fromkeys(all_kinds))
    table = torch.tensor([[[bias(p, a, b) for b in cols] for a in rows] for p in (False, True)], dtype=torch.float64)
    own = table[[int(p) for p in is_positive]][:, [rows.index(a) for a in kinds]][:, :, [cols.index(b) for b in all_kinds]]
    logits = q @ torch.cat(keys, 2).mT * (scale or 1 / math.sqrt(q.shape[-1])) + own[:, None]
    image = [i for i, kind in enumerate(kinds) if kind == "I"]
    for c, n in enumerate(negatives):
        flipped = [j for j, kind in enumerate(all_kinds) if kind == f"flip{c}"]
        if n.share is not None and image and flipped:
            m = n.share(len(image)).double()
            m = m.repeat(len(q) // len(m), 1)
            for i, at in enumerate(image):
                logits[:, :, at, flipped] += m[:, None, i, None].log()
    if mask is not None:
        logits[..., :k.shape[2]] += mask
    return torch.softmax(logits, -1) @ torch.cat(values, 2)


def _heads_first(t: torch.Tensor, heads: int, skip_reshape: bool) -> torch.Tensor:
    t = t if skip_reshape else t.reshape(t.shape[0], t.shape[1], heads, -1).transpose(1, 2)
    return t.double().repeat_interleave(heads // t.shape[1], 1)


def _additive(mask: torch.Tensor) -> torch.Tensor:
    mask = torch.zeros(mask.shape, dtype=torch.float64).masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else mask
    while mask.ndim < 4:
        mask = mask.unsqueeze(0 if mask.ndim < 3 else 1)
    return mask.double()


def patch(model, *all_negatives: RefNegative, positive_index: int = 0, lengthen: Callable[[RefCall], None] = append_text,
          kinds: Kinds = joint, rules: Rules = TRUTH):
    """A clone of a float64 ModelPatcher with the reference in it. positive_index: the positive's in cond_or_uncond."""
    patched = model.clone()

    def apply_model(executor, x, t, c_concat, context, control, options, **conds):
        chunks = options["cond_or_uncond"]
        is_positive = [index == positive_index for index in chunks for _ in range(len(x) // len(chunks))]
        negatives = [dataclasses.replace(n, alpha=n.alpha * n.factor(float(t[0]))) for n in all_negatives
                     if n.active(float(t[0]))]
        if not any(is_positive):
            negatives = []
        call = RefCall(executor.class_obj, x, {"c_crossattn": context, **conds}, negatives, dict(options))
        lengthen(call)

        def override(func, q, k, v, heads, mask=None, attn_precision=None, skip_reshape=False, skip_output_reshape=False,
                     scale=None, **kwargs):
            q, k, v = (_heads_first(a, heads, skip_reshape) for a in (q, k, v))
            found = kinds(call, q.shape[0], q.shape[2], k.shape[2])
            rows, cols = (letters.replace("B", "P") for letters in found or ("I" * q.shape[2], "I" * k.shape[2]))
            mask = None if mask is None else _additive(mask)
            positive = is_positive if found else [True] * q.shape[0]
            if found and "reference_beside" in call.options:  # negatives that do not travel with the sequence
                lanes = [lane[kwargs["transformer_options"]["block_index"]] for lane in call.options["reference_beside"]]
                k, v = (torch.cat([t, *(lane[i] for lane in lanes)], dim=2) for i, t in enumerate((k, v)))
            out = vectorised_attention(q, k, v, rows, negatives, positive, cols, mask, scale, rules)
            return (out if skip_output_reshape else out.transpose(1, 2).flatten(2)).to(model.model.get_dtype_inference())

        options = {**call.options, "optimized_attention_override": override}
        return executor(x, t, c_concat, call.conds.pop("c_crossattn"), control, options, **call.conds)

    patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "reference", apply_model)
    return patched


def see(base_model: Any, attentions: list[torch.nn.Module]) -> None:
    """Let the reference's override see these modules, which call attention without transformer_options. Changes models in
    float64 alone."""
    if base_model.get_dtype() != torch.float64:
        return
    options: dict[str, Any] = {}

    def call(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        options.update(kwargs["transformer_options"])
        try:
            return forward(*args, **kwargs)
        finally:
            options.clear()

    def seen(forward: Callable[..., Any], module: Any, *args: Any, **kwargs: Any) -> Any:
        with mock.patch.object(module, "optimized_attention", partial(module.optimized_attention, transformer_options=options)):
            return forward(*args, **kwargs)

    model = base_model.diffusion_model
    model.forward = partial(call, model.forward)
    for attention in attentions:
        attention.forward = partial(seen, attention.forward, sys.modules[type(attention).__module__])


def inactive(negative: RefNegative) -> RefNegative:
    """The same negative, never on."""
    return dataclasses.replace(negative, active=lambda sigma: False)
