"""A mini pack that `dev.py` copies into custom_nodes beside the VSF pack: it loads the testbed's text encoder,
nothing else.
"""


def comfy_entrypoint():  # noqa: ANN201  (ComfyUI's types exist only inside ComfyUI)
    from .loader import VSFTestbedExtension

    return VSFTestbedExtension()
