"""What a search keeps: relational records of runs, and content-addressed artifacts."""

from search.store.artifacts import ArtifactError, Artifacts
from search.store.store import RunRecord, Store, StoreError, open_store

__all__ = ["ArtifactError", "Artifacts", "RunRecord", "Store", "StoreError", "open_store"]
