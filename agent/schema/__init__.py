"""What goes over the wire, for machines: JSON Schema for each payload, and an AsyncAPI 3 document of all topics.

Made of the payload models and nothing else; `docs/schema/` has them as files, `sightwire schema` prints them.
"""

from __future__ import annotations
