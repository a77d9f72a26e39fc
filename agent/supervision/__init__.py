"""What is looked after while an agent serves: connections, engines, sinks; replaced when they hang or change.

The service wires; what is here starts, watches, replaces and stops its own kind of parts, each by name.
"""
