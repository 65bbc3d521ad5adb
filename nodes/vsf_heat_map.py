"""VSF Heat Map: where the picture was pushed away from the negatives, and how far (nodes/glue/sampling/seen.py)."""
# ComfyUI calls `execute` by the names of a node's inputs
# pyright: reportIncompatibleMethodOverride=false
from __future__ import annotations

from comfy_api.latest import io, ui
from typing_extensions import override

from .aliases import NEGATIVE
from .glue.said import node_id, say
from .glue.sampling.drawn import AVERAGE, EACH_STEP, draw
from .glue.sampling.seen import HEAT_MAP
from .inputs import in_range

MOST_NEGATIVES = 64


class VSFHeatMap(io.ComfyNode):
    @override
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id=HEAT_MAP,
            display_name="VSF Heat Map",
            category="advanced/guidance",
            description="Shows what the negative prompt does: where the picture is pushed away from it, as heat over the "
                        "picture, and how far, in numbers. Connect the model that comes out of the VSF node, and what the "
                        "sampler gives.",
            search_aliases=["attention map", "attention heatmap", "heat map", "debug negative", "no effect", *NEGATIVE],
            inputs=[
                io.Model.Input("model", tooltip="The model that the sampler has: the one with the negative prompt inside."),
                io.Latent.Input("latent", tooltip="What the sampler gives, as it comes from it."),
                io.Image.Input("image", optional=True, tooltip="The decoded picture or video, to draw on. Without one, the map "
                                                               "alone is drawn."),
                io.Int.Input("negative", default=0, min=0, max=MOST_NEGATIVES,
                             tooltip="Which negative: 0 is all of them together, 1 the first line or node, 2 the second."),
                io.Combo.Input("show", options=[AVERAGE, EACH_STEP], default=AVERAGE,
                               tooltip="One map for the whole sampling, or one for each of its steps."),
                io.Float.Input("opacity", default=0.7, min=0.0, max=1.0, step=0.05,
                               tooltip="How much of the heat lies over the picture."),
                io.Float.Input("brightest", default=0.0, min=0.0, max=1.0, step=0.01, advanced=True,
                               tooltip="What has the brightest colour, to compare pictures with each other. 0 is the strongest "
                                       "place of this one."),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt, io.Hidden.extra_pnginfo],
            outputs=[io.Image.Output("overlay", display_name="overlay", tooltip="Heat over the picture."),
                     io.Image.Output("map", display_name="map", tooltip="The heat alone."),
                     io.Mask.Output("mask", display_name="mask", tooltip="The heat as a mask: 1 where it is brightest."),
                     io.String.Output("numbers", display_name="numbers", tooltip="How far, step by step, for each negative.")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, model, latent, negative: int, show: str, opacity: float, brightest: float, image=None) -> io.NodeOutput:
        in_range("opacity", opacity, 1.0)
        in_range("brightest", brightest, 1.0)
        overlay, alone, mask, text = draw(model, latent, negative, show, opacity, brightest, image)
        say(node_id(cls), text.splitlines()[0])
        return io.NodeOutput(overlay, alone, mask, text, ui=ui.PreviewImage(overlay, cls=cls))


NODES: list[type[io.ComfyNode]] = [VSFHeatMap]
