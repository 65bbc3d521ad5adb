"""From a MODEL with negatives attached to one call of its model, in ComfyUI's own levels of a sampling run.

    patch  attach to a ModelPatcher; one wrapper per level
    run    one sampling run: which conditionings are positive, the negatives that act on them, how these travel

May not enter: a family's name, which only its adapter knows; anything that outlives the run.
"""
