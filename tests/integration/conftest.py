"""Fixtures of the integration tests."""

from tests.support.publishing import opened  # noqa: F401  # a fixture
