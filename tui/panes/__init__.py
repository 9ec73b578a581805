"""One pane a file. Panes don't know each other: they post messages, and the workbench calls their `show(...)`."""
