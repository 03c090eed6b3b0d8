"""``retort init``: looks at parallel text, decides on a run, and writes a short commented configuration."""
