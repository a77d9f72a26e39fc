"""Model and device in, results out: knows nothing of cameras or MQTT."""
