"""Runs of workflows: records that survive the death of a node, and the nodes that hand them on."""
