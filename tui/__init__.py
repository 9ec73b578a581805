"""The half that a person touches: the Textual app and the command line. It never imports torch."""
