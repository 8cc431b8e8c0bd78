// Time charts in SVG, drawn by hand: closed buckets only, a hatched band where there is nothing to know, one cursor for
// all charts. Each series is one path, so that an update sets a handful of attributes.

import { $, attr, el, set, show, svg } from "./dom.js";
import { UNKNOWN, asAxis, asBytes, asClock, asHour } from "./format.js";
import { Table } from "./table.js";

const HEIGHT = 190;
const [LEFT, RIGHT, TOP, BOTTOM] = [52, 10, 10, HEIGHT - 24];
const TICK_SECONDS = [10, 15, 30, 60, 120, 300, 600, 900, 1800];

const isKnown = (value) => value !== null && value !== undefined;

// 1, 2, 2.5, 5 and their tens, or powers of two for bytes: the smallest scale of at most four steps that holds the value.
function linear(max, binary) {
  if (!(max > 0)) return { ticks: [0], share: () => 0 };
  const power = 10 ** Math.floor(Math.log10(max / 4));
  const step = binary ? 2 ** Math.ceil(Math.log2(max / 4)) : [1, 2, 2.5, 5, 10].find((factor) => factor * power * 4 >= max * 0.999) * power;
  const steps = Math.ceil(max / step - 0.001);
  return {
    ticks: Array.from({ length: steps + 1 }, (_, index) => Number((index * step).toPrecision(9))),
    share: (value) => value / (steps * step),
  };
}

function logarithmic(min, max) {
  const low = Math.floor(Math.log10(min));
  const high = Math.max(Math.ceil(Math.log10(max)), low + 1);
  return {
    ticks: Array.from({ length: high - low + 1 }, (_, index) => 10 ** (low + index)),
    share: (value) => (value > 0 ? (Math.log10(value) - low) / (high - low) : 0),
  };
}

// A line with gaps where the value is unknown; a single point between two gaps is a dot, drawn by its round caps.
function linePath(values, x, y, stepped) {
  let path = "";
  values.forEach((value, index) => {
    if (!isKnown(value)) return;
    const begins = !isKnown(values[index - 1]);
    path += `${begins ? "M" : "L"}${x(index + (stepped ? 0 : 0.5)).toFixed(1)} ${y(value).toFixed(1)}`;
    if (stepped) path += `H${x(index + 1).toFixed(1)}`;
    else if (begins) path += "h.01";
  });
  return path;
}

// Charts that share a cursor: the index of a bucket, or null.
export const group = { charts: [], index: null };

function moveCursor(index) {
  if (index === group.index) return;
  group.index = index;
  for (const chart of group.charts) chart.point();
}

export class Chart {
  points = [];
  modes = {};

  // kind: "bars" (stacked in the order of the series), "lines", "steps"; series: [[label, colour, value(point), dash]];
  // drag(from, to): hears of an interval that was drawn on the chart.
  constructor(figure, { title, kind = "lines", series, format, log, drag }) {
    Object.assign(this, { title, kind, format, drag });
    this.bars = kind === "bars";
    const look = (name, dash) => ({ class: this.bars ? `fill-${name}` : `line line-${name}`, "stroke-dasharray": dash });
    this.series = series.map(([label, name, value, dash]) => ({
      label,
      value: (point) => (point?.covered > 0 ? value(point) : null),
      path: svg("path", look(name, dash)),
      dot: svg("path", { class: `line line-${name} dot` }),
      text: el("b"),
      swatch: svg("svg", { width: this.bars ? 10 : 22, height: 12, "aria-hidden": true },
        svg("path", { ...look(name, dash), d: this.bars ? "M0 1h10v10H0z" : "M1 6h20" })),
    }));
    this.when = el("span", { class: "dim" });
    this.caption = el("figcaption", { class: "sr" });
    this.band = svg("path", { fill: "url(#hatch)" });
    this.grid = svg("g", { class: "grid" });
    this.chosen = svg("path", { class: "select" });
    this.cursor = svg("path", { class: "cursor" });
    this.note = svg("text", { class: "note", y: HEIGHT / 2 - 8 });
    this.svg = svg("svg", { height: HEIGHT, "aria-hidden": true }, this.band, this.grid, this.chosen,
      ...this.series.map(({ path }) => path), this.cursor, ...this.series.map(({ dot }) => dot), this.note);
    this.plot = el("div", { class: "plot", tabindex: 0, role: "img", "aria-label": title }, this.svg);
    const table = el("table");
    this.scroll = el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `${title}, as a table` }, table);
    this.table = new Table(table, { caption: title, key: (point) => point.t });
    this.table.shape("", [
      { label: "Time", value: (point) => asClock(point.t * 1000) },
      ...this.series.map(({ label, value }) => ({ label, class: "num", value, format })),
    ]);
    show(this.scroll, false);
    const toggle = (name) => {
      const onclick = ({ target }) => {
        this.modes[name] = !this.modes[name];
        attr(target, "aria-pressed", this.modes[name]);
        this.draw();
      };
      return el("button", { class: "quiet", "aria-pressed": false, onclick }, name);
    };
    figure.replaceChildren(
      el("div", { class: "head" }, el("h2", {}, title),
        el("div", { class: "tools" }, this.when, log ? toggle("Log") : null, toggle("Table"))),
      el("ul", { class: "legend" }, ...this.series.map(({ label, swatch, text }) => el("li", {}, swatch, label, text))),
      this.plot, this.scroll, this.caption,
    );
    this.listen();
    group.charts.push(this);
    new ResizeObserver(([{ contentRect }]) => {
      this.width = Math.round(contentRect.width);
      this.draw();
    }).observe(this.plot);
  }

  // `frame`: {from, to, step, started, word} in unix seconds; `started` is when the server's life began.
  update(points, frame, note) {
    const at = new Map(points.map((point) => [point.t, point]));
    this.points = Array.from({ length: (frame.to - frame.from) / frame.step }, (_, index) => at.get(frame.from + index * frame.step));
    this.frame = frame;
    set(this.note, note);
    this.draw();
  }

  x = (index) => LEFT + (index * (this.width - LEFT - RIGHT)) / this.points.length;
  y = (value) => BOTTOM - Math.max(0, this.scale.share(value)) * (BOTTOM - TOP);

  draw() {
    show(this.plot, !this.modes.Table);
    show(this.scroll, this.modes.Table);
    if (!this.frame || !this.width) return;
    if (this.modes.Table) return this.table.update(this.points.filter((point) => point?.covered > 0).reverse());
    const { x, y, points, width } = this;
    const columns = this.series.map(({ value }) => points.map(value));
    const heights = this.bars ? points.map((_, index) => columns.reduce((sum, column) => sum + column[index], 0)) : columns.flat().filter(isKnown);
    const positive = this.modes.Log ? heights.filter((value) => value > 0) : [];
    const max = Math.max(...heights, 0);
    this.scale = positive.length ? logarithmic(Math.min(...positive), max) : linear(max, this.format === asBytes);
    attr(this.svg, "width", width);
    attr(this.note, "x", (width + LEFT - RIGHT) / 2);

    const below = points.map(() => 0);
    const gap = Math.min(1, (x(1) - x(0)) / 10);
    columns.forEach((column, index) => attr(this.series[index].path, "d", this.bars
      ? column.map((value, at) => {
        if (!value) return "";
        const low = y(below[at]);
        below[at] += value;
        // A single error among thousands must still be seen.
        return `M${(x(at) + gap).toFixed(1)} ${low.toFixed(1)}V${Math.min(y(below[at]), low - 1).toFixed(1)}H${(x(at + 1) - gap).toFixed(1)}V${low.toFixed(1)}`;
      }).join("")
      : linePath(column, x, y, this.kind === "steps")));
    // Idle is a zero; not running is not a zero. The band says which.
    attr(this.band, "d", points.map((point, at) => (point?.covered > 0 ? "" : `M${x(at)} ${TOP}H${x(at + 1)}V${BOTTOM}H${x(at)}`)).join(""));
    this.axes();
    this.point();
  }

  axes() {
    const { x, y, width, frame: { from, to, step, started, word } } = this;
    const label = asAxis(this.format);
    const every = TICK_SECONDS.find((size) => (to - from) / size <= Math.max(2, (width - LEFT) / 90));
    const text = (left, top, anchor, words) => svg("text", { x: left, y: top, "text-anchor": anchor }, words);
    const across = this.scale.ticks.flatMap((tick) => [
      svg("path", { d: `M${LEFT} ${y(tick)}H${width - RIGHT}` }), text(LEFT - 8, y(tick) + 4, "end", label(tick)),
    ]);
    const along = [];
    for (let at = Math.ceil(from / every) * every; at <= to; at += every) {
      const left = x((at - from) / step);
      along.push(text(left, BOTTOM + 17, left > width - 24 ? "end" : "middle", (every < 60 ? asClock : asHour)(at * 1000)));
    }
    if (started > from && started < to) {
      const left = x((started - from) / step);
      along.push(svg("path", { class: "mark", d: `M${left} ${TOP}V${BOTTOM}` }), text(left - 6, TOP + 10, left < 110 ? "start" : "end", word));
    }
    this.grid.replaceChildren(...across, ...along);
  }

  // Shows the values at the cursor; without one, of the latest closed bucket.
  point() {
    if (!this.scale || this.modes.Table) return;
    const { index } = group;
    const at = index ?? this.points.length - 1;
    const left = this.x(at + 0.5);
    attr(this.cursor, "d", index === null ? "" : `M${left} ${TOP}V${BOTTOM}`);
    for (const { value, dot, text } of this.series) {
      const number = value(this.points[at]);
      set(text, isKnown(number) ? this.format(number) : UNKNOWN);
      attr(dot, "d", index !== null && isKnown(number) && !this.bars ? `M${left} ${this.y(number)}h.01` : "");
    }
    const time = asClock((this.frame.from + at * this.frame.step) * 1000);
    set(this.when, index === null ? "" : time);
    set(this.caption, `${this.title} at ${time}: ${this.series.map(({ label, text }) => `${label} ${text.textContent}`).join(", ")}`);
  }

  listen() {
    const { plot } = this;
    let begin = null;
    const bucket = ({ clientX }) => {
      const share = (clientX - plot.getBoundingClientRect().left - LEFT) / (this.width - LEFT - RIGHT);
      return Math.max(0, Math.min(this.points.length - 1, Math.floor(share * this.points.length)));
    };
    const choose = (a, b, done) => {
      const [low, high] = [Math.min(a, b), Math.max(a, b) + 1];
      attr(this.chosen, "d", done || a === b ? "" : `M${this.x(low)} ${TOP}H${this.x(high)}V${BOTTOM}H${this.x(low)}`);
      const { from, step } = this.frame;
      if (done) this.drag(from + low * step, from + high * step);
    };
    plot.onpointerdown = (event) => {
      if (!this.drag || event.pointerType !== "mouse" || event.button) return;
      begin = bucket(event);
      plot.setPointerCapture(event.pointerId);
    };
    plot.onpointermove = (event) => {
      if (!this.frame) return;
      moveCursor(bucket(event));
      if (begin !== null) choose(begin, group.index);
    };
    plot.onpointerup = (event) => {
      if (begin !== null && bucket(event) !== begin) choose(begin, bucket(event), true);
      begin = null;
    };
    plot.onpointerleave = plot.onblur = () => moveCursor(null);
    plot.onkeydown = (event) => {
      const last = this.points.length - 1;
      const now = group.index ?? last;
      const to = { ArrowLeft: now - 1, ArrowRight: now + 1, Home: 0, End: last }[event.key];
      if (to !== undefined) moveCursor(Math.max(0, Math.min(last, to)));
      else if (event.key === "Enter" && event.shiftKey && this.drag) choose(now, now, true);
      else if (event.key === "Enter") set($("announce"), this.caption.textContent);
      else return;
      event.preventDefault();
    };
  }
}

// A tile's little curve, in a box of 100 by 32: each stretch of known values is a line over a faint area.
export function spark(node, values) {
  const max = Math.max(...values, 1e-9);
  const x = (index) => ((index - 0.5) * 100) / (values.length - 1);
  const line = max > 1e-9 && linePath(values, x, (value) => 31 - (value / max) * 28);
  if (!line) return node.replaceChildren();
  const area = line.replace(/M([\d.-]+)[^M]*/g, (part, from) => `${part}V32H${from}`).replace(/h\.01/g, "");
  node.replaceChildren(svg("path", { class: "area", d: area }), svg("path", { class: "line", d: line }));
}

