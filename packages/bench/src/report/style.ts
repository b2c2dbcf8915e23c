/** The look of the report: one column, light and dark, as wide as the page allows. */
export const STYLE = `
:root { color-scheme: light dark; --text: #16191d; --quiet: #59616b; --line: #d8dde3; --panel: #fff; --page: #f5f6f8; --accent: #0f766e; }
@media (prefers-color-scheme: dark) { :root { --text: #e7eaee; --quiet: #9aa4b0; --line: #333a43; --panel: #1b2026; --page: #12161a; --accent: #2dd4bf; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); font: 16px/1.5 system-ui, sans-serif; }
header, main { max-width: 72rem; margin: 0 auto; padding: 1rem clamp(0.75rem, 3vw, 2rem); }
h1 { font-size: 1.5rem; margin: 0.5rem 0; }
h2 { font-size: 1.25rem; margin: 0; overflow-wrap: anywhere; }
h3 { font-size: 1rem; margin: 0; }
a { color: var(--accent); }
nav ul { list-style: none; padding: 0; margin: 0.5rem 0; display: flex; flex-wrap: wrap; gap: 0.25rem 1.25rem; }
.quiet, figcaption { color: var(--quiet); font-size: 0.875rem; }
section { background: var(--panel); border: 1px solid var(--line); border-radius: 0.75rem; padding: clamp(0.75rem, 2.5vw, 1.5rem); margin: 0 0 1.5rem; }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 0.125rem 1rem; font-size: 0.875rem; margin: 0.75rem 0; }
dt { color: var(--quiet); } dd { margin: 0; overflow-wrap: anywhere; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr)); gap: 1.5rem; margin: 1rem 0; align-items: start; }
figure { margin: 0; min-width: 0; }
figure .head { display: flex; gap: 0.5rem; align-items: baseline; justify-content: space-between; flex-wrap: wrap; }
figure .picture { min-height: 5rem; }
figure svg { display: block; max-width: 100%; height: auto; }
figcaption { margin: 0.25rem 0 0; }
button { font: inherit; font-size: 0.75rem; color: var(--quiet); background: none; border: 1px solid var(--line); border-radius: 0.375rem; padding: 0.125rem 0.5rem; cursor: pointer; }
button:hover, button:focus-visible { color: var(--accent); border-color: var(--accent); }
details { margin: 0.5rem 0; } summary { cursor: pointer; font-weight: 600; }
.scroll { overflow-x: auto; max-height: 32rem; margin: 0.5rem 0; }
table { border-collapse: collapse; font-size: 0.8125rem; white-space: nowrap; }
th, td { padding: 0.25rem 0.625rem; text-align: left; border-bottom: 1px solid var(--line); }
th { position: sticky; top: 0; background: var(--panel); font-weight: 600; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
.wide { white-space: normal; color: var(--quiet); text-align: left; }
.layers { white-space: normal; overflow-wrap: anywhere; min-width: 12rem; font-family: ui-monospace, monospace; }
@media print { button { display: none; } section { break-inside: avoid; } }
`;
