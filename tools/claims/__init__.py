"""The two papers' claims, tried: claim, the paper's figure, ours, holds or not."""
