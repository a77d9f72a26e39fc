"""The parts of `scripts/prove soak`: a site with real parts, what goes wrong there, what is heard and measured."""
