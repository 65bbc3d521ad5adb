"""What people search for: ComfyUI's search reads a node's name and these, in every language at once.

Of nodes that a word finds by these alone, ComfyUI's search puts the one first whose id is about as long as the word
(`calcAuxSingle` in its frontend): so the words that lead to VSF Prompt are no other node's.

Shipped sources are plain ASCII (some Windows tools read them as cp1252), so that other scripts are escaped.
"""
from __future__ import annotations

NEGATIVE = ["negative prompt", "VSF", "Value Sign Flip", "NAG", "NegPip", "CFG 1"]
"""Of every node."""

WANTED = ["unwanted", "without", "exclude", "remove", "remove object", "erase", "take away", "get rid of", "don't want",
          "schnell", "distilled", "lightning", "turbo", "few steps"]

TRANSLATED = [
    # negative prompt (simplified, traditional Chinese; Japanese; Korean)
    "\u8d1f\u9762\u63d0\u793a\u8bcd", "\u8d1f\u5411\u63d0\u793a\u8bcd", "\u53cd\u5411\u63d0\u793a\u8bcd",
    "\u8ca0\u9762\u63d0\u793a\u8a5e", "\u8ca0\u5411\u63d0\u793a\u8a5e", "\u53cd\u5411\u63d0\u793a\u8a5e",
    "\u30cd\u30ac\u30c6\u30a3\u30d6\u30d7\u30ed\u30f3\u30d7\u30c8", "\u5426\u5b9a\u30d7\u30ed\u30f3\u30d7\u30c8",
    "\ub124\uac70\ud2f0\ube0c \ud504\ub86c\ud504\ud2b8", "\ubd80\uc815 \ud504\ub86c\ud504\ud2b8",
    # remove, remove object
    "\u53bb\u9664", "\u79fb\u9664", "\u79fb\u9664\u7269\u4f53", "\u79fb\u9664\u7269\u4ef6", "\u9664\u53bb",
    "\u524a\u9664", "\u6d88\u3059", "\u30aa\u30d6\u30b8\u30a7\u30af\u30c8\u9664\u53bb", "\uc81c\uac70", "\uc0ad\uc81c",
    "\uac1d\uccb4 \uc81c\uac70",
    # without, unwanted
    "\u4e0d\u8981", "\u6ca1\u6709", "\u6c92\u6709", "\u4e0d\u60f3\u8981", "\u306a\u3057", "\u4e0d\u8981\u7269",
    "\uc5c6\uc774", "\uc6d0\uce58 \uc54a\ub294", "\ube7c\uae30",
    # distilled, few steps, lightning, turbo
    "\u84b8\u998f", "\u84b8\u993e", "\u5c11\u6b65", "\u52a0\u901f", "\u95ea\u7535", "\u9583\u96fb", "\u84b8\u7559",
    "\u9ad8\u901f", "\u30bf\u30fc\u30dc", "\uc99d\ub958", "\ud130\ubcf4", "\ub77c\uc774\ud2b8\ub2dd",
]
ALIASES = [*NEGATIVE, *WANTED, *TRANSLATED]
"""Of VSF Prompt."""
