// Numbers, times and durations as they are read. Times are those of the device; s since 1970 inside.

export const clock = (t) => new Date(1000 * t).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

export function moment(t, seconds = false) {
  const date = new Date(1000 * t);
  const time = seconds ? date.toLocaleTimeString([], { hourCycle: "h23" }) : clock(t);
  if (date.toDateString() === new Date().toDateString()) return time;
  return `${date.toLocaleDateString([], { day: "numeric", month: "short" })} ${time}`;
}

export function duration(s) {
  if (s < 100) return `${Math.max(0, Math.round(s))} s`;
  if (s < 6000) return `${Math.round(s / 60)} min`;
  return s < 172800 ? `${(s / 3600).toFixed(1)} h` : `${Math.round(s / 86400)} days`;
}

export function number(value, precision) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const digits = { minimumFractionDigits: precision ?? 2, maximumFractionDigits: precision ?? 2, signDisplay: "negative" };
  return value.toLocaleString("en", digits).replace("-", "−");
}

export const count = (value) => (value === null || value === undefined ? "–" : Math.round(value).toLocaleString("en"));

export const percent = (part) => (part === null || part === undefined ? "–" : `${(100 * part).toFixed(part > 0.995 || part < 0.1 ? 1 : 0)} %`);

export function bytes(value) {
  if (value >= 1e12) return `${(value / 1e12).toFixed(1)} TB`;
  return value >= 1e9 ? `${(value / 1e9).toFixed(0)} GB` : `${(value / 1e6).toFixed(0)} MB`;
}

export const withUnit = (text, unit) => (unit ? `${text} ${unit}` : text);
