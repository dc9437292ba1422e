"""Tables of the store. A change of these raises ``VERSION``."""

from __future__ import annotations

from sqlalchemy import Column, Float, ForeignKey, Integer, MetaData, String, Table, Text

VERSION = 1

metadata = MetaData()

meta = Table(
    "meta",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("created", Float, nullable=False),
    Column("state", String(16), nullable=False),
    Column("owner", String(128), nullable=False, default=""),
    Column("seconds", Float, nullable=False, default=0.0),
    Column("message", Text, nullable=False, default=""),
    Column("config", Text, nullable=False),
)

rounds = Table(
    "rounds",
    metadata,
    Column("run", ForeignKey("runs.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("data", Text, nullable=False),
)

nodes = Table(
    "nodes",
    metadata,
    Column("run", ForeignKey("runs.id"), primary_key=True),
    Column("key", String(40), primary_key=True),
    Column("seq", Integer, nullable=False),
    Column("round", Integer, nullable=False),
    Column("data", Text, nullable=False),
)

edges = Table(
    "edges",
    metadata,
    Column("run", ForeignKey("runs.id"), primary_key=True),
    Column("round", Integer, primary_key=True),
    Column("index", Integer, primary_key=True),
    Column("data", Text, nullable=False),
)

evaluations = Table(
    "evaluations",
    metadata,
    Column("key", String(40), primary_key=True),
    Column("program", String(40), nullable=False),
    Column("target", String(64), nullable=False),
    Column("knobs", Text, nullable=False),
    Column("created", Float, nullable=False),
    Column("data", Text, nullable=False),
)
