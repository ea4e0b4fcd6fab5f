"""Fixtures for pytest: `pytest_plugins = ["backscroll.pytest_plugin"]` in a conftest.py."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from backscroll.testing import AsyncInMemoryProducer, InMemoryProducer


@pytest.fixture
def backscroll_producer() -> Iterator[InMemoryProducer]:
    """An `InMemoryProducer`, empty, and closed after the test."""
    with InMemoryProducer() as producer:
        yield producer


@pytest.fixture
def async_backscroll_producer() -> Iterator[AsyncInMemoryProducer]:
    """An `AsyncInMemoryProducer`, empty, for any event loop, and closed after the test."""
    producer = AsyncInMemoryProducer()
    yield producer
    asyncio.run(producer.close())
