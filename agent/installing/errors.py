"""What can go wrong while the service is set up."""

from __future__ import annotations

from agent.errors import AgentError


class InstallError(AgentError):
    """The service cannot be set up like this: what, and what to do about it."""
