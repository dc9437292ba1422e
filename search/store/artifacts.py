"""Content-addressed texts and bytes on any file system that fsspec knows.

An artifact's name is the hash of its content, which is verified on every read: what was damaged is
reported, never used.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import uuid
from functools import lru_cache
from typing import Any

from fsspec.core import url_to_fs


class ArtifactError(Exception):
    """An artifact is missing, damaged, or cannot be written: which, where, and what to do."""


class Artifacts:
    """``url`` is a folder: a path, or any URL of fsspec's (``s3://``, ``memory://``)."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._fs, self._root = url_to_fs(url)
        self._folders: set[str] = set()
        self._cached = lru_cache(maxsize=4096)(self._load)

    def put(self, content: str | bytes) -> str:
        """Store, and return the digest (40 hex digits). What is there already stays."""
        data = content.encode() if isinstance(content, str) else content
        digest = hashlib.blake2b(data, digest_size=20).hexdigest()
        path = self._path(digest)
        try:
            if not self._fs.exists(path) or self._fs.size(path) != len(data):
                self._write(path, data)
        except OSError as error:
            raise ArtifactError(
                f"cannot write to {self.url}: {error.strerror or error}; free some space or choose "
                "another place with --store, then resume the run"
            ) from error
        return digest

    def text(self, digest: str) -> str:
        """The text of an artifact. Raises ArtifactError when it is missing or damaged."""
        data = self.read(digest)
        return data.decode()

    def read(self, digest: str) -> bytes:
        """The content of an artifact. Raises ArtifactError when it is missing or damaged."""
        return self._cached(digest)

    def _load(self, digest: str) -> bytes:
        path = self._path(digest)
        try:
            with self._fs.open(path, "rb") as file:
                data: bytes = file.read()
        except FileNotFoundError:
            raise ArtifactError(f"artifact {digest[:12]} is missing from {self.url}") from None
        except OSError as error:
            raise ArtifactError(f"cannot read {path}: {error.strerror or error}") from error
        found = hashlib.blake2b(data, digest_size=20).hexdigest()
        if found != digest:
            raise ArtifactError(
                f"artifact {digest[:12]} is damaged: {path} holds other content (hash {found[:12]})"
            )
        return data

    def _path(self, digest: str) -> str:
        return f"{self._root}/{digest[:2]}/{digest[2:]}"

    def _write(self, path: str, data: bytes) -> None:
        """Under another name first: a reader sees all of it or nothing."""
        folder = path.rpartition("/")[0]
        if folder not in self._folders:
            self._fs.makedirs(folder, exist_ok=True)
            self._folders.add(folder)
        temporary = f"{path}.{os.getpid()}-{threading.get_ident()}-{uuid.uuid4().hex[:8]}"
        try:
            with self._fs.open(temporary, "wb") as file:
                file.write(data)
            self._fs.mv(temporary, path)
        except BaseException:
            _remove(self._fs, temporary)
            raise


def _remove(fs: Any, path: str) -> None:
    with contextlib.suppress(OSError):
        fs.rm(path)
