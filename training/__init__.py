"""How the embedded model family is made: artwork, training, evaluation and assembly. See README.md beside this file."""
