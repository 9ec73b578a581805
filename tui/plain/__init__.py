"""Line mode: safelight in plain lines, for screen readers, dumb terminals, slow links and scripts."""
