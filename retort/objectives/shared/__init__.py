"""What several objectives share: passes of a model that end in a loss, a likelihood or an agreement."""
