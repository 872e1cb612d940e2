// Numbers, spans and times as a person reads them.

const NONE = "–";
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const absent = (value) => value === null || value === undefined || Number.isNaN(value);

export function number(value, digits = 3) {
  if (absent(value)) return NONE;
  if (typeof value !== "number") return String(value);
  if (value === 0 || !Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  if (size < 1e-4 || size >= 1e9) return value.toPrecision(digits);
  if (size >= 1000) return whole.format(value);
  return String(Number(value.toPrecision(digits)));
}

export const count = (value) => (absent(value) ? NONE : whole.format(value));
export const loss = (value) => (absent(value) ? NONE : value.toFixed(4));
export const share = (value) => (absent(value) ? NONE : `${(100 * value).toFixed(value < 0.1 && value > 0 ? 1 : 0)} %`);

// Per second; what is rare is said by the minute or the hour.
export function rate(value) {
  if (absent(value)) return NONE;
  if (value >= 10) return `${whole.format(value)}/s`;
  if (value >= 0.95) return `${value.toFixed(1)}/s`;
  if (value * 60 >= 0.95) return `${whole.format(value * 60)}/min`;
  return value * 3600 >= 0.5 ? `${whole.format(value * 3600)}/h` : "0/s";
}

export function bytes(value) {
  if (absent(value)) return NONE;
  const [unit, name] = [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"], [1, "B"]].find(([least]) => value >= least) ?? [1, "B"];
  return `${number(value / unit, 3)} ${name}`;
}

export function ms(value) {
  if (absent(value)) return NONE;
  if (value >= 1000) return lasting(value / 1000);
  if (value >= 100) return `${whole.format(value)} ms`;
  return value >= 1 ? `${number(value, 2)} ms` : `${whole.format(value * 1000)} µs`;
}

const UNITS = [[86_400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

export function lasting(seconds) {
  if (absent(seconds)) return NONE;
  if (seconds < 0.05) return "0 s";
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const at = UNITS.findIndex(([unit]) => seconds >= unit);
  const [unit, name] = UNITS[at];
  const large = at === 3 ? Math.round(seconds) : Math.floor(seconds / unit);
  const left = at < 3 ? Math.floor((seconds - large * unit) / UNITS[at + 1][0]) : 0;
  return left ? `${large} ${name} ${left} ${UNITS[at + 1][1]}` : `${large} ${name}`;
}

export function ago(at, now = Date.now()) {
  if (absent(at)) return NONE;
  const seconds = (now - at) / 1000;
  return Math.abs(seconds) < 2 ? "just now" : seconds > 0 ? `${lasting(seconds)} ago` : `in ${lasting(-seconds)}`;
}

// Event time, always in UTC, since events come from anywhere.
export function moment(at, seconds = false) {
  if (absent(at)) return NONE;
  const date = new Date(at);
  if (Number.isNaN(date.getTime())) return String(at);
  return `${date.toISOString().slice(0, seconds ? 19 : 16).replace("T", " ")}Z`;
}

export const counted = (many, what) => `${count(many)} ${what}${many === 1 ? "" : "s"}`;
export const plainly = (name) => String(name).replace(/_/g, " ");
