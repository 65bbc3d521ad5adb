"""The node that loads the testbed's text encoder from models/text_encoders."""

from __future__ import annotations

import comfy.utils
import folder_paths
from comfy_api.latest import ComfyExtension, io

from .clip import load_clip


class VSFTestbedCLIPLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VSFTestbedCLIPLoader",
            display_name="Load CLIP (VSF testbed)",
            category="advanced/loaders",
            description="Loads the small text encoder of the VSF testbed. It knows a few dozen words.",
            inputs=[
                io.Combo.Input(
                    "text_encoder_name",
                    options=folder_paths.get_filename_list("text_encoders"),
                    tooltip="vsf_testbed_text.safetensors",
                )
            ],
            outputs=[io.Clip.Output()],
        )

    @classmethod
    def execute(cls, text_encoder_name: str) -> io.NodeOutput:
        path = folder_paths.get_full_path_or_raise("text_encoders", text_encoder_name)
        state_dict = comfy.utils.load_torch_file(path, safe_load=True)
        if "shared.weight" not in state_dict or state_dict["shared.weight"].shape[1] != 160:
            raise ValueError(
                f"{text_encoder_name} is not the VSF testbed's text encoder (expected vsf_testbed_text.safetensors)"
            )
        return io.NodeOutput(load_clip(state_dict, folder_paths.get_folder_paths("embeddings")))


class VSFTestbedExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [VSFTestbedCLIPLoader]
