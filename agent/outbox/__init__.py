"""Events on disk until every sink has acknowledged them.

`settings` what the configuration says of it · `store` the SQLite file · `outbox` numbers, limits, group commit ·
`courier` from there to one sink
"""
