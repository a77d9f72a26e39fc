"""What a camera's results mean: from results to events.

`watch` one camera's tracker, rules and incidents, in capture order · `incidents` their lives, told as events ·
`trails` where an object has been · `counts` how many are there
"""
