// The page of units: its state (units shown, chosen and selected), and the details of a single unit. Names in recordings
// are untrusted, so they are only inserted as text, never as HTML.

const NUMBER_BINS = 8, LEGEND_ROWS = 60, FOUND_ROWS = 12;
const GROUPS = ["animal", "recording", "population"];

class Page {
  constructor({ header, array }) {
    Object.assign(this, { ids: header.ids, units: header.ids.length, depths: header.depths && array(header.depths) });
    this.columns = header.columns.map(column => ({ ...column, values: array(column.values), off: new Set() }));
    this.details = header.details && Object.fromEntries(Object.entries(header.details).map(
      ([name, value]) => [name, value && value.type ? array(value) : value]));
    this.sets = header.maps.map(set => ({ ...set, neighbours: array(set.neighbours), layouts: Object.fromEntries(
      Object.entries(set.layouts).map(([name, place]) => [name, this.points(array(place))])) }));
    // Units are drawn in random order, so that no class covers all others.
    this.order = Uint32Array.from({ length: this.units }, (_, i) => i);
    for (let i = this.units - 1, seed = 1; i > 0; i--) {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
      const j = Math.floor(seed / 2 ** 32 * (i + 1));
      [this.order[i], this.order[j]] = [this.order[j], this.order[i]];
    }
    this.chosen = -1;
    this.selected = null;
    this.makeMaps();
    this.makeControls();
    this.colourBy(0);
    // Painted at once: a browser that prints a dark page in light colours draws no frame before.
    dark.addEventListener("change", () => { this.colourBy(this.place); this.maps.forEach(map => map.paint()); });
  }

  points(steps) {
    const half = steps.length / 2, at = i => steps[i] === -32768 ? NaN : steps[i] / 65000;
    return { x: Float32Array.from({ length: half }, (_, i) => at(i)), y: Float32Array.from({ length: half }, (_, i) => at(half + i)) };
  }

  makeMaps() {
    const [layout] = Object.keys(this.sets[0].layouts);
    this.maps = this.sets.map(set => {
      const canvas = element("canvas", { tabindex: 0, role: "application", "aria-label": `Map of units in ${set.name}`,
        "aria-roledescription": "map", "aria-describedby": "keys" });
      const tip = element("div", { class: "tip", "aria-hidden": "true", hidden: "" });
      const caption = element("figcaption");
      $("maps").append(element("figure", { class: "map" }, element("h2", {}, set.name),
        element("div", { class: "frame" }, canvas, tip), caption));
      const map = new UnitMap(canvas, set.layouts[layout], {
        hover: (unit, place) => this.hover(map, unit, place),
        choose: unit => this.choose(unit),
        lasso: units => this.select(units),
        escape: () => this.select(null),
      });
      return Object.assign(map, { tip, caption });
    });
  }

  makeControls() {
    this.columns.forEach((column, i) => $("column").append(element("option", { value: i }, words(column.name))));
    $("column").addEventListener("change", () => this.colourBy(+$("column").value));
    const layouts = Object.keys(this.sets[0].layouts), called = { pca: "principal components", umap: "UMAP", tsne: "t-SNE" };
    layouts.forEach(name => $("layout").append(element("option", { value: name }, called[name])));
    $("layouts").hidden = layouts.length < 2;
    $("layout").addEventListener("change", () => this.maps.forEach((map, i) => {
      map.points = this.sets[i].layouts[$("layout").value];
      map.reset();
    }));
    const drag = lasso => {
      this.maps.forEach(map => { map.lassoing = lasso; });
      $("lasso").setAttribute("aria-pressed", lasso);
      $("pan").setAttribute("aria-pressed", !lasso);
    };
    $("pan").addEventListener("click", () => drag(false));
    $("lasso").addEventListener("click", () => drag(true));
    $("nearer").addEventListener("click", () => this.maps.forEach(map => map.zoom(ZOOM_STEP)));
    $("farther").addEventListener("click", () => this.maps.forEach(map => map.zoom(1 / ZOOM_STEP)));
    $("whole").addEventListener("click", () => this.maps.forEach(map => map.reset()));
    $("search").addEventListener("input", () => this.search());
    $("search").addEventListener("keydown", event => { if (event.key === "Enter" && this.matches.length) this.choose(this.matches[0], true); });
    $("all").addEventListener("click", () => this.filter(() => true));
    $("none").addEventListener("click", () => this.filter(() => false));
    $("select-shown").addEventListener("click", () => this.select(this.order.filter(unit => this.shown[this.codes[unit]])));
    $("clear").addEventListener("click", () => this.select(null));
    $("save").addEventListener("click", () => this.save());
    this.select(null);
    this.search();
  }

  // Classes of a column: its names, its numbers if these are few, or ranges with about equal numbers of units; the last is
  // "not known".
  classes(column) {
    if (!column.codes) {
      if (column.names) Object.assign(column, { codes: column.values, classNames: [...column.names, "not known"] });
      else {
        const known = column.values.filter(Number.isFinite).sort(), few = [...new Set(known)];
        column.ranges = few.length > NUMBER_BINS;
        const edges = [...new Set(Array.from({ length: NUMBER_BINS + 1 }, (_, i) => known[Math.round(i / NUMBER_BINS * (known.length - 1))]))]
          .filter(Number.isFinite);
        const last = Math.max(1, edges.length - 1);
        const names = !column.ranges ? few.map(number) : edges.length < 2 ? edges.map(number) : edges.slice(1).map((edge, i) => `${number(edges[i])} to ${number(edge)}`);
        column.classNames = [...names, "not known"];
        column.codes = Uint16Array.from(column.values, value => {
          if (!Number.isFinite(value)) return names.length;
          if (!column.ranges) return few.indexOf(value);
          let bin = 0;
          while (bin < last - 1 && value >= edges[bin + 1]) bin++;
          return bin;
        });
      }
      column.counts = new Uint32Array(column.classNames.length);
      column.codes.forEach(code => column.counts[code]++);
    }
    return column;
  }

  colourBy(place) {
    this.place = place;
    const column = this.column = this.classes(this.columns[place]), several = column.classNames.length - 1;
    const [low, high] = RAMPS[dark.matches ? "dark" : "light"];
    const ramp = i => `rgb(${low.map((from, k) => Math.round(from + (high[k] - from) * i / Math.max(1, several - 1))).join(" ")})`;
    this.css = Array.from({ length: several }, (_, i) => column.names ? hue(i) : ramp(i)).concat(unknown());
    this.colours = packed(this.css);
    this.codes = column.codes;
    this.shown = column.classNames.map((_, i) => !column.off.has(i));
    this.makeLegend();
    this.agreement();
    this.draw();
    if (this.chosen >= 0) this.describe();
  }

  makeLegend() {
    const { column } = this, used = column.classNames.map((_, i) => i).filter(i => column.counts[i]);
    // Classes that would exceed LEGEND_ROWS share a row; "not known" has its own, which is the last.
    const unknown = used.at(-1) === column.classNames.length - 1 ? used.splice(-1) : [], most = LEGEND_ROWS - unknown.length;
    const rows = (used.length <= most ? used : [...used.slice(0, most - 1), used.slice(most - 1)]).concat(unknown);
    $("legend-title").textContent = words(column.name);
    $("legend").replaceChildren(...rows.map(row => {
      const codes = [row].flat(), count = codes.reduce((sum, i) => sum + column.counts[i], 0);
      const box = element("input", { type: "checkbox", "data-codes": codes.join(), onchange: () => this.filter((i, was) => codes.includes(i) ? box.checked : was) });
      box.checked = codes.some(i => this.shown[i]);
      const name = codes.length > 1 ? `${codes.length} others` : column.classNames[row];
      return element("label", {}, box, swatch(codes.length > 1 ? "currentColor" : this.css[row]), element("span", {}, name),
        element("small", {}, count.toLocaleString("en")));
    }));
  }

  filter(wanted) {
    this.shown = this.shown.map((was, i) => wanted(i, was));
    this.column.off = new Set(this.shown.flatMap((is, i) => is ? [] : [i]));
    for (const box of $("legend").querySelectorAll("input")) box.checked = box.dataset.codes.split(",").some(i => this.shown[i]);
    this.draw();
  }

  draw() {
    const { colours } = this, background = packed([variable("--page")])[0];
    const dimmed = colours.map(colour => mixed(background, colour, 48));
    const look = { background, colours, dimmed, text: variable("--text"), codes: this.codes, shown: this.shown,
      selected: this.selected, order: this.order, chosen: this.chosen };
    this.maps.forEach((map, i) => map.show({ ...look, near: this.chosen < 0 ? [] : this.nearOf(this.sets[i], this.chosen) }));
  }

  nearOf(set, unit) {
    const several = set.neighbours.length / this.units;
    return [...set.neighbours.subarray(unit * several, (unit + 1) * several)].filter(other => other >= 0);
  }

  // Show how often a unit's nearest neighbour is of the same class: a summary of how well a representation separates them.
  agreement() {
    const { column } = this, unknown = column.classNames.length - 1;
    this.maps.forEach((map, i) => {
      const set = this.sets[i], several = set.neighbours.length / this.units, counts = new Float64Array(unknown);
      let same = 0, pairs = 0;
      for (let unit = 0; unit < this.units; unit++) {
        const code = this.codes[unit], other = set.neighbours[unit * several];
        if (code === unknown || other < 0 || this.codes[other] === unknown) continue;
        pairs++;
        counts[code]++;
        same += code === this.codes[other];
      }
      const chance = counts.reduce((sum, count) => sum + (count / pairs) ** 2, 0), percent = share => `${Math.round(100 * share)}\u00a0%`;
      map.caption.textContent = !pairs || GROUPS.includes(column.name) ? "" :
        `The nearest neighbour among ${set.others} has the same ${words(column.name)}${column.ranges ? " range" : ""} for ${percent(same / pairs)} of units (by chance ${percent(chance)}).`;
    });
  }

  value(column, unit) {
    return column.names ? column.names[column.values[unit]] ?? "" : Number.isFinite(column.values[unit]) ? number(column.values[unit]) : "";
  }

  hover(map, unit, [left, top]) {
    map.tip.hidden = unit < 0;
    if (unit < 0) return;
    const said = this.columns.filter(column => column === this.column || GROUPS.includes(column.name) || ["brain_region", "cell_type"].includes(column.name));
    map.tip.textContent = [this.ids[unit], ...said.map(column => `${words(column.name)}: ${this.value(column, unit) || "not known"}`)].join("\n");
    map.tip.style.left = `${Math.max(0, Math.min(left + 14, map.width - map.tip.offsetWidth - 4))}px`;
    map.tip.style.top = `${top + 18 + map.tip.offsetHeight > map.height ? Math.max(0, top - map.tip.offsetHeight - 10) : top + 18}px`;
  }

  search() {
    const wanted = $("search").value.trim().toLowerCase();
    this.lower ??= this.ids.map(id => id.toLowerCase());
    this.matches = [];
    if (wanted) this.lower.forEach((id, unit) => { if (id.includes(wanted)) this.matches.push(unit); });
    // Exact matches come first.
    this.matches.sort((a, b) => (this.lower[b] === wanted) - (this.lower[a] === wanted) || a - b);
    const count = this.matches.length;
    $("matches").textContent = wanted ? `${count.toLocaleString("en")} unit${count === 1 ? "" : "s"} found${count > FOUND_ROWS ? `; the first ${FOUND_ROWS}:` : ""}` : "";
    $("found").replaceChildren(...this.matches.slice(0, FOUND_ROWS).map(unit => element("li", {}, this.link(unit))));
  }

  link(unit) { return element("button", { type: "button", onclick: () => this.choose(unit, true) }, this.ids[unit]); }

  choose(unit, reveal = false) {
    if (unit < 0) return;
    this.chosen = unit;
    if (reveal) this.maps.forEach(map => map.reveal(unit));
    $("chosen").replaceChildren(`Unit ${this.ids[unit]}, ${words(this.column.name)} ${this.value(this.column, unit) || "not known"}. `,
      element("a", { href: "#unit" }, "Details below."));
    this.draw();
    this.describe();
  }

  select(units) {
    this.selected = units && units.length ? new Uint8Array(this.units) : null;
    if (this.selected) for (const unit of units) this.selected[unit] = 1;
    const count = units ? units.length : 0;
    $("selection").textContent = count ? `${count.toLocaleString("en")} unit${count === 1 ? "" : "s"} selected.` : "No unit is selected.";
    $("clear").disabled = $("save").disabled = !count;
    if (this.column) this.draw();
  }

  save() {
    // A spreadsheet would run a name that is a formula with a call; an apostrophe makes it text. "+/+" and -1.5 stay.
    const inert = value => /^[=+@\t\r-].*[(|!]/s.test(value) ? `'${value}` : value;
    const cell = value => /[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value;
    const exact = (column, unit) => column.names || !Number.isFinite(column.values[unit]) ? this.value(column, unit)
      : String(+column.values[unit].toPrecision(column.values instanceof Float32Array ? 7 : 15));
    const at = (i, axis, unit) => { const value = this.maps[i].points[axis][unit]; return Number.isNaN(value) ? "" : value.toPrecision(6); };
    const head = ["unit_id", ...this.columns.map(column => column.name), ...this.sets.flatMap(set => [`${set.name} x`, `${set.name} y`])];
    const lines = [head.map(name => cell(inert(name))).join()];
    for (let unit = 0; unit < this.units; unit++)
      if (this.selected[unit])
        lines.push([this.ids[unit], ...this.columns.map(column => exact(column, unit)),
          ...this.sets.flatMap((_, i) => [at(i, "x", unit), at(i, "y", unit)])].map(value => cell(inert(value))).join());
    const address = URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/csv" }));
    element("a", { href: address, download: "selected_units.csv" }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
  }

  describe() {
    const unit = this.chosen, facts = element("dl", { class: "facts" }), plots = element("div", { class: "plots" });
    for (const column of this.columns)
      facts.append(element("div", {}, element("dt", {}, words(column.name)), element("dd", {}, this.value(column, unit) || "not known")));
    plots.append(...this.plots(unit));
    const near = element("div", { class: "near" }, ...this.sets.map(set => element("div", {},
      element("h3", {}, `Nearest among ${set.others}${this.sets.length > 1 ? `, ${set.name}` : ""}`),
      element("ol", {}, ...this.nearOf(set, unit).map(other => element("li", {}, this.link(other),
        ` ${[this.columns.find(column => column.name === "animal"), this.column].filter((column, i, all) => column && all.indexOf(column) === i)
          .map(column => this.value(column, other) || "not known").join(", ")}`))))));
    const heading = element("h2", { tabindex: -1 }, this.ids[unit]), focused = $("unit").contains(document.activeElement);
    $("unit").replaceChildren(heading, facts, plots, near);
    // The button that was pressed is gone, and a keyboard would start again at the top of the page.
    if (focused) heading.focus();
  }

  plots(unit) {
    const made = [], { details } = this, row = details ? details.row[unit] : -1;
    if (row >= 0) {
      const part = (name, several, scale) => Array.from(details[name].subarray(row * several, (row + 1) * several), value => value / scale);
      const spikes = details.modality === "spikes", seconds = value => `${short(value)} s`;
      const { lags, edges, widths } = details;
      const correlation = part("autocorrelogram", lags.length, 127);
      made.push(curve("Autocorrelogram", "correlation, by lag", lags.map(Math.log), correlation, [seconds(lags[0]), seconds(lags.at(-1))], details.short));
      const shares = part("intervals", edges.length - 1, 255).map(root => root * root);
      made.push(bars(spikes ? "Intervals between spikes" : "Intervals between events", "share, by interval", shares, [`to ${seconds(edges[1])}`, seconds(edges.at(-1))]));
      const several = details.rate.length / details.rateTop.length;
      const low = details.rateLow[row], rate = part("rate", several, 255).map(value => low + value * (details.rateTop[row] - low));
      made.push(curve(spikes ? "Rate over time" : "dF/F over time", spikes ? "Hz, by valid minute" : "dF/F, by valid minute",
        rate.map((_, i) => i), rate, ["0 min", `${number(details.minutes[row])} min`]));
      made.push(bars("Population coupling", "correlation, with the summed activity of the other units, by bin width", part("correlation", widths.length, 127),
        [seconds(widths[0]), seconds(widths.at(-1))]));
    }
    if (this.depths && Number.isFinite(this.depths[unit])) made.push(this.probe(unit));
    return made;
  }

  probe(unit) {
    const { depths } = this, own = [], group = ["population", "recording"].map(name => this.columns.find(column => column.name === name)).find(Boolean);
    let low = Infinity, high = -Infinity;
    for (let other = 0; other < this.units; other++)
      if (Number.isFinite(depths[other]) && (!group || group.values[other] === group.values[unit])) {
        own.push(other);
        [low, high] = [Math.min(low, depths[other]), Math.max(high, depths[other])];
      }
    const svg = picture("Position on the probe", `at ${number(depths[unit])} um, of units from ${number(low)} to ${number(high)} um`, 190);
    const y = depth => 172 - 140 * (depth - low) / Math.max(1e-9, high - low);
    for (const other of own)
      svg.append(drawn("circle", { cx: 80 + (other * 61) % 110, cy: y(depths[other]), r: 2.5, fill: this.css[this.codes[other]] }));
    svg.append(drawn("line", { x1: 68, x2: 202, y1: y(depths[unit]), y2: y(depths[unit]), stroke: "currentColor", "stroke-width": 2 }));
    if (high > low) label(svg, 60, 36, `${Math.round(high)} um`, "end");
    label(svg, 60, 176, `${Math.round(low)} um`, "end");
    return svg;
  }
}

function swatch(colour) {
  const svg = drawn("svg", { width: 12, height: 12, class: "swatch", "aria-hidden": "true" });
  svg.append(drawn("circle", { cx: 6, cy: 6, r: 5, fill: colour }));
  return svg;
}
function drawn(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}
function label(svg, x, y, text, anchor = "start") {
  const made = drawn("text", { x, y, "text-anchor": anchor });
  made.textContent = text;
  svg.append(made);
}
function picture(title, said, height = 130) {
  const svg = drawn("svg", { viewBox: `0 0 240 ${height}`, role: "img", "aria-label": `${title}: ${said}` });
  label(svg, 2, 12, title);
  svg.lastChild.style.cssText = "fill: var(--text); font-weight: 600; font-size: 12px";
  return svg;
}
// Frame that curves and bars share, and the function from a value to its vertical position.
function framed(title, said, values, ends) {
  const low = Math.min(0, ...values), high = Math.max(0, ...values), y = value => 106 - 74 * (value - low) / (high - low || 1);
  const svg = picture(title, `${said}; ${values.map(number).join(", ")}`);
  label(svg, 236, 12, said.split(",")[0], "end");
  for (const end of [low, high]) if (Math.abs(y(end) - y(0)) > 12) label(svg, 38, y(end) + 4, short(end), "end");
  label(svg, 38, y(0) + 4, "0", "end");
  label(svg, 44, 124, ends[0]);
  label(svg, 236, 124, ends[1], "end");
  svg.append(drawn("line", { x1: 44, x2: 236, y1: y(0), y2: y(0), stroke: "var(--edge)" }));
  return { svg, y };
}
// If `marks` is given, values are drawn as dots, with a gap after the first `marks`: later values use wider bins.
function curve(title, said, places, values, ends, marks = 0) {
  const { svg, y } = framed(title, said, values, ends), [first, last] = [places[0], places.at(-1)];
  const points = values.map((value, i) => [46 + 188 * (places[i] - first) / Math.max(1e-9, last - first), y(value)]);
  for (const part of [points.slice(0, marks), points.slice(marks)])
    svg.append(drawn("polyline", { points: part.join(" "), fill: "none", stroke: "var(--mark)", "stroke-width": 1.5 }));
  if (marks) points.forEach(([cx, cy]) => svg.append(drawn("circle", { cx, cy, r: 2.5, fill: "var(--mark)" })));
  return svg;
}
function bars(title, said, values, ends) {
  const { svg, y } = framed(title, said, values, ends), width = 190 / values.length;
  values.forEach((value, i) => svg.append(drawn("rect", { x: 45 + i * width, width: Math.max(1, width - 1), y: Math.min(y(0), y(value)), height: Math.abs(y(value) - y(0)), fill: "var(--mark)" })));
  return svg;
}

begin(content => new Page(content));
