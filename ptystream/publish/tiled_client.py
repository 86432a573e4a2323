"""A Tiled server as a sink needs it: it may be gone, slow, or back with nothing left.

Each piece of work has a time limit, whatever Tiled's client would do by itself: that
tries every request ten times over 45 s, and asks for a password at a terminal.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ptystream.errors import ConfigError, StoppedError
from ptystream.publish.extras import optional

log = logging.getLogger(__name__)

CONNECT_S = 2.0
ANSWER_S = 10.0
"""For one request; what takes longer counts as failed."""
ROUND = 256
"""Arrays that grow do so by so many pixels: a chunk is as large as the first write."""


def check_uri(uri: str) -> None:
    """Refuse, without showing it, an address with a key or a password in it."""
    httpx = optional("httpx", "tiled")
    try:
        url = httpx.URL(uri)
    except httpx.InvalidURL as error:
        raise ConfigError("publish.tiled.uri: not an address") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigError("publish.tiled.uri: expected http(s)://HOST[:PORT][/PATH]")
    if url.userinfo or url.query:
        raise ConfigError(
            "publish.tiled.uri: no key or password in an address, it is shown and "
            "logged; expected TILED_API_KEY in the environment, or key_file"
        )


class TiledServer:
    """Connects when asked to, writes by path, and forgets everything at an error.

    Every error of a request is an error of the call; StoppedError where the server is
    not there or too slow. Without ``key``, Tiled takes ``TILED_API_KEY``. Whatever is
    made, but for containers above it, gets ``access_tags``.
    """

    def __init__(self, uri: str, key: str | None = None) -> None:
        check_uri(uri)
        self._httpx = optional("httpx", "tiled")
        self._client = optional("tiled.client", "tiled")
        self._contexts = optional("tiled.client.context", "tiled")
        optional(
            "dask.array", "tiled"
        )  # Tiled would in a scan: 0.5 s of the interpreter
        self._uri, self._key = uri, key
        self._context: Any = None
        self._root: Any = None
        self._nodes: dict[str, Any] = {}
        self._deadline_s = 0.0
        self._unanswered: set[int] = set()
        self.access_tags: list[str] | None = None

    @contextlib.contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Connect, and limit what is done here; after an error start afresh."""
        self._deadline_s = time.monotonic() + seconds
        self._unanswered.clear()
        try:
            if self._root is None:
                self._open()
            yield
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Disconnect; the next use connects."""
        if self._context is not None:
            self._context.close()
        self._context = self._root = None
        self._nodes.clear()

    def container(
        self,
        path: str,
        metadata: Mapping[str, Any] | None = None,
        specs: Sequence[Any] = (),
    ) -> None:
        """Make a container, and those above it, unless it is there."""
        if self._find(path) is not None:
            return
        parent, keys = self._root, path.split("/")
        for depth, key in enumerate(keys[:-1], 1):
            above = "/".join(keys[:depth])
            node = self._find(above)  # an empty container is falsy
            parent = parent.create_container(key) if node is None else node
            self._nodes[above] = parent
        self._nodes[path] = parent.create_container(
            keys[-1],
            metadata=dict(metadata or {}),
            specs=list(specs),
            access_tags=self.access_tags,
        )

    def array(
        self,
        path: str,
        array: np.ndarray,
        metadata: Mapping[str, Any],
        dims: Sequence[str],
        room: tuple[int, ...] | None = None,
    ) -> None:
        """Write an array whole; ``room`` is the shape to make it with, if larger.

        One that is there grows where it must and never shrinks; NaN fills the rest.
        """
        node = self._find(path)
        if node is None:
            self._nodes[path] = self._parent(path).write_array(
                _padded(array, room or array.shape),
                key=path.rpartition("/")[2],
                metadata=dict(metadata),
                dims=list(dims),
                access_tags=self.access_tags,
            )
            return
        shape = tuple(map(max, node.shape, room or array.shape))
        node.patch(_padded(array, shape), offset=(0,) * array.ndim, extend=True)
        if dict(node.metadata) != dict(metadata):
            node.update_metadata(dict(metadata), drop_revision=True)

    def table(self, path: str, columns: Mapping[str, np.ndarray]) -> None:
        """Write a table whole, in place of what was there."""
        node = self._find(path)
        if node is None:
            key = path.rpartition("/")[2]
            self._nodes[path] = self._parent(path).write_table(
                dict(columns), key=key, access_tags=self.access_tags
            )
        else:
            node.write(dict(columns))

    def update_metadata(self, path: str, metadata: Mapping[str, Any]) -> None:
        """Add to or replace what a node's metadata says."""
        self._find(path).update_metadata(dict(metadata), drop_revision=True)

    def _open(self) -> None:
        """Connect, after one look whether somebody is there."""
        timeout = self._httpx.Timeout(ANSWER_S, connect=CONNECT_S)
        try:
            self._httpx.get(self._uri, timeout=timeout)
        except self._httpx.HTTPError as error:
            raise StoppedError(f"no Tiled at {self._uri}: {error!r}") from error
        # It logs each request at INFO: eight lines a second.
        logging.getLogger("httpx").setLevel(logging.WARNING)
        context, path = self._contexts.Context.from_any_uri(
            self._uri, api_key=self._key, timeout=timeout, show_progress=False
        )
        self._context = context
        context.http_client.event_hooks = {
            "request": [self._asking],
            "response": [self._answered],
        }
        if context.api_key is None and context.server_info.authentication.required:
            raise StoppedError(
                f"Tiled at {self._uri} wants an API key: set TILED_API_KEY or "
                "publish.tiled.key_file"
            )
        self._root = self._client.from_context(
            context, node_path_parts=path, remember_me=False
        )

    def _asking(self, _request: Any) -> None:
        """Refuse what comes too late, or again: Tiled repeats httpx' errors only.

        A thread that asks while it has no answer repeats itself (large arrays are
        written by several).
        """
        thread = threading.get_ident()
        if thread in self._unanswered or time.monotonic() > self._deadline_s:
            raise StoppedError(f"Tiled at {self._uri} is gone, or too slow")
        self._unanswered.add(thread)

    def _answered(self, response: Any) -> None:
        """Give up at once where the server says that it can't."""
        self._unanswered.discard(threading.get_ident())
        if response.is_server_error:
            raise StoppedError(f"Tiled at {self._uri}: {response.status_code}")

    def _parent(self, path: str) -> Any:
        above = path.rpartition("/")[0]
        return self._find(above) if above else self._root

    def _find(self, path: str) -> Any:
        """Return a node, None if there is none."""
        if path not in self._nodes:
            try:
                self._nodes[path] = self._root[tuple(path.split("/"))]
            except KeyError:
                return None
        return self._nodes[path]


def _padded(array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Return the array in the corner of a larger one; NaN is where nothing is."""
    if tuple(shape) == array.shape:
        return array
    out = np.full(shape, np.nan, array.dtype)
    out[tuple(slice(n) for n in array.shape)] = array
    return out


def rounded(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return room for an object ``[slices, H, W]`` to grow in."""
    slices, h, w = shape
    return slices, -(-h // ROUND) * ROUND, -(-w // ROUND) * ROUND
