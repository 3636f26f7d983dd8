// Draws nothing: brings the look of the figures, has them painted anew when the page turns dark or light, and has a
// brush begin however long the button was held before.

import { begin } from "../common/dom.js";
import STYLES from "./styles.css";

const PATIENCE = 3_600_000; // ms

// Bokeh takes a button held for a quarter of a second for a press, which our figures know nothing of, and deaf to the
// drag that follows: with a hesitant hand, or on a busy machine, nothing would be marked. Other figures keep theirs.
function hold(event) {
  const gestures = window.Bokeh?.require?.("core/ui_gestures")?.UIGestures;
  if (!gestures) return;
  gestures.usual_threshold ??= gestures.press_threshold; // there, as each explorer of a page brings this module
  const isOurs = event.target.closest?.(".fnb-plots-figure");
  gestures.press_threshold = isOurs ? PATIENCE : gestures.usual_threshold;
}

function render({ el }) {
  begin(el, "plots-look", STYLES);
  el.hidden = true;
  const repaint = () => requestAnimationFrame(() => window.dispatchEvent(new Event("resize")));
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  scheme.addEventListener("change", repaint);
  document.addEventListener("pointerdown", hold, { capture: true });
  const observer = new MutationObserver(repaint);
  observer.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name"] });
  return () => {
    scheme.removeEventListener("change", repaint);
    document.removeEventListener("pointerdown", hold, { capture: true });
    observer.disconnect();
  };
}

export default { render };
