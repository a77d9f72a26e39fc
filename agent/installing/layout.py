"""Where everything of the service is.

/opt/sightwire/versions/VERSION-SHA   a virtual environment for each wheel
/opt/sightwire/current, previous      links to two of them: to roll back is to turn a link
/etc/sightwire                        the configuration and credentials
/var/lib/sightwire                    models, and what the agent keeps
"""

from __future__ import annotations

from pathlib import Path

ACCOUNT = "sightwire"
UNIT_NAME = "sightwire.service"

HOME = Path("/opt/sightwire")
VERSIONS = HOME / "versions"
CURRENT = HOME / "current"
PREVIOUS = HOME / "previous"
COMMAND = Path("/usr/local/bin/sightwire")

SETTINGS = Path("/etc/sightwire")
CONFIG = SETTINGS / "site.yaml"
CREDENTIALS = SETTINGS / "credentials"

STATE = Path("/var/lib/sightwire")
MODELS = STATE / "models"
CACHE = Path("/var/cache/sightwire")

UNIT = Path("/etc/systemd/system") / UNIT_NAME
DROP_INS = Path("/etc/systemd/system") / f"{UNIT_NAME}.d"
CREDENTIALS_DROP_IN = DROP_INS / "50-credentials.conf"
SYSUSERS = Path("/etc/sysusers.d/sightwire.conf")

#: the shipped files, seen from an environment's folder
FILES_IN_ENVIRONMENT = "lib/python3*/site-packages/agent/installing/files"
FILES = Path(__file__).parent / "files"
