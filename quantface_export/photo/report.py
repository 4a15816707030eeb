"""What became of each photograph."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypedDict

from quantface_export.photo.errors import NoFaceError


class Output(TypedDict):
    """A photograph that was restored; seconds of reading, restoring and writing."""

    input: str
    output: str
    faces: int
    seconds: float


class Failure(TypedDict):
    """A photograph that was not; ``code`` is the exit code of its error alone."""

    input: str
    error: str
    code: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All photographs of a run; both lists hold JSON-able dictionaries, in input order."""

    outputs: list[Output] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 if all went well, 3 if photographs failed only for want of a face, else 1."""
        if not self.failed:
            return 0
        wanting = all(failure["code"] == NoFaceError.exit_code for failure in self.failed)
        return NoFaceError.exit_code if wanting else 1
