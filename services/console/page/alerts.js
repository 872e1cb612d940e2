// Alerts: what has changed, since when, what explains it and what was done; and silence, for a time and a reason.

import { act } from "./dialogs.js";
import { h, hint, keyed, set, text } from "./draw.js";
import { explained } from "./histogram.js";
import { state } from "./live.js";
import { ago, lasting, moment, number, plainly } from "./words.js";

export const name = "Alerts";
const RANK = { critical: 0, warning: 1 };
const FEATURES = 3;
const parts = {};

const silent = (one) => one.silenced_until / 1000 > Date.now();
export const gravest = (found) => (found.alerts?.open ?? []).reduce((worst, one) => (silent(one) ? worst : one.severity === "critical" || !worst ? one.severity : worst), "");
export const badge = (found) => [found.alerts?.open.length ? String(found.alerts.open.length) : "", gravest(found)];

export function make(root) {
  parts.open = h("ol", { class: "alert-list" });
  parts.recent = h("ol", { class: "alert-list recent" });
  parts.orders = h("ul", { class: "orders-list soft" });
  parts.resolved = h("section", null, h("h2", null, "Resolved, lately"), parts.recent);
  parts.empty = h("div");
  root.append(h("h1", null, "Alerts"), parts.orders, parts.empty, parts.open, parts.resolved);
}

export function draw(kinds) {
  if (!["all", "alerts"].some((kind) => kinds.has(kind)) || !state.alerts) return;
  const { open, recent = [] } = state.alerts;
  orders(state.alerts);
  const ids = new Set(open.map((one) => one.id));
  const resolved = recent.filter((one) => one.event === "resolved" && !ids.has(one.id));
  parts.empty.hidden = open.length > 0;
  if (!open.length && !parts.empty.firstChild) parts.empty.append(hint("All is calm", h("p", null, "No alert stands. Drift looks at features, losses, calibration, labels and volume, and says so here when one of them has changed.")));
  const sorted = [...open].sort((a, b) => Number(silent(a)) - Number(silent(b)) || RANK[a.severity] - RANK[b.severity] || b.since.time - a.since.time);
  keyed(parts.open, sorted, (one) => one.id, () => h("li", { class: "panel alert" }), whole);
  parts.resolved.hidden = !resolved.length;
  keyed(parts.recent, resolved, (one) => one.id, () => h("li", { class: "alert" }), brief);
}

// What people have ordered, and until when it holds.
function orders({ hold, silences = [] }) {
  const now = Date.now();
  const lines = silences.filter((one) => one.until / 1000 > now).map((one) => `Silent ${ago(one.until / 1000, now)}: ${one.subject}${one.kind ? ` (${one.kind})` : ""}, by ${one.actor}: ${one.reason}`.replace("Silent in", "Silent for another"));
  if (hold) lines.unshift(`Training for alerts is on hold, by ${hold.actor}: ${hold.reason}`);
  keyed(parts.orders, lines, (one) => one.replace(/another [^:]*/, ""), () => h("li"), text);
}

const subject = (one) => `${plainly(one.kind)}: ${one.subject}${one.slice ? `, ${one.slice}` : ""}`;

function whole(node, one) {
  const print = `${one.number} ${silent(one)}`;
  if (node.print === print) return;
  node.print = print;
  set(node, "data-tone", one.severity);
  const facts = [["since", moment(one.since.time / 1000)], ["place", `${one.since.topic}[${one.since.partition}]@${one.since.offset}`], ["has come to", moment(one.at.time / 1000)], [one.statistic, number(one.strength)], ["lost", one.lost === undefined || one.lost === null ? null : `${one.lost > 0 ? "+" : ""}${number(one.lost, 3)} nats an event`], ["retrain from", one.retrain_from ? moment(one.retrain_from / 1000) : null]];
  node.replaceChildren(
    h("header", null, h("span", { class: "severity" }, one.severity === "critical" ? "▲ critical" : "△ warning"), h("h2", { tabindex: -1, "data-row": "" }, subject(one)), silent(one) ? h("span", { class: "soft" }, "silenced") : null, silent(one) ? again(one) : silence(one)),
    h("p", { class: "reason" }, one.reason),
    h("dl", { class: "facts" }, facts.filter(([, value]) => value).map(([field, value]) => h("div", null, h("dt", null, field), h("dd", null, value)))),
    ...because(one), done(one.done ?? []));
}

function because(one) {
  const features = (one.features ?? []).slice(0, FEATURES);
  const slices = one.slices ?? [];
  return [
    features.length ? h("div", { class: "because" }, features.map((feature) => h("div", null, feature.before || feature.after ? explained(feature) : h("p", null, h("b", null, feature.name)), h("p", { class: "soft" }, `${feature.statistic} ${number(feature.value)}`)))) : null,
    slices.length ? h("p", null, "Most of it in ", slices.map((slice) => `${slice.name} (${slice.statistic} ${number(slice.value)})`).join(", "), ".") : null,
  ].filter(Boolean);
}

const done = (found) => (found.length ? h("div", null, h("h3", null, "What was done"), h("ol", { class: "done" }, found.map((one) => h("li", null, one)))) : h("p", { class: "soft" }, "Nothing was done about it yet."));

const silence = (one) => h("button", { type: "button", "aria-label": `Silence ${subject(one)}`, onclick: () => act({ title: `Silence ${subject(one)}`, words: "It is still watched and recorded; nobody is told while it is silent.", fields: [["hours", "For how many hours", "number", 4], ["reason", "Reason, for the record", "text", ""]], button: "Silence", url: `/api/alerts/${encodeURIComponent(one.id)}/silence` }) }, "Silence");

const again = (one) => h("button", { type: "button", "aria-label": `Tell again of ${subject(one)}`, onclick: () => act({ title: `Tell again of ${subject(one)}`, words: "The silence ends now.", button: "Tell again", url: `/api/alerts/${encodeURIComponent(one.id)}/silence`, body: ({ reason }) => ({ hours: 0, reason }) }) }, "Tell again");

function brief(node, one) {
  if (!node.firstChild) node.append(h("b"), h("span"), h("span", { class: "soft" }));
  text(node.children[0], subject(one));
  text(node.children[1], one.reason);
  text(node.children[2], `${moment(one.since.time / 1000)}, stood ${lasting((one.at.time - one.since.time) / 1e6)}`);
}
