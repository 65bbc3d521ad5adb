"""Which models VSF knows, and the adapter of each.

An adapter tells where the negatives' tokens go in a call of its models (`lengthen`). Adapters are imported when their model is
met, so that a class that ComfyUI moves can stop one family and never the pack.
"""
from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from ....vsf_core.layout import Context, Layout, Negative, Segment
from ..attention.positions import Positions, taken_by
from ..reading.conditioning import NegativePrompt
from ..reading.contexts import ContextPrompt
from . import unknown

# class of BaseModel.diffusion_model -> (adapter module, what users call it)
FAMILIES = {
    "comfy.ldm.modules.diffusionmodules.mmdit.OpenAISignatureMMDITWrapper": ("sd3", "SD3, SD3.5"),
    "comfy.ldm.modules.diffusionmodules.openaimodel.UNetModel": ("unet", "SD 1.x, SD 2.x, SDXL"),
    "comfy.ldm.flux.model.Flux": ("flux", "Flux.1, Flux.2, LongCat-Image, Ovis-Image"),
    "comfy.ldm.chroma.model.Chroma": ("chroma", "Chroma"),
    "comfy.ldm.chroma_radiance.model.ChromaRadiance": ("chroma", "Chroma Radiance"),
    "comfy.ldm.aura.mmdit.MMDiT": ("auraflow", "AuraFlow"),
    "comfy.ldm.hunyuan_video.model.HunyuanVideo": ("hunyuan_video", "HunyuanVideo 1 and 1.5, HunyuanImage 2.1"),
    "comfy.ldm.hidream.model.HiDreamImageTransformer2DModel": ("hidream", "HiDream-I1"),
    "comfy.ldm.hidream_o1.model.HiDreamO1Transformer": ("hidream_o1", "HiDream-O1"),
    "comfy.ldm.qwen_image.model.QwenImageTransformer2DModel": ("qwen_image", "Qwen-Image"),
    "comfy.ldm.qwen_image21.model.QwenImage21Transformer2DModel": ("qwen_image21", "Qwen-Image 2.1"),
    "comfy.ldm.lumina.model.NextDiT": ("lumina", "Lumina 2, NewBie, Z-Image"),
    "comfy.ldm.lumina.model.NextDiTPixelSpace": ("lumina", "Lumina 2, NewBie, Z-Image"),
    "comfy.ldm.omnigen.omnigen2.OmniGen2Transformer2DModel": ("omnigen2", "OmniGen2, Boogu"),
    "comfy.ldm.boogu.model.BooguTransformer2DModel": ("omnigen2", "OmniGen2, Boogu"),
    "comfy.ldm.krea2.model.SingleStreamDiT": ("krea2", "Krea 2"),
    "comfy.ldm.mage_flow.model.MageFlowTransformer2DModel": ("qwen_image", "Mage-Flow"),
    "comfy.ldm.ideogram4.model.Ideogram4Transformer2DModel": ("ideogram4", "Ideogram 4"),
    "comfy.ldm.lens.model.LensTransformer2DModel": ("lens", "Lens"),
    "comfy.ldm.joyimage.model.JoyImageTransformer3DModel": ("lens", "JoyImage"),
    "comfy.ldm.cogvideo.model.CogVideoXTransformer3DModel": ("cogvideo", "CogVideoX"),
    "comfy.ldm.genmo.joint_model.asymm_models_joint.AsymmDiTJoint": ("mochi", "Mochi"),
    "comfy.ldm.pixeldit.model.PixDiT_T2I": ("pixeldit", "PixelDiT, PiD"),
    "comfy.ldm.pixeldit.pid.PidNet": ("pixeldit", "PixelDiT, PiD"),
    "comfy.ldm.pixart.pixartms.PixArtMS": ("pixart", "PixArt alpha and sigma"),
    "comfy.ldm.cascade.stage_c.StageC": ("cascade", "Stable Cascade (stage C)"),
    "comfy.ldm.cosmos.model.GeneralDIT": ("cosmos", "Cosmos 1"),
    "comfy.ldm.cosmos.predict2.MiniTrainDIT": ("cosmos", "Cosmos-Predict2"),
    "comfy.ldm.anima.model.Anima": ("cosmos", "Anima"),
    "comfy.ldm.kandinsky5.model.Kandinsky5": ("kandinsky5", "Kandinsky 5"),
    "comfy.ldm.audio.dit.AudioDiffusionTransformer": ("stable_audio", "Stable Audio"),
    "comfy.ldm.ace.model.ACEStepTransformer2DModel": ("ace_step", "ACE-Step 1"),
    "comfy.ldm.hydit.models.HunYuanDiT": ("hunyuan_dit", "Hunyuan-DiT"),
    "comfy.ldm.ernie.model.ErnieImageModel": ("ernie", "Ernie-Image"),
    "comfy.ldm.ace.ace_step15.AceStepConditionGenerationModel": ("ace_step15", "ACE-Step 1.5"),
    "comfy.ldm.wan.model.WanModel": ("wan", "Wan 2.1, 2.2"),
    "comfy.ldm.wan.model.VaceWanModel": ("wan", "Wan VACE"),
    "comfy.ldm.wan.model.CameraWanModel": ("wan", "Wan Camera"),
    "comfy.ldm.wan.model.WanModel_S2V": ("wan", "Wan S2V"),
    "comfy.ldm.wan.model.HumoWanModel": ("wan", "HuMo"),
    "comfy.ldm.wan.model.SCAILWanModel": ("wan", "SCAIL"),
    "comfy.ldm.wan.model.SCAIL2WanModel": ("wan", "SCAIL"),
    "comfy.ldm.wan.model_animate.AnimateWanModel": ("wan", "Wan Animate"),
    "comfy.ldm.wan.model_animate2.WanAnimate2Model": ("wan", "Wan Animate 2"),
    "comfy.ldm.wan.model_wandancer.WanDancerModel": ("wan", "WanDancer"),
    "comfy.ldm.lightricks.model.LTXVModel": ("ltx", "LTX-Video"),
    "comfy.ldm.lightricks.av_model.LTXAVModel": ("ltx", "LTX-2"),
    "comfy.ldm.minimax.model.MiniMaxH3Model": ("minimax", "MiniMax H3, FastH3"),
}

# class of BaseModel.diffusion_model that takes text -> why VSF cannot work in it, as the rest of a sentence
REFUSED: dict[str, str] = {
    "comfy.ldm.wan.ar_model.CausalWanModel":
        "it makes a video block by block with caches, where ComfyUI's attention override is not called",
    "comfy.ldm.minimax_music.dit.MiniMaxMusic3DiT":
        "it makes sound of frames that a language model has composed from the prompt, and reads no text itself",
    "comfy.ldm.yue2.model.YuE2":
        "it makes sound of a song that a language model has composed from the prompt before sampling, and reads no text itself",
    "comfy.ldm.cascade.stage_b.StageB": "it only enlarges stage C's picture; give the negative to stage C",
    "comfy.ldm.seedvr.model.NaDiT": "it restores a video with texts of its own, and takes no prompt",
    "comfy.ldm.hunyuan3d.model.Hunyuan3Dv2": "it is conditioned on a picture and takes no text",
    "comfy.ldm.hunyuan3dv2_1.hunyuandit.HunYuanDiTPlain": "it is conditioned on a picture and takes no text",
    "comfy.ldm.triposplat.model.LatentSeqMMFlowModel": "it is conditioned on a picture and takes no text",
}


TEXT = "text"
Encoded = dict[str, Tensor]
"""One negative as its model takes it: TEXT, (B, LN, C), and what else a family's `encode` needs in its `lengthen`."""

Settings = tuple[Negative | Context, ...]
"""Of each negative of a call: the paper's rule or the context rule."""


@dataclass
class ModelCall:
    """One call of BaseModel.apply_model, ours to change.

    x: (B, C, ...), latents; conds: its other inputs, the text (B, LP, C) among them; negatives: all that was encoded of
    each; settings: of each; kept: of each, what is kept until the end of the run; words: which tokens of the prompt are words,
    (LP,) bool, by the name that Encoded has for them, where that matters; transformer_options: as they come, to read; options:
    to put into them for this call; positions: of the text, where they are not those that the model counts.
    """
    base_model: Any
    x: Tensor
    conds: dict[str, Any]
    text_key: str = "c_crossattn"
    negatives: list[Encoded] = field(default_factory=list)
    kept: list[dict[Any, Any]] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    transformer_options: dict[str, Any] = field(default_factory=dict)
    settings: Settings = ()
    words: dict[str, Tensor] = field(default_factory=dict)
    positions: Positions | None = None

    @property
    def sizes(self) -> tuple[int, ...]:
        """Of the latent's picture, ([frames,] height, width): of several latents that are packed into one x, the first."""
        shapes = self.conds.get("latent_shapes") or ()
        return tuple((shapes[0] if len(shapes) > 1 else self.x.shape)[2:])

    def prompt(self, length: int, name: str = TEXT) -> list[Segment]:
        """The prompt's tokens in an input of `length`: words, P, and what is none, B: padding, tokens of the model's own."""
        words = self.words.get(name)
        if words is None:
            return [Segment("P", length)]
        are_words = [*words.tolist()[:length], *[False] * (length - len(words))]
        return [Segment("P" if is_word else "B", len(list(run))) for is_word, run in groupby(are_words)]

    def words_span(self) -> tuple[int, int]:
        """Where the prompt's words begin and end, for models in which they adjoin."""
        words = self.words.get(TEXT)
        rows = range(self.context.shape[1]) if words is None else words.nonzero().flatten().tolist()
        return (rows[0], rows[-1] + 1) if len(rows) else (0, 0)

    def in_prompts_place(self, tokens: Tensor) -> tuple[Tensor, int]:
        """A context, (B, LN, C), with what stands about the prompt's words about it; and where it begins."""
        first, last = self.words_span()
        return torch.cat([self.context[:, :first], tokens, self.context[:, last:]], dim=1), first

    @property
    def has_text(self) -> bool:
        return self.conds.get(self.text_key) is not None

    def is_context(self, c: int) -> bool:
        """Whether negative c acts by the context rule: its tokens stand where the prompt's would."""
        return isinstance(self.settings[c], Context)

    def stand(self, lanes: list[int], prompt: int) -> None:
        """For numbered text [prompt][lanes], of so many tokens each: the positions of its tokens."""
        kinds = [self.is_context(c) for c in range(len(lanes))]
        if any(kinds):
            self.positions = Positions(taken_by(prompt, self.words.get(TEXT), list(zip(lanes, kinds, strict=True))))

    @property
    def context(self) -> Tensor:
        """The text, (B, LP, C): there is no call of ours without (`has_text`)."""
        return self.conds[self.text_key]

    @context.setter
    def context(self, text: Tensor) -> None:
        self.conds[self.text_key] = text


class Family(Protocol):
    """What a module in this package provides. It may also have

    refuse           (base_model) -> str | None: why this BaseModel cannot take a negative, as the rest of a sentence; None
                     when it can
    TEXT_KEY         the name under which ComfyUI hands the text to the model, where that is not "c_crossattn"
    encode           (base_model, NegativePrompt) -> Encoded: what the model's extra_conds does to a prompt, done to a negative
    text_width       (base_model) -> int | None: how wide its text tokens are, where widths.py cannot see it
    WORDS_OF         {name in Encoded: (option of a CONDITIONING, its axis of tokens)}, for tokens that are not those of the
                     CONDITIONING itself
    OBJECT_PATCHES   {path in the model: function from the object there to one in its place}, for what attention alone
                     cannot reach; what a replacement needs to know of a call, it finds in transformer_options.
                     `*` in a path stands for every index of a list of modules
    object_patches   (base_model) -> such patches, where they are not all its models'
    """
    __name__: str

    def lengthen(self, call: ModelCall, tokens: list[Tensor], negatives: Settings) -> list[Layout]:
        """Put each negative's tokens, (B, LN, C), into the call; return how each kind of attention then looks."""
        ...


def text_key(family: Family) -> str:
    """The name under which ComfyUI hands the text to this family's models."""
    return getattr(family, "TEXT_KEY", "c_crossattn")


def object_patches(family: Family, base_model: Any) -> dict[str, Callable[[Any], Any]]:
    """The family's patches for this model; `*` in a path stands for every index of the list there."""
    make = getattr(family, "object_patches", None)
    own = getattr(family, "OBJECT_PATCHES", {}) if make is None else make(base_model)
    found = {}
    for path, patch in own.items():
        before, star, after = path.partition("*")
        indices = range(len(attrgetter(before.rstrip("."))(base_model))) if star else [""]
        found.update({f"{before}{i}{after}": patch for i in indices})
    return found


def plain_tokens(base_model: Any, prompt: NegativePrompt | ContextPrompt) -> Encoded:
    """The default `encode`: the text encoder's output goes to the model as it is."""
    return {TEXT: prompt.tokens}


def find_family(base_model: Any) -> Family:
    """The adapter for a BaseModel. Raises ValueError, for the user to read, when there is none."""
    model = base_model.diffusion_model
    model = getattr(model, "_orig_mod", model)  # torch.compile's shell
    name = f"{type(model).__module__}.{type(model).__qualname__}"
    reason: str | None = REFUSED.get(name)
    family: Family | None = None
    if name in FAMILIES:
        module = importlib.import_module(f".{FAMILIES[name][0]}", __package__)
        reason = module.refuse(base_model) if hasattr(module, "refuse") else None
        family = cast(Family, module)
    if family is None or reason:
        raise ValueError(unknown.message(base_model, model, FAMILIES, reason))
    return family
