"""What `sightwire doctor` looks at: plain modules, one file a topic.

A check is a generator of findings. It says what it sees as soon as it sees it, so that a check that hangs later keeps
what it has found; it may raise, which becomes a finding too (`examine`). What loads drivers runs in a child process
(`room`), because a driver can crash. Nothing is sent anywhere but to the broker and the cameras of the configuration,
except for the search for ONVIF cameras, which has to be asked for.
"""
