"""Every text encoder of ComfyUI: its own tokenizer and model classes at toy size with random weights.

Tokenizers whose vocabulary comes with a checkpoint (SentencePiece, tokenizer.json) get a small one, made here.
"""
from __future__ import annotations

import functools
import importlib
import inspect
import io
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import comfy.ops
import comfy.sd
import comfy.supported_models_base
import pytest
import sentencepiece
import tokenizers
import torch
from cases import VERSION
from comfy.ldm.lightricks.embeddings_connector import Embeddings1DConnector
from comfy.text_encoders.lt import DualLinearProjection
from transformers import PreTrainedTokenizerBase

COMPLETE = (0, 30, 0)  # the ComfyUI that has them all

# -- vocabularies -----------------------------------------------------------------------------------------------------

SENTENCES = ["a red apple on a table", "bad hands and ugly faces, blurry", "Given a user prompt, generate an image:"]


@functools.cache
def pieces(bos: int, eos: int, pad: int) -> torch.Tensor:
    """A SentencePiece model of a few pieces and all bytes, as the bytes that checkpoints carry."""
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES), model_writer=out, vocab_size=320, byte_fallback=True, hard_vocab_limit=False,
        bos_id=bos, eos_id=eos, pad_id=pad, unk_id=3, minloglevel=2)
    return torch.frombuffer(bytearray(out.getvalue()), dtype=torch.uint8)


t5_pieces = functools.partial(pieces, bos=-1, eos=1, pad=0)
gemma_pieces = functools.partial(pieces, bos=2, eos=1, pad=0)
xlm_pieces = functools.partial(pieces, bos=0, eos=2, pad=1)
UMT5, GEMMA = {"spiece_model": t5_pieces}, {"spiece_model": gemma_pieces}


def word_tokenizer(specials: list[str]) -> tokenizers.Tokenizer:
    """Words, each the same unknown token but for a few."""
    words = [*specials, "[UNK]", "a", "red", "apple", ",", "bad", "hands", "ugly", "blurry"]
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(specials)
    return tokenizer


def gpt_oss_words() -> torch.Tensor:
    """GPT-OSS's, as the bytes that checkpoints carry."""
    text = word_tokenizer(["<pad>", "<|start|>", "<|end|>", "<|message|>", "<|channel|>"]).to_str()
    return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)


def mistral_tokenizer(data: Any) -> dict[str, Any]:
    """In place of comfy.text_encoders.flux.load_mistral_tokenizer, which reads a file of a format that transformers 5 has
    changed its own reader of. Token 1 is the start, 11 the padding.
    """
    return {"tokenizer_object": word_tokenizer(["<unk>", "<s>", "</s>", *(f"<{i}>" for i in range(3, 12))]), "legacy": False}


# -- sizes ------------------------------------------------------------------------------------------------------------

CLIP = dict(hidden_size=64, num_hidden_layers=3, num_attention_heads=2, intermediate_size=64)
T5 = dict(d_model=64, d_ff=64, d_kv=16, num_heads=2, num_layers=2)
BERT = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
JINA_AND_GEMMA = dict(hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64, vocab_size=400)
GPT_OSS = dict(vocab_size=64, hidden_size=32, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2,
               num_key_value_heads=2, head_dim=16, num_local_experts=2, num_experts_per_tok=1)


def llm(layers: int = 2, **config: Any) -> dict[str, Any]:
    return dict(hidden_size=32, intermediate_size=32, num_hidden_layers=layers, num_attention_heads=2,
                num_key_value_heads=1) | config


# -- cases ------------------------------------------------------------------------------------------------------------

BLURRY, BADS = "blurry", "a red apple, bad hands (ugly:1.3)"
LONG = "apple " * 100 + "and (ugly:1.3) hands"
PROMPTS = ("", BLURRY, BADS, LONG)


@dataclass(frozen=True)
class Encoder:
    """One way in which ComfyUI makes a CLIP.

    clip, tokenizer: the classes, or the functions that return them, in comfy.text_encoders or comfy; clip_args: for such a
    function.
    counts: words and rows of the conditioning for "", BLURRY and BADS (None: the vocabulary is a toy, or another one in each
    version of transformers).
    independent: the encoder can do without padding, and words' states do not depend on it.
    smaller: what has no size to set, in comfy.text_encoders -> makes of it what stands there meanwhile; adjust: the same
    after building; state_dict: for modules that get their weights' shapes from a checkpoint.
    """
    clip: str
    tokenizer: str
    model_options: dict[str, Any]
    counts: tuple[tuple[int, int], ...] | None = None
    clip_args: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Callable[[], torch.Tensor]] = field(default_factory=dict)
    independent: bool = True
    smaller: dict[str, Callable[[Any], Any]] = field(default_factory=dict)
    adjust: Callable[[torch.nn.Module], None] = lambda model: None
    state_dict: Callable[[], list[dict[str, torch.Tensor]]] = list


def small_t5_gemma(config: type) -> type:
    """comfy/text_encoders/sa3.py has no option for sizes."""
    class Small(config):
        def __init__(self) -> None:
            super().__init__()
            self.vocab_size, self.hidden_size, self.intermediate_size, self.num_hidden_layers = 400, 64, 64, 2
            self.num_attention_heads = self.num_key_value_heads = 2
    return Small


def small_ltx2(model: torch.nn.Module) -> None:
    """lt.py has no option for the sizes of what comes behind Gemma; three of its states, 32 wide, go in."""
    ops = comfy.ops.manual_cast
    if model.text_projection_type == "dual_linear":
        model.text_embedding_projection = DualLinearProjection(3 * 32, 16, 8, operations=ops)
    else:
        model.text_embedding_projection = ops.Linear(3 * 32, 32, bias=False)


def early_ltx2(model: torch.nn.Module) -> None:
    """enable_compat_mode at toy size: the connectors in the text encoder."""
    small_ltx2(model)
    for name in ("audio_embeddings_connector", "video_embeddings_connector"):
        setattr(model, name, Embeddings1DConnector(
            in_channels=32, cross_attention_dim=32, attention_head_dim=16, num_attention_heads=2, num_layers=1,
            split_rope=True, double_precision_rope=True, dtype=torch.float32, operations=comfy.ops.manual_cast))
    model.compat_mode = True


def gpt_oss_weights() -> list[dict[str, torch.Tensor]]:
    shapes = {f"self_attn.{name}_proj.weight": (32, 32) for name in "qkvo"}
    shapes |= {f"self_attn.{name}_proj.bias": (32,) for name in "qkvo"}
    shapes |= {"mlp.experts.gate_up_proj.weight": (2, 64, 32), "mlp.experts.down_proj.weight": (2, 32, 32)}
    return [{f"layers.{i}.{name}": torch.zeros(shape) for i in range(3) for name, shape in shapes.items()}]


def of(*counts_and_total: int) -> tuple[tuple[int, int], ...]:
    *counts, total = counts_and_total
    return tuple((n, total) for n in counts)


def whole(*counts: int) -> tuple[tuple[int, int], ...]:
    return tuple((n, n) for n in counts)


L, G, T5XXL = {"clip_l_model_config": CLIP}, {"clip_g_model_config": CLIP}, {"t5xxl_model_config": T5}
SD3 = {"clip_l_model_config": CLIP | dict(hidden_size=768), "clip_g_model_config": CLIP | dict(hidden_size=1280),
       "t5xxl_model_config": T5 | dict(d_model=4096)}
LLAMA, QWEN = {"llama_model_config": llm(4)}, {"qwen25_7b_model_config": llm(4)}
QWEN35 = llm(4, head_dim=32, linear_num_key_heads=2, linear_num_value_heads=2, mrope_section=[2, 1, 1],
             layer_types=["linear_attention", "full_attention"] * 2)
MISTRAL = {"flux.load_mistral_tokenizer": lambda load: mistral_tokenizer}
SMALL_T5_GEMMA = {"sa3.T5GemmaEncoderConfig": small_t5_gemma}

ENCODERS: dict[str, Encoder] = {
    "SD 1": Encoder("sd1_clip.SD1ClipModel", "sd1_clip.SD1Tokenizer", L, of(2, 3, 9, 77), independent=False),
    "SD 2": Encoder("sd2_clip.SD2ClipModel", "sd2_clip.SD2Tokenizer", {"clip_h_model_config": CLIP}, of(2, 3, 9, 77),
                    independent=False),
    "SDXL": Encoder("sdxl_clip.SDXLClipModel", "sdxl_clip.SDXLTokenizer", L | G, of(2, 3, 9, 77), independent=False),
    "SDXL refiner": Encoder("sdxl_clip.SDXLRefinerClipModel", "sdxl_clip.SDXLTokenizer", G, of(2, 3, 9, 77), independent=False),
    "Stable Cascade": Encoder("sdxl_clip.StableCascadeClipModel", "sdxl_clip.StableCascadeTokenizer", G, of(2, 3, 9, 77),
                              independent=False),
    "SD 3": Encoder("sd3_clip.sd3_clip", "sd3_clip.SD3Tokenizer", SD3, of(3, 6, 18, 154), independent=False),
    "SD 3 without T5": Encoder("sd3_clip.sd3_clip", "sd3_clip.SD3Tokenizer", SD3, of(2, 3, 9, 77), dict(t5=False),
                               independent=False),
    "SD 3, T5 alone": Encoder("sd3_clip.sd3_clip", "sd3_clip.SD3Tokenizer", SD3, of(1, 3, 9, 77),
                              dict(clip_l=False, clip_g=False), independent=False),
    "Flux": Encoder("flux.flux_clip", "flux.FluxTokenizer", L | T5XXL, of(1, 3, 9, 256), independent=False),
    "Flux.2 Klein 4B": Encoder("flux.klein_te", "flux.KleinTokenizer", {"qwen3_4b_model_config": llm(28)},
                               of(12, 14, 26, 512)),
    "Flux.2 Klein 8B": Encoder("flux.klein_te", "flux.KleinTokenizer8B", {"qwen3_8b_model_config": llm(28)},
                               of(12, 14, 26, 512), dict(model_type="qwen3_8b")),
    "Flux.2 dev": Encoder("flux.flux2_te", "flux.Flux2Tokenizer", {"mistral3_24b_model_config": llm(31, vocab_size=64)},
                          smaller=MISTRAL),
    "Ernie-Image": Encoder("ernie.te", "ernie.ErnieTokenizer", {"ministral3_3b_model_config": llm(3, vocab_size=64)},
                           smaller=MISTRAL),
    "PixArt, Chroma": Encoder("pixart_t5.pixart_te", "pixart_t5.PixArtTokenizer", T5XXL, whole(1, 3, 9)),
    "PixArt, checkpoint": Encoder("pixart_t5.PixArtT5XXL", "pixart_t5.PixArtTokenizer", T5XXL, whole(1, 3, 9)),
    "Mochi": Encoder("genmo.mochi_te", "genmo.MochiT5Tokenizer", T5XXL, of(1, 3, 9, 256)),
    "LTX-Video": Encoder("lt.ltxv_te", "lt.LTXVT5Tokenizer", T5XXL, of(1, 3, 9, 128)),
    "CogVideoX": Encoder("cogvideo.cogvideo_te", "cogvideo.CogVideoXTokenizer", T5XXL, of(1, 3, 9, 226), independent=False),
    "Cosmos": Encoder("cosmos.te", "cosmos.CosmosT5Tokenizer", T5XXL, of(1, 3, 9, 512)),
    "AuraFlow": Encoder("aura_t5.AuraT5Model", "aura_t5.AuraT5Tokenizer", {"pile_t5xl_model_config": T5}, of(1, 4, 9, 256)),
    "Stable Audio": Encoder("sa_t5.SAT5Model", "sa_t5.SAT5Tokenizer", {"t5base_model_config": T5}, of(1, 3, 9, 128)),
    "Stable Audio 3": Encoder("sa3.SAT5GemmaModel", "sa3.SAT5GemmaTokenizer", {}, data=GEMMA, smaller=SMALL_T5_GEMMA),
    "Wan": Encoder("wan.te", "wan.WanT5Tokenizer", {"umt5xxl_model_config": T5 | dict(vocab_size=400)}, data=UMT5),
    "HunyuanDiT": Encoder("hydit.HyditModel", "hydit.HyditTokenizer",
                          {"hydit_clip_model_config": BERT, "mt5xl_model_config": T5 | dict(vocab_size=400)},
                          of(2, 4, 9, 77), data={"mt5xl.spiece_model": t5_pieces}),
    "ACE-Step": Encoder("ace.AceT5Model", "ace.AceT5Tokenizer", {"_model_config": T5 | dict(vocab_size=400)}, data=UMT5),
    "ACE-Step 1.5": Encoder("ace15.te", "ace15.ACE15Tokenizer", {"_model_config": llm(vocab_size=217204)},
                            ((50, 53), (53, 56), (64, 67)), independent=False),
    "HiDream": Encoder("hidream.hidream_clip", "hidream.HiDreamTokenizer", L | G | T5XXL | LLAMA, of(1, 3, 9, 128)),
    "HiDream without T5": Encoder("hidream.hidream_clip", "hidream.HiDreamTokenizer", L | G | LLAMA, of(0, 0, 0, 128),
                                  dict(t5=False), independent=False),
    "HiDream without Llama": Encoder("hidream.hidream_clip", "hidream.HiDreamTokenizer", L | G | T5XXL, of(1, 3, 9, 128),
                                     dict(llama=False)),
    "HiDream-O1": Encoder("hidream_o1.HiDreamO1TE", "hidream_o1.HiDreamO1Tokenizer", {}, whole(10, 12, 24)),
    "HunyuanVideo": Encoder("hunyuan_video.hunyuan_video_clip", "hunyuan_video.HunyuanVideoTokenizer", L | LLAMA),
    "HunyuanImage": Encoder("hunyuan_image.te", "hunyuan_image.HunyuanImageTokenizer", QWEN | {"_model_config": T5},
                            whole(1, 3, 15)),
    "HunyuanImage without ByT5": Encoder("hunyuan_image.te", "hunyuan_image.HunyuanImageTokenizer", QWEN, whole(1, 3, 15),
                                         dict(byt5=False)),
    "HunyuanVideo 1.5": Encoder("hunyuan_image.te", "hunyuan_video.HunyuanVideo15Tokenizer", QWEN | {"_model_config": T5},
                                whole(6, 7, 19)),
    "Qwen-Image": Encoder("qwen_image.te", "qwen_image.QwenImageTokenizer", QWEN, whole(5, 7, 19)),
    "Kandinsky 5": Encoder("kandinsky5.te", "kandinsky5.Kandinsky5Tokenizer", L | QWEN, whole(1, 3, 15)),
    "Kandinsky 5, image": Encoder("kandinsky5.te", "kandinsky5.Kandinsky5TokenizerImage", L | QWEN, whole(1, 3, 15)),
    "LongCat-Image": Encoder("longcat_image.te", "longcat_image.LongCatImageTokenizer", QWEN, of(1, 2, 14, 512)),
    "OmniGen2": Encoder("omnigen2.te", "omnigen2.Omnigen2Tokenizer", {"qwen25_3b_model_config": llm()}, whole(25, 27, 34)),
    "Z-Image": Encoder("z_image.te", "z_image.ZImageTokenizer", {"qwen3_4b_model_config": llm(3)}, whole(8, 10, 22)),
    "Ovis": Encoder("ovis.te", "ovis.OvisTokenizer", {"qwen3_2b_model_config": llm()}, of(11, 11, 24, 256)),
    "Anima": Encoder("anima.te", "anima.AnimaTokenizer", {"qwen3_06b_model_config": llm()}, ((0, 1), (2, 2), (9, 9))),
    "Krea 2": Encoder("krea2.te", "krea2.Krea2Tokenizer", {"qwen3vl_4b_model_config": llm(36)}, whole(5, 7, 19)),
    "MageFlow": Encoder("mage_flow.te", "mage_flow.MageFlowTokenizer", {"qwen3vl_4b_model_config": llm()}, whole(5, 7, 19)),
    "JoyImage": Encoder("joyimage.te", "joyimage.JoyImageTokenizer", {"qwen3vl_8b_model_config": llm()}, whole(7, 9, 21)),
    "Boogu": Encoder("boogu.te", "boogu.BooguTokenizer", {"qwen3vl_8b_model_config": llm()}, whole(66, 33, 45)),
    "Ideogram 4": Encoder("ideogram4.te", "ideogram4.Ideogram4Tokenizer", {"qwen3vl_8b_model_config": llm(36)},
                          whole(8, 10, 22)),
    "Ideogram 4, vision": Encoder("ideogram4.te_qwen3vl", "ideogram4.Ideogram4Qwen3VLTokenizer",
                                  {"qwen3vl_8b_model_config": llm(36)}, whole(8, 10, 22)),
    "Qwen3-VL": Encoder("qwen3vl.te", "qwen3vl.tokenizer", {"qwen3vl_8b_model_config": llm()}, whole(12, 14, 26)),
    "Qwen3.5": Encoder("qwen35.te", "qwen35.tokenizer", {"qwen35_2b_model_config": QWEN35}, whole(12, 14, 26)),
    "MiniMax H3": Encoder("minimax.te", "minimax.MiniMaxH3Tokenizer", {"qwen3vl_32b_model_config": llm()},
                          ((0, 1), (2, 2), (14, 14))),
    "Lens": Encoder("gpt_oss.lens_te", "gpt_oss.LensTokenizer", {"gpt_oss_config": GPT_OSS, "selected_layers": (0, 1, 2)},
                    data={"tokenizer_json": gpt_oss_words}, state_dict=gpt_oss_weights),
    "Lumina 2": Encoder("lumina2.te", "lumina2.LuminaTokenizer", {"gemma2_2b_model_config": llm(3, vocab_size=400)},
                        data=GEMMA),
    "Gemma 3 4B": Encoder("lumina2.te", "lumina2.NTokenizer", {"gemma3_4b_model_config": llm(3, vocab_size=400)},
                          clip_args=dict(model_type="gemma3_4b"), data=GEMMA),
    "PixelDiT": Encoder("pixeldit.pixeldit_te", "pixeldit.PixelDiTGemma2Tokenizer",
                        {"gemma2_2b_model_config": llm(vocab_size=400)}, data=GEMMA, independent=False),
    "PixelDiT, checkpoint": Encoder("pixeldit.PixelDiTGemma2TE", "pixeldit.PixelDiTGemma2Tokenizer",
                                    {"gemma2_2b_model_config": llm(vocab_size=400)}, data=GEMMA, independent=False),
    "NewBie": Encoder("newbie.te", "newbie.NewBieTokenizer", {"_model_config": JINA_AND_GEMMA},
                      data={"gemma_spiece_model": gemma_pieces, "jina_spiece_model": xlm_pieces}),
    "Jina CLIP 2": Encoder("jina_clip_2.JinaClip2TextModelWrapper", "jina_clip_2.JinaClip2TokenizerWrapper",
                           {"jina_clip_2_model_config": JINA_AND_GEMMA}, data={"spiece_model": xlm_pieces}),
    "LTX-2": Encoder("lt.ltxav_te", "lt.LTXAVGemmaTokenizer", {"_model_config": llm(vocab_size=400)}, data=GEMMA,
                     adjust=small_ltx2),
    "LTX-2, first checkpoints": Encoder("lt.ltxav_te", "lt.LTXAVGemmaTokenizer", {"_model_config": llm(vocab_size=400)},
                                        data=GEMMA, adjust=early_ltx2, independent=False),
    "LTX-2.3": Encoder("lt.ltxav_te", "lt.LTXAVGemmaTokenizer", {"_model_config": llm(vocab_size=400)},
                       clip_args=dict(text_projection_type="dual_linear"), data=GEMMA, adjust=small_ltx2),
    "Gemma 3 12B": Encoder("lt.gemma3_te", "lt.Gemma3_12BTokenizer", {"_model_config": llm(vocab_size=400)}, data=GEMMA),
    "SAM 3": Encoder("sam3_clip.SAM3ClipModelWrapper", "sam3_clip.SAM3TokenizerWrapper", {"sam3_clip_model_config": CLIP},
                     of(2, 3, 5, 32), independent=False),
}

# what ComfyUI loads, for other things than prompts, and its own CLIPTextEncode fails on: the error
CANNOT_ENCODE: dict[str, tuple[Encoder, type[Exception], str]] = {
    "Gemma 4": (Encoder("gemma4.gemma4_te", "gemma4.Gemma4Tokenizer",
                        {"gemma4_model_config": llm(6, vocab_size=64)}, clip_args=dict(model_class="gemma4.Gemma4_E4B"),
                        data={"tokenizer_json": gpt_oss_words}), ValueError, "not enough values to unpack"),
    "Gemma 3 4B, vision": (Encoder("lumina2.te", "lumina2.NTokenizer",
                                   {"gemma3_4b_vision_model_config": llm(3, vocab_size=400)},
                                   clip_args=dict(model_type="gemma3_4b_vision"), data=GEMMA), KeyError, "gemma3_4b_vision"),
    "CogVideoX, checkpoint": (Encoder("sd3_clip.T5XXLModel", "cogvideo.CogVideoXT5Tokenizer", T5XXL), AttributeError, "dtypes"),
}


# -- building ---------------------------------------------------------------------------------------------------------

def named(name: str) -> Any:
    """What has this name in ComfyUI. Skips the test that asks for what an older ComfyUI does not have."""
    module, attribute = name.split(".")
    package = "comfy" if module in ("sd1_clip", "sdxl_clip") else "comfy.text_encoders"
    try:
        return getattr(importlib.import_module(f"{package}.{module}"), attribute)
    except (ModuleNotFoundError, AttributeError):
        if VERSION < COMPLETE:
            pytest.skip("not in this ComfyUI")
        raise


def find(name: str, **args: Any) -> type:
    """The class of this name in ComfyUI, or what the function of this name returns; arguments may be such names too."""
    found = named(name)
    if inspect.isclass(found):
        return found
    return found(**{key: named(value) if "." in str(value) else value for key, value in args.items()})


def build(encoder: Encoder, **options: Any) -> comfy.sd.CLIP:
    """ComfyUI's CLIP around the encoder's own classes, with seeded random weights."""
    target = comfy.supported_models_base.ClipTarget(find(encoder.tokenizer), find(encoder.clip, **encoder.clip_args))
    with ExitStack() as stack:
        stack.enter_context(patch.object(PreTrainedTokenizerBase, "from_pretrained", classmethod(tokenizer_from_files)))
        for name, small in encoder.smaller.items():
            stack.enter_context(patch(f"comfy.text_encoders.{name}", small(named(name))))
        clip = comfy.sd.CLIP(target, parameters=1, model_options={**encoder.model_options, "dtype": torch.float32},
                             tokenizer_data={name: make() for name, make in encoder.data.items()},
                             state_dict=encoder.state_dict(), **options)
    encoder.adjust(clip.cond_stage_model)
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, p in clip.cond_stage_model.named_parameters():
            if not any(part in name for part in ("visual", "vision", "multi_modal")):  # no prompt here has pictures
                fill(p, g)
    return clip


_from_pretrained = PreTrainedTokenizerBase.from_pretrained.__func__


@functools.cache
def tokenizer_from_files(cls: type, path: str) -> PreTrainedTokenizerBase:
    """The tokenizer in one of ComfyUI's folders, read once: that takes seconds."""
    return _from_pretrained(cls, path)


def fill(p: torch.Tensor, g: torch.Generator) -> None:
    """Normal values around 0, or around 1 for a norm; a large table repeats after a prime number of rows."""
    p = p.reshape(1) if p.ndim == 0 else p
    values = torch.randn(p[:1009].shape, generator=g) * 0.05 + (p.ndim == 1)
    for part in p.split(1009):
        part.copy_(values[:len(part)])
