// The topology as a river: services and topics are places, an edge is a reach whose width is the logarithm of its rate
// and whose colour says how far behind its reader is. Which edges there are is data; where they lie is drawn here.

import { h, keyed, s, set, text } from "./draw.js";
import { count, lasting, ms, rate } from "./words.js";

const WIDTH = 1280;
const HEIGHT = 556;
const BOX = { width: 164, height: 82 };
const SERVICES = {
  ingestion: [150, 112], features: [432, 112], inference: [714, 112], labels: [714, 312],
  drift: [1096, 216], learner: [1096, 312], trainer: [1096, 408], rollout: [1096, 504], console: [480, 524],
};
const TOPICS = {
  events: [291, 112], features: [573, 112], predictions: [960, 112], scored: [714, 212], labels: [432, 312],
  examples: [894, 312], models: [640, 436], alerts: [1236, 312], commands: [760, 524], "dead-letter": [300, 214], late: [432, 214], summaries: [1236, 190],
};
// Where a topic's name stands beside its water; the others lie on a thin line and bear theirs.
const BESIDE = { events: [0, -24], features: [0, -24], predictions: [0, 32], scored: [-62, 0], labels: [0, -24], examples: [-50, -24] };
// The side of its service where a reach begins or ends, where it is not the one that faces its topic.
const PORTS = { "ingestion labels": [-20, 1], "ingestion dead-letter": [30, 1], "features dead-letter": [-50, 1], "labels dead-letter": [-50, -1], "features late": [0, 1] };
const MOUTH = [1275, 112];
const SPRING = [5, 112];

// How bad it is, 0 to 4, by the seconds that the reader is behind.
export const heat = (lag) => (lag >= 60 ? 4 : lag >= 20 ? 3 : lag >= 5 ? 2 : lag >= 1.5 ? 1 : 0);
const width = (found) => (found > 0 ? Math.min(2.5 + 5.6 * Math.log10(1 + found), 28) : 1.5);

// The processes of each service as one: rates add up, the furthest behind and the slowest count.
export function merged(services) {
  const found = new Map();
  for (const one of services) {
    const sum = found.get(one.name);
    if (!sum) found.set(one.name, { ...one, instances: [one] });
    else join(sum, one);
  }
  return found;
}

function join(sum, one) {
  sum.instances.push(one);
  for (const name of ["in_rate", "out_rate", "lag_records", "restarts"]) sum[name] = (sum[name] ?? 0) + (one[name] ?? 0);
  sum.lag_s = Math.max(sum.lag_s ?? 0, one.lag_s ?? 0);
  if (one.status !== "ready") Object.assign(sum, { status: one.status, waiting_for: one.waiting_for });
  if ((one.latency_ms?.p99 ?? -1) > (sum.latency_ms?.p99 ?? -1)) sum.latency_ms = one.latency_ms;
}

// An edge is of a topic and the service that reads it, or of a service and the topic that it writes; the two may share
// a name, so it says which.
const reaches = (flow) => flow.edges.map(([from, to, how]) => (how === "reads" ? { topic: from, service: to, reads: true } : { topic: to, service: from, reads: false }));

function place(known, names, column) {
  const spots = new Map();
  let spare = 0;
  for (const name of names) spots.set(name, known[name] ?? [column + 150 * (spare % 3), 560 - 40 * Math.floor(spare++ / 3)]);
  return spots;
}

// From one place to the other along the water: leaving and coming level, or upright where one lies below the other.
function course([x0, y0], [x1, y1]) {
  const across = Math.abs(x1 - x0);
  const down = Math.abs(y1 - y0);
  if (down > across * 1.2) {
    const middle = (y0 + y1) / 2;
    return `M${x0} ${y0}C${x0} ${middle} ${x1} ${middle} ${x1} ${y1}`;
  }
  const bend = (x1 - x0) * 0.5;
  return `M${x0} ${y0}C${x0 + bend} ${y0} ${x1 - bend} ${y1} ${x1} ${y1}`;
}

// From a box's lower or upper side to a place, which is come to level.
const plunge = ([x0, y0], [x1, y1]) => (Math.abs(x1 - x0) < 60 ? course([x0, y0], [x1, y1]) : `M${x0} ${y0}C${x0} ${y1} ${x0} ${y1} ${x1} ${y1}`);

// The side of a service's box that faces a place.
function shore([x, y], [px, py]) {
  const dx = px - x;
  const dy = py - y;
  if (Math.abs(dx) > BOX.width / 2 + 20) return [x + (Math.sign(dx) * BOX.width) / 2, y];
  const along = Math.max(-BOX.width / 2 + 24, Math.min(BOX.width / 2 - 24, dx * 0.35));
  return [x + along, y + (Math.sign(dy) * BOX.height) / 2];
}

export function river(onPick) {
  const layers = ["glow", "water", "depth", "towns"].map((name) => s("g", { class: name }));
  const svg = s("svg", { class: "river", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "group", "aria-label": "The topology: services, and the topics that flow between them" }, layers);
  return { svg, draw: (flow) => draw(layers, flow, onPick) };
}

function draw([glow, water, depth, towns], flow, onPick) {
  const services = merged(flow.services);
  const rows = taking(flow);
  for (const one of services.values()) one.rows = rows.get(one.name);
  const topics = new Map(flow.topics.map((topic) => [topic.name, topic]));
  const found = reaches(flow).filter((one) => one.service !== "console" || !one.reads);
  const spots = place(SERVICES, [...services.keys(), ...(found.some((one) => one.service === "console") ? ["console"] : [])], 100);
  const pools = place(TOPICS, new Set(found.map((one) => one.topic)), 150);
  const lines = found.map((one) => line(one, spots, pools, topics, services)).concat(ends(topics));
  lines.sort((a, b) => b.rate - a.rate);
  const slow = lines.filter((one) => one.heat > 0);
  keyed(glow, slow, (one) => one.id, () => s("path"), (node, one) => {
    set(node, "d", one.d);
    set(node, "class", `reach heat${one.heat}`);
    set(node, "stroke-width", (one.width + 14).toFixed(1));
  });
  keyed(water, lines, (one) => one.id, () => s("path"), (node, one) => {
    set(node, "d", one.d);
    set(node, "class", `reach heat${one.heat}${one.rate > 0 ? "" : " dry"}${one.side ? " side" : ""}`);
    set(node, "stroke-width", one.width.toFixed(1));
  });
  keyed(depth, lines.filter((one) => one.width >= 7), (one) => one.id, () => s("path", { class: "thalweg" }), (node, one) => set(node, "d", one.d));
  const shown = [...pools].filter(([name]) => topics.has(name));
  keyed(towns, [...shown.map(([name, at]) => ({ id: `topic ${name}`, topic: topics.get(name), at })), ...[...spots].filter(([name]) => services.has(name)).map(([name, at]) => ({ id: `service ${name}`, service: services.get(name), at })), ...triton(flow.triton)],
    (one) => one.id, (one) => (one.topic ? pool(one) : one.triton ? spring(one) : town(one, onPick)), (node, one) => (one.topic ? patchPool(node, one) : one.triton ? patchSpring(node, one) : patchTown(node, one)));
}

// A message of these holds many rows, each of which was a message of another topic: what flows is rows.
const ROWS = { features: "events", scored: "predictions", examples: "labels" };
const SIDE = new Set(["models", "alerts", "commands", "dead-letter", "late", "summaries"]);

function line(one, spots, pools, topics, services) {
  const at = spots.get(one.service) ?? [100, 560];
  const pool = pools.get(one.topic);
  const edge = route(one, at, pool);
  const found = flowing(one.topic, topics);
  return {
    id: `${one.service} ${one.topic} ${one.reads}`, topic: one.topic, rate: found, width: SIDE.has(one.topic) || (one.service === "ingestion" && one.reads) ? Math.min(width(found), 3) : width(found), side: SIDE.has(one.topic) || one.service === "ingestion" && one.reads,
    heat: one.reads && !SIDE.has(one.topic) ? heat(services.get(one.service)?.lag_s) : 0, d: edge,
  };
}

const flowing = (topic, topics) => (topics.get(ROWS[topic]) ?? topics.get(topic))?.rate ?? 0;

// How many rows a service takes a second: those of the topic that brings most.
export function taking(flow) {
  const topics = new Map(flow.topics.map((topic) => [topic.name, topic]));
  const found = new Map();
  for (const one of reaches(flow)) {
    if (one.reads && !SIDE.has(one.topic) && one.service !== "ingestion") found.set(one.service, Math.max(found.get(one.service) ?? 0, flowing(one.topic, topics)));
  }
  return found.set("ingestion", topics.get("events")?.rate ?? 0);
}

function route(one, at, pool) {
  const detours = {
    "inference models": () => `M${pool[0]} ${pool[1]}C${pool[0]} 330 ${at[0] - 112} 300 ${at[0] - 112} 240S${at[0] - 60} 200 ${at[0] - 54} ${at[1] + BOX.height / 2}`,
    "ingestion predictions": () => `M${pool[0]} ${pool[1]}C${pool[0] - 60} 20 ${pool[0] - 120} 10 ${pool[0] - 200} 10H${at[0] + 120}Q${at[0] + 40} 10 ${at[0] + 40} ${at[1] - BOX.height / 2}`,
    "drift alerts": () => `M${at[0] + BOX.width / 2} ${at[1] + 14}C${pool[0]} ${at[1] + 14} ${pool[0]} ${pool[1] - 30} ${pool[0]} ${pool[1]}`,
    "trainer alerts": () => `M${pool[0]} ${pool[1]}C${pool[0]} ${pool[1] + 60} ${pool[0]} ${at[1]} ${at[0] + BOX.width / 2} ${at[1]}`,
    "rollout alerts": () => `M${pool[0]} ${pool[1]}C${pool[0]} ${pool[1] + 100} ${pool[0]} ${at[1]} ${at[0] + BOX.width / 2} ${at[1]}`,
    "drift summaries": () => `M${at[0] + BOX.width / 2} ${at[1] - 14}C${pool[0]} ${at[1] - 14} ${pool[0]} ${at[1] - 20} ${pool[0]} ${pool[1]}`,
  };
  const detour = detours[`${one.service} ${one.topic}`];
  if (detour) return detour();
  const port = PORTS[`${one.service} ${one.topic}`];
  const edge = port ? [at[0] + port[0], at[1] + (port[1] * BOX.height) / 2] : shore(at, pool);
  if (port) return plunge(edge, pool);
  return one.reads ? course(pool, edge) : course(edge, pool);
}

// Where the river springs and where it ends: those who send, and those who read.
function ends(topics) {
  const found = (name) => topics.get(name)?.rate ?? 0;
  const made = [];
  if (topics.has("events")) made.push({ id: "spring", rate: found("events"), d: course(SPRING, [SERVICES.ingestion[0] - BOX.width / 2, 112]) });
  if (topics.has("predictions")) made.push({ id: "mouth", rate: found("predictions"), d: course(TOPICS.predictions, MOUTH) });
  return made.map((one) => ({ ...one, heat: 0, width: width(one.rate) }));
}

function town({ service, at: [x, y] }, onPick) {
  const pick = () => onPick(service.name);
  const node = s("g", { class: "town", transform: `translate(${x - BOX.width / 2} ${y - BOX.height / 2})`, tabindex: 0, role: "button", "data-row": "", onclick: pick, onkeydown: (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); pick(); } } },
    s("rect", { width: BOX.width, height: BOX.height, rx: 9 }), s("circle", { class: "dot", cx: 15, cy: 19, r: 4.5 }),
    s("text", { class: "name", x: 27, y: 24 }), s("text", { class: "n", x: BOX.width - 12, y: 24, "text-anchor": "end" }),
    s("text", { class: "soft", x: 12, y: 47 }), s("text", { class: "soft n", x: BOX.width - 12, y: 47, "text-anchor": "end" }),
    s("text", { class: "lag", x: 12, y: 68 }), s("title"));
  return node;
}

// What is said below a service's rates: what it waits for, else how far behind it is.
export function condition(one) {
  if (one.status !== "ready") return `${one.status}${one.waiting_for ? `: ${one.waiting_for}` : ""}`;
  return one.lag_s >= 1.5 ? `${lasting(one.lag_s)} behind` : one.lag_s === null || one.lag_s === undefined ? "ready" : "keeps up";
}

function patchTown(node, { service }) {
  const [, , name, many, rates, latency, lag, title] = node.children;
  set(node, "class", `town heat${heat(service.lag_s)} ${service.status === "ready" ? "ready" : "unready"}`);
  text(name, service.name);
  text(many, service.instances.length > 1 ? `× ${service.instances.length}` : "");
  text(rates, rate(service.rows ?? service.in_rate));
  text(latency, service.latency_ms ? `p99 ${ms(service.latency_ms.p99)}` : "");
  const words = condition(service);
  text(lag, words.length > 21 ? `${words.slice(0, 20)}…` : words);
  const whole = `${service.name}: ${words}; ${rate(service.in_rate)} in, ${rate(service.out_rate)} out; ${count(service.lag_records)} records behind`;
  text(title, whole);
  set(node, "aria-label", whole);
}

function pool({ at: [x, y], topic }) {
  const [dx, dy] = BESIDE[topic.name] ?? [0, 0];
  return s("g", { class: BESIDE[topic.name] ? "pool beside" : "pool", transform: `translate(${x + dx} ${y + dy})` }, s("rect", { y: -17, height: 34, rx: 7 }), s("text", { class: "name", "text-anchor": "middle", y: -2 }), s("text", { class: "n", "text-anchor": "middle", y: 11 }), s("title"));
}

function patchPool(node, { topic }) {
  const [back, name, figure, title] = node.children;
  const wide = Math.max(topic.name.length * 6.4 + 14, 58);
  set(back, "width", wide);
  set(back, "x", -wide / 2);
  text(name, topic.name);
  text(figure, ROWS[topic.name] ? rate(topic.rate).replace("/", " batches/") : rate(topic.rate));
  text(title, `${topic.name}: ${rate(topic.rate)} messages, ${count(topic.end)} in all`);
}

const triton = (found) => (found ? [{ id: "triton", triton: found }] : []);

function spring() {
  const [x, y] = SERVICES.inference;
  return s("g", { class: "triton", transform: `translate(${x} ${y - 78})` }, s("path", { d: "M0 17V37" }), s("rect", { x: -100, y: -17, width: 200, height: 34, rx: 17 }), s("text", { "text-anchor": "middle", y: -1, class: "name" }, "Triton"), s("text", { "text-anchor": "middle", y: 11, class: "n" }));
}

function patchSpring(node, { triton: found }) {
  set(node, "class", `triton ${found.ready ? "ready" : "unready"}`);
  text(node.lastChild, found.ready ? `queue ${ms(found.queue_ms)} · compute ${ms(found.compute_ms)}` : "does not answer");
}

// Screen readers and narrow screens: the same, as cards down the stream.
export function cards(flow) {
  const rows = taking(flow);
  return [...merged(flow.services).values()].map((one) => ({ ...one, rows: rows.get(one.name) }));
}

export function card(onPick) {
  return (one) => h("li", null, h("button", { type: "button", class: "card", onclick: () => onPick(one.name) }, h("i", { class: "stream" }), h("b"), h("span", { class: "n" }), h("span", { class: "lag" }), h("span", { class: "n soft" })));
}

export function patchCard(node, one) {
  const [stream, name, figure, lag, latency] = node.firstChild.children;
  set(node.firstChild, "class", `card heat${heat(one.lag_s)} ${one.status === "ready" ? "ready" : "unready"}`);
  set(stream, "data-width", Math.round(width(one.rows ?? one.in_rate ?? 0) / 4));
  text(name, one.instances.length > 1 ? `${one.name} × ${one.instances.length}` : one.name);
  text(figure, rate(one.rows ?? one.in_rate));
  text(lag, condition(one));
  text(latency, one.latency_ms ? `p99 ${ms(one.latency_ms.p99)}` : "");
}
