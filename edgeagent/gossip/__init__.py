"""Who is there, what they hold, how busy they are: SWIM with Lifeguard that knows the contact plan (docs/gossip.md)."""
