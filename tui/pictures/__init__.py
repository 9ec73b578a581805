"""Pictures in the terminal: `halfblocks` turns pixels into lines of cells, `view` is the widget that shows them."""
