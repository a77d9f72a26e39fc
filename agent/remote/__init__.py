"""Commands over MQTT: a short list of what may be asked, each acting once."""
