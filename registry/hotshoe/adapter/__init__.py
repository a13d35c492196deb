"""The words every other part of Hotshoe speaks: references, versions, manifests, errors. Stdlib only."""
