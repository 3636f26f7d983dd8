// Below the table: how much is ticked, highlighted and shown. Over it: what was just done, and what came meanwhile.

import { ArrowDown, X } from "lucide";

import { h } from "../common/dom.js";
import { icon, iconButton } from "../common/icons.js";
import { number } from "./body.js";

const SHOWN_FOR = 6000;

export class Status {
  constructor(table) {
    this.table = table;
    this.counts = h("span", { class: "fnb-table-counts", role: "status" });
    this.note = h("span", { class: "fnb-table-remark" });
    this.element = h("div", { class: "fnb-table-foot" }, this.counts, this.note);
    this.toast = h("div", { class: "fnb-table-toast", role: "status", hidden: true });
    this.words = h("span", {});
    this.fresh = h(
      "button",
      { type: "button", class: "fnb-button fnb-button-first fnb-table-fresh", hidden: true, onclick: () => this.goToNew() },
      this.words,
      icon(ArrowDown),
    );
    this.seen = null;
  }

  takeState(before, first) {
    const { state } = this.table;
    if (first || this.seen === null) this.seen = state.added;
    this.draw();
  }

  draw() {
    const { state, highlighted, body } = this.table;
    const { ticked, shown, total, trashed } = state;
    const parts = [`${number(ticked)} ticked`, `${number(highlighted)} highlighted`];
    parts.push(shown === total ? `${number(total)} shown` : `${number(shown)} of ${number(total)} shown`);
    if (trashed && !state.show_trash) parts.push(`${number(trashed)} in TRASH`);
    const text = parts.join(" · ");
    if (this.counts.textContent !== text) this.counts.textContent = text;
    const remark = state.remark || (state.writable === false ? "read-only: ticks are kept here only" : "");
    if (this.note.textContent !== remark) this.note.textContent = remark;
    const atEnd = body.isAtEnd(state.lines) || state.lines <= body.sight().whole;
    if (atEnd) this.seen = state.added;
    const fresh = state.added - (this.seen ?? 0);
    this.fresh.hidden = fresh <= 0;
    if (fresh > 0) this.words.textContent = `${number(fresh)} new`;
  }

  async goToNew() {
    this.seen = this.table.state.added;
    this.draw();
    const answer = await this.table.ask("newest");
    if (answer && answer.line >= 0) this.table.body.goTo(answer.line);
    else if (answer) this.say("The new exposures do not pass the filters, or are in a closed group.");
    this.table.focus();
  }

  say(text, { failed = false, undo = false, details = "" } = {}) {
    clearTimeout(this.timer);
    this.toast.hidden = false;
    this.toast.dataset.kind = failed ? "failed" : "info";
    this.toast.setAttribute("role", failed ? "alert" : "status");
    const back = undo
      ? h(
          "button",
          {
            type: "button",
            class: "fnb-button",
            onclick: () => {
              this.quiet();
              this.table.ask("undo");
              this.table.focus();
            },
          },
          "Undo",
        )
      : null;
    const more = details ? h("details", {}, h("summary", {}, "Details"), h("pre", {}, details)) : null;
    const close = iconButton(X, "Close", () => this.quiet());
    const said = h("div", { class: "fnb-table-said" }, text, more);
    this.toast.replaceChildren(...[said, back, close].filter(Boolean));
    if (!failed) this.timer = setTimeout(() => this.quiet(), SHOWN_FOR);
  }

  quiet() {
    clearTimeout(this.timer);
    this.toast.hidden = true;
  }
}
