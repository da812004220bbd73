"""No test may find an API key of the machine it runs on, nor spend money with it; none is about speed."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

for _name in [name for name in os.environ if name.startswith("RUNPOD_")]:
    del os.environ[_name]
os.environ["FLASH_BACKEND"] = "local"

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
