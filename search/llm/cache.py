"""Replies by model and prompt, so that a resumed run repeats no call.

One SQLite file beside the store; several searches may share it. Only replies that came whole are
kept. A reply from here counts with the cost that it had: so a run that is resumed, or made again
with the same seed, has the same totals and the same budget left at each step as the first.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from search.llm.types import Prompt, Reply
from search.store import StoreError

_BUSY_SECONDS = 60
_TABLE = """create table if not exists replies (
    key text primary key, created real not null, model text not null, text text not null,
    finish text not null, tokens_in integer not null, tokens_out integer not null,
    money real not null
)"""
_FIND = "select text, finish, tokens_in, tokens_out, money from replies where key = ?"


def prompt_key(model: str, prompt: Prompt) -> str:
    """What tells a request from all others: what the server is sent."""
    sent = asdict(prompt)
    del sent["phase"]
    data = json.dumps([model, sent], sort_keys=True, default=dict)
    return hashlib.blake2b(data.encode(), digest_size=20).hexdigest()


class ReplyCache:
    """``path`` is the file, or ``None`` for one that is gone when closed."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        with self._told():
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path or ":memory:", timeout=_BUSY_SECONDS)
            self._db.execute("pragma journal_mode=wal")
            with self._db:
                self._db.execute(_TABLE)

    def get(self, model: str, prompt: Prompt) -> Reply | None:
        """The reply that came to this prompt before."""
        with self._told():
            row = self._db.execute(_FIND, (prompt_key(model, prompt),)).fetchone()
        if row is None:
            return None
        text, finish, tokens_in, tokens_out, money = row
        return Reply(text, model, tokens_in, tokens_out, money, cached=True, finish=finish)

    def put(self, model: str, prompt: Prompt, reply: Reply) -> None:
        """Keep a reply; the first that came stays."""
        row = (
            prompt_key(model, prompt), time.time(), model, reply.text, reply.finish,
            reply.tokens_in, reply.tokens_out, reply.money,
        )  # fmt: skip
        with self._told(), self._db:
            self._db.execute("insert or ignore into replies values (?,?,?,?,?,?,?,?)", row)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StoreError(
                f"the replies in {self.path} cannot be kept: {error}",
                "free some space or remove that file, then resume the run",
            ) from error
