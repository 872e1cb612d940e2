// A feature before and after: shares by bin, drawn above each other as bars and as an outline.

import { h, s } from "./draw.js";
import { number, share } from "./words.js";

const WIDTH = 380;
const HEIGHT = 136;

const shares = (counts) => {
  const sum = counts.reduce((total, count) => total + count, 0) || 1;
  return counts.map((count) => count / sum);
};

const bins = (edges, names, many) => (names?.length ? names : Array.from({ length: many }, (_, i) => (many === edges.length + 1 ? (i === 0 ? `< ${number(edges[0])}` : i === edges.length ? `≥ ${number(edges.at(-1))}` : `${number(edges[i - 1])} to ${number(edges[i])}`) : `${number(edges[i])} to ${number(edges[i + 1])}`)));

export function histogram(title, { edges = [], names = [], before = [], after = [] }) {
  const [was, is] = [shares(before), shares(after)];
  const many = Math.max(was.length, is.length);
  const top = Math.max(...was, ...is, 1e-9);
  const wide = (WIDTH - 8) / Math.max(many, 1);
  const tall = (part) => (HEIGHT - 34) * (part / top);
  const labels = bins(edges, names, many);
  const columns = labels.map((label, i) => s("g", null, s("title", null, `${label}: before ${share(was[i] ?? 0)}, after ${share(is[i] ?? 0)}`),
    s("rect", { class: "before", x: 4 + i * wide, width: wide - 1, y: HEIGHT - 22 - tall(was[i] ?? 0), height: tall(was[i] ?? 0) }),
    s("rect", { class: "after", x: 4 + i * wide + wide * 0.25, width: Math.max(wide * 0.5 - 1, 1), y: HEIGHT - 22 - tall(is[i] ?? 0), height: tall(is[i] ?? 0) })));
  const every = Math.ceil(many / (names.length ? 8 : 4));
  const words = labels.map((label, i) => (i % every === 0 || i === many - 1 && many <= 4 ? s("text", { x: 4 + (i + 0.5) * wide, y: HEIGHT - 6, "text-anchor": i === 0 && many > 4 && !names.length ? "start" : "middle" }, label) : null));
  return h("figure", { class: before.length ? "histogram" : "histogram fresh" }, h("figcaption", null, h("b", null, title), h("span", { class: "before" }, h("i"), "before"), h("span", { class: "after" }, h("i"), "after")),
    s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title}, before and after: ${labels.map((label, i) => `${label} ${share(was[i] ?? 0)} to ${share(is[i] ?? 0)}`).slice(0, 12).join("; ")}` }, columns, words));
}

// The same of an alert's feature, whose histograms carry their own bins.
export const explained = (one) => histogram(one.name, { edges: one.after?.edges ?? one.before?.edges, names: one.after?.names ?? one.before?.names, before: one.before?.counts, after: one.after?.counts });
