"""Who runs endpoints. `base` is the seam; `local` is the engine on this machine."""
