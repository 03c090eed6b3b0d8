"""What the rules call: the plan of a run, code digests, scripting, the watchdog."""
