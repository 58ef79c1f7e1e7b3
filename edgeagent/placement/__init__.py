"""Where steps should run: filters, scores, a planner for whole workflows, and admission at the target.

Pure: no clock, no loop, no chance; times, generators and what is known of the nodes are given. Nodes are rows here,
in the order of the topology that is given along.
"""
