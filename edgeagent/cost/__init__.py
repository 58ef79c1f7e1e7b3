"""What running something takes and costs: estimates from what was seen, and a table of prices.

Pure: no clock, no loop, no chance.
"""
