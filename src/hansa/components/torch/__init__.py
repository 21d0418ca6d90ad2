"""Parts for PyTorch: models in files, optimizers on the server, and what local training needs.

Named as FLARE's modules under `nvflare.app_common.pt`, and loaded only where a job or a trainer names them.
"""
