"""Runs, nodes, edges and evaluations in a relational database.

SQLite in write-ahead mode for a path, any other database by its SQLAlchemy URL. Every node insert
is one transaction, so that whatever ends the process, what was inserted is there.
"""

from __future__ import annotations

import gc
import json
import os
import socket
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError as BadUrl
from sqlalchemy.exc import DBAPIError, NoSuchModuleError, OperationalError

from search.graph import Edge, Node, SearchGraph
from search.store import schema
from search.store.artifacts import Artifacts

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine

DEFAULT = ".ke-gen"
_BUSY_SECONDS = 60
RUNNING, STOPPED, FINISHED = "running", "stopped", "finished"


class StoreError(Exception):
    """The store cannot be used. ``fix`` says what to do about it."""

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(what)
        self.what, self.fix = what, fix


@dataclass(frozen=True)
class RunRecord:
    """One run. ``seconds`` is wall clock spent so far, ``state`` running, stopped or finished."""

    id: str
    created: float
    state: str
    owner: str
    seconds: float
    message: str
    config: Mapping[str, Any]


@dataclass(frozen=True)
class Round:
    """A round that was completed: whom the policy picked, and who has nothing more to offer."""

    number: int
    picks: tuple[str, ...]
    exhausted: tuple[str, ...]
    counts: Mapping[str, float]


def open_store(where: str = "", artifacts: str = "") -> Store:
    """The store in a folder (``.ke-gen`` by default) or at a database's URL.

    ``artifacts`` is where a new store keeps its artifacts; the store remembers it. Raises
    StoreError.
    """
    if "://" in where:
        url, folder = where, Path(DEFAULT)
        if where.startswith("sqlite:///"):
            folder = Path(where.removeprefix("sqlite:///")).parent
    else:
        folder = Path(where or DEFAULT)
        url = f"sqlite:///{folder / 'store.db'}"
    try:
        if url.startswith("sqlite:"):
            folder.mkdir(parents=True, exist_ok=True)
        return Store(url, artifacts or str((folder / "artifacts").resolve()), where or DEFAULT)
    except OSError as error:
        raise StoreError(f"cannot use the store {where or DEFAULT}: {error.strerror}") from None


class Store:
    """Use as a context manager, or call ``close``. Safe to use from several threads."""

    def __init__(self, url: str, artifacts: str, where: str = "") -> None:
        self.url, self.where = url, where or url
        self._inserts: dict[sa.Table, sa.Insert] = {}
        try:
            self.engine = _engine(url)
        except (NoSuchModuleError, BadUrl, ImportError) as error:
            fix = "install the database's driver: `pip install 'psycopg[binary]'` for PostgreSQL"
            raise StoreError(f"cannot use the store {url}: {error}", fix) from None
        with _explained(url):
            self.artifacts = Artifacts(self._prepare(artifacts))

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def folder(self) -> str:
        """Where what lies beside the store's database is kept."""
        if self.url.startswith("sqlite:///"):
            return str(Path(self.url.removeprefix("sqlite:///")).parent)
        return DEFAULT

    def close(self) -> None:
        """Release the connections."""
        self.engine.dispose()

    def _prepare(self, artifacts: str) -> str:
        """Create the tables or check their version; gives the place of the artifacts."""
        # All of them: another process may be creating them, one after the other.
        if schema.metadata.tables.keys() - set(sa.inspect(self.engine).get_table_names()):
            _create(self.engine)
        with self.engine.begin() as db:
            self._put_meta(db, "schema", str(schema.VERSION))
            self._put_meta(db, "artifacts", artifacts)
            rows = db.execute(sa.select(schema.meta.c.name, schema.meta.c.value))
            found: dict[str, str] = {row.name: row.value for row in rows}
        version = int(found["schema"])
        if version != schema.VERSION:
            newer = version > schema.VERSION
            raise StoreError(
                f"the store {self.url} has schema version {version}, and this ke-gen knows "
                f"{schema.VERSION}",
                "use the newer ke-gen that wrote it, or another store with --store"
                if newer
                else "start a new store with --store",
            )
        return found["artifacts"]

    def _put_meta(self, db: Connection, name: str, value: str) -> None:
        self._insert(db, schema.meta, {"name": name, "value": value})

    def _insert(self, db: Connection, table: sa.Table, row: Mapping[str, Any]) -> bool:
        """Insert unless a row of this key is there. True when it was inserted."""
        if table not in self._inserts:  # made once: that takes longer than the insert itself
            if self.engine.dialect.name == "sqlite":
                from sqlalchemy.dialects.sqlite import insert
            else:
                from sqlalchemy.dialects.postgresql import insert  # type: ignore[assignment]
            self._inserts[table] = insert(table).on_conflict_do_nothing()
        return bool(db.execute(self._inserts[table], dict(row)).rowcount)

    # ---- runs ---------------------------------------------------------------------------------

    def create_run(self, config: Mapping[str, Any], name: str) -> str:
        """A new run, owned by this process; its id is ``name`` and the first free number."""
        with _explained(self.url), self.engine.begin() as db:
            for number in range(1, 1_000_000):
                run = f"{name}-{number}"
                row = {
                    "id": run, "created": time.time(), "state": RUNNING, "owner": _owner(),
                    "seconds": 0.0, "message": "", "config": json.dumps(config, sort_keys=True),
                }  # fmt: skip
                if self._insert(db, schema.runs, row):
                    return run
        raise StoreError(f"there are too many runs called {name}")

    def runs(self) -> list[RunRecord]:
        """All runs, oldest first."""
        with _explained(self.url), self.engine.connect() as db:
            return [_run(row) for row in db.execute(sa.select(schema.runs).order_by("created"))]

    def run(self, run: str) -> RunRecord:
        """Raises StoreError naming the near miss."""
        with _explained(self.url), self.engine.connect() as db:
            row = db.execute(sa.select(schema.runs).where(schema.runs.c.id == run)).first()
        if row is None:
            from ke_ir.diagnostics import near

            names = [r.id for r in self.runs()]
            listed = f"runs: {', '.join(names[-20:])}" if names else "it holds no runs"
            raise StoreError(
                f"no run `{run}` in the store {self.url}", f"{near(run, names)} {listed}".strip()
            )
        return _run(row)

    def claim(self, run: str) -> RunRecord:
        """Make this process the run's owner. Raises StoreError when another one is at it."""
        with _explained(self.url), self.engine.begin() as db:
            mine = sa.select(schema.runs).where(schema.runs.c.id == run).with_for_update()
            record = _run(db.execute(mine).one())
            if record.state == RUNNING and record.owner != _owner() and _alive(record.owner):
                raise StoreError(
                    f"run {run} is being carried on by process {record.owner}",
                    "wait for it, or stop it with Ctrl-C",
                )
            self._update(db, run, state=RUNNING, owner=_owner(), message="")
        return record

    def reconfigure(self, run: str, config: Mapping[str, Any]) -> None:
        """Give a run other limits."""
        with _explained(self.url), self.engine.begin() as db:
            self._update(db, run, config=json.dumps(config, sort_keys=True))

    def end(self, run: str, state: str, seconds: float, message: str) -> None:
        """Record how a run ended and the wall clock it took in all."""
        with _explained(self.url), self.engine.begin() as db:
            self._update(db, run, state=state, owner="", seconds=seconds, message=message)

    def _update(self, db: Connection, run: str, **values: Any) -> None:
        db.execute(schema.runs.update().where(schema.runs.c.id == run).values(**values))

    # ---- the graph ----------------------------------------------------------------------------

    def insert(self, run: str, node: Node | None, edge: Edge) -> None:
        """One checkpoint: an edge, with the node it leads to unless that was known."""
        with _explained(self.url), self.engine.begin() as db:
            if node is not None:
                row = {"key": node.key, "seq": node.seq, "round": node.round}
                data = json.dumps(node.to_dict())
                self._insert(db, schema.nodes, {"run": run, **row, "data": data})
            place = {"run": run, "round": edge.round, "index": edge.index}
            self._insert(db, schema.edges, {**place, "data": json.dumps(edge.to_dict())})

    def finish_round(self, run: str, done: Round, seconds: float) -> None:
        """The round is complete: a resumed run goes on after it."""
        data = {"picks": done.picks, "exhausted": done.exhausted, "counts": dict(done.counts)}
        row = {"run": run, "number": done.number, "data": json.dumps(data)}
        with _explained(self.url), self.engine.begin() as db:
            self._insert(db, schema.rounds, row)
            self._update(db, run, seconds=seconds)

    def rounds(self, run: str) -> list[Round]:
        """The completed rounds in order."""
        r = schema.rounds
        with _explained(self.url), self.engine.connect() as db:
            rows = db.execute(sa.select(r).where(r.c.run == run).order_by(r.c.number)).all()
        out = []
        for row in rows:
            d = json.loads(row.data)
            picks, exhausted = tuple(d["picks"]), tuple(d["exhausted"])
            out.append(Round(row.number, picks, exhausted, d["counts"]))
        return out

    def graph(self, run: str, rounds: int | None = None) -> SearchGraph:
        """The graph; only what belongs to the first ``rounds`` rounds when given."""
        n, e = schema.nodes, schema.edges
        limit = 1 << 30 if rounds is None else rounds
        with _explained(self.url), _no_collection(), self.engine.connect() as db:
            at = sa.and_(n.c.run == run, n.c.round < limit)
            kept = {
                row.key: Node.from_dict(json.loads(row.data))
                for row in db.execute(sa.select(n).where(at).order_by(n.c.seq))
            }
            at = sa.and_(e.c.run == run, e.c.round < limit)
            rows = db.execute(sa.select(e.c.data).where(at).order_by(e.c.round, e.c.index))
            found = SearchGraph()
            for (data,) in rows:
                edge = Edge(**json.loads(data))
                found.add(kept[edge.child], edge)
        return found

    # ---- evaluations --------------------------------------------------------------------------

    def evaluation(self, key: str) -> dict[str, Any] | None:
        """The result recorded under a key, if any."""
        x = schema.evaluations
        with _explained(self.url), self.engine.connect() as db:
            row = db.execute(sa.select(x.c.data).where(x.c.key == key)).first()
        return None if row is None else dict(json.loads(row.data))

    def add_evaluation(
        self, key: str, program: str, target: str, knobs: Mapping[str, Any], data: Mapping[str, Any]
    ) -> None:
        """Record a result; the first one of a key stays."""
        row = {
            "key": key, "program": program, "target": target, "created": time.time(),
            "knobs": json.dumps(dict(knobs), sort_keys=True), "data": json.dumps(dict(data)),
        }  # fmt: skip
        with _explained(self.url), self.engine.begin() as db:
            self._insert(db, schema.evaluations, row)

    def count_evaluations(self) -> int:
        """How many results there are."""
        with _explained(self.url), self.engine.connect() as db:
            return int(
                db.execute(sa.select(sa.func.count()).select_from(schema.evaluations)).scalar_one()
            )


def _engine(url: str) -> Engine:
    if not url.startswith("sqlite:"):
        return sa.create_engine(url, pool_pre_ping=True)
    engine = sa.create_engine(url, connect_args={"timeout": _BUSY_SECONDS})

    @sa.event.listens_for(engine, "connect")
    def _settings(connection: Any, _: Any) -> None:
        cursor = connection.cursor()
        _write_ahead(cursor)
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    return engine


def _write_ahead(cursor: Any) -> None:
    """Turn the write-ahead log on. SQLite does not wait for others that are at it: we do."""
    deadline = time.monotonic() + _BUSY_SECONDS
    while cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _create(engine: Engine) -> None:
    """Two processes may create the tables at once: the one that comes second finds them there."""
    for attempt in range(5):
        try:
            schema.metadata.create_all(engine)
            return
        except DBAPIError:
            if attempt == 4:
                raise
            time.sleep(0.2 * (attempt + 1))


@contextmanager
def _no_collection() -> Iterator[None]:
    """Without garbage collection: it would walk all nodes again for every few that are added."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@contextmanager
def _explained(url: str) -> Iterator[None]:
    """A database's error as a StoreError that says what to do."""
    try:
        yield
    except DBAPIError as error:
        said = str(error.orig).strip().splitlines()[0] if error.orig else str(error)
        shown = sa.engine.make_url(url).render_as_string(hide_password=True)
        full = "full" in said or "No space" in said
        fix = "free some space, then resume the run" if full else ""
        if isinstance(error, OperationalError) and not url.startswith("sqlite:"):
            fix = fix or "check that the server runs and the URL is right"
        raise StoreError(f"the store {shown} failed: {said}", fix) from error


def _run(row: Any) -> RunRecord:
    return RunRecord(
        row.id, row.created, row.state, row.owner, row.seconds, row.message, json.loads(row.config)
    )


def _owner() -> str:
    return f"{os.getpid()} on {socket.gethostname()}, started {_start_time(os.getpid())}"


def _alive(owner: str) -> bool:
    """Whether the process lives. One on another machine is taken to."""
    pid, _, rest = owner.partition(" on ")
    host, _, started = rest.partition(", started ")
    if host != socket.gethostname():
        return bool(owner)
    return _start_time(int(pid)) == started != ""


def _start_time(pid: int) -> str:
    """Ticks from boot to the start of a process, since numbers are used again; empty if gone."""
    try:
        stat = Path("/proc", str(pid), "stat").read_text()
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] == "Z" else fields[19]
