"""The virtual world: a clock, a wire with faults and contacts, in which the production cores run by the thousand."""
