// Code that the interactive pages share: unpacking the data in the page, and colours.

const LIGHT = ["#4433aa", "#b07a00", "#0077bb", "#882255", "#009383", "#d1432b", "#117733", "#aa4499", "#747400", "#d95f16"];
const DARK = ["#a395ff", "#e6c84f", "#56b4e9", "#e88ab4", "#44c5b0", "#ff7f6b", "#6ccb6c", "#dd9fdd", "#c9c95a", "#ffa861"];
const RAMPS = { light: [[116, 158, 204], [8, 24, 66]], dark: [[74, 110, 150], [226, 244, 255]] };

const $ = id => document.getElementById(id);
const dark = matchMedia("(prefers-color-scheme: dark)");
const variable = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const CALLED = { rate_hz: "rate (Hz)", depth_um: "depth (um)", windows: "active windows" };
const words = name => CALLED[name] ?? name.replaceAll("_", " ");
const short = value => String(+value.toPrecision(2));
// With four digits, but whole: 123456789 is an id or a time, not 123500000.
const number = value => Number.isFinite(value) ? String(Math.abs(value) < 1e4 ? +value.toPrecision(4) : Math.round(value)) : "not known";

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes))
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value); else made.setAttribute(name, value);
  made.append(...children);
  return made;
}

async function unpacked(text) {
  const raw = atob(text), bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(stream).arrayBuffer(), length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const start = Math.ceil((4 + length) / 8) * 8;
  const kinds = { int8: Int8Array, uint8: Uint8Array, int16: Int16Array, uint16: Uint16Array, int32: Int32Array,
    uint32: Uint32Array, float32: Float32Array, float64: Float64Array };
  const array = ({ type, offset, length }) => new kinds[type](buffer, start + offset, length);
  return { header, array };
}

// Colour of a class, by its number; and colour of units without a class.
function hue(place) {
  const palette = dark.matches ? DARK : LIGHT;
  return place < palette.length ? palette[place] : `hsl(${(place * 137.508) % 360} 60% ${dark.matches ? 70 : 36}%)`;
}
const unknown = () => dark.matches ? "#7d8894" : "#868d95";

// Colours as 32-bit canvas pixels (0xAABBGGRR). All are read at once, because a column may have 100,000 classes.
function packed(colours) {
  const width = 256, height = Math.max(1, Math.ceil(colours.length / width));
  const context = element("canvas", { width, height }).getContext("2d", { willReadFrequently: true });
  colours.forEach((colour, i) => {
    context.fillStyle = colour;
    context.fillRect(i % width, Math.floor(i / width), 1, 1);
  });
  return new Uint32Array(context.getImageData(0, 0, width, height).data.buffer, 0, colours.length);
}

// Draw the page, or show an error message.
function begin(draw) {
  unpacked($("data").textContent).then(draw).then(() => { document.body.dataset.ready = ""; }).catch(error => {
    $("failed").hidden = false;
    $("failed").textContent = `This page could not be drawn (${error}). It needs a browser from 2023 or later.`;
    console.error(error);
  });
}
