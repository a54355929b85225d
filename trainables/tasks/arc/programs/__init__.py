"""Prior knowledge about ARC: a search over programs composed of grid transforms, without training."""
