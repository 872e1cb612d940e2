// Flow: the river, the service that is looked at, and the same as tables.

import { card, cards, condition, heat, patchCard, river } from "./river.js";
import { cells, h, hint, keyed, row, set, table, text } from "./draw.js";
import { state } from "./live.js";
import { count, lasting, ms, plainly, rate } from "./words.js";

export const name = "Flow";
const SERVICES = [["service"], ["state"], ["messages in", "n"], ["messages out", "n"], ["messages behind", "n"], ["behind for", "n"], ["p50", "n"], ["p99", "n"], ["restarts", "n"]];
const TOPICS = [["topic"], ["messages", "n"], ["end offset", "n"]];
const parts = {};
let picked = null;

export function make(root) {
  parts.notice = h("div", { class: "notice" });
  parts.river = river(pick);
  parts.focus = h("section", { class: "focus", "aria-label": "The service that is looked at" }, h("h2"), h("p"), h("dl", { class: "facts" }));
  parts.cards = h("ol", { class: "cards" });
  parts.services = table("Each process", SERVICES);
  parts.topics = table("Topics", TOPICS);
  const legend = h("p", { class: "legend" }, "A reach is as wide as the rows that flow in it, on a log scale; its colour is how far its reader is behind: ",
    [["0", "less than 1.5 s"], ["1", "1.5 s"], ["2", "5 s"], ["3", "20 s"], ["4", "a minute or more"]].map(([level, words]) => h("span", { class: `heat${level}` }, h("i"), words)));
  root.append(h("h1", { class: "visually-hidden" }, "Flow"), parts.notice, h("div", { class: "wide" }, parts.river.svg, parts.focus), parts.cards, legend,
    h("div", { class: "pair" }, h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Each process" }, parts.services), h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Topics" }, parts.topics)));
}

function pick(found) {
  picked = picked === found ? null : found;
  draw(new Set(["flow"]));
  const first = parts.services.querySelector("tr.picked");
  first?.scrollIntoView({ block: "nearest", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
}

export const back = () => picked && pick(picked);

export function draw(kinds) {
  if (!["all", "flow", "settings", "link"].some((kind) => kinds.has(kind))) return;
  const { flow } = state;
  if (!flow) return;
  notice(flow);
  parts.river.draw(flow);
  focus(flow);
  keyed(parts.cards, cards(flow), (one) => one.name, card(pick), patchCard);
  keyed(parts.services.tBodies[0], flow.services, (one) => `${one.name} ${one.instance}`, () => row(SERVICES), patchService);
  keyed(parts.topics.tBodies[0], flow.topics, (one) => one.name, () => row(TOPICS), (node, one) =>
    cells(node, [one.name, rate(one.rate), count(one.end)]));
}

function patchService(node, one) {
  set(node, "class", `${one.name === picked ? "picked " : ""}heat${heat(one.lag_s)} ${one.status === "ready" ? "" : "unready"}`);
  cells(node, [one.instance === "1" || !one.instance ? one.name : `${one.name}-${one.instance}`, condition(one), rate(one.in_rate), rate(one.out_rate), count(one.lag_records), one.lag_s ? lasting(one.lag_s) : "–", ms(one.latency_ms?.p50), ms(one.latency_ms?.p99), count(one.restarts)]);
}

// Of the service that was picked, else of the one that is furthest behind or not ready, the figures.
function focus(flow) {
  const all = cards(flow);
  const worst = all.find((one) => one.status !== "ready") ?? all.reduce((found, one) => ((one.lag_s ?? 0) > (found?.lag_s ?? 0) ? one : found), all[0]);
  const one = all.find((other) => other.name === picked) ?? worst;
  if (!one) return;
  const [title, words, facts] = parts.focus.children;
  text(title, picked ? one.name : one.status !== "ready" || heat(one.lag_s) > 1 ? `Look at ${one.name}` : "All keep up");
  text(words, picked || one.status !== "ready" || heat(one.lag_s) > 1 ? condition(one) : one.lag_s ? `${one.name} is furthest behind, by ${lasting(one.lag_s)}. Pick a service to see its figures.` : "Nothing waits to be read. Pick a service to see its figures.");
  const figures = [["rows in", rate(one.rows)], ["messages in", rate(one.in_rate)], ["out", rate(one.out_rate)], ["messages behind", count(one.lag_records)], ["p50", ms(one.latency_ms?.p50)], ["p99", ms(one.latency_ms?.p99)], ["processes", one.instances.length > 1 ? count(one.instances.length) : ""], ["restarts", one.restarts ? count(one.restarts) : ""], ["busy", one.busy]];
  keyed(facts, figures.filter(([, value]) => value && value !== "–"), ([field]) => field, ([field]) => h("div", null, h("dt", null, field), h("dd")), (node, [, value]) => text(node.lastChild, value));
}

// What is wrong, by name, and what comes next; nothing where all is well.
function notice(flow) {
  const down = flow.services.filter((one) => one.status !== "ready");
  const found = [];
  if (flow.waiting_for?.startsWith("topics")) found.push(["unready", "Topics are missing", `The console waits for ${flow.waiting_for}. The launcher makes them when a run begins: start the run again.`]);
  else if (flow.waiting_for) found.push(["unready", "The broker does not answer", `The console waits for ${flow.waiting_for}. Rates stand still until it is back; then all go on by themselves. See logs/tansu.log or logs/kafka.log in the run's folder, or the cluster's own.`]);
  if (flow.waiting_for && down.length > 1) found.push(["unready", "Not ready", `${down.map((one) => one.name).join(", ")} wait too.`]);
  else if (down.length) found.push(["unready", "Not ready", ...down.map((one) => `${one.name}${one.instance === "1" ? "" : `-${one.instance}`} is ${one.status}${one.waiting_for ? `: it waits for ${one.waiting_for}` : one.status === "silent" ? ": it has died or hangs; thalweg up starts what dies again" : ""}. Its log: logs/${one.name}.log in the run's folder; thalweg doctor looks closer.`)]);
  if (flow.triton && !flow.triton.ready) found.push(["unready", "Triton does not answer", "inference waits and holds its input back; nothing is lost, and it goes on by itself. See logs/triton.log in the run's folder."]);
  if ((flow.topics.find((one) => one.name === "events")?.end ?? 0) === 0) found.push(["first"]);
  keyed(parts.notice, found, (one) => one.join(" "), ([kind, title, ...words]) => (kind === "first" ? first() : hint(title, words.map((one) => h("p", null, one)))));
}

export function first() {
  const stream = state.settings?.stream ?? "flights";
  const at = state.settings?.ingestion ?? "http://127.0.0.1:8080";
  const line = `curl -X POST ${at}/v1/streams/${stream}/events -H 'Content-Type: application/json' -d @event.json`;
  return hint("No event yet", h("p", null, "Send one; ", h("code", null, `schemas/${plainly(stream)}/event.json`), " says what it holds:"), h("pre", null, line),
    h("p", null, "or stop this run and play recorded data: ", h("code", null, "./infra/demo --keep"), ". Events that are put straight on the topic are as good."));
}
