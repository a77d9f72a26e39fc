"""`python -m agent` is `sightwire`."""

from agent.cli import main

main()
