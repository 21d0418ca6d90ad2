"""Who may join: projects, certificates and startup kits."""
