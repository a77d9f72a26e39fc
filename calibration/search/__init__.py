"""The search for a table: how ranges are found, what is done to weights, and which operations stay in float.

Candidates are ordered by the noise that they leave in what the network says (`noise`), which tells them apart far more
finely than any accuracy on a few hundred pictures could, and which needs no labels. Only the last question, how many
operations stay in float, is answered by the accuracy on pictures that took part in nothing before. Time is measured
by nobody here: the same pictures give the same table.
"""
