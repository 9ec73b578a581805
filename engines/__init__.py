"""The half that makes pictures. It never imports textual, rich or typer.

requests → engine (the seam) → events. `local` is the engine in this process; `store` is its queue and history;
`diffusion/` is the only place that imports torch. Read `engine.py` first, then `local.py`, then
`diffusion/darkroom.py`.
"""
