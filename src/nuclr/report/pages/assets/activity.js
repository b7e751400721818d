// The page of a population's activity: a raster or traces with zoom, and details of the unit and bin at the pointer.

const LEFT = 56, STRIP = 12, RIGHT = 84, BOTTOM = 26, MERGED = 4, STEP_PIXELS = 60, LABEL_PIXELS = 40, ZOOM_STEP = 1.6;
const TRACE_ROWS = 16, FEWEST_BINS = 20, FEWEST_ROWS = 3, MOST_CLASSES = 60;

class Page {
  constructor({ header, array }) {
    Object.assign(this, header);
    this.spikes = header.modality === "spikes";
    this.cells = array(header.cells);
    this.mean = array(header.mean);
    this.depths = array(header.depths);
    this.units = header.ids.length;
    this.columns = header.columns.map(column => ({ ...column, values: array(column.values) }));
    this.labels = this.columns.filter(column => column.names && column.names.length > 1 && column.names.length <= MOST_CLASSES);
    this.levels = [{ width: 1, bins: header.bins, values: this.cells }];
    this.total = this.summed();
    this.canvas = $("raster");
    this.context = this.canvas.getContext("2d", { alpha: false });
    this.tip = document.querySelector(".tip");
    this.makeControls();
    this.whole();
    this.listen();
    // Painted at once: a browser that prints a dark page in light colours draws no frame before.
    dark.addEventListener("change", () => { this.recolour(); this.paint(); });
    this.recolour();
    // Resizing a canvas empties it, so it is painted before the browser shows it.
    new ResizeObserver(() => { this.resize(); this.paint(); }).observe(this.canvas);
  }

  // Mean over units in each bin.
  summed() {
    const total = new Float32Array(this.bins);
    for (let unit = 0; unit < this.units; unit++)
      for (let bin = 0, at = unit * this.bins; bin < this.bins; bin++, at++) total[bin] += this.cells[at];
    for (let bin = 0; bin < this.bins; bin++) total[bin] = this.value(total[bin] / this.units);
    return total;
  }
  // Convert the byte of a cell to Hz or dF/F.
  value(cell) { return this.spikes ? cell / this.bin : this.low + cell * this.step; }

  // Means of the activity in wider bins, computed when they are needed.
  level(width) {
    let last = this.levels.at(-1);
    while (last.width * MERGED <= width && last.bins > 1) {
      const bins = Math.ceil(last.bins / MERGED), values = new Float32Array(bins * this.units);
      for (let unit = 0; unit < this.units; unit++)
        for (let bin = 0; bin < bins; bin++) {
          const from = unit * last.bins + bin * MERGED, to = unit * last.bins + Math.min(last.bins, (bin + 1) * MERGED);
          let sum = 0;
          for (let at = from; at < to; at++) sum += last.values[at];
          values[unit * bins + bin] = sum / (to - from);
        }
      last = { width: last.width * MERGED, bins, values };
      this.levels.push(last);
    }
    return this.levels.findLast(level => level.width <= Math.max(1, width));
  }
  // Value that is drawn darkest: the 95th percentile of the cells with activity.
  darkest(level) {
    if (level.darkest) return level.darkest;
    if (!this.spikes) return level.darkest = 255;
    const seen = [], stride = Math.max(1, Math.floor(level.values.length / 200000));
    for (let at = 0; at < level.values.length; at += stride) if (level.values[at] > 0) seen.push(level.values[at]);
    seen.sort((a, b) => a - b);
    return level.darkest = seen[Math.floor(0.95 * (seen.length - 1))] || 1;
  }

  makeControls() {
    const orders = [["as in the file", () => 0], ["mean activity", unit => -this.mean[unit]]], deepest = unit => Number.isFinite(this.depths[unit]) ? -this.depths[unit] : Infinity;
    if (this.depths.some(Number.isFinite)) orders.unshift(["depth", deepest]);
    this.labels.forEach(column => orders.push([words(column.name), unit => column.values[unit]]));
    orders.forEach(([name], i) => $("order").append(element("option", { value: i }, name)));
    const sort = () => {
      const [, key] = orders[+$("order").value];
      this.deep = key === deepest;  // a label may be called depth, too
      this.rows = Uint32Array.from({ length: this.units }, (_, i) => i).sort((a, b) => key(a) - key(b) || a - b);
      this.draw();
    };
    $("order").addEventListener("change", sort);
    this.labels.forEach((column, i) => $("column").append(element("option", { value: i }, words(column.name))));
    $("column").parentElement.hidden = !this.labels.length;
    $("column").addEventListener("change", () => this.recolour());
    $("time").addEventListener("change", () => {
      const at = (+$("time").value - this.start) / this.bin, half = Math.min(this.view.bins, 30 / this.bin) / 2;
      if ($("time").value && Number.isFinite(at)) this.show({ bin: at - half, bins: 2 * half });
    });
    for (const [id, time, units] of [["nearer", ZOOM_STEP, 1], ["farther", 1 / ZOOM_STEP, 1], ["fewer", 1, ZOOM_STEP], ["more", 1, 1 / ZOOM_STEP]])
      $(id).addEventListener("click", () => this.zoom(time, units));
    $("whole").addEventListener("click", () => this.whole());
    sort();
  }

  recolour() {
    const column = this.labels[+$("column").value];
    this.column = column;
    const [from, to] = packed([variable("--page"), variable("--text")]);
    const part = (colour, shift) => (colour >>> shift) & 255, mix = (i, shift) => Math.round(part(from, shift) + (part(to, shift) - part(from, shift)) * i / 255);
    this.greys = Uint32Array.from({ length: 256 }, (_, i) => (0xff000000 | (mix(i, 16) << 16) | (mix(i, 8) << 8) | mix(i, 0)) >>> 0);
    // Grey-blue for silences, orange for time that the file excludes.
    this.shades = { true: dark.matches ? "rgb(125 160 200 / 45%)" : "rgb(90 120 160 / 35%)", false: dark.matches ? "rgb(255 150 60 / 45%)" : "rgb(213 94 0 / 30%)" };
    $("silent-key").style.background = this.shades[true];
    $("excluded-key").style.background = this.shades[false];
    for (const [id, silent] of [["silent-key", true], ["excluded-key", false]])
      $(id).parentElement.hidden = !this.gaps.some(gap => gap.silent === silent);
    const legend = column ? [...column.names, "not known"] : [];
    this.classColours = legend.map((_, i) => i < legend.length - 1 ? hue(i) : unknown());
    const counts = new Uint32Array(legend.length);
    if (column) column.values.forEach(code => counts[code]++);
    document.querySelector(".legend").hidden = !column;
    if (column) $("legend-title").textContent = words(column.name);
    $("legend").replaceChildren(...legend.flatMap((name, i) => counts[i] ? [element("label", {},
      element("i", { class: "key", style: `background: ${this.classColours[i]}` }), element("span", {}, name), element("small", {}, String(counts[i])))] : []));
    this.draw();
  }

  whole() { this.show({ bin: 0, bins: this.bins, row: 0, rows: this.units }); }
  show(view) {
    const now = { ...this.view, ...view };
    now.bins = Math.min(this.bins, Math.max(Math.min(FEWEST_BINS, this.bins), now.bins));
    now.rows = Math.min(this.units, Math.max(Math.min(FEWEST_ROWS, this.units), now.rows));
    now.bin = Math.min(this.bins - now.bins, Math.max(0, now.bin));
    now.row = Math.min(this.units - now.rows, Math.max(0, now.row));
    this.view = now;
    this.draw();
  }
  // `across` and `down` are the point, as fractions of the plot's width and height, that stays in place.
  zoom(time, units, across = 0.5, down = 0.5) {
    const { bin, bins, row, rows } = this.view, width = bins / time, height = rows / units;
    this.show({ bin: bin + (bins - Math.min(width, this.bins)) * across, bins: width, row: row + (rows - Math.min(height, this.units)) * down, rows: height });
  }

  resize() {
    this.ratio = Math.min(window.devicePixelRatio || 1, 2);
    for (const canvas of [this.canvas, $("rates")]) {
      canvas.width = Math.max(1, Math.round(canvas.clientWidth * this.ratio));
      canvas.height = Math.max(1, Math.round(canvas.clientHeight * this.ratio));
    }
    this.width = this.canvas.clientWidth - LEFT - STRIP - RIGHT;
    this.height = this.canvas.clientHeight - BOTTOM;
    this.image = this.width > 0 && this.height > 0 ? this.context.createImageData(Math.round(this.width * this.ratio), Math.round(this.height * this.ratio)) : null;
  }
  draw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.paint(); });
  }

  paint() {
    if (!this.image || !this.greys) return;
    this.paintRaster();
    this.paintRates();
  }

  paintRaster() {
    const { context, view, ratio, width, height } = this, tall = height / view.rows;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = variable("--page");
    context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    const traces = !this.spikes && tall >= TRACE_ROWS;
    if (!traces) this.paintCells();
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.save();
    context.beginPath();
    context.rect(LEFT + STRIP, 0, width, height);
    context.clip();
    if (traces) this.paintTraces(tall);
    for (const gap of this.gaps) {
      context.fillStyle = this.shades[gap.silent];
      const from = this.left((gap.start - this.start) / this.bin), to = this.left((gap.stop - this.start) / this.bin);
      context.fillRect(from, 0, Math.max(1, to - from), height);
    }
    context.restore();
    this.paintUnits(tall);
    this.paintTime();
    if (this.canvas.matches(":focus-visible")) {
      context.strokeStyle = variable("--mark");
      context.lineWidth = 2;
      const x = LEFT + STRIP + width / 2, y = height / 2;
      for (const [a, b] of [[9, 0], [0, 9]]) { context.beginPath(); context.moveTo(x - a, y - b); context.lineTo(x + a, y + b); context.stroke(); }
    }
  }
  left(bin) { return LEFT + STRIP + (bin - this.view.bin) / this.view.bins * this.width; }

  paintCells() {
    const { view, image, rows, greys } = this, columns = image.width, lines = image.height;
    const pixels = new Uint32Array(image.data.buffer), perPixel = view.bins / columns, level = this.level(perPixel);
    const places = Int32Array.from({ length: columns }, (_, x) => Math.min(level.bins - 1, Math.floor((view.bin + (x + 0.5) * perPixel) / level.width)));
    const darkest = this.darkest(level), { values, bins } = level, root = this.spikes;
    for (let y = 0; y < lines; y++) {
      // If several units share a line of pixels, the most active one is drawn.
      const first = Math.floor(view.row + y / lines * view.rows), last = Math.max(first + 1, Math.floor(view.row + (y + 1) / lines * view.rows));
      for (let x = 0; x < columns; x++) {
        let most = 0;
        for (let row = first; row < last && row < this.units; row++) most = Math.max(most, values[rows[row] * bins + places[x]]);
        const share = Math.min(1, most / darkest);
        pixels[y * columns + x] = greys[Math.round(255 * (root ? Math.sqrt(share) : share))];
      }
    }
    this.context.putImageData(image, Math.round((LEFT + STRIP) * this.ratio), 0);
  }

  paintTraces(tall) {
    const { context, view } = this, level = this.level(view.bins / this.width), { values, bins } = level;
    context.strokeStyle = variable("--text");
    context.lineWidth = 1;
    const from = Math.max(0, Math.floor(view.bin / level.width)), to = Math.min(bins - 1, Math.ceil((view.bin + view.bins) / level.width));
    for (let row = Math.floor(view.row); row < Math.min(this.units, Math.ceil(view.row + view.rows)); row++) {
      const base = (row + 1 - view.row) * tall - 2, unit = this.rows[row];
      context.beginPath();
      for (let bin = from; bin <= to; bin++)
        context.lineTo(this.left((bin + 0.5) * level.width), base - values[unit * bins + bin] / 255 * (tall - 4));
      context.stroke();
    }
  }

  // Classes and depths at the left, mean activity at the right.
  paintUnits(tall) {
    const { context, view, width, height, rows } = this, low = Math.min(0, ...this.mean), high = Math.max(0, ...this.mean);
    const room = (RIGHT - 14) / (high - low || 1), mark = variable("--mark");
    const first = Math.floor(view.row), last = Math.min(this.units, Math.ceil(view.row + view.rows)), edge = LEFT + STRIP + width + 8;
    context.font = "11px system-ui, sans-serif";
    for (let row = first; row < last; row++) {
      const unit = rows[row], top = (row - view.row) * tall, from = Math.max(0, top), to = Math.min(height, top + tall);
      if (this.column) {
        context.fillStyle = this.classColours[this.column.values[unit]];
        context.fillRect(LEFT, from, STRIP - 3, Math.max(0.5, to - from));
      }
      context.fillStyle = mark;
      context.fillRect(edge + (Math.min(0, this.mean[unit]) - low) * room, from, Math.abs(this.mean[unit]) * room, Math.max(0.5, to - from - (tall > 3 ? 1 : 0)));
    }
    context.fillStyle = variable("--text");
    context.textAlign = "right";
    context.textBaseline = "middle";
    const names = Math.max(1, Math.ceil(18 / tall)), step = this.deep ? names : niceStep(names);
    for (let row = Math.ceil((first + 1) / step) * step - 1; row < last; row += step) {
      const at = (row + 0.5 - view.row) * tall;
      if (at < 6 || at > height - 6) continue;
      const depth = this.depths[rows[row]];
      context.fillText(this.deep ? Number.isFinite(depth) ? `${Math.round(depth)}` : "–" : `${row + 1}`, LEFT - 6, at);
    }
    context.save();
    context.translate(9, height / 2);
    context.rotate(-Math.PI / 2);
    context.textAlign = "center";
    context.fillText(this.deep ? "depth on the probe (um)" : "unit (row)", 0, 0);
    context.restore();
    context.textAlign = "right";
    const range = `${short(low)} to ${short(high)} ${this.spikes ? "Hz" : "dF/F"}`;
    context.fillText(range, edge + RIGHT - 12, height + 15);
    this.free = edge + RIGHT - 12 - context.measureText(range).width;  // right end of the space for times
  }
  paintTime() {
    const { context, view, width, height } = this, seconds = view.bins * this.bin, begin = this.start + view.bin * this.bin;
    // As many digits as the step has, because 1000000000.25 s and 1000000000.3 s are two times.
    const said = (time, step) => `${+time.toFixed(Math.max(0, Math.ceil(-Math.log10(step) - 1e-9)))} s`;
    const wide = step => Math.max(context.measureText(said(begin + step, step)).width, context.measureText(said(begin + seconds, step)).width);
    let step = niceStep(seconds / width * LABEL_PIXELS);
    while (step / seconds * width < wide(step) + 20) step = niceStep(1.01 * step);
    context.textAlign = "center";
    context.strokeStyle = variable("--edge");
    context.strokeRect(LEFT + STRIP + 0.5, 0.5, width, height - 1);
    for (let time = Math.ceil(begin / step) * step; time <= begin + seconds; time += step) {
      const x = this.left((time - this.start) / this.bin);
      context.fillRect(x, height, 1, 4);
      const label = said(time, step), half = context.measureText(label).width / 2;
      if (x - half >= LEFT && x + half < this.free - 6) context.fillText(label, x, height + 15);
    }
  }

  paintRates() {
    const canvas = $("rates"), context = canvas.getContext("2d"), { width, total } = this, height = canvas.clientHeight - 4;
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight);
    const at = bin => LEFT + STRIP + bin / this.bins * width, per = this.bins / Math.max(1, width), means = [];
    for (let x = 0; x < width; x++) {
      const from = Math.floor(x * per), to = Math.max(from + 1, Math.floor((x + 1) * per));
      let sum = 0;
      for (let bin = from; bin < to && bin < this.bins; bin++) sum += total[bin];
      means.push(sum / (to - from));
    }
    let low = Math.min(0, ...means), high = -Infinity;
    for (const value of means) high = Math.max(high, value);
    const span = high - low || 1;
    context.strokeStyle = variable("--mark");
    context.beginPath();
    means.forEach((value, x) => context.lineTo(LEFT + STRIP + x, height - (height - 6) * (value - low) / span));
    context.stroke();
    for (const gap of this.gaps) {
      context.fillStyle = this.shades[gap.silent];
      const from = at((gap.start - this.start) / this.bin), to = at((gap.stop - this.start) / this.bin);
      context.fillRect(from, 0, Math.max(1, to - from), height);
    }
    context.strokeStyle = context.fillStyle = variable("--text");
    context.lineWidth = 2;
    context.strokeRect(at(this.view.bin), 1, Math.max(3, this.view.bins / this.bins * width), height - 1);
    context.lineWidth = 1;
    context.font = "11px system-ui, sans-serif";
    context.textAlign = "right";
    if (high > low) context.fillText(number(high), LEFT + 4, 12);
    context.fillText(this.spikes ? "Hz" : "dF/F", LEFT + 4, 26);
    context.fillText(number(low), LEFT + 4, height);
  }

  // Unit and bin at a position of the raster; null outside the plot, also where the view hides bins.
  at(x, y) {
    const bin = Math.floor(this.view.bin + (x - LEFT - STRIP) / this.width * this.view.bins), row = Math.floor(this.view.row + y / this.height * this.view.rows);
    const outside = x < LEFT + STRIP || x >= LEFT + STRIP + this.width || y < 0 || y >= this.height;
    return outside || row >= this.units || bin >= this.bins ? null : { unit: this.rows[row], bin };
  }
  says({ unit, bin }) {
    const time = this.start + bin * this.bin, cell = this.cells[unit * this.bins + bin], per = number(this.bin);
    const gap = this.gaps.find(({ start, stop }) => time + this.bin > start && time < stop);
    const held = this.spikes ? `${cell === 255 ? "255 or more" : cell} ${cell === 1 ? "spike" : "spikes"} in ${per} s` : `dF/F ${number(this.value(cell))}`;
    return [this.ids[unit],
      ...this.labels.map(column => `${words(column.name)}: ${column.names[column.values[unit]] ?? "not known"}`),
      ...(Number.isFinite(this.depths[unit]) ? [`depth: ${Math.round(this.depths[unit])} um`] : []),
      `mean: ${number(this.mean[unit])} ${this.spikes ? "Hz" : "dF/F"}`,
      `${+time.toFixed(3)} s: ${held}`,
      ...(gap ? [`not used: ${gap.silent ? "no unit is active" : "outside the valid spans"}`] : [])];
  }
  hover(event) {
    const found = event && this.at(event.offsetX, event.offsetY), { tip } = this;
    tip.hidden = !found;
    if (!found) return;
    tip.textContent = this.says(found).join("\n");
    tip.style.left = `${Math.max(0, Math.min(event.offsetX + 14, this.canvas.clientWidth - tip.offsetWidth - 4))}px`;
    tip.style.top = `${Math.max(0, event.offsetY > this.height / 2 ? event.offsetY - tip.offsetHeight - 10 : event.offsetY + 14)}px`;
  }

  listen() {
    const { canvas } = this, rates = $("rates");
    let before = null;
    const hold = event => { try { event.target.setPointerCapture(event.pointerId); } catch { /* fails for the synthetic pointers of tests */ } };
    canvas.addEventListener("pointerdown", event => { if (!event.button) { before = [event.offsetX, event.offsetY]; hold(event); } });
    canvas.addEventListener("pointermove", event => {
      if (!before) return this.hover(event);
      this.hover(null);
      const { view } = this;
      this.show({ bin: view.bin - (event.offsetX - before[0]) / this.width * view.bins, row: view.row - (event.offsetY - before[1]) / this.height * view.rows });
      before = [event.offsetX, event.offsetY];
    });
    for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, event => { before = null; this.hover(event); });
    canvas.addEventListener("pointerleave", () => this.hover(null));
    canvas.addEventListener("wheel", event => {
      event.preventDefault();
      // With Shift, some browsers report horizontal scrolling.
      const factor = Math.exp(-(event.deltaY || event.deltaX) * (event.deltaMode ? 0.05 : 0.0015)), across = (event.offsetX - LEFT - STRIP) / this.width;
      this.zoom(event.shiftKey ? 1 : factor, event.shiftKey ? factor : 1, Math.min(1, Math.max(0, across)), Math.min(1, Math.max(0, event.offsetY / this.height)));
    }, { passive: false });
    let dragging = false;
    const move = event => this.show({ bin: (event.offsetX - LEFT - STRIP) / this.width * this.bins - this.view.bins / 2 });
    rates.addEventListener("pointerdown", event => { dragging = true; hold(event); move(event); });
    rates.addEventListener("pointermove", event => { if (dragging) move(event); });
    for (const kind of ["pointerup", "pointercancel"]) rates.addEventListener(kind, () => { dragging = false; });
    const pan = (across, down) => this.show({ bin: this.view.bin + across * STEP_PIXELS / this.width * this.view.bins, row: this.view.row + down * STEP_PIXELS / this.height * this.view.rows });
    const nearer = (event, factor) => this.zoom(event.shiftKey ? 1 : factor, event.shiftKey ? factor : 1);
    const keys = {
      ArrowLeft: () => pan(-1, 0), ArrowRight: () => pan(1, 0), ArrowUp: () => pan(0, -1), ArrowDown: () => pan(0, 1),
      "+": event => nearer(event, ZOOM_STEP), "=": event => nearer(event, ZOOM_STEP), "*": event => nearer(event, ZOOM_STEP),
      "-": event => nearer(event, 1 / ZOOM_STEP), _: event => nearer(event, 1 / ZOOM_STEP), 0: () => this.whole(),
      Enter: () => { const found = this.at(LEFT + STRIP + this.width / 2, this.height / 2); if (found) $("chosen").textContent = this.says(found).join(", "); },
    };
    canvas.addEventListener("keydown", event => {
      if (!(event.key in keys) || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      keys[event.key](event);
    });
    for (const kind of ["focus", "blur"]) canvas.addEventListener(kind, () => this.draw());
  }
}

// Smallest step that is 1, 2 or 5 times a power of ten and not below `least`.
function niceStep(least) {
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map(times => times * power).find(step => step >= least * 0.999);
}

begin(content => new Page(content));
