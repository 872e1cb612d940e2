// One prediction: what was said and by whom, what it was made from, the way it took, and what came of it.

import { h, hint, meter } from "./draw.js";
import { count, moment, number, plainly, share } from "./words.js";
import { waterfall } from "./waterfall.js";

export function explained(body, id) {
  const { prediction } = body;
  const weights = body.weights ?? prediction.weights ?? {};
  return [
    head(prediction, body, id),
    h("section", { class: "panel" }, h("h2", null, "Who said so"), mix(prediction.scores ?? {}, weights), facts(prediction)),
    h("section", { class: "panel" }, h("h2", null, "The way it took"), body.trace ? waterfall(body.trace.spans ?? []) : untraced(id)),
    h("section", { class: "panel" }, h("h2", null, `Features (${count(body.features?.length ?? 0)})`), features(body.features ?? [])),
    h("section", { class: "panel" }, h("h2", null, "Similar, lately"), similar(body.similar ?? [])),
  ];
}

function head(prediction, { label, label_sought }, id) {
  const [[field, value] = ["", null]] = Object.entries(prediction.prediction ?? {});
  const known = label !== null && label !== undefined;
  return h("header", { class: "verdict" }, h("h2", null, prediction.event_id ?? id),
    h("p", { class: "said" }, h("b", { class: "n" }, number(value, 3)), ` ${plainly(field)}`, meter(value, "water")),
    h("p", { class: known ? "label" : "label soft" }, known ? told(label) : label_sought ? "No label yet: it shows here when it has come." : "The log answers too slowly to look for a label: open this again."),
    prediction.degraded ? h("p", { class: "wrong" }, "Degraded: a model that should have answered did not.") : null);
}

function told(label) {
  if (typeof label !== "object") return `Label: ${label}`;
  const { at, time, ...rest } = label;
  const when = typeof time === "string" ? Date.parse(time) : (time ?? at);
  return `Label: ${Object.entries(rest).map(([field, value]) => (typeof value === "boolean" ? `${value ? "" : "not "}${plainly(field)}` : `${plainly(field)} ${typeof value === "number" ? number(value) : value}`)).join(", ")}${when ? `, as was known at ${moment(when)}` : ""}`;
}

// Each version's score, and how much of the mix it is.
function mix(scores, weights) {
  const rows = Object.entries(scores).map(([version, score]) => h("tr", null, h("th", { scope: "row" }, version), h("td", { class: "n" }, number(score, 4)), h("td", null, meter(score, "water")), h("td", { class: "n" }, weights[version] === undefined ? "not served" : share(weights[version])), h("td", null, meter(weights[version] ?? 0))));
  return h("table", { class: "mix" }, h("thead", null, h("tr", null, ["version", "score", "", "weight", ""].map((name, i) => h("th", { scope: "col", class: i % 2 ? "n" : "" }, name)))), h("tbody", null, rows));
}

function facts(prediction) {
  const source = prediction.source ?? {};
  const found = [["event time", prediction.event_time ? moment(Date.parse(prediction.event_time) || prediction.event_time, true) : null], ["key", prediction.key], ["source", source.offset === undefined ? null : `events[${source.partition}]@${source.offset}`], ["feature set", prediction.features], ["trace", prediction.trace_id]];
  return h("dl", { class: "facts" }, found.filter(([, value]) => value).map(([field, value]) => h("div", null, h("dt", null, field), h("dd", { class: field === "trace" || field === "feature set" ? "code" : "" }, String(value)))));
}

const untraced = (id) => h("p", { class: "soft" }, "This one was not traced while it was made. ", h("code", null, `thalweg trace ${id}`), " tells its whole story from the log.");

function features(found) {
  if (!found.length) return hint("No features are known", h("p", null, "They stand on the features topic; they show here once the console has read that far."));
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Features" }, h("table", { class: "features" }, h("thead", null, h("tr", null, h("th", { scope: "col" }, "feature"), h("th", { scope: "col", class: "n" }, "value"), h("th", { scope: "col" }, "why"))),
    h("tbody", null, found.map((one) => h("tr", { class: one.value === 0 ? "nought" : "" }, h("th", { scope: "row" }, one.name), h("td", { class: "n" }, one.value === null ? "missing" : number(one.value, 5)), h("td", { class: "why" }, why(one.why)))))));
}

const why = (found) => (found === null || found === undefined ? "" : typeof found === "string" ? found : Array.isArray(found) ? found.map(why).join("; ") : Object.entries(found).map(([field, value]) => `${plainly(field)} ${why(String(value))}`).join(", "));

function similar(ids) {
  if (!ids.length) return h("p", { class: "soft" }, "None of the same key is in the recent sample.");
  return h("ul", { class: "links" }, ids.map((one) => { const id = one.event_id ?? one; return h("li", null, h("a", { href: `#/predictions/${encodeURIComponent(id)}` }, id)); }));
}

