"""What makes the tests cheap, and changes nothing of what they see."""

import gc
import os

import pytest


def pytest_collection_finish():
    """Modules and tests live to the end: the collector need not walk through their millions of objects every time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


@pytest.fixture(autouse=True)
def no_wait_for_the_disk(request, monkeypatch):
    """Tests read back what they wrote, which needs no disk; those of checkpoints wait for it, as users do."""
    if not request.module.__name__.endswith("test_checkpoint"):
        monkeypatch.setattr(os, "fsync", os.fstat)  # an error too for what is not open
