"""The companion package of RNN Deep Dive: one module a notebook, so nobody has to ask where a thing lives."""
