"""Training: the Trainer and its parts. Every name is public at the top: `from plainformers import Trainer`."""
