"""The inner room: the only place that imports torch.

`darkroom.develop` is one picture from request to file, in numbered steps; the other files are what it calls.
"""
