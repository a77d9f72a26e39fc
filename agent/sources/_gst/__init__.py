"""What the source `gstreamer` is made of: bindings, the text of pipelines, presets, an open stream and its pictures."""
