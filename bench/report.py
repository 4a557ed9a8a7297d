from typing import Any
PARTS=("ask","start","memory","steps","oracle","lost","races")
RUNNERS=32
def text(r): return ""
