// The keyboard: Focus' own keys where the browser lets them through, and those a table is used to.

import { claim } from "../common/dom.js";

const FLAGS = { n: "", r: "red", g: "green", b: "blue", o: "gold" };

export const KEYS = [
  ["↑ ↓", "previous, next row; with Shift the range grows"],
  ["Page Up, Page Down, Home, End", "a page, the first, the last line"],
  ["← →", "close, open a group"],
  ["Space", "tick the highlighted rows"],
  ["Ctrl Space", "take their ticks off"],
  ["N R G B O", "no flag, red, green, blue, gold on the highlighted rows"],
  ["Ctrl A", "tick all rows shown"],
  ["Ctrl R", "take all ticks off"],
  ["Ctrl I", "invert the ticks of the rows shown"],
  ["Ctrl X", "show ticked rows only, or all"],
  ["Ctrl M", "move the highlighted rows to a group, or to a new one"],
  ["Ctrl T, Delete", "move them to TRASH; most browsers keep Ctrl T for themselves"],
  ["Ctrl Z", "take the last change back"],
  ["Ctrl C", "copy the highlighted rows"],
  ["Enter", "open the exposure"],
  ["F2", "write its comment, Shift Enter begins a line; on a group, rename it"],
  ["/ or Ctrl F", "look for a text"],
  ["Shift F10", "menu of the row"],
  ["Escape", "highlight nothing"],
  ["Tab", "captions: Enter sorts, Shift Enter adds a key, ↓ filters, Alt ← → moves, Delete hides"],
  ["?", "this list"],
];

export function bindKeys(table) {
  const onKey = (event) => {
    if (event.target !== table.scroll) return;
    if (use(table, event)) claim(event);
  };
  table.scroll.addEventListener("keydown", onKey);
  // JupyterLab looks at keys before they come here, unless it is told not to
  table.el.dataset.lmSuppressShortcuts = "true";
  const keep = (event) => event.stopPropagation();
  table.el.addEventListener("keydown", keep);
  return () => {
    table.scroll.removeEventListener("keydown", onKey);
    table.el.removeEventListener("keydown", keep);
  };
}

// Whether the key was one of ours.
function use(table, event) {
  const { key, shiftKey } = event;
  if (event.altKey) return false;
  const control = event.ctrlKey || (event.metaKey && ["a", "c", "f", "z"].includes(key));
  if (event.metaKey && !control) return false;
  return move(table, key, shiftKey) || (control ? withControl(table, key.toLowerCase()) : plain(table, key, shiftKey));
}

function move(table, key, extend) {
  const { body, state } = table;
  const at = body.cursor ? body.cursor.line : -1;
  const { whole, first } = body.sight();
  const page = Math.max(whole - 1, 1);
  const from = at < 0 ? first - (key === "ArrowDown" || key === "PageDown" ? 1 : 0) : at;
  const target = {
    ArrowDown: from + 1,
    ArrowUp: from - 1,
    PageDown: from + page,
    PageUp: from - page,
    Home: 0,
    End: state.lines - 1,
  }[key];
  if (target === undefined) return false;
  body.goTo(target, { extend });
  return true;
}

function withControl(table, key) {
  const { body, menus, state } = table;
  switch (key) {
    case " ":
      table.ask("tick", { how: "untick" });
      return true;
    case "a":
      table.ask("tick", { how: "all" });
      return true;
    case "r":
      table.ask("tick", { how: "none" });
      return true;
    case "i":
      table.ask("tick", { how: "invert" });
      return true;
    case "x":
      table.ask("show", { only_ticked: !state.only_ticked });
      return true;
    case "m":
      menus.openGroups();
      return true;
    case "t":
      table.ask("trash");
      return true;
    case "z":
      table.ask("undo");
      return true;
    case "c":
      menus.copy();
      return true;
    case "f":
      table.bar.focusSearch();
      return true;
    default:
      return body.cursor !== null && key === "enter";
  }
}

function plain(table, key, shiftKey) {
  const { body, menus } = table;
  const { cursor } = body;
  const letter = key.toLowerCase();
  if (key.length === 1 && letter in FLAGS) {
    table.ask("flag", { flag: FLAGS[letter] });
    return true;
  }
  switch (key) {
    case " ":
      if (cursor && cursor.id === null) menus.tickGroup(cursor.group);
      else table.ask("tick", { how: "tick" });
      return true;
    case "ArrowLeft":
    case "ArrowRight":
      return fold(table, key === "ArrowLeft");
    case "Delete":
      table.ask("trash");
      return true;
    case "Enter":
      if (cursor && cursor.id !== null) table.tell("open", { id: cursor.id });
      else if (cursor) menus.toggleGroup(cursor.group);
      return true;
    case "F2":
      if (cursor && cursor.id !== null) menus.editComment(cursor.line);
      else if (cursor && table.state.grouped === "group") menus.renameGroup(cursor);
      return true;
    case "/":
      table.bar.focusSearch();
      return true;
    case "?":
      menus.openKeys();
      return true;
    case "Escape":
      table.status.quiet();
      body.clearMarks();
      return true;
    case "ContextMenu":
      menus.openRowAtCursor();
      return true;
    case "F10":
      if (!shiftKey) return false;
      menus.openRowAtCursor();
      return true;
    default:
      return false;
  }
}

// Left closes the group of the row under the cursor, right opens it; without groups the table moves sideways.
function fold(table, closing) {
  const { body, menus, scroll, state } = table;
  const { cursor } = body;
  if (!state.grouped || !cursor) {
    scroll.scrollLeft += closing ? -80 : 80;
    return true;
  }
  if (cursor.id === null) {
    const line = body.lineAt(cursor.line);
    if (line && line[3] === closing) menus.toggleGroup(cursor.group);
    else scroll.scrollLeft += closing ? -80 : 80;
  } else if (closing && scroll.scrollLeft === 0) {
    const group = body.groupLineOf(cursor.line);
    if (group >= 0) body.goTo(group);
  } else scroll.scrollLeft += closing ? -80 : 80;
  return true;
}
