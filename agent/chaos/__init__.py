"""What `sightwire chaos` is made of: faults on purpose, on a stage where everything that can break is ours.

The stage has an agent as a child process, with the user's configuration rewritten; a broker of our own; and a way to
each camera through which we can cut it: a proxy of ours to a network camera, or a camera of ours that shows a
recording. Inside the agent there is a door (`door`), through which faults come that nobody can make from outside.
"""
