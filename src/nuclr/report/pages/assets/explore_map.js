// A map of units on a canvas: each unit is written into the pixels of the image. Without a graphics card this is faster
// than WebGL; 60,000 units are drawn within one frame (benchmarks/README.md).

const CLICK_PIXELS = 4, REACH_PIXELS = 14, STEP_PIXELS = 40, ZOOM_STEP = 1.4;

class UnitMap {
  // points: {x, y}, Float32Array, NaN for units that are not on this map. on: callbacks {hover, choose, lasso, escape}.
  constructor(canvas, points, on) {
    Object.assign(this, { canvas, points, on, context: canvas.getContext("2d", { alpha: false }) });
    this.view = { x: 0, y: 0, zoom: 1 };
    this.lassoing = false;
    this.pointers = new Map();
    this.path = [];
    // Resizing a canvas empties it, so it is painted before the browser shows it.
    new ResizeObserver(() => { this.resize(); this.paint(); }).observe(canvas);
    this.listen();
  }

  // look: {background, colours, codes, shown, selected, order, chosen, near, text}; `order`: order in which units are drawn.
  show(look) { this.look = look; this.draw(); }

  resize() {
    this.ratio = Math.min(window.devicePixelRatio || 1, 2);
    this.width = this.canvas.clientWidth;
    this.height = this.canvas.clientHeight;
    this.canvas.width = Math.max(1, Math.round(this.width * this.ratio));
    this.canvas.height = Math.max(1, Math.round(this.height * this.ratio));
    this.image = this.context.createImageData(this.canvas.width, this.canvas.height);
    this.pixels = new Uint32Array(this.image.data.buffer);
  }

  get scale() { return 0.92 * Math.min(this.width, this.height) * this.view.zoom; }
  toScreen(unit) {
    const { x, y } = this.points;
    return [this.width / 2 + (x[unit] - this.view.x) * this.scale, this.height / 2 - (y[unit] - this.view.y) * this.scale];
  }
  toMap(left, top) {
    return [(left - this.width / 2) / this.scale + this.view.x, (this.height / 2 - top) / this.scale + this.view.y];
  }
  isOn(unit) { return !Number.isNaN(this.points.x[unit]); }

  // Several changes between two frames cause only one drawing.
  draw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.paint(); });
  }

  paint() {
    if (!this.look || !this.width || !this.image) return;
    const { background, colours, dimmed, codes, shown, selected, order, chosen, near, text } = this.look;
    this.pixels.fill(background);
    // Discs are large for few units and small for many, and grow a little with zoom.
    const radius = Math.min(7, (order.length > 20000 ? 1.4 : order.length > 4000 ? 2 : order.length > 400 ? 3 : 4.5)
      * Math.min(2.5, Math.max(1, this.view.zoom ** 0.3)));
    const disc = stamp(radius * this.ratio, this.canvas.width);
    if (selected) this.stampAll(disc, order, codes, dimmed, unit => shown[codes[unit]] && !selected[unit]);
    this.stampAll(disc, order, codes, colours, unit => shown[codes[unit]] && (!selected || selected[unit]));
    this.context.putImageData(this.image, 0, 0);
    this.context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    this.context.strokeStyle = text;
    near.forEach(unit => this.ring(unit, radius + 3, 1.5));
    if (chosen >= 0) this.ring(chosen, radius + 5, 3);
    if (this.path.length > 1) this.line(this.path);
    if (this.canvas.matches(":focus-visible")) this.cross();
    this.context.setTransform(1, 0, 0, 1, 0, 0);
  }

  stampAll({ offsets, cover, reach }, order, codes, colours, wanted) {
    const { x, y } = this.points, { pixels, ratio } = this, width = this.canvas.width, height = this.canvas.height;
    const scale = this.scale * ratio, left = width / 2 - this.view.x * scale, top = height / 2 + this.view.y * scale;
    for (const unit of order) {
      if (!wanted(unit)) continue;
      const column = Math.round(left + x[unit] * scale), row = Math.round(top - y[unit] * scale);
      // Comparisons with NaN are false, so units that are not on this map are skipped.
      if (!(column >= reach && row >= reach && column < width - reach && row < height - reach)) continue;
      const middle = row * width + column, colour = colours[codes[unit]];
      for (let i = 0; i < offsets.length; i++) {
        const at = middle + offsets[i];
        pixels[at] = cover[i] === 256 ? colour : mixed(pixels[at], colour, cover[i]);
      }
    }
  }

  ring(unit, radius, width) {
    if (!this.isOn(unit)) return;
    this.context.lineWidth = width;
    this.context.beginPath();
    this.context.arc(...this.toScreen(unit), radius, 0, 2 * Math.PI);
    this.context.stroke();
  }
  line(path) {
    this.context.lineWidth = 1.5;
    this.context.beginPath();
    path.forEach(([x, y]) => this.context.lineTo(x, y));
    this.context.stroke();
  }
  cross() {
    const x = this.width / 2, y = this.height / 2;
    this.line([[x - 9, y], [x + 9, y]]);
    this.line([[x, y - 9], [x, y + 9]]);
  }

  // Unit nearest to a position, within some pixels; -1 if there is none.
  nearest(left, top, within = REACH_PIXELS) {
    const { shown, codes } = this.look, [x0, y0] = this.toMap(left, top), { x, y } = this.points;
    let found = -1, least = (within / this.scale) ** 2;
    for (let unit = 0; unit < x.length; unit++) {
      const distance = (x[unit] - x0) ** 2 + (y[unit] - y0) ** 2;
      if (distance < least && shown[codes[unit]]) { least = distance; found = unit; }
    }
    return found;
  }

  inside(path) {
    const { shown, codes } = this.look, { x, y } = this.points, corners = path.map(([a, b]) => this.toMap(a, b));
    const xs = corners.map(c => c[0]), ys = corners.map(c => c[1]), found = [];
    const [low, high] = [Math.min(...xs), Math.max(...xs)], [under, over] = [Math.min(...ys), Math.max(...ys)];
    for (let unit = 0; unit < x.length; unit++) {
      const a = x[unit], b = y[unit];
      if (!shown[codes[unit]] || !(a >= low && a <= high && b >= under && b <= over)) continue;
      let is = false;
      for (let i = 0, j = xs.length - 1; i < xs.length; j = i++)
        if (ys[i] > b !== ys[j] > b && a < (xs[j] - xs[i]) * (b - ys[i]) / (ys[j] - ys[i]) + xs[i]) is = !is;
      if (is) found.push(unit);
    }
    return found;
  }

  pan(right, down) {
    this.view.x -= right / this.scale;
    this.view.y += down / this.scale;
    this.draw();
  }
  zoom(factor, left = this.width / 2, top = this.height / 2) {
    const [x, y] = this.toMap(left, top);
    this.view.zoom = Math.min(400, Math.max(0.5, this.view.zoom * factor));
    const [x1, y1] = this.toMap(left, top);
    this.view.x += x - x1;
    this.view.y += y - y1;
    this.draw();
  }
  reset() { this.view = { x: 0, y: 0, zoom: 1 }; this.draw(); }
  // Move the map if a unit is outside the view.
  reveal(unit) {
    if (!this.isOn(unit) || !this.width) return;
    const [left, top] = this.toScreen(unit);
    if (left < 12 || top < 12 || left > this.width - 12 || top > this.height - 12)
      [this.view.x, this.view.y] = [this.points.x[unit], this.points.y[unit]];
    this.draw();
  }

  listen() {
    const { canvas, pointers } = this, place = event => [event.offsetX, event.offsetY];
    let began = null, draws = false;
    const spread = () => { const [a, b] = [...pointers.values()]; return Math.hypot(a[0] - b[0], a[1] - b[1]); };
    canvas.addEventListener("pointerdown", event => {
      if (event.button) return;
      try { canvas.setPointerCapture(event.pointerId); } catch { /* fails for the synthetic pointers of tests */ }
      pointers.set(event.pointerId, place(event));
      began = place(event);
      draws = (this.lassoing || event.shiftKey) && pointers.size === 1;
      this.path = draws ? [began] : [];
    });
    canvas.addEventListener("pointermove", event => {
      const now = place(event), before = pointers.get(event.pointerId);
      if (!before) return this.on.hover(this.nearest(...now), now);
      this.on.hover(-1, now);
      if (draws) { this.path.push(now); this.draw(); }
      else if (pointers.size === 2) {
        const was = spread();
        pointers.set(event.pointerId, now);
        const [a, b] = [...pointers.values()];
        return this.zoom(spread() / Math.max(1, was), (a[0] + b[0]) / 2, (a[1] + b[1]) / 2);
      } else this.pan(now[0] - before[0], now[1] - before[1]);
      pointers.set(event.pointerId, now);
    });
    const release = event => {
      if (!pointers.delete(event.pointerId)) return;
      const now = place(event), path = this.path;
      this.path = [];
      if (event.type === "pointercancel") return this.draw();
      if (draws && path.length > 2) this.on.lasso(this.inside(path));
      else if (Math.hypot(now[0] - began[0], now[1] - began[1]) < CLICK_PIXELS) this.on.choose(this.nearest(...now));
      draws = false;
      this.draw();
    };
    canvas.addEventListener("pointerup", release);
    canvas.addEventListener("pointercancel", release);
    canvas.addEventListener("pointerleave", event => this.on.hover(-1, place(event)));
    canvas.addEventListener("wheel", event => {
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), ...place(event));
    }, { passive: false });
    for (const kind of ["focus", "blur"]) canvas.addEventListener(kind, () => this.draw());
    const keys = {
      ArrowLeft: () => this.pan(STEP_PIXELS, 0), ArrowRight: () => this.pan(-STEP_PIXELS, 0),
      ArrowUp: () => this.pan(0, STEP_PIXELS), ArrowDown: () => this.pan(0, -STEP_PIXELS),
      "+": () => this.zoom(ZOOM_STEP), "=": () => this.zoom(ZOOM_STEP), "-": () => this.zoom(1 / ZOOM_STEP),
      0: () => this.reset(), Escape: () => this.on.escape(),
      Enter: () => this.on.choose(this.nearest(this.width / 2, this.height / 2, Infinity)),
    };
    canvas.addEventListener("keydown", event => {
      if (!(event.key in keys) || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      keys[event.key]();
    });
  }
}

// Pixels of a disc: offset of each from the centre, and how much of it the disc covers (0 to 256).
function stamp(radius, width) {
  const reach = Math.ceil(radius + 0.5), offsets = [], cover = [];
  for (let row = -reach; row <= reach; row++)
    for (let column = -reach; column <= reach; column++) {
      const part = Math.round(256 * Math.min(1, Math.max(0, radius + 0.5 - Math.hypot(row, column))));
      if (part) { offsets.push(row * width + column); cover.push(part); }
    }
  return { offsets: Int32Array.from(offsets), cover: Uint16Array.from(cover), reach };
}

// Mix two colours (0xAABBGGRR); `part` is the weight of the second (0 to 256).
function mixed(under, over, part) {
  const rest = 256 - part;
  const even = (((under & 0xff00ff) * rest + (over & 0xff00ff) * part) >>> 8) & 0xff00ff;
  const odd = ((((under >>> 8) & 0xff) * rest + ((over >>> 8) & 0xff) * part) >>> 8) << 8;
  return (0xff000000 | even | odd) >>> 0;
}
