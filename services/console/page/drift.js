// Drift: how far each feature is from what was usual, over event time, as a heat map; and one of them before and after.

import { h, hint, keyed, meter, set, text } from "./draw.js";
import { histogram } from "./histogram.js";
import { state } from "./live.js";
import { colour } from "./theme.js";
import { moment, number, plainly } from "./words.js";

export const name = "Drift";
const ROW = 22;
const parts = {};
let picked = "";
let print = "";

export function make(root) {
  print = "";
  parts.empty = h("div");
  parts.names = h("ol", { class: "names" });
  parts.canvas = h("canvas", { role: "img", onclick: click, onpointermove: over, onpointerleave: () => text(parts.note, note()) });
  parts.note = h("p", { class: "soft note" });
  parts.times = h("p", { class: "times soft" });
  parts.detail = h("div", { class: "detail" });
  parts.body = h("div", { class: "drifted" }, h("section", { class: "panel" }, h("h2", null, "Features over event time"), h("div", { class: "heat" }, parts.names, h("div", { class: "map" }, parts.canvas, parts.times)), parts.note, scale()), h("section", { class: "panel" }, h("h2", null, "Before and after"), parts.detail));
  root.append(h("h1", { class: "visually-hidden" }, "Drift"), parts.empty, parts.body);
}

const scale = () => h("p", { class: "legend" }, "As usual", h("span", { class: "ramp" }, [0, 1, 2, 3, 4].map((level) => h("i", { class: `level${level}` }))), "far from it");
const note = () => "A row is a feature, a column a time. Pick a feature to see how it was and how it is.";

export const show = ([feature]) => { picked = feature ?? picked; };
export const back = () => { location.hash = "#/drift"; };

export function draw(kinds) {
  if (!["all", "drift", "theme"].some((kind) => kinds.has(kind))) return;
  const found = state.drift;
  if (kinds.has("theme")) print = "";
  const any = (found?.times?.length ?? 0) > 0;
  parts.body.hidden = !any;
  parts.empty.hidden = any;
  if (!any) {
    if (!parts.empty.firstChild) parts.empty.append(hint("Nothing to compare yet", h("p", null, "Drift first learns what is usual, then says how far what comes is from it. It needs a few hours of event time; ", h("code", null, "./infra/demo"), " plays months in minutes.")));
    return;
  }
  keyed(parts.names, found.features, (one) => one, (one) => h("li", null, h("a", { href: `#/drift/${encodeURIComponent(one)}`, "data-row": "", title: one }, one)), (node, one) => set(node.firstChild, "aria-current", one === picked ? "true" : null));
  if (!parts.note.textContent) text(parts.note, note());
  const now = `${found.times.length} ${found.times.at(-1)} ${found.features.length} ${picked} ${parts.canvas.clientWidth}`;
  if (now === print) return;
  print = now;
  paint(found);
  detail(found);
}

const largest = (found) => Math.max(...found.strength.flat().filter((value) => value !== null), 0);
// What counts as far: the statistic's own bound where it is told, else what is seen, and never so little that noise glows.
const top = (found) => found.bound ?? Math.max(largest(found), 0.2);
const level = (value, most) => Math.min(Math.floor((Math.max(value, 0) / most) * 5), 4);

function paint(found) {
  const canvas = parts.canvas;
  const ratio = devicePixelRatio || 1;
  const wide = canvas.clientWidth || 600;
  canvas.height = found.features.length * ROW * ratio;
  canvas.width = wide * ratio;
  canvas.style.height = `${found.features.length * ROW}px`;
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  const colours = [0, 1, 2, 3, 4].map((one) => colour(`level${one}`));
  const step = wide / found.times.length;
  const most = top(found);
  found.strength.forEach((values, y) => values.forEach((value, x) => {
    if (value === null || value === undefined) return;
    pen.fillStyle = colours[level(value, most)];
    pen.fillRect(Math.round(x * step), y * ROW + 1, Math.round((x + 1) * step) - Math.round(x * step), ROW - 2);
  }));
  const at = found.features.indexOf(picked);
  if (at >= 0) {
    pen.strokeStyle = colour("text");
    pen.lineWidth = 1.5;
    pen.strokeRect(0.75, at * ROW + 0.75, wide - 1.5, ROW - 1.5);
  }
  parts.times.replaceChildren(...[...new Set([found.times[0], found.times.at(-1)].map((time) => moment(time)))].map((words) => h("span", null, words)));
  set(canvas, "aria-label", `Heat map of ${found.features.length} features. Furthest from usual: ${furthest(found).slice(0, 3).map(([feature, value]) => `${feature} ${number(value)}`).join(", ")}`);
}

const furthest = (found) => found.features.map((feature, i) => [feature, Math.max(...found.strength[i].filter((value) => value !== null), 0)]).sort((a, b) => b[1] - a[1]);

function place(event) {
  const found = state.drift;
  const box = parts.canvas.getBoundingClientRect();
  const y = Math.floor((event.clientY - box.top) / ROW);
  const x = Math.floor(((event.clientX - box.left) / box.width) * found.times.length);
  return { feature: found.features[y], time: found.times[x], value: found.strength[y]?.[x] };
}

function over(event) {
  const { feature, time, value } = place(event);
  text(parts.note, feature ? `${feature}, ${moment(time)}: ${number(value)}` : note());
}

function click(event) {
  const { feature } = place(event);
  if (feature) location.hash = `#/drift/${encodeURIComponent(feature)}`;
}

const most = (found) => h("table", { class: "most" }, h("caption", null, "What has moved most"), h("tbody", null, furthest(found).slice(0, 8).map(([feature, value]) => h("tr", null, h("th", { scope: "row" }, h("a", { href: `#/drift/${encodeURIComponent(feature)}` }, feature)), h("td", { class: "n" }, number(value, 2)), h("td", null, meter(value / top(found), "water"))))));

function detail(found) {
  const shown = picked || furthest(found)[0][0];
  const shape = found.before_after?.[shown];
  const strongest = furthest(found).find(([feature]) => feature === shown);
  parts.detail.replaceChildren(
    shape ? histogram(shown, shape) : hint(plainly(shown), h("p", null, "Its histograms are kept while it stands out. They are in the alert, if there was one.")),
    h("p", { class: "soft" }, strongest ? `Furthest from usual: ${number(strongest[1])}.` : "", picked ? "" : " It is the one that has changed most."), most(found));
}
