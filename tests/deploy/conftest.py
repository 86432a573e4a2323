"""Real services for what is deployed beside them, and the folder itself."""

from pathlib import Path

import pytest

from tests.system.conftest import serve, start

__all__ = ["serve", "start"]


@pytest.fixture
def deploy() -> Path:
    """Return the folder that is tested here."""
    return Path(__file__).parents[2] / "deploy"
