"""Which rows of a text encoder's output are words, and which are padding.

The rule is ComfyUI's own (comfy/sd1_clip.py, SDClipModel.process_tokens): a section of tokens is real up to and
including its first end token, or, for encoders without one, up to its first pad; pads before the first token are padding
too. What is left here is how each family of encoders lays its sections out as rows of a conditioning.

Chat templates: encoders that put the prompt into one cut off as much of it as the image model was trained without. The rest
(Qwen-Image keeps what follows the words, Z-Image the whole template) counts as words here: the image model expects those
rows in every prompt, and in a causal language model the rows after the words are the only ones that have read all of them.
"""
from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

Sections = list[list[tuple[Any, float]]]
"""What clip.tokenize gives for one encoder: sections of (token, weight); a token is an int or an embedding."""

Tokens = dict[str, Sections]


def real_tokens(section: list[tuple[Any, float]], special_tokens: dict[str, int]) -> list[bool]:
    """For each token of one section: is it a word, a start or an end token (and not padding)?"""
    end, pad = special_tokens.get("end"), special_tokens.get("pad", -1)
    stop = pad if end is None else end
    real, leading, ended = [], True, False
    for token, *_ in section:
        number = int(token) if isinstance(token, Integral) else None
        leading = leading and number == pad
        real.append(not (leading or ended or (number == stop and end is None)))
        ended = ended or (number == stop and not leading)
    return real


def _section_rows(section: list[tuple[Any, float]], encoder: Any) -> list[bool]:
    """real_tokens, after ComfyUI has replaced embeddings of another width (another model's) by padding at the end."""
    real = real_tokens(section, getattr(encoder, "special_tokens", {}))
    if any(torch.is_tensor(token) for token, *_ in section):
        width = encoder.transformer.get_input_embeddings().weight.shape[-1]
        fits = [not torch.is_tensor(token) or token.shape[-1] == width for token, *_ in section]
        real = [r for r, fit in zip(real, fits, strict=True) if fit]
    return real + [False] * (len(section) - len(real))


def _rows(sections: Sections, encoder: Any) -> Tensor:
    return torch.tensor([r for section in sections for r in _section_rows(section, encoder)], dtype=torch.bool)


Layout = Callable[[Any, Tokens, int], Tensor]
"""(text encoder, tokens, length of its conditioning) -> which rows are words, (length,) bool; another length: not known."""


def _single(encoder: Any, tokens: Tokens, length: int) -> Tensor:
    """SD1ClipModel (comfy/sd1_clip.py) and its many subclasses: one encoder's sections, one after the other."""
    return _rows(tokens[encoder.clip_name], getattr(encoder, encoder.clip))


def _without_beginning(encoder: Any, tokens: Tokens, length: int) -> Tensor:
    """A chat template of which the encoder drops the beginning: qwen_image.py (and hunyuan_image.py, kandinsky5.py),
    qwen_image21.py, krea2.py, mage_flow.py, joyimage.py, ovis.py, gpt_oss.py (Lens).
    """
    rows = _single(encoder, tokens, length)
    return rows[len(rows) - length:]


def _alone(name: str) -> Layout:
    """One encoder's output; what else there is gives a pooled vector, lyrics, or another conditioning (OTHERS)."""
    return lambda encoder, tokens, length: _rows(tokens[name], getattr(encoder, name))


def _clip_pair(encoder: Any, tokens: Tokens, length: int) -> Tensor:
    """sdxl_clip.py, SDXLClipModel: CLIP-L and G side by side, cut to the shorter; either may be absent in SD3."""
    clips = [_rows(tokens[key], clip) for key, clip in (("l", encoder.clip_l), ("g", encoder.clip_g)) if clip is not None]
    cut_to = min(map(len, clips), default=0)
    return torch.stack([c[:cut_to] for c in clips]).any(dim=0) if clips else torch.zeros(0, dtype=torch.bool)


def _sd3(encoder: Any, tokens: Tokens, length: int) -> Tensor:
    """sd3_clip.py, SD3ClipModel: [CLIP-L and G][T5]; any of the three may be absent."""
    clips = _clip_pair(encoder, tokens, length)
    return clips if encoder.t5xxl is None else torch.cat([clips, _rows(tokens["t5xxl"], encoder.t5xxl)])


def _hunyuan_video(encoder: Any, tokens: Tokens, length: int) -> Tensor:
    """hunyuan_video.py, HunyuanVideoClipModel: of the chat template, what follows the header of the user's last message, up
    to and including that message's <|eot_id|>; everything if there is no such header.
    """
    ids = [token if isinstance(token, Integral) else None for token, *_ in tokens["llama"][0]]
    headers = [i for i in range(len(ids)) if ids[i:i + 3] == [128006, 882, 128007]]
    ends = [i + 1 for i in range(headers[-1], len(ids)) if ids[i] == 128009] if headers else []
    rows = _rows(tokens["llama"], encoder.llama)[:min(ends, default=-1 if headers else None)]
    return rows[len(rows) - length:]


def _longcat(encoder: Any, tokens: Tokens, length: int) -> Tensor:
    """longcat_image.py, LongCatImageTEModel: [template][words, padded to 512][template], and only the middle is kept."""
    ids = [token for token, *_ in tokens[encoder.clip_name][0]]
    suffix = next((i for i in reversed(range(len(ids))) if ids[i] == 151645), len(ids))  # the last <|im_end|>
    rows = _single(encoder, tokens, length)[:suffix]
    return rows[len(rows) - length:]


def _pixeldit(encoder: Any, tokens: Tokens, length: int) -> Tensor:
    """pixeldit.py, PixelDiTGemma2TE: of a long prompt with instructions before it, the start token and the last 299."""
    rows = _single(encoder, tokens, length)
    return rows if len(rows) <= length else torch.cat([rows[:1], rows[len(rows) - length + 1:]])


def _ltx2(encoder: Any, tokens: Tokens, length: int) -> Tensor:
    """lt.py, LTXAVTEModel: padded on the left, and cut to the words. The connectors, which the first checkpoints had in the
    text encoder (compat_mode), put registers behind them.
    """
    return torch.arange(length) < _rows(tokens["gemma3_12b"], encoder.gemma3_12b).sum()


def _hidream(encoder: Any, tokens: Tokens, length: int) -> Tensor:
    """hidream.py, HiDreamTEModel: T5, and Llama's layers in a conditioning of their own (OTHERS); zeros where one is absent."""
    return torch.zeros(length, dtype=torch.bool) if encoder.t5xxl is None else _rows(tokens["t5xxl"], encoder.t5xxl)


def _token_ids(encoder: Any, tokens: Tokens, length: int) -> Tensor:
    """hidream_o1.py, HiDreamO1TE: token ids without padding; the diffusion model is the encoder."""
    return torch.ones(length, dtype=torch.bool)


# class name in the text encoder's MRO -> its layout
LAYOUTS: dict[str, Layout] = {
    "SD1ClipModel": _single,
    "SDXLClipModel": _clip_pair,
    "SD3ClipModel": _sd3,
    "FluxClipModel": _alone("t5xxl"),  # flux.py: CLIP-L is pooled
    "HyditModel": _alone("hydit_clip"),  # hydit.py
    "AceT5Model": _alone("umt5base"),  # ace.py: lyrics apart
    "ACE15TEModel": _alone("qwen3_06b"),  # ace15.py: lyrics apart
    "NewBieTEModel": _alone("gemma"),  # newbie.py: Jina CLIP is pooled
    "QwenImageTEModel": _without_beginning,
    "QwenImage21TEModel": _without_beginning,
    "Krea2TEModel": _without_beginning,
    "MageFlowTEModel": _without_beginning,
    "JoyImageTEModel": _without_beginning,
    "OvisTEModel": _without_beginning,
    "LensTEModel": _without_beginning,
    "HunyuanVideoClipModel": _hunyuan_video,
    "LongCatImageTEModel": _longcat,
    "PixelDiTGemma2TE": _pixeldit,
    "LTXAVTEModel": _ltx2,
    "HiDreamTEModel": _hidream,
    "HiDreamO1TE": _token_ids,
}

_T5 = SimpleNamespace(special_tokens={"end": 1, "pad": 0})

# further options of a conditioning that another encoder makes, with padding of its own
# -> (key in the tokens, which encoder, axis that counts tokens)
OTHERS: dict[str, tuple[str, Callable[[Any], Any], int]] = {
    "conditioning_llama3": ("llama", lambda encoder: encoder.llama, -2),  # HiDreamTEModel: every layer of Llama
    "conditioning_mt5xl": ("mt5xl", lambda encoder: encoder.mt5xl, -2),  # HyditModel
    "attention_mask_mt5xl": ("mt5xl", lambda encoder: encoder.mt5xl, -1),
    "conditioning_byt5small": ("byt5", lambda encoder: encoder.byt5_small, -2),  # HunyuanImageTEModel: words in quotes
    "t5xxl_ids": ("t5xxl", lambda encoder: _T5, -1),  # AnimaTEModel: T5's tokens, which the diffusion model embeds
    "t5xxl_weights": ("t5xxl", lambda encoder: _T5, -1),
}


def tokenize(clip: Any, text: str) -> Tokens:
    """clip.tokenize, without the melody that ACE-Step 1.5's encoder would compose to the words (ace15.py, lm_metadata)."""
    tokens = clip.tokenize(text)
    if isinstance(tokens, dict) and "lm_metadata" in tokens:
        tokens["lm_metadata"] = {**tokens["lm_metadata"], "generate_audio_codes": False}
    return tokens


def has_words(clip: Any, text: str, tokens: Tokens) -> bool:
    """False for an empty text, and for one of which the tokenizer makes nothing: `()`, an embedding that is not there."""
    return bool(text.strip()) and _ids(tokens) != _ids(clip.tokenize(""))


def _ids(tokens: Any) -> Any:
    """The token numbers alone, in the same structure; embeddings, weights and all else are None."""
    if isinstance(tokens, dict):
        return {key: _ids(value) for key, value in tokens.items()}
    if isinstance(tokens, list | tuple):
        return [_ids(value) for value in tokens]
    return tokens if isinstance(tokens, Integral) else None


def real_rows(clip: Any, tokens: Tokens, encoded: Tensor, options: dict[str, Any]) -> Tensor | None:
    """For each row of a conditioning (..., L, C), whether it is a word: (L,) bool. None where that cannot be known.

    clip: ComfyUI CLIP; tokens: what it was encoded from. An encoder that LAYOUTS does not know, or that does not do what is
    known of it, can still be read if its conditioning has an attention mask or rows of zeros.
    """
    encoder, length = clip.cond_stage_model, encoded.shape[-2]
    layout = next((LAYOUTS[cls.__name__] for cls in type(encoder).__mro__ if cls.__name__ in LAYOUTS), None)
    rows = None
    if isinstance(tokens, list):  # an SDClipModel used directly: lt.py, gemma3_te
        rows = _rows(tokens, encoder)
    elif layout is not None:
        rows = layout(encoder, tokens, length)
    if rows is None or len(rows) != length:
        rows = known_rows(encoded, options)
    return rows


def known_rows(encoded: Tensor, options: dict[str, Any]) -> Tensor | None:
    """The same as far as the conditioning itself tells; None where nothing in it does. What is certain, by text encoder, as
    tests/nodes/test_encoders.py holds it to ComfyUI's own classes:

    an attention mask    Flux.2, LTX-Video, Mochi, Cosmos 1, HunyuanDiT, LongCat, PixelDiT, and those that have a mask but no
                         padding (Z-Image, Lumina 2, OmniGen2, Boogu, Ideogram 4, JoyImage, Anima, Lens, Ernie, NewBie)
    rows of zeros        Wan, AuraFlow, Stable Audio, Ovis
    the pooled vector    SD 1: it is the end token's row, and behind that one is padding; not with another CLIP layer than the
                         last, or a prompt of several sections
    tags of its tokens   MiniMax H3: 0 where a prompt has pictures, which come before the words, each with a label; no padding
    nothing              SD 2, SDXL, SD 3, Flux.1, CogVideoX, HiDream: the states of padding differ from row to row, and from
                         prompt to prompt, as words' do
    """
    rows = encoded.ne(0).any(dim=-1).flatten(0, -2).any(dim=0).cpu()
    tags = options.get("minimax_token_tags")
    if isinstance(tags, Tensor) and tags.ndim and tags.shape[-1] == len(rows):
        return rows & tags.flatten().flip(0).cumprod(0).flip(0).bool().cpu()
    mask = options.get("attention_mask")
    if isinstance(mask, Tensor) and mask.ndim and mask.shape[-1] == len(rows):
        return rows & torch.atleast_2d(mask).ne(0).flatten(0, -2).any(dim=0).cpu()
    return _up_to_pooled(encoded, options.get("pooled_output")) if rows.all() else rows


CLIP_SECTIONS = (77, 248)
"""Tokens of a section of CLIP's, and of Long-CLIP's."""


def _up_to_pooled(encoded: Tensor, pooled: Any) -> Tensor | None:
    """The rows of one section up to the one that CLIP pools, its end token (comfy/clip_model.py, CLIPTextModel)."""
    if not isinstance(pooled, Tensor) or pooled.shape != encoded[..., 0, :].shape or encoded.shape[-2] not in CLIP_SECTIONS:
        return None
    ends = (encoded == pooled[..., None, :].to(encoded.device)).all(dim=-1).flatten(0, -2).all(dim=0).nonzero()
    return torch.arange(encoded.shape[-2]) <= int(ends) if len(ends) == 1 and int(ends) else None  # row 0: a start


# adapters (nodes/glue/families) of models whose text encoders in ComfyUI neither pad nor say so
UNPADDED = frozenset({"ace_step", "hunyuan_video", "kandinsky5", "krea2", "qwen_image"})


def real_rows_of_others(clip: Any, tokens: Tokens, options: dict[str, Any]) -> dict[str, Tensor]:
    """The same for those options that another encoder makes (OTHERS), by their name."""
    out = {}
    for name in OTHERS.keys() & options.keys():
        key, find, axis = OTHERS[name]
        encoder, length = find(clip.cond_stage_model), options[name].shape[axis]
        out[name] = torch.zeros(length, dtype=torch.bool) if encoder is None else _rows(tokens[key], encoder)
    return out
