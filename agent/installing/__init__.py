"""The agent as a service of systemd: what is put where, by steps that can be shown, made and unmade."""
