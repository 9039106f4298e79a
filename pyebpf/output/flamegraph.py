# SPDX-License-Identifier: BSD-2-Clause
"""Call paths as a flame graph (as Brendan Gregg's, https://www.brendangregg.com/flamegraphs.html): each frame is as
wide as it has calls, and stands on its caller."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from zlib import crc32

from pyebpf.output.svg import Svg, escaped, number, shortened
from pyebpf.output.text import FOLDERS
from pyebpf.tools.stackcount import CallPath

_WIDTH, _LEFT, _SPAN = 1200, 10, 1180
_ROW = 17  # height of a frame
_CHARACTER = 7.3  # width of one, 12 px, in the widest of the usual monospaced fonts
_NARROWEST = 0.1  # pixels
_MOST_FRAMES = 10_000  # drawn; what is joined beside them may be as many again
_MOST_DEEP = 512
_MOST_NAME = 400  # characters where the pointer rests
# Fills on which black text can be read, four of a kind so that neighbours can be told apart: [u]ser, [k]ernel,
# [p]rocess, [n]o name.
_FILLS = {
    "u": ("#f6a95a", "#f4b878", "#f09c4a", "#f8c48d"),
    "k": ("#8fbbe8", "#a3c8ee", "#7eaee0", "#b5d4f3"),
    "p": ("#d3c6ea",) * 4,
    "n": ("#c6ccd3", "#d0d5db", "#bdc4cc", "#d8dce1"),
}
_STYLE = (
    ".f text{font-family:monospace;fill:#1b1f24;pointer-events:none}.f g{cursor:pointer}.f rect{rx:1.5px}"
    ".f g:hover rect{stroke:#1b1f24;stroke-width:1}.f .up{opacity:.55}.f .hit rect{fill:#e36bd0}.f .off{display:none}"
    ".link{cursor:pointer;text-decoration:underline}"
    + "".join(f".{kind}{shade}{{fill:{fill}}}" for kind, fills in _FILLS.items() for shade, fill in enumerate(fills))
)

# Zooms into the frame that is clicked, and finds names. Without it the picture is whole, but still.
_SCRIPT = """\
(function(){
var svg=document.currentScript&&document.currentScript.ownerSVGElement||document.documentElement,
 box=svg.querySelector(".f"),NS="http://www.w3.org/2000/svg",X=%(left)s,W=%(span)s,all=[],top;
function label(f,w){
 var n=Math.floor((w-6)/%(character)s),t=f.g.querySelector("text"),
  m=f.n.length<=n?f.n:f.n.replace(/%(folders)s/,""),s=n<3?"":m.length<=n?m:m.slice(0,n-1)+"\\u2026";
 if(!t){if(!s)return;t=f.g.appendChild(document.createElementNS(NS,"text"));t.setAttribute("y",f.y+12.5)}
 t.textContent=s;return t}
function place(f,x,w,up){
 f.r.setAttribute("x",x);f.r.setAttribute("width",w);
 f.g.classList.remove("off");f.g.classList.toggle("up",up);
 var t=label(f,w);if(t)t.setAttribute("x",x+3)}
function zoom(z){
 var e=.004,s=W/z.w;
 all.forEach(function(f){
  if(f.y>z.y&&f.x<=z.x+e&&f.x+f.w>=z.x+z.w-e)place(f,X,W,true);
  else if(f.y<=z.y&&f.x>=z.x-e&&f.x+f.w<=z.x+z.w+e)place(f,X+(f.x-z.x)*s,f.w*s,false);
  else f.g.classList.add("off")});
 back.style.display=z===top?"none":""}
function find(text){
 var e=null,calls=0,end=0,spans=[];
 if(text)try{e=new RegExp(text,"i")}catch(x){e=new RegExp(text.replace(/[^\\w\\s]/g,"\\\\$&"),"i")}
 all.forEach(function(f){var m=!!e&&e.test(f.n);f.g.classList.toggle("hit",m);if(m)spans.push(f)});
 spans.sort(function(a,b){return a.x-b.x||b.w-a.w||b.y-a.y});
 spans.forEach(function(f){if(f.x+f.w>end+.002){calls+=f.c;end=f.x+f.w}});
 found.textContent=e?"found in "+(100*calls/top.c).toFixed(1)+" %% of calls ("+calls.toLocaleString("en")+")":""}
Array.prototype.forEach.call(box.children,function(g){
 var r=g.querySelector("rect"),t=g.querySelector("title").textContent.split("\\n"),
  f={g:g,r:r,x:+r.getAttribute("x"),w:+r.getAttribute("width"),y:+r.getAttribute("y"),
   n:t[0],c:parseInt(t[1].replace(/,/g,""),10)};
 all.push(f);g.addEventListener("click",function(){zoom(f)})});
top=all[0];
function text(x,look,anchor){
 var t=svg.appendChild(document.createElementNS(NS,"text"));t.setAttribute("x",x);t.setAttribute("y",66);
 t.setAttribute("class",look);t.setAttribute("text-anchor",anchor);return t}
var back=text(%(left)s,"link back","start"),found=text(%(right)s,"soft found","end"),
 hold=svg.appendChild(document.createElementNS(NS,"foreignObject"));
if(!top)return;
back.textContent="whole picture (Esc)";back.style.display="none";back.addEventListener("click",function(){zoom(top)});
[["x",%(right)s-240],["y",14],["width",240],["height",28]].forEach(function(a){hold.setAttribute(a[0],a[1])});
var input=hold.appendChild(document.createElementNS("http://www.w3.org/1999/xhtml","input"));
input.placeholder="find (a regular expression)";
input.style.cssText="width:230px;font:12px system-ui,sans-serif;padding:3px 5px;box-sizing:border-box;float:right";
input.addEventListener("input",function(){find(input.value)});
document.addEventListener("keydown",function(k){if(k.key==="Escape"){zoom(top);input.value="";find("")}});
})();
"""


class _Node:
    """A frame on a certain path.

    Attributes:
        name: of the function.
        kind: a key of `_FILLS`.
        calls: through it.
        children: what it calls, by name and kind.
    """

    __slots__ = ("calls", "children", "kind", "name")

    def __init__(self, name: str, kind: str) -> None:
        self.name = name
        self.kind = kind
        self.calls = 0
        self.children: dict[tuple[str, str], _Node] = {}


def svg(paths: Iterable[CallPath], title: str = "", about: str = "", notes: Sequence[str] = ()) -> str:
    """A flame graph. A click on a frame zooms into it, a search shows the share of what it finds; without scripts it is
    a picture with all that can be seen in it.

    Args:
        paths: of a session: `snapshot` or `interval`. Those with a process stand on it.
        title: what was traced.
        about: a second line: where, when, how long.
        notes: lines below, for example what was lost.

    Returns:
        an SVG document of at most 20,000 frames. Those narrower than 0.1 pixels are joined; it says how many.
    """
    root, cut = _tree(paths)
    least = _least(root)
    frames, deepest, joined, hidden = _laid_out(root, least)
    picture = Svg(_WIDTH, title, _STYLE)
    picture.text(_LEFT, 30, shortened(title, 100), size=17)
    about = f"{about} · {root.calls:,} calls" if about else f"{root.calls:,} calls"
    base = 76 + deepest * _ROW
    picture.parts.append('<g class="f">')
    for node, depth, begin in frames:
        picture.parts.append(_frame(node, begin, base - depth * _ROW, root.calls))
    picture.parts.append("</g>")
    picture.text(_LEFT, 48, shortened(about if root.calls else f"{about}: nothing to draw", 140), "soft")
    y = base + _ROW + 3
    lines = list(notes[:20])
    if joined:
        lines.append(f'{joined:,} frames too narrow to see are joined to "…"; the widest has {hidden:,} calls.')
    if cut:
        lines.append(f"stacks of more than {_MOST_DEEP} frames: {cut:,}; their innermost frames are left out.")
    for line in lines:
        y += _ROW
        picture.text(_LEFT, y, shortened(line, 180), "soft")
    numbers = {
        "left": _LEFT,
        "span": _SPAN,
        "right": _LEFT + _SPAN,
        "character": _CHARACTER,
        "folders": FOLDERS.replace("/", "\\/"),
    }
    return picture.document(y + 14, f"<script><![CDATA[\n{_SCRIPT % numbers}]]></script>")


def _tree(paths: Iterable[CallPath]) -> tuple[_Node, int]:
    """All paths as one tree, and how many were cut."""
    root, cut = _Node("all", "p"), 0
    for path in paths:
        frames = [(frame.name, "n" if frame.name.startswith("[") else "u") for frame in reversed(path.user_stack)]
        frames += [(frame.name, "k") for frame in reversed(path.kernel_stack)]
        frames = frames or [(path.function.name, "u")]
        cut += len(frames) > _MOST_DEEP
        if path.comm:
            frames.insert(0, (f"{path.comm.decode('utf-8', 'surrogateescape')} [{path.pid}]", "p"))
        node = root
        node.calls += path.calls
        for key in frames[:_MOST_DEEP]:
            child = node.children.get(key)
            if child is None:
                child = node.children[key] = _Node(*key)
            child.calls += path.calls
            node = child
    return root, cut


def _least(root: _Node) -> int:
    """The calls that a frame needs to be drawn."""
    all_, waiting = [], [root]
    while waiting:
        node = waiting.pop()
        all_.append(node.calls)
        waiting += node.children.values()
    least = -int(-root.calls * _NARROWEST // _SPAN)
    if len(all_) > _MOST_FRAMES:
        least = max(least, sorted(all_, reverse=True)[_MOST_FRAMES] + 1)
    return max(least, 1)


def _laid_out(root: _Node, least: int) -> tuple[list[tuple[_Node, int, int]], int, int, int]:
    """Each frame with its depth and the calls to its left; the depth of the deepest; how many were joined, and the
    calls of the widest of them."""
    frames: list[tuple[_Node, int, int]] = []
    deepest = joined = hidden = 0
    waiting = [(root, 0, 0)] if root.calls else []
    while waiting:
        node, depth, begin = waiting.pop()
        frames.append((node, depth, begin))
        deepest = max(deepest, depth)
        narrow = _Node("…", "n")
        for _, child in sorted(node.children.items()):
            if child.calls >= least:
                waiting.append((child, depth + 1, begin))
                begin += child.calls
            else:
                narrow.calls += child.calls
                joined, hidden = joined + _size(child), max(hidden, child.calls)
        if narrow.calls and narrow.calls * _SPAN >= _NARROWEST * root.calls:
            frames.append((narrow, depth + 1, begin))
            deepest = max(deepest, depth + 1)
    return frames, deepest, joined, hidden


def _size(node: _Node) -> int:
    count, waiting = 0, [node]
    while waiting:
        count += 1
        waiting += waiting.pop().children.values()
    return count


def _frame(node: _Node, begin: int, y: float, calls: int) -> str:
    x, width = _LEFT + begin / calls * _SPAN, node.calls / calls * _SPAN
    name = shortened(node.name, _MOST_NAME)
    look = f"{node.kind}{crc32(name.encode()) % 4}"
    room = int((width - 6) / _CHARACTER)
    text = shortened(name if len(name) <= room else re.sub(FOLDERS, "", name), room) if room >= 3 else ""
    shown = f'<text x="{number(x + 3)}" y="{y + 12.5}">{escaped(text)}</text>' if text else ""
    return (
        f"<g><title>{escaped(name)}\n{node.calls:,} calls ({node.calls / calls:.2%})</title>"
        f'<rect class="{look}" x="{number(x)}" y="{y}" width="{number(width)}" height="{_ROW - 1}"/>{shown}</g>'
    )
