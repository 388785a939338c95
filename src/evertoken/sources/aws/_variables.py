"""Named values of the environment or of a file, with secrets among them."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from evertoken._signing.secret import CarriesSecrets

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Variables"]


@final
class Variables(CarriesSecrets):
    """
    Values by name. They are hidden, because a traceback with the locals of its frames would show keys.

    Args:
        values: The values, such as `os.environ` or a section of a file. They are read at each call.
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def get(self, name: str) -> str | None:
        """Return the value without surrounding white space, or None if it is missing or blank."""
        return self._values.get(name, "").strip() or None

    def first(self, *names: str) -> str | None:
        """Return the first value among *names* that is present and not blank."""
        return next((value for name in names if (value := self.get(name)) is not None), None)

    def says(self, name: str) -> bool | None:
        """Return whether the value is "true", or None if it is missing."""
        value = self.get(name)
        return None if value is None else value.lower() == "true"

    def __repr__(self) -> str:
        return "Variables(...)"
