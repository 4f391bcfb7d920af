"""Generated from protos/kubarium/v1 by `python -m kubarium.machinery.protogen`; do not edit."""
