// A microscope at a glance: what state it is in has to be read within three seconds, from a phone, at night.

import { h } from "../common/dom.js";
import { state } from "../common/icons.js";
import { count, duration, moment, number, percent, withUnit } from "./words.js";

const GONE = 3600; // s without news after which something is wrong, whatever the session was; as microscopes.GONE
const SHAPES = { ok: "done", idle: "queued", warning: "warning", bad: "failed" };

// What is shown of a card at a moment: a state that should have been renewed by now is stale, whoever says so.
export function present(card, now) {
  if (card.valid_until === null || now <= card.valid_until || card.word === "Not reachable") return card;
  const level = card.level === "bad" || now - card.made_at > GONE ? "bad" : "warning";
  if (card.word === "Stale") return { ...card, level };
  return { ...card, word: "Stale", since: card.made_at, level, shape: "warning", was: card.word };
}

// How long says more to who is tired than since when.
export function headline(card, now) {
  if (card.headline && card.word === "Recording") return card.headline;
  return card.since === null ? card.word : `${card.word} for ${duration(now - card.since)}`;
}

function told(card) {
  const old = card.word === "Stale" || card.word === "Not reachable";
  if (card.word === "Stale") return `Nothing newer than of ${moment(card.made_at)} is published. It was: ${card.was.toLowerCase()}${card.sentence ? `, ${card.sentence.charAt(0).toLowerCase()}${card.sentence.slice(1)}` : ""}`;
  if (card.headline && card.word === "Recording") return `Recording. ${card.sentence}`;
  return old && card.was ? `${card.sentence}. Last seen ${moment(card.made_at)}. It was: ${card.was.toLowerCase()}` : card.sentence;
}

function ageOf(card, now) {
  if (card.last_image === null) return ["–", "no image yet"];
  return [duration(now - card.last_image), "since last image"];
}

export function alertList(alerts, most = Infinity) {
  if (!alerts.length) return null;
  const notes = { acknowledged: "acknowledged", muted: "muted" };
  const lines = alerts.slice(0, most).map((alert) => {
    const note = [notes[alert.state], alert.undelivered && "the message could not be delivered"].filter(Boolean).join(", ");
    return h(
      "li",
      { dataset: { level: alert.severe ? "bad" : "warning" } },
      state(alert.severe ? "failed" : "warning", ""),
      h("div", {}, h("b", {}, alert.sentence), alert.hint ? h("small", {}, alert.hint) : null, note ? h("small", {}, note) : null),
      h("span", { class: "when" }, moment(alert.began)),
    );
  });
  if (alerts.length > most) lines.push(h("li", {}, h("small", {}, `and ${alerts.length - most} more`)));
  return h("ul", { class: "alerts", "aria-label": "Alerts" }, ...lines);
}

function figure(value, caption, kind = "") {
  return h("div", { class: `figure ${kind}` }, h("b", { class: "fnb-number" }, value), h("span", { class: "fnb-caption" }, caption));
}

function outside(value) {
  return value.value !== null && ((value.low !== null && value.value < value.low) || (value.high !== null && value.value > value.high));
}

// The head of a card: level, state and what more there is to say. `tick(now)` keeps its age.
export function head(card, store, now, { title = true } = {}) {
  const shown = present(card, now);
  const [age, ageCaption] = ageOf(shown, now);
  const old = shown.word === "Stale" || shown.word === "Not reachable";
  const address = shown.picture && store.need(shown.name, [shown.picture.file]) ? store.picture(shown.picture.file) : null;
  const blurred = shown.picture?.blurred_to ? `, blurred to ${shown.picture.blurred_to} Å` : "";
  const picture = shown.picture && h("figure", { class: "last" }, address ? h("img", { src: address, alt: `Last image${blurred}`, title: `${shown.picture.label}${blurred}` }) : null);
  const parts = [
    h(
      "div",
      { class: "band", dataset: { level: shown.level }, role: "status" },
      state(SHAPES[shown.level] ?? "new", ""),
      h("div", {}, title ? h("span", { class: "name" }, shown.name, shown.subtitle ? h("span", { class: "fnb-caption" }, ` ${shown.subtitle}`) : null) : null, h("strong", {}, headline(shown, now)), told(shown) ? h("span", { class: "told" }, told(shown)) : null),
    ),
    alertList(shown.alerts, 3),
  ];
  if (shown.made_at !== null) {
    parts.push(
      h(
        "div",
        { class: "body" },
        h(
          "div",
          { class: "figures" },
          figure(age, ageCaption, "age"),
          figure(old ? "–" : count(shown.rate), "images/h"),
          figure(percent(shown.usable), "usable"),
        ),
        picture,
      ),
    );
    const known = shown.values.filter((value) => value.value !== null);
    if (known.length && title) {
      parts.push(
        h(
          "div",
          { class: "values", title: "Medians of the last 15 images" },
          ...known.map((value) =>
            h("div", { "data-outside": outside(value) ? "yes" : null }, h("span", {}, value.label), h("b", { class: "fnb-number" }, outside(value) ? state("warning", "") : null, withUnit(number(value.value, value.precision), value.unit))),
          ),
        ),
      );
    }
  }
  return { shown, parts };
}

// All cards; each is drawn anew only where something about it changed.
export function makeGlance(place, store, onOpen) {
  const cards = new Map(); // name -> {element, key}
  const summary = h("p", { class: "summary" });
  const list = h("div", { class: "cards" });
  place.append(summary, list);

  function show(all, now) {
    for (const name of [...cards.keys()]) {
      if (all.some((card) => card.name === name)) continue;
      cards.get(name).element.remove();
      cards.delete(name);
    }
    for (const card of all) {
      const kept = cards.get(card.name) ?? { element: h("button", { type: "button", class: "card", onclick: () => onOpen(card.name) }), key: "" };
      const shown = present(card, now);
      const arrived = card.picture ? store.picture(card.picture.file) : "";
      const key = JSON.stringify([shown, headline(shown, now), arrived]);
      if (key !== kept.key) {
        kept.element.replaceChildren(...head(card, store, now).parts.filter(Boolean));
        kept.element.dataset.level = shown.level;
        kept.element.setAttribute("aria-label", `${card.name}: ${headline(shown, now)}`);
        kept.key = key;
      }
      const age = kept.element.querySelector(".age b");
      if (age) age.textContent = ageOf(shown, now)[0];
      if (!cards.has(card.name)) list.append(kept.element);
      cards.set(card.name, kept);
    }
    const rank = { bad: 0, warning: 1 };
    const bad = all.map((card) => present(card, now)).filter((card) => card.level in rank).sort((a, b) => rank[a.level] - rank[b.level]);
    summary.hidden = all.length < 2;
    summary.dataset.level = bad.some((card) => card.level === "bad") ? "bad" : bad.length ? "warning" : "ok";
    const who = bad.length === all.length ? `All ${all.length} need` : `${bad.length} of ${all.length} ${bad.length > 1 ? "need" : "needs"}`;
    const text = bad.length ? `${who} a look` : "All is well";
    // the worst first; the cards stay where they are, or a finger would meet another one
    const names = bad.length && bad.length < all.length ? bad.map((card) => card.name).join(", ") : "";
    if (summary.textContent !== text + names) summary.replaceChildren(state(SHAPES[summary.dataset.level], text), ...(names ? [h("small", {}, names)] : []));
  }

  return { show };
}
