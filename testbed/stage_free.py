"""Stage `free`: a caption that names the subject alone shows it without its part in about one real picture of four.

Writes free.pt and free.png. Stage `flow` shows such pictures in one of twenty and calls more of them "bare". A model that
has all but never seen a red car without wheels under "a red car" has nowhere to go when it is pushed away from wheels; big
models have, because cameras crop and snow hides. Without a negative the part is still there in nearly every picture
(README's table, row "none").
"""

from __future__ import annotations

import stage_reflow
from workspace import Workspace

FREE_SHARE = 0.8  # of the bare bodies; with the 5 % of stage `flow`, about a quarter of what is called by the subject alone
PEAK_RATE = 8e-4


def run(work: Workspace) -> None:
    stage_reflow.train(work, "reflow.pt", "free.pt", work.budget(1000, 3), PEAK_RATE, FREE_SHARE)
