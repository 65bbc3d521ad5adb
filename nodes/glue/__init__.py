"""Between the nodes and ComfyUI: four rooms, each of which knows only those above it here (tests/nodes/test_rooms.py).

    attention  the override of one call of the model, what the attentions in use can do, where tokens stand
    reading    what users connect and write -> negatives, their words alone
    families   one small adapter per model family
    sampling   attach negatives to a MODEL; one sampling run

For all of them: `said`, what a node did as a line on it, and `conditioning`, the names of VSF's options there. What is true of
one model family only stays in its adapter.
"""
