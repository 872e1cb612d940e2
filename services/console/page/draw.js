// Elements, and how they are kept: made once, then only what changed is touched, so that focus and selection stay.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) set(element, name, value);
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function set(element, name, value) {
  if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
  else if (value === null || value === undefined || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value === true ? "" : value);
}

export const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
export const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

export function text(element, value) {
  if (element.textContent !== value) element.textContent = value;
}

// Make `parent` hold one child for each item, in order. `make(item)` makes one, `patch(child, item)` brings it up to date.
export function keyed(parent, items, key, make, patch) {
  const before = (parent.kept ??= new Map());
  const kept = new Map();
  let place = parent.firstChild;
  for (const item of items) {
    const name = key(item);
    if (kept.has(name)) continue;
    const child = before.get(name) ?? make(item);
    patch?.(child, item);
    kept.set(name, child);
    if (child === place) place = place.nextSibling;
    else parent.insertBefore(child, place);
  }
  for (const [name, child] of before) if (kept.get(name) !== child) child.remove();
  parent.kept = kept;
}

// Cells of a table's row: texts are patched, elements replaced.
export function cells(row, values) {
  while (row.children.length < values.length) row.append(h("td"));
  values.forEach((value, i) => {
    const cell = row.children[i];
    if (value instanceof Node) cell.replaceChildren(value);
    else text(cell, value ?? "–");
  });
}

export function table(caption, columns, ...rows) {
  const head = columns.map(([name, kind]) => h("th", { scope: "col", class: kind }, name));
  return h("table", null, h("caption", null, caption), h("thead", null, h("tr", null, head)), h("tbody", null, rows));
}

export const row = (columns, make = {}) => h("tr", make, columns.map(([, kind]) => h("td", { class: kind })));

export function scaled(low, high, from, to) {
  const span = high - low || 1;
  return (value) => from + ((value - low) / span) * (to - from);
}

export const path = (points) => points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");

// A small line of the newest values, from nothing up.
export function spark(svg, values, width = 96, height = 22) {
  const top = Math.max(...values, 1e-9);
  const x = scaled(0, Math.max(values.length - 1, 1), 1, width - 1);
  const y = scaled(0, top, height - 1.5, 2);
  const line = svg.firstChild ?? svg.appendChild(s("path"));
  set(line, "d", path(values.map((value, i) => [x(i), y(value)])));
}

// What to do where there is nothing to show.
export const hint = (title, ...words) => h("div", { class: "hint" }, h("h3", null, title), words);
export const meter = (share, kind = "") =>
  s("svg", { class: `meter ${kind}`, viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" }, [
    s("rect", { class: "rest", width: 100, height: 8 }),
    s("rect", { class: "part", width: Math.max(0, Math.min(1, share || 0)) * 100, height: 8 }),
  ]);
