// A trace as a waterfall. Hours may lie between a prediction and its label: where nothing happens the axis is folded.

import { h, s, set } from "./draw.js";
import { lasting, ms } from "./words.js";

const ORDER = ["ingestion", "features", "inference", "triton", "labels", "learner", "trainer", "rollout", "drift", "console"];
const FOLD = 0.035; // of the width, for a gap that is folded
const LONG = 0.35; // a gap longer than this part of all that is busy is folded

// Where spans are busy: runs of them, and the folded gaps between.
function axis(spans) {
  const sorted = [...spans].sort((a, b) => a.start - b.start);
  const busy = [];
  for (const one of sorted) {
    const last = busy.at(-1);
    if (last && one.start <= last.end) last.end = Math.max(last.end, one.end);
    else busy.push({ start: one.start, end: one.end });
  }
  const total = busy.reduce((sum, run) => sum + run.end - run.start, 0) || 1;
  const runs = [];
  for (const run of busy) {
    const last = runs.at(-1);
    if (last && run.start - last.end < total * LONG) last.end = run.end;
    else runs.push({ ...run });
  }
  return placed(runs);
}

function placed(runs) {
  const width = 1 - FOLD * (runs.length - 1);
  const long = runs.reduce((sum, run) => sum + run.end - run.start, 0) || 1;
  let x = 0;
  for (const run of runs) {
    run.x = x;
    run.scale = (width * ((run.end - run.start) / long));
    x += run.scale + FOLD;
  }
  return runs;
}

const at = (runs, time) => {
  const run = runs.find((one) => time <= one.end) ?? runs.at(-1);
  return run.x + run.scale * Math.min(Math.max((time - run.start) / (run.end - run.start || 1), 0), 1);
};

// Parents before children, children by their start; a span whose parent is not here stands by itself.
function ordered(spans) {
  const known = new Set(spans.map((one) => one.span_id));
  const below = new Map();
  for (const one of spans) {
    const parent = known.has(one.parent_id) ? one.parent_id : null;
    below.set(parent, [...(below.get(parent) ?? []), one]);
  }
  const out = [];
  const walk = (parent, depth) => {
    for (const one of (below.get(parent) ?? []).sort((a, b) => a.start - b.start)) {
      if (out.length > 400) return;
      out.push({ ...one, depth });
      walk(one.span_id, depth + 1);
    }
  };
  walk(null, 0);
  return out;
}

export function waterfall(found) {
  if (!found.length) return h("p", { class: "soft" }, "The trace has no span here any more: the store is bounded, and the oldest go first.");
  const origin = found.reduce((least, one) => (BigInt(one.start_ns) < least ? BigInt(one.start_ns) : least), BigInt(found[0].start_ns));
  const ms_ = (time) => Number(BigInt(time) - origin) / 1e6;
  const spans = ordered(found.map((one) => ({ ...one, start: ms_(one.start_ns), end: Math.max(ms_(one.end_ns), ms_(one.start_ns)) })));
  const runs = axis(spans);
  const services = new Set(spans.map((one) => one.service));
  const end = Math.max(...spans.map((one) => one.end));
  const list = h("ol", { class: "waterfall" }, spans.map((one) => bar(one, runs)));
  return h("div", null, h("p", { class: "soft" }, `${spans.length} spans over ${services.size} services, ${lasting(end / 1000)} from first to last${runs.length > 1 ? "; where nothing happened the axis is folded" : ""}.`), ruler(runs), list);
}

function ruler(runs) {
  const gaps = runs.slice(1).map((run, i) => ({ x: runs[i].x + runs[i].scale + FOLD / 2, long: run.start - runs[i].end }));
  return h("div", { class: "ruler", "aria-hidden": "true" }, s("svg", { viewBox: "0 0 1000 18", preserveAspectRatio: "none" }, runs.map((run) => s("path", { d: `M${run.x * 1000} 14H${(run.x + run.scale) * 1000}` })), gaps.map((gap) => s("path", { class: "gap", d: `M${gap.x * 1000 - 12} 14h24` }))), placedWords(gaps));
}

const placedWords = (gaps) => gaps.map((gap) => {
  const word = h("span", null, lasting(gap.long / 1000));
  word.style.left = `${gap.x * 100}%`;
  return word;
});

function bar(one, runs) {
  const left = at(runs, one.start);
  const wide = Math.max(at(runs, one.end) - left, 0.004);
  const rederived = one.attributes?.["thalweg.rederived"] || one.rederived;
  const color = ORDER.indexOf(one.service);
  const more = h("div", { class: "more", hidden: true });
  const button = h("button", { type: "button", "aria-expanded": "false", onclick: () => {
    more.hidden = !more.hidden;
    set(button, "aria-expanded", String(!more.hidden));
    if (!more.firstChild) more.append(attributes(one));
  } }, h("span", { class: "label", title: `${one.service} ${one.name}` }, h("i"), h("b", null, one.service), ` ${one.name}`), h("span", { class: "track" }, s("svg", { viewBox: "0 0 1000 12", preserveAspectRatio: "none", "aria-hidden": "true" }, s("rect", { x: Math.min(left, 0.996) * 1000, width: wide * 1000, height: 12 }))), h("span", { class: "n" }, one.end > one.start ? ms(one.end - one.start) : "·"));
  button.firstChild.style.paddingLeft = `${Math.min(one.depth, 8) * 9}px`;
  return h("li", { class: `service-${color < 0 ? "other" : one.service}${rederived ? " rederived" : ""}${failed(one) ? " failed" : ""}` }, button, more);
}

const failed = (one) => one.attributes?.["error.type"] || /error/i.test(String(one.status?.code ?? one.status ?? ""));

function attributes(one) {
  const pairs = [["kind", one.kind?.toLowerCase()], ["starts", one.start ? `${ms(one.start)} after the first` : "first"], ["span", one.span_id], ...Object.entries(one.attributes ?? {}), ...(one.links?.length ? [["links", `${one.links.length} other spans`]] : []), ...(one.events ?? []).map((event) => [event.name ?? "event", JSON.stringify(event.attributes ?? {})])];
  return h("dl", { class: "attributes" }, pairs.filter(([, value]) => value !== undefined && value !== null && value !== "").map(([field, value]) => [h("dt", null, field), h("dd", null, typeof value === "object" ? JSON.stringify(value) : String(value))]));
}
