"""The `hansa` command: one thin file per verb; here everything is wired together."""
