"""Text files that users write, YAML and TOML, read with the line of each value, so that a message can name it.

What the values mean belongs in the room of the file: `job_file`, `topics`, `countries`.
"""
