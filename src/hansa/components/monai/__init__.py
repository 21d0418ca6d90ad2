"""Parts for MONAI: sites whose training follows MONAI's own contract for federated learning."""
