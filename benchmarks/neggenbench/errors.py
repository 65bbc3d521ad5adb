"""What ends a run, as a sentence for the user."""
from __future__ import annotations


class BenchError(Exception):
    """Something the user can act on: shown as it is, without a traceback. What was done so far is kept."""


class ServerLost(Exception):
    """A ComfyUI server gave no usable answer: its picture is made elsewhere, or later."""


class PictureFailed(Exception):
    """A server is well, but this picture failed on it."""


class AnswerFailed(Exception):
    """The judge gave no usable answer to one question, however often it was asked."""
