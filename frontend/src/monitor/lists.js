// What stands around the plots: numbers, forecast, pictures, hours, failures, other sessions.

import { h } from "../common/dom.js";
import { icon, state } from "../common/icons.js";
import { History, ImageOff } from "lucide";
import { alertList } from "./glance.js";
import { bytes, clock, count, duration, moment, number, percent, withUnit } from "./words.js";

const FEW = 3; // sessions below which there is no telling what is usual

const section = (title, ...parts) => h("section", {}, h("div", { class: "section-head" }, h("h2", {}, title)), ...parts);

function tile(value, caption, note = "") {
  return h("div", { class: "tile" }, h("b", { class: "fnb-number" }, value), h("span", { class: "fnb-caption" }, caption), note ? h("span", { class: "fnb-caption" }, note) : null);
}

export function numbers(status) {
  const { counts, speed, disk } = status;
  const tiles = [
    tile(count(counts.images), "images", counts.failed ? `${count(counts.failed)} failed` : ""),
    tile(count(counts.usable), "usable", counts.processed ? percent(counts.usable / counts.processed) : ""),
    tile(count(speed.recording), "recorded/h"),
    tile(count(speed.processing), "processed/h"),
    tile(count(counts.waiting), "waiting", waitingNote(counts, speed)),
  ];
  if (disk) {
    if (disk.hours_left !== null) {
      const end = status.made_at + 3600 * disk.hours_left;
      tiles.push(tile(duration(3600 * disk.hours_left), "until the disk is full", disk.hours_left < 48 ? `about ${moment(end)}` : ""));
    }
    tiles.push(tile(bytes(disk.free), "free", `of ${bytes(disk.total)}`));
    if (disk.images_left !== null) tiles.push(tile(count(disk.images_left), "more images fit", disk.usable_left === null ? "" : `${count(disk.usable_left)} of them usable`));
  }
  return h("div", { class: "tiles", "aria-label": "Numbers and forecast" }, ...tiles);
}

function waitingNote(counts, speed) {
  if (!counts.waiting) return "";
  if (!speed.served) return "nobody processes";
  return speed.hours_to_catch_up ? `${duration(3600 * speed.hours_to_catch_up)} of work` : "";
}

export function pictures(status, address, enlarge) {
  if (!status.pictures.length) return null;
  const of = status.pictures_of;
  const shown = status.pictures.map((picture) => {
    const source = picture.file ? address(picture.file) : null;
    const view = source
      ? h("button", { type: "button", class: "enlarge", "aria-label": `Enlarge: ${picture.label}`, onclick: () => enlarge(picture, source) }, h("img", { src: source, alt: picture.label, width: picture.width, height: picture.height }))
      : h("div", { class: "missing fnb-caption" }, icon(ImageOff), picture.missing ?? "");
    const notes = [picture.label, picture.blurred_to ? `blurred to ${picture.blurred_to} Å` : ""].filter(Boolean);
    return h("figure", {}, view, h("figcaption", {}, notes[0], notes[1] ? h("span", { class: "fnb-caption" }, notes[1]) : null));
  });
  const values = Object.entries(of?.values ?? {}).map(([name, value]) => {
    const q = status.quantities[name];
    return q ? `${q.label} ${withUnit(number(value, q.precision), q.unit)}` : null;
  });
  const told = of ? [of.name, `recorded ${moment(of.time, true)}`, ...values].filter(Boolean).join(" · ") : "";
  return section("Last image", h("p", { class: "fnb-caption" }, told), h("div", { class: "pictures" }, ...shown));
}

function table(head, rows) {
  const cells = (tag, row) => h("tr", {}, ...row.map((cell) => h(tag, {}, cell)));
  return h("div", { class: "scroll" }, h("table", {}, h("thead", {}, cells("th", head)), h("tbody", {}, ...rows.map((row) => cells("td", row)))));
}

export function hours(status) {
  if (!status.counts.images) return null;
  return section("Images", table(["Last", "recorded", "processed", "usable", "failed"], status.windows.map((w) => [`${w.hours} h`, count(w.images), count(w.processed), count(w.usable), count(w.failed)])));
}

export function failures(status) {
  if (!status.failures?.length) return null;
  const lines = status.failures.map((f) => h("li", {}, state("failed", `${count(f.count)} ×`), h("div", {}, f.reason), h("span", { class: "when" }, `last ${moment(f.last)}`)));
  return section("Failures", h("ul", { class: "lines" }, ...lines));
}

export function alerts(status) {
  if (!status.alerts.length) return null;
  const open = status.alerts.filter((alert) => alert.recovered === null);
  const over = status.alerts.filter((alert) => alert.recovered !== null);
  const past = over.map((alert) => h("li", {}, state("new", ""), h("div", {}, alert.sentence), h("span", { class: "when" }, `${moment(alert.began)}–${clock(alert.recovered)}`)));
  return section("Alerts", alertList(open), past.length ? h("details", { open: open.length === 0 }, h("summary", {}, `${past.length} recovered`), h("ul", { class: "lines" }, ...past)) : null);
}

// Where the present median lies among those of the last month's sessions.
function strip({ present, low, median, high }) {
  const [least, most] = [Math.min(present, low), Math.max(present, high)];
  const at = (value) => `${most > least ? (100 * (value - least)) / (most - least) : 50}%`;
  const band = h("i", { class: "band" });
  Object.assign(band.style, { left: at(low), right: `calc(100% - ${at(high)})` });
  const middle = h("i", { class: "middle" });
  middle.style.left = at(median);
  const dot = h("i", { class: "dot", dataset: { outside: present < low || present > high ? "yes" : "no" } });
  dot.style.left = at(present);
  return h("span", { class: "strip", "aria-hidden": "true" }, band, middle, dot);
}

export function past(status) {
  const known = Object.entries(status.history?.quantities ?? {}).filter(([name]) => status.quantities[name]);
  if (!known.length) return null;
  const sessions = status.history.sessions;
  const few = sessions < FEW;
  const rows = known.map(([name, usual]) => {
    const q = status.quantities[name];
    const told = few ? number(usual.median, q.precision) : `${number(usual.low, q.precision)} – ${number(usual.high, q.precision)}`;
    return [q.label, withUnit(number(usual.present, q.precision), q.unit), few ? "" : strip(usual), told];
  });
  const bar = few ? "Medians of this session and of" : "Medians of this session (dot) and of";
  return section("Against the last month", h("p", { class: "fnb-caption fnb-row" }, icon(History), `${bar} ${sessions} ${sessions === 1 ? "other" : "others"} at this microscope${few ? "" : " (bar: 10-90 %)"}.`), table(["", "now", "", "usual"], rows));
}
