"""A recording through a configuration, offline.

`replaying` makes its events · `baseline` compares them with those of another time
"""
