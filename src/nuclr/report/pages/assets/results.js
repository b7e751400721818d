// Show the numbers of a figure's marks at the pointer, and one after another with the arrow keys. Without this script,
// browsers show them only when the pointer rests on a mark.

const REACH = 14;  // largest distance of a mark from the pointer (pixels)
const DOT = 24;  // largest width and height of a dot, in pixels

for (const svg of document.querySelectorAll("figure svg")) {
  const frame = svg.parentElement, tip = document.createElement("div"), ring = document.createElement("div");
  tip.className = "tip";
  tip.setAttribute("role", "status");
  ring.className = "ring";
  tip.hidden = ring.hidden = true;
  frame.append(ring, tip);
  svg.setAttribute("tabindex", 0);
  svg.setAttribute("aria-label", `${svg.getAttribute("aria-label")} Use the arrow keys to read its numbers.`);
  const marks = [...svg.querySelectorAll(".mark")].map(mark => {
    const title = mark.querySelector("title"), text = title.textContent;
    title.remove();  // otherwise shown twice
    return { mark, text, label: mark.classList.contains("label") };
  });
  let at = -1;

  const shown = ({ mark }) => getComputedStyle(mark).display !== "none";
  function show(place) {
    at = place;
    tip.hidden = ring.hidden = place < 0;
    if (place < 0) return;
    const box = marks[place].mark.getBoundingClientRect(), around = frame.getBoundingClientRect();
    const left = box.left - around.left + frame.scrollLeft, top = box.top - around.top;
    Object.assign(ring.style, { left: `${left - 3}px`, top: `${top - 3}px`, width: `${box.width + 6}px`, height: `${box.height + 6}px` });
    tip.textContent = marks[place].text;
    const middle = left + box.width / 2, room = frame.scrollLeft + frame.clientWidth - tip.offsetWidth;
    tip.style.left = `${Math.max(frame.scrollLeft, Math.min(middle - tip.offsetWidth / 2, room))}px`;
    // Towards the middle of the figure, so that it never leaves it.
    const below = top + box.height / 2 < frame.clientHeight / 2;
    tip.style.top = `${below ? top + box.height + 8 : top - tip.offsetHeight - 8}px`;
  }
  function nearest(x, y) {
    let best = -1, least = Infinity;
    marks.forEach((one, place) => {
      if (!shown(one)) return;
      const box = one.mark.getBoundingClientRect();
      const far = Math.hypot(Math.max(box.left - x, 0, x - box.right), Math.max(box.top - y, 0, y - box.bottom));
      // Of several marks under the pointer, the dot whose centre is nearest; then lines and cells.
      const dot = box.width < DOT && box.height < DOT;
      const rank = 100 * far + (dot ? Math.hypot(x - box.left - box.width / 2, y - box.top - box.height / 2) : DOT);
      if (far <= REACH && rank <= least) [best, least] = [place, rank];
    });
    return best;
  }
  const point = event => show(nearest(event.clientX, event.clientY));
  svg.addEventListener("pointermove", point);
  svg.addEventListener("pointerdown", point);
  svg.addEventListener("pointerleave", () => show(-1));
  svg.addEventListener("blur", () => show(-1));
  svg.addEventListener("keydown", event => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") show(-1);
    if (!step) return;
    event.preventDefault();
    // Labels are skipped, because a label has the same text as its line.
    const stops = marks.map((_, place) => place).filter(place => !marks[place].label && shown(marks[place]));
    if (!stops.length) return;
    const next = stops.indexOf(at) + step;
    show(stops[at < 0 && step < 0 ? stops.length - 1 : (next + stops.length) % stops.length]);
  });
}
