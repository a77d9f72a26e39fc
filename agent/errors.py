"""What can go wrong in the service.

AgentError
├── ConfigError        a configuration that must be mended before the agent can run (exit 78)
├── SourceError        a camera that cannot be opened or read: reported and retried
│   └── Refused        ... because it wants other credentials: retried slowly, so that no camera locks us out
└── SinkError
    └── Transient      a message that could not be handed over now; the next one may be
"""


class AgentError(Exception):
    """Base of everything `agent` raises on purpose."""


class ConfigError(AgentError):
    """One or more mistakes in a configuration, a line each."""


class SourceError(AgentError):
    """A camera or file cannot be opened or read."""


class Refused(SourceError):
    """A camera refuses the credentials."""


class SinkError(AgentError):
    """A sink cannot do its work."""


class Transient(SinkError):
    """A message cannot be handed over now; the next one may be."""
