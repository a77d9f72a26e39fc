"""How long tests wait for what will come.

It only says when to give up, and costs nothing where all is well: far more than anything takes, and less than
pytest's own limit. What *is* to come within a certain time is asserted with that time.
"""

PATIENCE_S = 45.0
