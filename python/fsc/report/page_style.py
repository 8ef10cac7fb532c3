"""How a page looks: by day and by night, on paper, in a narrow window and in a wide one."""

from __future__ import annotations

# Contrast of letters with what is behind them is above 4.5 in both.
STYLE = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --ink: #1b1d20; --soft: #565b61; --line: #d4d8dc; --shade: #f3f5f7;
  --student: #1f5fa8; --teacher: #b5561a; --gone: #d3dde8; --warn: #fdf1e4; --edge: #b5561a;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171a; --ink: #e6e8ea; --soft: #a3a9b0; --line: #3a4047; --shade: #1e2328;
    --student: #7fb3ee; --teacher: #eea067; --gone: #2f3a46; --warn: #33261a; --edge: #eea067;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1.5rem 1.25rem 3rem; max-width: 64rem;
  background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif;
}
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.25rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 .25rem; }
p, ul, dl { margin: .5rem 0; max-width: 46rem; overflow-wrap: anywhere; }
li { margin: .25rem 0; }
a { color: var(--student); }
.flag { display: inline-block; max-width: 100%; }
.note { color: var(--soft); font-size: .875rem; }
code, pre { font-family: ui-monospace, monospace; font-size: .875rem; overflow-wrap: anywhere; }
pre {
  background: var(--shade); padding: .75rem; border-radius: 4px;
  white-space: pre-wrap; overflow-wrap: anywhere;
}
.warnings {
  background: var(--warn); border-left: 4px solid var(--edge); padding: .5rem 1rem; margin: 1rem 0;
}
.warnings h2 { margin-top: .25rem; }
/* A shade at the side where a table goes on, which the paper that scrolls with it hides. */
.wide {
  overflow-x: auto; margin: .75rem 0;
  background:
    linear-gradient(to right, var(--paper) 50%, transparent) left / 2.5rem 100%,
    linear-gradient(to left, var(--paper) 50%, transparent) right / 2.5rem 100%,
    linear-gradient(to right, var(--line), transparent) left / 1rem 100%,
    linear-gradient(to left, var(--line), transparent) right / 1rem 100%;
  background-repeat: no-repeat;
  background-attachment: local, local, scroll, scroll;
}
table { border-collapse: collapse; font-size: .9375rem; font-variant-numeric: tabular-nums; }
caption {
  text-align: left; font-size: .875rem; color: var(--soft); padding-bottom: .25rem;
  white-space: nowrap;
}
th, td {
  text-align: left; vertical-align: top; padding: .3rem .9rem .3rem 0;
  border-bottom: 1px solid var(--line);
}
thead th { border-bottom-width: 2px; vertical-align: bottom; }
thead .number { white-space: normal; }
tbody th { font-weight: 400; }
.number { text-align: right; white-space: nowrap; }
.name { overflow-wrap: break-word; }
.fate { min-width: 9rem; }
figure { margin: 1.25rem 0; }
figcaption { font-size: .9375rem; margin-bottom: .25rem; }
figcaption span:first-child { margin-right: .75rem; }
.key { white-space: nowrap; color: var(--soft); font-size: .875rem; margin-right: .75rem; }
.key i {
  display: inline-block; width: .75rem; height: .75rem; margin-right: .35rem;
  border-radius: 2px; vertical-align: -.05rem;
}
i.kept, i.after { background: var(--student); }
i.gone { background: var(--gone); }
i.before { background: var(--teacher); border-radius: 50%; }
i.after { border-radius: 50%; }
svg { overflow: visible; display: block; }
svg text { font-size: 12px; fill: var(--soft); }
svg .mark { text-anchor: end; }
svg .below { text-anchor: middle; }
svg .grid { stroke: var(--line); }
svg .gone { fill: var(--gone); }
svg .kept { fill: var(--student); }
svg circle.after { fill: var(--student); }
svg circle.before { fill: var(--paper); stroke: var(--teacher); stroke-width: 1.5; }
svg line.after { stroke: var(--student); stroke-opacity: .6; }
svg line.before { stroke: var(--teacher); stroke-opacity: .4; }
.strip { width: 8rem; height: .7rem; margin-top: .4rem; }
.images {
  display: flex; flex-wrap: wrap; gap: .5rem; padding: 0; list-style: none; max-width: none;
}
.images li { margin: 0; }
.images img { display: block; width: 72px; height: 72px; object-fit: contain; }
.images .small { image-rendering: pixelated; }
@media (max-width: 34rem) {
  body { padding: 1rem .875rem 2rem; }
  h1 { font-size: 1.35rem; }
  th, td { padding-right: .5rem; }
  table { font-size: .8125rem; }
  .number:last-child { white-space: normal; }
  .images img { width: 56px; height: 56px; }
}
@media print {
  :root {
    color-scheme: light;
    --paper: #ffffff; --ink: #000000; --soft: #444444; --line: #bbbbbb; --shade: #f3f5f7;
    --student: #1f5fa8; --teacher: #b5561a; --gone: #d3dde8; --warn: #ffffff; --edge: #b5561a;
  }
  @page { margin: 16mm; }
  body { padding: 0; max-width: none; font-size: 10pt; }
  .wide { overflow: visible; background: none; }
  table { font-size: 8.5pt; }
  th, td { padding-top: .15rem; padding-bottom: .15rem; }
  thead { display: table-header-group; }
  tr, figure, .images li, .warnings { break-inside: avoid; }
  h2, h3, caption, .above { break-after: avoid; }
  svg, i, .warnings, pre { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
