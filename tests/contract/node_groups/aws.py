"""Auto Scaling groups and EKS node groups at moto's server; their instances join as nodes at once."""

from __future__ import annotations

from typing import Final

REGION: Final = "eu-west-1"
ZONE: Final = "eu-west-1a"
EKS_CLUSTER: Final = "west"
