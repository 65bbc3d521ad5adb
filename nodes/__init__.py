"""The nodes, one file each; `glue` is where they meet ComfyUI."""
from comfy_api.latest import ComfyExtension, io
from typing_extensions import override

from . import vsf_conditioning, vsf_contrast, vsf_guidance, vsf_heat_map, vsf_prompt, vsf_text_encode


class VSFExtension(ComfyExtension):
    @override
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [*vsf_prompt.NODES, *vsf_contrast.NODES, *vsf_guidance.NODES, *vsf_text_encode.NODES,
                *vsf_conditioning.NODES, *vsf_heat_map.NODES]
