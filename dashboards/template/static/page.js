// What the page itself does: say how far it is while it starts, and notice when its kernel or its server has gone.
"use strict";

(() => {
  const LATE = 30000; // milliseconds after which a start is late
  const LOOK = 5000; // milliseconds between two looks at the kernel
  const root = document.body.dataset.baseUrl.replace(/voila\/$/, "");
  const byId = (id) => document.getElementById(id);

  // The token has done its work: kept in the address it would be seen on a screen that is shared or photographed.
  const address = new URL(location.href);
  if (address.searchParams.has("token")) {
    address.searchParams.delete("token");
    history.replaceState(null, "", address);
  }

  const late = setTimeout(() => {
    if (byId("loading_late")) byId("loading_late").hidden = false;
  }, LATE);
  window.update_loading_text = (cell, cells, text) => {
    const words = byId("loading_text");
    if (words) words.textContent = text ?? "Reading the project";
  };
  window.voila_process = window.update_loading_text;
  window.voila_heartbeat = () => {};
  const display = window.display_cells;
  window.display_cells = () => {
    clearTimeout(late);
    display();
  };
  window.voila_finish = window.display_cells;

  if (navigator.serviceWorker) navigator.serviceWorker.register(`${root}sw.js`, { scope: root }).catch(() => {});

  // A phone that was locked, or a laptop that slept, comes back to a page whose kernel was freed meanwhile.
  let since = null;

  function tell(text) {
    const bar = byId("lost");
    bar.textContent = text;
    bar.hidden = text === "";
  }

  async function look() {
    const config = byId("jupyter-config-data");
    if (document.hidden || config === null || byId("loading")) return;
    const { kernelId } = JSON.parse(config.textContent);
    try {
      const answer = await fetch(`${root}api/kernels/${kernelId}`, { redirect: "manual", cache: "no-store" });
      if (answer.ok) {
        since = null;
        tell("");
      } else {
        tell("This page was asleep and is loaded again.");
        location.reload();
      }
    } catch {
      since ??= new Date().toLocaleTimeString([], { hourCycle: "h23" });
      tell(`The server cannot be reached since ${since}. What you see is of then; this page goes on when it is back.`);
    }
  }

  setInterval(look, LOOK);
  document.addEventListener("visibilitychange", look);
  window.addEventListener("online", look);
  window.addEventListener("pageshow", (event) => event.persisted && look());
})();
