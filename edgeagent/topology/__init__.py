"""Who is linked to whom, at what latency, and over which route, now or at a given time (docs/topology.md).

Pure: positions and times are given. Links between satellites (``protocols``), from the ground (``ground``) and along
wires become one graph a moment (``snapshot``), which ``topology.Topology`` builds, keeps and searches.
"""
