"""VSF Guidance: a working negative prompt for few-step diffusion models in ComfyUI."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    # imported here, so that tools which merely look at this package (pytest, linters) need no ComfyUI
    from .nodes import VSFExtension
    return VSFExtension()


__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
