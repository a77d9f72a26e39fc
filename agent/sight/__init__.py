"""Whether a camera still sees: judged from its pixels a few times a second, on pictures made small first.

`settings` what the configuration says of it · `glance` a frame made small · `frozen` (with `fading`), `levels` and
`scene` one judgement each · `sight` all of them, for one camera · `motion` whether anything has changed since a model
looked last

Nothing in here knows of connections, events or threads, and no clock but that of the frames: a recording is judged the
same each time. What is judged and why so: docs/adr/0050.
"""
