"""Use a token in a file that another program rewrites."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

from evertoken._model.errors import TransientRefreshError
from evertoken._model.guarded import Guarded
from evertoken._model.parsing import is_token
from evertoken._signing.secret import in_thread
from evertoken._signing.secret_file import read_secret_file
from evertoken.sources._body import MAX_BODY

if TYPE_CHECKING:
    import os

    from evertoken._model.protocols import FetchRequest

__all__ = ["TokenFile"]

#: Kubernetes rewrites a projected token when a fifth of its life is left, and advises readers to check once a minute.
REREAD: Final = 60.0


@final
class TokenFile(Guarded):
    """
    The token in a file that another program rewrites, such as a projected service account token of Kubernetes.

    The file is read in a thread. It is read again before its token is outdated: a JWT when it is due by its `exp`, and
    every token after at most *reread* seconds.

    Args:
        path: The path of the file. White space around the token and a byte order mark are ignored. The file is refused
            if it belongs to neither this user nor root, or if other users may write to it.

        reread: Seconds after which the file is read again.

    Raises:
        ValueError: *path* is empty, or *reread* is not above zero.
    """

    rotates = False
    on_ambiguous = "retry"

    def __init__(self, path: str | os.PathLike[str], *, reread: float = REREAD) -> None:
        if not str(path):
            msg = "path must name a file"
            raise ValueError(msg)
        if not reread > 0.0:
            msg = f"reread must be seconds above zero, not {reread!r}"
            raise ValueError(msg)
        self._path = Path(path)
        self._reread = reread
        self.provider: str = f"file:{self._path}"
        self.identity: str = self.provider

    async def fetch(self, request: FetchRequest, /) -> dict[str, Any]:  # noqa: ARG002 - the protocol has this parameter
        """
        Read the file.

        Raises:
            TransientRefreshError: The file cannot be read, or does not contain a token.
        """
        try:
            text = await in_thread(_read, self._path)
        except (OSError, ValueError) as error:
            said = getattr(error, "strerror", None) or type(error).__name__
            failure = TransientRefreshError(f"{str(self._path)!r}: {said}")
        else:
            if is_token(text):
                # The file is checked again in time, even if the token claims a longer life.
                return {"access_token": text, "refresh_in": self._reread}
            lines = len(text.splitlines())
            holds = f"has {lines} lines" if lines > 1 else "has characters that no token has (RFC 6750 section 2.1)"
            failure = TransientRefreshError(f"{str(self._path)!r} {holds if text else 'is empty'}")
        raise failure

    def __repr__(self) -> str:
        return f"TokenFile({str(self._path)!r})"


def _read(path: Path) -> str:
    data = read_secret_file(path, MAX_BODY + 1)
    if len(data) > MAX_BODY:
        msg = "more than a token"
        raise ValueError(msg)
    return data.decode("utf-8-sig").strip()
