"""What a configuration can name as an objective, one module each; ``base`` describes what such a module has.

``shared`` holds what several objectives use. The mathematics is in ``retort/losses``.
"""
