"""What differs between the shipped workflows: models, settings, words. build_workflows.py lays them out.

Files, settings and latent sizes are those of ComfyUI's own template for the model, named in `template`. It has none for
SD3.5 Large Turbo and SDXL Lightning: theirs are those of the models' own pages. Nothing here was tuned on the model itself,
which could not be run where this was made, and the workflow's note says so.
"""

from __future__ import annotations

import dataclasses

HUB = "https://huggingface.co"
SD35_TEXT = f"{HUB}/Comfy-Org/stable-diffusion-3.5-fp8/resolve/main/text_encoders"
FLUX_TEXT = f"{HUB}/comfyanonymous/flux_text_encoders/resolve/main"
FLUX_VAE = f"{HUB}/Comfy-Org/Lumina_Image_2.0_Repackaged/resolve/main/split_files/vae/ae.safetensors"
Z_IMAGE = f"{HUB}/Comfy-Org/z_image_turbo/resolve/main/split_files"
KREA2 = f"{HUB}/Comfy-Org/Krea-2/resolve/main"
QWEN = f"{HUB}/Comfy-Org/Qwen-Image_ComfyUI/resolve/main/split_files"
KLEIN = f"{HUB}/Comfy-Org/flux2-klein/resolve/main/split_files"
WAN21 = f"{HUB}/Comfy-Org/Wan_2.1_ComfyUI_repackaged/resolve/main/split_files"
H3 = f"{HUB}/Comfy-Org/MiniMax-H3/resolve/main"
WAN22 = f"{HUB}/Comfy-Org/Wan_2.2_ComfyUI_Repackaged/resolve/main/split_files"

OLDEST_CORE = "0.16.3"  # the oldest ComfyUI that the pack supports


@dataclasses.dataclass(frozen=True)
class Expert:
    """A diffusion model's file and the LoRA on it, by their addresses."""

    model: str
    lora: str = ""
    name: str = ""  # among several: "high noise"


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One workflow. Two experts sample one after the other, each half of the steps."""

    model: str  # its name, in the title
    template: str  # ComfyUI's own template for this model; none: it has none
    experts: tuple[Expert, ...]
    text: tuple[str, ...]  # addresses of the text encoders' files; none: they are in the checkpoint
    vae: str  # its address; none: it is in the checkpoint
    text_type: str  # as the CLIP loader calls it; none for three encoders
    steps: int
    positive: str
    negative: str
    seed: int
    shift: tuple[str, float] | None = None  # a model sampling node and its value
    guidance: float | None = None  # Flux.1 dev's distilled guidance
    latent: str = "EmptySD3LatentImage"
    size: tuple[int, int] = (1024, 1024)
    frames: int = 0  # of a video
    fps: int = 16  # its frames a second
    sound: str = ""  # the address of the VAE of its sound; none: it has none
    start_image: str = ""  # the video's first picture
    sampler: str = "euler"
    scheduler: str = "simple"  # of KSampler; or the node that makes the sigmas, and sampling is by SamplerCustomAdvanced
    core: str = OLDEST_CORE  # the first ComfyUI that knows the model
    notes: tuple[str, ...] = ()  # below the model links, from tools/notes
    name: str = ""  # on its card, where that is not the model's
    sees: bool = False  # with a heat map in the place of the comparison
    box: tuple[int, int, int, int] | None = None  # where the negative acts: left, top, width, height, in percent
    scale: float | None = None  # VSF Guidance's, which stands in VSF Prompt's place
    shots: tuple[tuple[str, str], ...] = ()  # of a video: what each part of it shows, and what must not be in it
    window: tuple[int, int] = (81, 28)  # frames of a part, and how many it has in common with the next

    @property
    def title(self) -> str:
        """The file's and the card's name. ComfyUI shows the cards of a pack in the folder's order, or by name: so the most used
        model comes first. Cards cut a title at some 28 characters."""
        return f"VSF {1 + [recipe.card for recipe in TEMPLATES].index(self.card):02} {self.card}"

    @property
    def card(self) -> str:
        """What its card says behind the number."""
        return self.name or self.model

    @property
    def unwanted(self) -> str:
        """What must not be in it, in a row: no comments, no weights."""
        lines = "\n".join([self.negative, *(negative for _, negative in self.shots)]).splitlines()
        return ", ".join(line.partition(":")[0] for line in lines if line and line[0] != "#")

    @property
    def checkpoint(self) -> bool:
        """The model's file holds the VAE too (CheckpointLoaderSimple)."""
        return not self.vae

    @property
    def video(self) -> bool:
        """A video, and not a picture."""
        return self.frames > 0


def expert(root: str, task: str, lora: str, noise: str) -> Expert:
    """One of Wan 2.2's two experts with its Lightning LoRA."""
    return Expert(
        model=f"{root}/diffusion_models/wan2.2_{task}_{noise}_noise_14B_fp8_scaled.safetensors",
        lora=f"{root}/loras/wan2.2_{task}_lightx2v_4steps_lora_{lora}_{noise}_noise.safetensors",
        name=f"{noise} noise",
    )


WAN = {  # what Wan 2.2's workflows share
    "text": (f"{WAN21}/text_encoders/umt5_xxl_fp8_e4m3fn_scaled.safetensors",),
    "vae": f"{WAN22}/vae/wan_2.1_vae.safetensors",
    "text_type": "wan",
    "shift": ("ModelSamplingSD3", 5.0),
    "size": (640, 640),
    "frames": 81,
    "steps": 4,
}

RECIPES = (  # the most used model first
    Recipe(
        model="Z-Image-Turbo",
        template="image_z_image_turbo",
        experts=(Expert(f"{Z_IMAGE}/diffusion_models/z_image_turbo_bf16.safetensors"),),
        text=(f"{Z_IMAGE}/text_encoders/qwen_3_4b.safetensors",),
        vae=f"{Z_IMAGE}/vae/ae.safetensors",
        text_type="lumina2",
        shift=("ModelSamplingAuraFlow", 3.0),
        sampler="res_multistep",
        steps=8,
        positive="photo of a bicycle leaning against a red brick wall, cobbled street, early morning light, long shadows",
        negative="wheels",
        seed=20251126,
    ),
    Recipe(
        model="Krea 2 Turbo",
        template="image_krea2_turbo_t2i",
        experts=(Expert(f"{KREA2}/diffusion_models/krea2_turbo_fp8_scaled.safetensors"),),
        text=(f"{KREA2}/text_encoders/qwen3vl_4b_fp8_scaled.safetensors",),
        vae=f"{KREA2}/vae/qwen_image_vae.safetensors",
        text_type="krea2",
        latent="EmptyLatentImage",
        steps=8,
        positive="film still of a medieval knight in full armour on horseback at the edge of a misty forest, dawn",
        negative="steel helmet",
        seed=20251127,
        core="0.26.0",
        notes=("expands",),
    ),
    Recipe(
        model="Wan 2.2 T2V Lightning",
        template="video_wan2_2_14B_t2v",
        experts=(expert(WAN22, "t2v", "v1.1", "high"), expert(WAN22, "t2v", "v1.1", "low")),
        latent="EmptyHunyuanLatentVideo",
        positive="A steam locomotive pulls a passenger train through a snowy mountain valley, the camera follows alongside, "
        "low morning sun",
        negative="smoke plume",
        seed=20251130,
        notes=("two_models",),
        **WAN,
    ),
    Recipe(
        model="Wan 2.2 I2V Lightning",
        template="video_wan2_2_14B_i2v",
        experts=(expert(WAN22, "i2v", "v1", "high"), expert(WAN22, "i2v", "v1", "low")),
        latent="WanImageToVideo",
        start_image="example.png",
        positive="A thunderstorm comes up over the green hill: dark clouds roll in fast, heavy rain falls, wind blows "
        "through the girl's hair",
        negative="lightning bolts",
        seed=20251201,
        notes=("two_models", "start_picture"),
        **WAN,
    ),
    Recipe(
        model="Qwen-Image Lightning",
        template="image_qwen_image",
        experts=(
            Expert(
                f"{QWEN}/diffusion_models/qwen_image_fp8_e4m3fn.safetensors",
                f"{HUB}/lightx2v/Qwen-Image-Lightning/resolve/main/Qwen-Image-Lightning-8steps-V1.0.safetensors",
            ),
        ),
        text=(f"{QWEN}/text_encoders/qwen_2.5_vl_7b_fp8_scaled.safetensors",),
        vae=f"{QWEN}/vae/qwen_image_vae.safetensors",
        text_type="qwen_image",
        shift=("ModelSamplingAuraFlow", 3.1),
        size=(1328, 1328),
        steps=8,
        positive="photo of a small bakery in an old town at dusk, warm light in the window, loaves of bread, wet pavement",
        negative="shop sign",
        seed=20251128,
    ),
    Recipe(
        model="Flux.2 Klein 4B",
        template="image_flux2_klein_text_to_image",
        experts=(Expert(f"{KLEIN}/diffusion_models/flux-2-klein-4b.safetensors"),),
        text=(f"{KLEIN}/text_encoders/qwen_3_4b.safetensors",),
        vae=f"{HUB}/Comfy-Org/flux2-dev/resolve/main/split_files/vae/flux2-vae.safetensors",
        text_type="flux2",
        latent="EmptyFlux2LatentImage",
        scheduler="Flux2Scheduler",
        steps=4,
        positive="photo of a smiling snowman in a front garden, red scarf, children's sledge, bright winter morning",
        negative="carrot nose",
        seed=20251125,
    ),
    Recipe(
        model="Flux.1 schnell",
        template="flux_schnell_full_text_to_image",
        experts=(Expert(f"{HUB}/Comfy-Org/flux1-schnell/resolve/main/flux1-schnell.safetensors"),),
        text=(f"{FLUX_TEXT}/clip_l.safetensors", f"{FLUX_TEXT}/t5xxl_fp16.safetensors"),
        vae=FLUX_VAE,
        text_type="flux",
        steps=4,
        positive="a cosy living room on Christmas Eve, fireplace, armchairs, warm evening light",
        negative="decorated tree",
        seed=20251123,
    ),
    Recipe(
        model="Flux.1 dev",
        template="flux_dev_full_text_to_image",
        experts=(Expert(f"{HUB}/Comfy-Org/flux1-dev/resolve/main/flux1-dev.safetensors"),),
        text=(f"{FLUX_TEXT}/clip_l.safetensors", f"{FLUX_TEXT}/t5xxl_fp16.safetensors"),
        vae=FLUX_VAE,
        text_type="flux",
        steps=20,
        positive="a street cafe in Paris on a rainy evening, people walking past, wet cobblestones, reflections of the lamps",
        negative="open umbrellas",
        seed=20251124,
        guidance=3.5,
    ),
    Recipe(
        model="SDXL Lightning",
        template="",
        experts=(Expert(f"{HUB}/ByteDance/SDXL-Lightning/resolve/main/sdxl_lightning_4step.safetensors"),),
        text=(),
        vae="",
        text_type="",
        latent="EmptyLatentImage",
        scheduler="sgm_uniform",
        steps=4,
        positive="photo of a sailing boat on a calm mountain lake at sunrise, pine trees on the shore, soft mist",
        negative="white sails",
        seed=20251129,
        notes=("four_steps",),
    ),
    Recipe(
        model="SD3.5 Large Turbo",
        template="",
        experts=(Expert(f"{HUB}/stabilityai/stable-diffusion-3.5-large-turbo/resolve/main/sd3.5_large_turbo.safetensors"),),
        text=(
            f"{SD35_TEXT}/clip_l.safetensors",
            f"{SD35_TEXT}/clip_g.safetensors",
            f"{SD35_TEXT}/t5xxl_fp8_e4m3fn_scaled.safetensors",
        ),
        vae="",
        text_type="",
        steps=8,
        positive="studio portrait photo of an old wizard in a dark blue robe, soft light, plain grey background",
        negative="pointed hat",
        seed=20251122,
        notes=("licence",),
    ),
)


BASE = RECIPES[0]  # what a workflow shows that is of no model's own is shown with the most used one

SEE = dataclasses.replace(BASE, name="See what it does", sees=True)
"""What the negative does: with a heat map."""

PLACE = dataclasses.replace(
    BASE,
    name="In one place only",
    box=(0, 0, 50, 100),
    positive="photo of two snowmen side by side in a front garden, red scarves, children's sledge, bright winter morning",
    negative="carrot nose",
    seed=20251202,
)
"""A negative that a mask keeps to one part of the picture."""

SEVERAL = dataclasses.replace(
    BASE,
    name="A list of negatives",
    positive="a cosy living room on Christmas Eve, fireplace, armchair, warm evening light",
    negative="# one thing a line; behind a # nothing is read\nfir tree\nstockings:1.5\n# window",
    seed=20251203,
)
"""A list of negatives."""

ALONG = dataclasses.replace(
    next(recipe for recipe in RECIPES if recipe.model == "Wan 2.2 T2V Lightning"),
    name="Along a video",
    positive="",
    negative="",
    shots=(
        (
            "A steam locomotive pulls a passenger train through a wide snowy valley, the camera follows alongside, low "
            "morning sun",
            "smoke plume",
        ),
        (
            "A steam locomotive pulls a passenger train into a small station in the snow and stops, the camera follows "
            "alongside, low morning sun",
            "people",
        ),
    ),
    frames=137,  # two windows
    seed=20251204,
    core="0.26.0",
    notes=("two_windows",),
)
"""A video whose parts have each its own negative: context windows, and a VSF Conditioning for each."""

AGAINST_ITSELF = dataclasses.replace(
    BASE,
    name="Half-cancelled style",
    positive="oil painting of a sitting cat, thick brush strokes, warm colours, plain background",
    negative="cat",
    scale=1.5,
    seed=20251205,
)
"""The same subject as prompt and negative."""

SOUND = Recipe(
    model="MiniMax H3",
    template="video_minimax_h3_t2v",
    experts=(Expert(f"{H3}/diffusion_models/minimax_h3_fl2va_pruned_int8_convrot.safetensors"),),
    text=(f"{H3}/text_encoders/qwen3vl_32b_minimax_h3_nvfp4_awq.safetensors",),
    vae=f"{H3}/vae/minimax_h3_video_vae_fp16.safetensors",
    sound=f"{H3}/vae/minimax_h3_audio_vae_fp32.safetensors",
    text_type="minimax",
    latent="EmptyMiniMaxH3LatentAV",
    size=(864, 480),
    frames=124,
    fps=24,
    sampler="res_multistep",
    scheduler="BasicScheduler",
    steps=20,
    positive="A white lighthouse on a rocky coast at dusk, its light turns, waves break on the rocks, the camera slowly comes "
    "closer. Audio: wind and surf.",
    negative="seagulls",
    seed=20251206,
    core="0.30.0",
    notes=("sound",),
)
"""A video with sound. It came when the numbers of the others were known, and stands behind them."""

TEMPLATES = (*RECIPES, SEE, PLACE, SEVERAL, ALONG, AGAINST_ITSELF, SOUND)
"""Every shipped workflow, as the cards stand."""


def recipe_of(model: str) -> Recipe:
    """The recipe for this model."""
    return next(recipe for recipe in RECIPES if recipe.model == model)
