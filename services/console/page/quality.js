// Quality: how much is lost by what is served and by each model alone, over event time, with what happened marked;
// how well a probability is meant; and where it is good and bad.

import { cells, h, hint, keyed, meter, path, row, s, scaled, set, table, text } from "./draw.js";
import { first } from "./flow.js";
import { fold, state } from "./live.js";
import { colour } from "./theme.js";
import { count, lasting, loss, moment, number, plainly, share } from "./words.js";

export const name = "Quality";
const DAY = 86_400_000;
const SPANS = [["all", "all", Infinity], ["month", "30 days", 30 * DAY], ["week", "7 days", 7 * DAY], ["day", "1 day", DAY]];
const DASHES = { prior: [2, 4], batch: [8, 3], online: [5, 3] };
const FIRST = ["served", "online", "batch", "prior"];
const SLICES = [["slice"], ["examples", "n"], ["log loss", "n"], [""]];
const KEPT = 5000;
const NARROW = 420; // pixels of a chart on which marks bear no words
const STEPS = 70; // that a curve is smoothed to
const LINES = 5; // of marks above each other
const LABELS = { label: "came in time", timeout: "never came", late: "came late", corrected: "corrected", share: "labelled" };
const parts = {};
let span = "all";
let each = false; // version of the batch model
let plot = null;
let made = "";
let wanted = null;

// What comes stands for all points from the place of its first.
fold("quality", (before, body) => ({ ...body, points: [...(before?.points ?? []).slice(0, body.first ?? 0), ...body.points].slice(-KEPT) }));

// The losses of the newest examples, a hundred at least, so that one point does not toss them about.
export function newest(least = 300) {
  const points = state.quality?.points ?? [];
  const sums = {};
  let n = 0;
  for (let i = points.length - 1; i >= 0 && n < least; i--) {
    const [, losses, examples] = points[i];
    n += examples;
    for (const [model, value] of Object.entries(losses)) if (value !== null) {
      const sum = (sums[model] ??= [0, 0]);
      sum[0] += value * examples;
      sum[1] += examples;
    }
  }
  return n ? Object.fromEntries(Object.entries(sums).map(([model, [sum, weight]]) => [model, sum / weight])) : null;
}

export function against() {
  const found = newest();
  return found?.prior ? `prior ${loss(found.prior)}` : "";
}

const models = (points) => {
  const found = new Set(points.flatMap((point) => Object.keys(point[1])).filter((model) => each || !model.includes("@")));
  return [...FIRST.filter((model) => found.has(model)), ...[...found].filter((model) => !FIRST.includes(model)).sort()];
};

export function make(root) {
  plot?.destroy();
  plot = null;
  made = "";
  parts.empty = h("div");
  parts.key = h("ul", { class: "key" });
  parts.plot = h("div", { class: "plot", role: "img", "aria-label": "Log loss over event time" });
  parts.calibration = s("svg", { class: "calibration", viewBox: "0 0 346 320", role: "img" });
  parts.slices = table("By slice, the worst first", SLICES);
  parts.coverage = h("dl", { class: "facts" });
  parts.note = h("p", { class: "soft" });
  parts.spans = h("div", { class: "choice", role: "group", "aria-label": "How far back" }, SPANS.map(([id, words]) => h("button", { type: "button", "data-span": id, onclick: () => { span = id; again(); } }, words)));
  parts.each = h("button", { type: "button", onclick: () => { each = !each; again(); } }, "each version");
  parts.body = h("div", { class: "stack" },
    h("section", { class: "panel" }, h("header", null, h("h2", null, "Log loss by event time"), parts.each, parts.spans), parts.key, parts.plot, parts.note),
    h("div", { class: "pair" }, h("section", { class: "panel" }, h("h2", null, "Calibration"), parts.calibration, h("p", { class: "soft" }, "Of what was said to be likely so often, how often it was. On the line is right; a dot is as large as its examples.")),
      h("section", { class: "panel" }, h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Slices" }, parts.slices))),
    h("section", { class: "panel" }, h("h2", null, "Labels"), parts.coverage));
  root.append(h("h1", { class: "visually-hidden" }, "Quality"), parts.empty, parts.body);
}

function again() {
  leave();
  draw(new Set(["all"]));
}

export function leave() {
  plot?.destroy();
  plot = null;
}

export function draw(kinds) {
  if (!["all", "quality", "alerts", "models", "theme"].some((kind) => kinds.has(kind))) return;
  const points = state.quality?.points ?? [];
  parts.body.hidden = !points.length;
  parts.empty.hidden = points.length > 0;
  if (!points.length) return empty();
  if (kinds.has("theme")) leave();
  for (const button of parts.spans.children) set(button, "aria-pressed", String(button.dataset.span === span));
  set(parts.each, "aria-pressed", String(each));
  losses(points);
  calibration(state.quality.calibration ?? []);
  slices(state.quality.slices ?? []);
  coverage(state.quality.coverage ?? {});
}

function empty() {
  if (!parts.empty.firstChild) parts.empty.append((state.flow?.topics.find((one) => one.name === "predictions")?.end ?? 0) > 0
    ? hint("No label yet", h("p", null, "Predictions are made; how good they are shows as soon as labels come. Send one to ", h("code", null, `/v1/streams/${state.settings?.stream ?? "flights"}/labels`), "."))
    : first());
}

function losses(points) {
  const names = models(points).reverse(); // what is served is drawn over the others
  const last = points.at(-1)[0];
  const back = SPANS.find(([id]) => id === span)[2];
  const chosen = points.filter((point) => point[0] >= last - back).sort((a, b) => a[0] - b[0]);
  const many = Math.max(1, Math.round(chosen.length / STEPS));
  const data = [chosen.map((point) => point[0] / 1000), ...names.map((model) => rolling(chosen, model, many))];
  text(parts.note, `Each value is the mean over about ${count((many * chosen.reduce((sum, point) => sum + point[2], 0)) / chosen.length)} examples, in nats; lower is better. Drag along the chart to look closer, double-click to come back. ▲ a change that an alert tells of, ◇ a version is first scored, ◆ it becomes the champion.`);
  key();
  set(parts.plot, "aria-label", `Log loss over event time, ${moment(chosen[0][0])} to ${moment(last)}. Lately: ${names.map((model) => `${model} ${loss(newest()[model])}`).join(", ")}`);
  if (plot && made === names.join()) return plot.setData(data, !zoomed());
  leave();
  made = names.join();
  drawn(names, data);
}

// The mean over so many points up to each, by their examples; nothing where the model scored none of them.
function rolling(points, model, many) {
  const out = [];
  let [sum, weight] = [0, 0];
  const add = ([, losses, examples], sign) => {
    if (losses[model] === undefined || losses[model] === null) return;
    sum += sign * losses[model] * examples;
    weight += sign * examples;
  };
  points.forEach((point, i) => {
    add(point, 1);
    if (i >= many) add(points[i - many], -1);
    out.push(point[1][model] === undefined || weight < 1 ? null : sum / weight);
  });
  return out;
}

const zoomed = () => plot.select.width === 0 && plot.isZoomed;

function key(at = null) {
  const values = at ?? newest() ?? {};
  keyed(parts.key, models(state.quality.points), (model) => model, (model) => h("li", { class: `model-${FIRST.includes(model) ? model : "other"}` }, h("i"), h("span", null, model), h("b")), (node, model) => text(node.lastChild, loss(values[model])));
}

// uPlot comes with the first chart that is looked at.
function library() {
  wanted ??= new Promise((resolve, reject) => {
    document.head.append(h("link", { rel: "stylesheet", href: "vendor/uplot/uPlot.min.css" }),
      h("script", { src: "vendor/uplot/uPlot.iife.min.js", onload: () => resolve(globalThis.uPlot), onerror: () => reject(new Error("the chart library did not come")) }));
  });
  return wanted;
}

async function drawn(names, data) {
  const Plot = await library();
  if (plot || made !== names.join() || !parts.plot.isConnected) return;
  parts.plot.replaceChildren();
  const axis = { stroke: colour("soft"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
  plot = new Plot({
    width: parts.plot.clientWidth, height: Math.max(220, Math.min(340, innerHeight * 0.4)), tzDate: (at) => Plot.tzDate(new Date(at * 1000), "UTC"),
    legend: { show: false }, cursor: { points: { size: 6 }, drag: { x: true, y: false } },
    scales: { y: { range: limits } },
    axes: [{ ...axis, space: 80, size: 40, values: (_, ticks, __, ___, apart) => dated(ticks, apart) }, { ...axis, size: 52, values: (_, ticks) => ticks.map((tick) => number(tick, 3)) }],
    series: [{}, ...names.map((model) => ({ label: model, stroke: colour(FIRST.includes(model) ? model : "other"), width: model === "served" ? 2.4 : 1.3, dash: DASHES[model], points: { show: false }, spanGaps: false }))],
    hooks: { draw: [marks], setCursor: [(found) => pointed(found, names)], setScale: [(found, name) => { if (name === "x" && found.data[0].length) found.isZoomed = found.scales.x.min > found.data[0][0] || found.scales.x.max < found.data[0].at(-1); }] },
  }, data, parts.plot);
}

// UTC as 2013-01-05: the year once, the hour where ticks are less than a day apart.
function dated(ticks, apart) {
  let before = "";
  return ticks.map((tick) => {
    const [day, time] = new Date(tick * 1000).toISOString().split("T");
    const fresh = day.slice(0, apart < 86_400 ? 10 : 4) !== before;
    before = day.slice(0, apart < 86_400 ? 10 : 4);
    return apart < 86_400 ? `${time.slice(0, 5)}${fresh ? `\n${day}` : ""}` : fresh ? day : day.slice(5);
  });
}

// From a little under the lowest to a little over what 99 of 100 are below, so that a lone first loss does not flatten the rest.
function limits(found, low, high) {
  if (low === null || high === null) return [0, 1];
  const values = found.data.slice(1).flat().filter((value) => value !== null).sort((a, b) => a - b);
  const top = values[Math.floor(values.length * 0.99)] ?? high;
  const room = Math.max((top - low) * 0.06, 0.005);
  return [Math.max(low - room, 0), top + room];
}

function pointed(found, names) {
  const { idx } = found.cursor;
  if (idx === null || idx === undefined) return key();
  key(Object.fromEntries(names.map((model, i) => [model, found.data[i + 1][idx]])));
}

// A version of the batch model is marked where it was scored first, and where it became the champion: from there on its
// losses are those of "batch".
function versions(points) {
  const found = [];
  const known = new Set();
  let champion = "";
  for (const [at, losses] of points) {
    const names = Object.keys(losses).filter((model) => model.includes("@"));
    for (const model of names.filter((one) => !known.has(one))) {
      known.add(model);
      found.push({ at, mark: "◇", kind: "soft", words: model });
    }
    const same = names.filter((model) => losses[model] === losses.batch);
    if (names.length > 1 && same.length === 1 && same[0] !== champion) {
      if (champion) found.push({ at, mark: "◆", kind: "batch", words: same[0] });
      [champion] = same;
    }
  }
  return found;
}

// Alerts are marked where the change began.
function happened() {
  const alerts = [...(state.alerts?.open ?? []), ...(state.alerts?.recent ?? [])].map((alert) => ({ at: alert.since.time / 1000, mark: "▲", kind: alert.severity, words: alert.subject }));
  return [...alerts, ...versions(state.quality?.points ?? [])];
}

function marks(found) {
  const { ctx, bbox } = found;
  const ratio = devicePixelRatio;
  ctx.save();
  ctx.textAlign = "left";
  ctx.textBaseline = "alphabetic";
  ctx.font = `${11 * ratio}px system-ui, sans-serif`;
  const taken = [];
  for (const { at, mark, kind, words } of happened().sort((a, b) => a.at - b.at)) {
    const x = found.valToPos(at / 1000, "x", true);
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    ctx.strokeStyle = ctx.fillStyle = colour(kind);
    ctx.lineWidth = ratio;
    ctx.setLineDash([3 * ratio, 3 * ratio]);
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    const label = bbox.width / ratio < NARROW ? mark : `${mark} ${words}`;
    const wide = ctx.measureText(label).width;
    const left = Math.min(x + 4 * ratio, bbox.left + bbox.width - wide);
    const free = taken.findIndex((right) => right < left);
    const line = free < 0 ? taken.length : free;
    if (line >= LINES) continue;
    taken[line] = left + wide + 8 * ratio;
    ctx.setLineDash([]);
    ctx.lineWidth = 3 * ratio;
    ctx.strokeStyle = colour("panel");
    ctx.strokeText(label, left, bbox.top + (12 + 14 * line) * ratio);
    ctx.fillText(label, left, bbox.top + (12 + 14 * line) * ratio);
  }
  ctx.restore();
}

function calibration(found) {
  const x = scaled(0, 1, 60, 326);
  const y = scaled(0, 1, 284, 8);
  const most = Math.max(...found.map((one) => one[2]), 1);
  const grid = [0, 0.25, 0.5, 0.75, 1].flatMap((at) => [s("path", { class: "grid", d: `M60 ${y(at)}H326M${x(at)} 8V284` }), s("text", { x: 54, y: y(at) + 4, "text-anchor": "end" }, share(at)), s("text", { x: x(at), y: 300, "text-anchor": "middle" }, share(at))]);
  const dots = found.map(([said, was, n]) => s("circle", { class: "dot", cx: x(said), cy: y(was), r: 2.5 + 7 * Math.sqrt(n / most) }, s("title", null, `said ${share(said)}, was ${share(was)}, of ${count(n)}`)));
  parts.calibration.replaceChildren(...grid, s("path", { class: "right", d: `M${x(0)} ${y(0)}L${x(1)} ${y(1)}` }), s("path", { class: "line", d: path(found.map(([said, was]) => [x(said), y(was)])) }), ...dots, s("text", { x: 193, y: 316, "text-anchor": "middle", class: "soft" }, "said"), s("text", { x: 0, y: 0, transform: "translate(10 146) rotate(-90)", "text-anchor": "middle", class: "soft" }, "came true"));
  const off = found.reduce((sum, [said, was, n]) => sum + Math.abs(said - was) * n, 0) / Math.max(found.reduce((sum, one) => sum + one[2], 0), 1);
  set(parts.calibration, "aria-label", `Calibration: said and observed shares differ by ${share(off)} on average`);
}

function slices(found) {
  const sorted = [...found].sort((a, b) => (b.log_loss ?? -1) - (a.log_loss ?? -1));
  const most = Math.max(...sorted.map((one) => one.log_loss ?? 0), 1e-9);
  keyed(parts.slices.tBodies[0], sorted, (one) => `${one.field}=${one.value}`, () => row(SLICES), (node, one) =>
    cells(node, [`${plainly(one.field)} ${one.value}`, count(one.n), loss(one.log_loss), meter(one.log_loss / most)]));
}

function coverage(found) {
  const known = Object.entries(found).filter(([, value]) => ["number", "string"].includes(typeof value));
  keyed(parts.coverage, known, ([field]) => field, ([field]) => h("div", null, h("dt", null, LABELS[field] ?? plainly(field.replace(/_s$/, ""))), h("dd")), (node, [field, value]) =>
    text(node.lastChild, field.includes("share") ? share(value) : field.endsWith("_s") ? lasting(value) : typeof value === "number" ? number(value) : value));
}
